//! Chains that must be accepted, and what the result says.

use credential::{Role, TrustStore, VerifyOptions};
use openssl::ec::{Asn1Flag, EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;

use crate::common::{Cert, DAY, HOUR, NOW, Spec, install_at, install_ca, install_policy, rsa_key};
use crate::verify_with;
use crate::{Pki, verify};

fn pki() -> (Cert, Cert) {
    let pki = Pki::new();
    (pki.ca, pki.user)
}

#[test]
fn a_proxy_speaks_for_the_user_who_signed_it() {
    let (ca, user) = pki();
    let proxy = Spec::proxy(&user, "1234").signed_by(&user);
    let credential = verify(&proxy.bundle(&[&user]), &ca).unwrap();
    assert_eq!(credential.identity().as_str(), "/C=XX/O=Lab/CN=Jane Doe");
    assert_eq!(credential.subject(), "/C=XX/O=Lab/CN=Jane Doe/CN=1234");
    assert_eq!(credential.not_after().unix(), NOW + 12 * HOUR);
    assert!(!credential.limited());
    let roles: Vec<Role> = credential.chain().iter().map(|link| link.role).collect();
    assert_eq!(roles, [Role::Proxy, Role::User, Role::Ca]);
}

#[test]
fn a_plain_user_certificate_is_a_credential() {
    let (ca, user) = pki();
    let credential = verify(&user.bundle(&[]), &ca).unwrap();
    assert_eq!(credential.identity().as_str(), "/C=XX/O=Lab/CN=Jane Doe");
    assert_eq!(credential.proxy_depth(), 0);
}

#[test]
fn depth_is_not_limited_and_a_limited_proxy_stays_limited() {
    let (ca, user) = pki();
    let mut chain = vec![user];
    for depth in 0..12 {
        let issuer = chain.first().unwrap();
        let cn = depth.to_string();
        let spec = if depth < 5 {
            Spec::proxy(issuer, &cn)
        } else {
            Spec::limited(issuer, &cn)
        };
        let proxy = spec.signed_by(issuer);
        chain.insert(0, proxy);
        let rest: Vec<&Cert> = chain.iter().skip(1).collect();
        let credential = verify(&chain[0].bundle(&rest), &ca).unwrap();
        assert_eq!(credential.proxy_depth(), depth + 1);
        assert_eq!(credential.limited(), depth >= 5);
        assert_eq!(credential.identity().as_str(), "/C=XX/O=Lab/CN=Jane Doe");
    }
}

#[test]
fn c16_it_ends_with_the_certificate_that_ends_first_wherever_that_is() {
    for first_to_end in 0..4 {
        let end = |place: usize| {
            if place == first_to_end {
                NOW + HOUR
            } else {
                NOW + 9 * DAY
            }
        };
        let ca = Spec::ca("/O=Lab/CN=Lab CA")
            .valid(NOW - DAY, end(3))
            .self_signed();
        let user = Spec::user("/O=Lab/CN=Jane")
            .valid(NOW - DAY, end(2))
            .signed_by(&ca);
        let one = Spec::proxy(&user, "1")
            .valid(NOW - DAY, end(1))
            .signed_by(&user);
        let two = Spec::proxy(&one, "2")
            .valid(NOW - DAY, end(0))
            .signed_by(&one);
        let credential = verify(&two.bundle(&[&one, &user]), &ca).unwrap();
        assert_eq!(
            credential.not_after().unix(),
            NOW + HOUR,
            "place {first_to_end}"
        );
        assert_eq!(credential.not_after().seconds_left(NOW), HOUR);
    }
}

#[test]
fn c15_rsa_chains_with_small_proxy_keys_are_accepted() {
    let ca = Spec::ca("/O=Lab/CN=Lab CA")
        .key(rsa_key(2048))
        .self_signed();
    let user = Spec::user("/O=Lab/CN=Jane")
        .key(rsa_key(2048))
        .signed_by(&ca);
    let proxy = Spec::proxy(&user, "1").key(rsa_key(1024)).signed_by(&user);
    assert!(verify(&proxy.bundle(&[&user]), &ca).is_ok());
}

#[test]
fn subordinate_cas_come_from_the_bundle_or_the_directory() {
    let root = Spec::ca("/O=Lab/CN=Root").self_signed();
    let sub = Spec::ca("/O=Lab/CN=Sub").signed_by(&root);
    let user = Spec::user("/O=Lab/CN=Jane").signed_by(&sub);
    let proxy = Spec::proxy(&user, "1").signed_by(&user);
    assert!(verify(&proxy.bundle(&[&user, &sub]), &root).is_ok());
    assert!(
        verify(&proxy.bundle(&[&user, &sub, &root]), &root).is_ok(),
        "anchor sent along"
    );
    let directory = tempfile::tempdir().unwrap();
    install_ca(directory.path(), &root);
    install_ca(directory.path(), &sub);
    let trust = TrustStore::load(directory.path());
    for bundle in [proxy.bundle(&[&user]), proxy.bundle(&[&user, &sub, &user])] {
        assert!(verify_with(&bundle, &trust, &VerifyOptions::at(NOW)).is_ok());
    }
}

#[test]
fn c5_the_directory_is_found_by_either_hash_or_by_a_plain_file_name() {
    let (ca, user) = pki();
    let bundle = Spec::proxy(&user, "1").signed_by(&user).bundle(&[&user]);
    let other = Spec::ca("/C=XX/O=Other/CN=Other CA").self_signed();
    let output = |argument: &str| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), ca.pem()).unwrap();
        let tool = std::process::Command::new("openssl")
            .args(["x509", "-noout", argument, "-in"])
            .arg(file.path())
            .output()
            .expect("the openssl program (package openssl) is needed");
        String::from_utf8(tool.stdout).unwrap().trim().to_owned()
    };
    let names = [
        format!("{}.0", output("-subject_hash")),
        format!("{}.0", output("-subject_hash_old")),
        "lab-ca.pem".into(),
        "lab-ca.crt".into(),
        "deadbeef.0".into(),
    ];
    for name in names {
        let directory = tempfile::tempdir().unwrap();
        install_ca(directory.path(), &other);
        std::fs::write(directory.path().join(&name), ca.pem()).unwrap();
        let trust = TrustStore::load(directory.path());
        let mut options = VerifyOptions::at(NOW);
        options.allow_missing_namespace = true;
        let verdict = verify_with(&bundle, &trust, &options);
        assert!(verdict.is_ok(), "{name}: {verdict:?}");
    }
}

#[test]
fn c5_of_several_cas_with_one_name_the_right_one_is_found() {
    for key_identifiers in [true, false] {
        let make = || {
            Spec::ca("/O=Lab/CN=Lab CA")
                .set(|s| s.key_identifiers = key_identifiers)
                .self_signed()
        };
        let cas = [make(), make(), make()];
        let directory = tempfile::tempdir().unwrap();
        for ca in &cas {
            install_at(
                directory.path(),
                &format!("{:08x}", ca.x509.subject_name_hash()),
                ca,
            );
            install_policy(directory.path(), ca, "/O=Lab/*");
        }
        let trust = TrustStore::load(directory.path());
        for ca in &cas {
            let user = Spec::user("/O=Lab/CN=Jane")
                .set(|s| s.key_identifiers = key_identifiers)
                .signed_by(ca);
            let verdict = verify_with(&user.bundle(&[]), &trust, &VerifyOptions::at(NOW));
            assert!(verdict.is_ok(), "{verdict:?}");
        }
    }
}

#[test]
fn a_ca_name_that_is_the_beginning_of_the_users_name_is_no_proxy() {
    let ca = Spec::ca("/O=Lab").self_signed();
    let user = Spec::user("/O=Lab/CN=Jane").signed_by(&ca);
    let proxy = Spec::proxy(&user, "1").signed_by(&user);
    let credential = verify(&proxy.bundle(&[&user]), &ca).unwrap();
    assert_eq!(credential.identity().as_str(), "/O=Lab/CN=Jane");
}

#[test]
fn c15_all_accepted_digests_and_kinds_of_keys_verify() {
    let curves = [Nid::X9_62_PRIME256V1, Nid::SECP384R1, Nid::SECP521R1].map(|curve| {
        let mut group = EcGroup::from_curve_name(curve).unwrap();
        group.set_asn1_flag(Asn1Flag::NAMED_CURVE);
        PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
    });
    // Odd sizes make moduli and signatures that do not fill their last byte.
    let keys = curves
        .into_iter()
        .chain([rsa_key(2048), rsa_key(2049), rsa_key(3072)]);
    for key in keys {
        for digest in [
            MessageDigest::sha224(),
            MessageDigest::sha256(),
            MessageDigest::sha384(),
            MessageDigest::sha512(),
        ] {
            let ca = Spec::ca("/O=Lab/CN=Lab CA").key(key.clone()).self_signed();
            let user = Spec::user("/O=Lab/CN=Jane")
                .key(key.clone())
                .set(|s| s.digest = digest);
            let user = user.signed_by(&ca);
            let proxy = Spec::proxy(&user, "1")
                .set(|s| s.digest = digest)
                .signed_by(&user);
            let verdict = verify(&proxy.bundle(&[&user]), &ca);
            assert!(verdict.is_ok(), "{:?}: {verdict:?}", key.id());
        }
    }
}
