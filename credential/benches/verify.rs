//! Bytes to verdict for an RSA-2048 proxy, beside a minimal C program with OpenSSL that does the same
//! (`minimal.c`: read the PEM, look up the CA in the same directory, `X509_verify_cert`, compare the
//! key), in process and as processes, and beside `openssl verify`. The ratios are printed at the end.
//!
//! `cargo bench -p credential --bench verify`; the processes of this project are measured where
//! `sailplane-verify` was built in the same profile before.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark may panic"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::ac::{AcSpec, carrier};
use common::{Cert, NOW, Spec, install_ca, rsa_key};
use credential::{DelegationRequest, TrustStore, VerifyOptions, VomsOptions, verify_proxy};
use criterion::{Criterion, criterion_group, criterion_main};

/// `minimal.c`, compiled; `None` where there is no compiler or no headers of OpenSSL.
fn minimal(folder: &Path) -> Option<PathBuf> {
    let program = folder.join("minimal");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/minimal.c");
    let mut command = Command::new("cc");
    command.args(["-O2", "-o"]).arg(&program);
    let compiled = command.args([source, "-lcrypto"]).status();
    compiled
        .is_ok_and(|status| status.success())
        .then_some(program)
}

/// How long the C program takes for so many verifications, by its own clock.
fn times(program: &Path, bundle: &Path, directory: &Path, count: u64) -> Duration {
    let mut command = Command::new(program);
    command.args([bundle, directory]);
    command.args([NOW.to_string(), count.to_string()]);
    let output = command.output().unwrap();
    assert!(output.status.success());
    let nanoseconds = String::from_utf8(output.stdout).unwrap();
    Duration::from_nanos(nanoseconds.trim().parse().unwrap())
}

fn ours(bundle: &[u8], directory: &Path) -> bool {
    let trust = TrustStore::load(directory);
    verify_proxy(bundle, &trust, &VerifyOptions::at(NOW)).is_ok()
}

fn verification(criterion: &mut Criterion) {
    let make_ca = |n: usize| {
        Spec::ca(&format!("/C=XX/O=Authority {n}/CN=CA"))
            .key(rsa_key(2048))
            .self_signed()
    };
    let directory = tempfile::tempdir().unwrap();
    // As many CAs as the IGTF distribution has; one key for all but the first.
    let ca = make_ca(0);
    install_ca(directory.path(), &ca);
    let shared = rsa_key(2048);
    for n in 1..100 {
        let other = Spec::ca(&format!("/C=XX/O=Authority {n}/CN=CA")).key(shared.clone());
        install_ca(directory.path(), &other.self_signed());
    }
    let user = Spec::user("/C=XX/O=Lab/CN=Jane Doe")
        .key(rsa_key(2048))
        .signed_by(&ca);
    let one = Spec::proxy(&user, "1").key(rsa_key(2048)).signed_by(&user);
    let two = Spec::limited(&one, "2").key(rsa_key(2048)).signed_by(&one);
    let cases: [(&str, &Cert, &[&Cert]); 2] = [
        ("proxy", &one, &[&user]),
        ("delegated proxy", &two, &[&one, &user]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let minimal = minimal(folder.path());
    for (name, leaf, chain) in cases {
        let bundle = leaf.bundle(chain).into_bytes();
        let file = folder.path().join("bundle");
        std::fs::write(&file, &bundle).unwrap();
        assert!(ours(&bundle, directory.path()));
        let mut group = criterion.benchmark_group(name);
        group.bench_function("credential", |b| {
            b.iter(|| ours(black_box(&bundle), directory.path()));
        });
        if let Some(minimal) = &minimal {
            group.bench_function("minimal C program", |b| {
                b.iter_custom(|count| times(minimal, &file, directory.path(), count));
            });
        }
        group.finish();
        in_turns(name, minimal.as_deref(), &bundle, &file, directory.path());
    }
    if let Some(minimal) = &minimal {
        processes(criterion, minimal, folder.path());
    }
    voms(criterion, directory.path(), &ca, &user);
    let mut group = criterion.benchmark_group("delegation");
    group.sample_size(10);
    group.bench_function("request", |b| {
        b.iter(|| DelegationRequest::generate().unwrap())
    });
    group.finish();
}

/// The ratio of the two, measured by turns: this machine may be busy with other things.
fn in_turns(name: &str, minimal: Option<&Path>, bundle: &[u8], file: &Path, directory: &Path) {
    const COUNT: u32 = 50;
    const TURNS: usize = 15;
    let Some(minimal) = minimal else { return };
    let mut ratios: Vec<f64> = (0..TURNS)
        .map(|_| {
            let start = Instant::now();
            (0..COUNT).for_each(|_| assert!(ours(black_box(bundle), directory)));
            let own = start.elapsed();
            own.as_secs_f64() / times(minimal, file, directory, COUNT.into()).as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "{name}: {:.2} times the time of the minimal C program",
        ratios[TURNS / 2]
    );
}

/// A whole process for one credential, now: `sailplane-verify` judges at no other time.
fn processes(criterion: &mut Criterion, minimal: &Path, folder: &Path) {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    let spec = |spec: Spec| spec.valid(now - 300, now + 36_000).key(rsa_key(2048));
    let ca = spec(Spec::ca("/C=XX/O=Authority/CN=CA")).self_signed();
    let user = spec(Spec::user("/C=XX/O=Lab/CN=Jane Doe")).signed_by(&ca);
    let proxy = spec(Spec::proxy(&user, "1")).signed_by(&user);
    let (file, certificates) = (folder.join("now"), folder.join("certificates"));
    std::fs::write(&file, proxy.bundle(&[&user])).unwrap();
    std::fs::create_dir(&certificates).unwrap();
    install_ca(&certificates, &ca);
    let mut group = criterion.benchmark_group("process");
    group.sample_size(20);
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    group.bench_function("minimal C program", |b| {
        b.iter(|| {
            let mut command = Command::new(minimal);
            command.args([&file, &certificates]);
            run(command.args([now.to_string(), "1".to_owned()]));
        });
    });
    group.bench_function("openssl verify", |b| {
        b.iter(|| {
            let mut command = Command::new("openssl");
            command.args(["verify", "-allow_proxy_certs", "-CApath"]);
            command.arg(&certificates).arg("-untrusted").arg(&file);
            run(command.arg(&file));
        });
    });
    // Where the programs of this profile are: beside this one, one folder up.
    let own = std::env::current_exe().unwrap();
    let verifier = own.ancestors().nth(2).unwrap().join("sailplane-verify");
    if verifier.is_file() {
        group.bench_function("sailplane-verify", |b| {
            b.iter(|| {
                let bundle = std::fs::File::open(&file).unwrap();
                run(Command::new(&verifier).arg(&certificates).stdin(bundle));
            });
        });
    }
    group.finish();
}

/// A proxy with attributes of a VO, the usual credential of a grid job: two more signatures.
fn voms(criterion: &mut Criterion, certificates: &Path, ca: &Cert, user: &Cert) {
    let server = Spec::user("/C=XX/O=Lab/CN=voms.example.org")
        .key(rsa_key(2048))
        .signed_by(ca);
    let vomsdir = tempfile::tempdir().unwrap();
    let folder = vomsdir.path().join("vo.lab");
    std::fs::create_dir(&folder).unwrap();
    let names = "/C=XX/O=Lab/CN=voms.example.org\n/C=XX/O=Authority 0/CN=CA\n";
    std::fs::write(folder.join("voms.example.org.lsc"), names).unwrap();
    let ac = AcSpec::new(user, &server, &["/vo.lab/prod/Role=pilot", "/vo.lab"]);
    let carrier = carrier(&[ac.signed_by(&server)]);
    let proxy = Spec::proxy(user, "1")
        .key(rsa_key(2048))
        .set(|s| s.extra.push(carrier))
        .signed_by(user);
    let bundle = proxy.bundle(&[user]).into_bytes();
    let trust = TrustStore::load(certificates);
    let mut options = VerifyOptions::at(NOW);
    options.voms = Some(VomsOptions::load(vomsdir.path()));
    criterion.bench_function("VOMS proxy/credential", |b| {
        b.iter(|| {
            let credential = verify_proxy(black_box(&bundle), &trust, &options).unwrap();
            assert_eq!(credential.fqans().len(), 2);
        });
    });
}

criterion_group!(benches, verification);
criterion_main!(benches);
