//! The fuzz targets over their kept corpus.

use std::fs;
use std::path::Path;

use credential::fuzzing::{
    fuzz_credential_bundle, fuzz_credential_verify, fuzz_crl, fuzz_delegation_reply, fuzz_jwks,
    fuzz_namespaces, fuzz_signing_policy, fuzz_token, fuzz_voms_attributes, fuzz_voms_lsc,
};

type Target = fn(&[u8]);

#[test]
fn the_corpus_of_each_fuzz_target_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let targets: [(&str, Target); 10] = [
        ("credential_bundle", fuzz_credential_bundle),
        ("credential_verify", fuzz_credential_verify),
        ("crl", fuzz_crl),
        ("delegation_reply", fuzz_delegation_reply),
        ("jwks", fuzz_jwks),
        ("namespaces", fuzz_namespaces),
        ("signing_policy", fuzz_signing_policy),
        ("token", fuzz_token),
        ("voms_attributes", fuzz_voms_attributes),
        ("voms_lsc", fuzz_voms_lsc),
    ];
    for (name, target) in targets {
        let files: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().collect();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            target(&fs::read(file.unwrap().path()).unwrap());
        }
    }
}

/// The target asserts that OpenSSL agrees with each acceptance.
#[test]
fn no_single_changed_byte_makes_the_two_opinions_differ() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for name in ["der", "limited"] {
        let chain = fs::read(corpus.join("credential_verify").join(name)).unwrap();
        for at in 0..chain.len() {
            for mask in [0x01, 0x20, 0x80] {
                let mut changed = chain.clone();
                changed[at] ^= mask;
                fuzz_credential_verify(&changed);
            }
        }
    }
}
