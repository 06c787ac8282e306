//! Speed of the parts that every byte or every ad goes through: `cargo bench -p cedar`.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark may panic, and criterion's macros make undocumented functions"
)]

use std::hint::black_box;

use cedar::entropy::SystemEntropy;
use cedar::frame::Channel;
use cedar::secret::SessionKey;
use cedar::wire::{Coding, MessageReader, MessageWriter};
use classad::ClassAd;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn pair() -> (Channel, Channel) {
    let key = SessionKey::new([5; 32]);
    let channel = || {
        let mut channel = Channel::new(64 << 20, false);
        channel.secure(&key, &mut SystemEntropy).unwrap();
        channel.set_limit(64 << 20);
        channel
    };
    (channel(), channel())
}

/// 256 KiB is the block of HTCondor's file transfer.
fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for size in [4usize << 10, 256 << 10, 4 << 20] {
        let body = vec![7u8; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_with_input(BenchmarkId::new("seal", size), &body, |bencher, body| {
            let (mut sender, _) = pair();
            let mut wire = Vec::new();
            bencher.iter(|| {
                wire.clear();
                sender.seal(black_box(body), &mut wire).unwrap();
            });
        });
        group.bench_with_input(
            BenchmarkId::new("seal and open", size),
            &body,
            |bencher, body| {
                let (mut sender, mut receiver) = pair();
                let mut wire = Vec::new();
                bencher.iter(|| {
                    wire.clear();
                    sender.seal(black_box(body), &mut wire).unwrap();
                    receiver.push(&wire);
                    black_box(receiver.next_message().unwrap().unwrap());
                });
            },
        );
    }
    group.finish();
}

fn machine_ad() -> ClassAd {
    let mut ad = ClassAd::new();
    for index in 0..60 {
        ad.insert(format!("Text{index}"), "a value of some length");
        ad.insert(format!("Number{index}"), i64::from(index) * 1_000_003);
        let text = format!("Number{index} > 3 && TARGET.Memory >= {index}");
        ad.insert_expr(format!("Expr{index}"), &text).unwrap();
    }
    ad
}

fn ads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ad of 180 attributes");
    let ad = machine_ad();
    let mut writer = MessageWriter::new(Coding::Encrypted);
    writer.ad(&ad);
    let bytes = writer.finish().unwrap();
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| black_box(MessageReader::new(Coding::Encrypted, &bytes).ad().unwrap()));
    });
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            let mut writer = MessageWriter::new(Coding::Encrypted);
            writer.ad(black_box(&ad));
            writer.finish().unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, frames, ads);
criterion_main!(benches);
