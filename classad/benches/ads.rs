//! An ad of 200 attributes, as a machine ad is: read, print, look up, match.
//!
//! `cargo bench -p classad`
#![expect(clippy::unwrap_used, reason = "the benchmark's own texts parse")]

use std::fmt::Write as _;
use std::hint::black_box;

use classad::{ClassAd, EvalContext, symmetric_match};
use criterion::{Criterion, criterion_group, criterion_main};

fn machine() -> String {
    let mut text = String::from(
        "MyType = \"Machine\"\nName = \"slot1@node042.example.org\"\nCpus = 8\nMemory = 16384\nDisk = 400000000\n\
         Arch = \"X86_64\"\nOpSys = \"LINUX\"\nLoadAvg = 0.25\nStart = true\nRequirements = START && \
         TARGET.RequestCpus <= Cpus && TARGET.RequestMemory <= Memory && stringListMember(TARGET.Owner,Allowed) && \
         (TARGET.JobUniverse == 5 || TARGET.JobUniverse =?= undefined)\nAllowed = \"alice,bob,carol\"\n",
    );
    for i in 0..63 {
        writeln!(text, "Count{i} = {}", i * 1000).unwrap();
        writeln!(text, "Text{i} = \"some value of attribute number {i}\"").unwrap();
        writeln!(
            text,
            "Expr{i} = (Count{i} + {i}) * 2 > Memory && Arch == \"X86_64\""
        )
        .unwrap();
    }
    text
}

const JOB: &str = "MyType = \"Job\"\nOwner = \"bob\"\nJobUniverse = 5\nRequestCpus = 1\nRequestMemory = 2048\n\
                   RequestDisk = 1024\nRequirements = (TARGET.Arch == \"X86_64\") && (TARGET.OpSys == \"LINUX\") && \
                   (TARGET.Disk >= RequestDisk) && (TARGET.Memory >= RequestMemory) && (TARGET.Cpus >= RequestCpus)\n";

fn ads(c: &mut Criterion) {
    let text = machine();
    let slot = ClassAd::parse_old(&text).unwrap();
    let job = ClassAd::parse_old(JOB).unwrap();
    assert!(symmetric_match(&slot, &job, 0));
    let new = slot.to_new();

    c.bench_function("parse 200 attributes, old", |b| {
        b.iter(|| ClassAd::parse_old(black_box(&text)).unwrap())
    });
    c.bench_function("parse 200 attributes, new", |b| {
        b.iter(|| ClassAd::parse_new(black_box(&new)).unwrap())
    });
    c.bench_function("print 200 attributes, old", |b| {
        b.iter(|| black_box(&slot).to_old())
    });
    c.bench_function("print 200 attributes, json", |b| {
        b.iter(|| black_box(&slot).to_json())
    });
    c.bench_function("look an integer up", |b| {
        b.iter(|| black_box(&slot).int("Count41"))
    });
    c.bench_function("evaluate all 200 attributes", |b| {
        let context = EvalContext::new().my(&slot).target(&job).now(0);
        b.iter(|| {
            slot.iter()
                .filter(|(_, expr)| context.eval(expr).is_error())
                .count()
        });
    });
    c.bench_function("match a slot and a job", |b| {
        b.iter(|| symmetric_match(black_box(&slot), black_box(&job), 0))
    });
}

criterion_group!(benches, ads);
criterion_main!(benches);
