//! Bytes to verdict for an RSA-2048 proxy, beside the shortest OpenSSL program that does the same:
//! read the PEM, look up the CA in the same directory, `X509_verify_cert`, compare the key.
//!
//! `cargo bench -p credential`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a benchmark may panic"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::path::Path;

use common::ac::{AcSpec, carrier};
use common::{Cert, NOW, Spec, install_ca, rsa_key};
use credential::{DelegationRequest, TrustStore, VerifyOptions, VomsOptions, verify_proxy};
use criterion::{Criterion, criterion_group, criterion_main};
use openssl::pkey::PKey;
use openssl::ssl::SslFiletype;
use openssl::stack::Stack;
use openssl::x509::store::{X509Lookup, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509StoreContext};

fn plain_openssl(bundle: &[u8], directory: &Path) -> bool {
    let mut certificates = X509::stack_from_pem(bundle).unwrap().into_iter();
    let leaf = certificates.next().unwrap();
    let mut chain = Stack::new().unwrap();
    certificates.for_each(|certificate| chain.push(certificate).unwrap());
    let key = PKey::private_key_from_pem(bundle).unwrap();
    let mut store = X509StoreBuilder::new().unwrap();
    let lookup = store.add_lookup(X509Lookup::hash_dir()).unwrap();
    lookup
        .add_dir(directory.to_str().unwrap(), SslFiletype::PEM)
        .unwrap();
    let mut parameters = X509VerifyParam::new().unwrap();
    parameters
        .set_flags(X509VerifyFlags::ALLOW_PROXY_CERTS)
        .unwrap();
    parameters.set_time(NOW);
    store.set_param(&parameters).unwrap();
    let store = store.build();
    let mut context = X509StoreContext::new().unwrap();
    context
        .init(&store, &leaf, &chain, |context| context.verify_cert())
        .unwrap()
        && leaf.public_key().unwrap().public_eq(&key)
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
    for (name, leaf, chain) in cases {
        let bundle = leaf.bundle(chain).into_bytes();
        assert!(plain_openssl(&bundle, directory.path()) && ours(&bundle, directory.path()));
        let mut group = criterion.benchmark_group(name);
        group.bench_function("openssl", |b| {
            b.iter(|| plain_openssl(black_box(&bundle), directory.path()));
        });
        group.bench_function("credential", |b| {
            b.iter(|| ours(black_box(&bundle), directory.path()));
        });
        group.finish();
    }
    voms(criterion, directory.path(), &ca, &user);
    let mut group = criterion.benchmark_group("delegation");
    group.sample_size(10);
    group.bench_function("request", |b| {
        b.iter(|| DelegationRequest::generate().unwrap())
    });
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
