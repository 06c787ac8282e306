//! Certificates that are wrong in themselves, at each place of the chain.

use credential::{Blame, Role, TrustStore, VerifyError, VerifyOptions};
use openssl::hash::MessageDigest;

use crate::common::{Cert, DAY, HOUR, NOW, Spec, extension, rsa_key};
use crate::verify_with;
use crate::{Pki, code, verify};

/// Places from the first certificate up.
const PLACES: [Role; 4] = [Role::Proxy, Role::Proxy, Role::User, Role::Ca];

/// A chain of two proxies, user and CA, with one certificate changed.
fn chain_with(place: usize, change: impl Fn(&mut Spec)) -> (String, Cert) {
    let touch = |at: usize, spec: Spec| if at == place { spec.set(&change) } else { spec };
    let ca = touch(3, Spec::ca("/O=Lab/CN=Lab CA")).self_signed();
    let user = touch(2, Spec::user("/O=Lab/CN=Jane")).signed_by(&ca);
    let one = touch(1, Spec::proxy(&user, "1")).signed_by(&user);
    let two = touch(0, Spec::proxy(&one, "2")).signed_by(&one);
    (two.bundle(&[&one, &user]), ca)
}

#[track_caller]
fn error_at(place: usize, change: impl Fn(&mut Spec)) -> VerifyError {
    let (bundle, ca) = chain_with(place, change);
    verify(&bundle, &ca).expect_err("must be refused")
}

#[test]
fn c6_expired_anywhere_names_the_certificate_and_the_time() {
    let expected = [
        "proxy.expired",
        "proxy.expired",
        "cert.expired",
        "ca.expired",
    ];
    for (place, expected) in expected.into_iter().enumerate() {
        let error = error_at(place, |s| s.not_after = NOW - 1);
        assert_eq!(error.code(), expected);
        assert!(
            error
                .to_string()
                .contains("expired on 2026-12-31 23:59:59 UTC"),
            "{error}"
        );
        let VerifyError::Certificate { which, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(which.role, PLACES[place]);
        assert_eq!(which.position, (place < 3).then_some(place + 1));
        let blame = if place == 3 { Blame::Site } else { Blame::Job };
        assert_eq!(error.blame(), blame);
        assert!(!error.retryable());
    }
}

#[test]
fn c6_not_yet_valid_anywhere_is_refused() {
    let expected = ["proxy", "proxy", "cert", "ca"].map(|who| format!("{who}.not-yet-valid"));
    for (place, expected) in expected.into_iter().enumerate() {
        let error = error_at(place, |s| s.not_before = NOW + 1);
        assert_eq!(error.code(), expected);
        assert!(
            error.to_string().contains("2027-01-01 00:00:01 UTC"),
            "{error}"
        );
    }
}

#[test]
fn c6_validity_includes_its_first_second_and_not_its_last() {
    for place in 0..4 {
        let (bundle, ca) = chain_with(place, |s| (s.not_before, s.not_after) = (NOW, NOW + HOUR));
        let trust = TrustStore::from_pem(ca.pem().as_bytes()).unwrap();
        let ends = [
            (NOW - 1, false),
            (NOW, true),
            (NOW + HOUR - 1, true),
            (NOW + HOUR, false),
        ];
        for (at, good) in ends {
            let verdict = verify_with(&bundle, &trust, &VerifyOptions::at(at));
            assert_eq!(verdict.is_ok(), good, "place {place}, {at}: {verdict:?}");
        }
    }
}

#[test]
fn c16_a_minimum_of_validity_can_be_asked_for() {
    let pki = Pki::new();
    let trust = TrustStore::from_pem(pki.ca.pem().as_bytes()).unwrap();
    let mut options = VerifyOptions::at(NOW);
    options.minimum_left = 12 * HOUR;
    let bundle = pki.proxy.bundle(&[&pki.user]);
    assert!(verify_with(&bundle, &trust, &options).is_ok());
    options.minimum_left += 1;
    assert_eq!(
        code(verify_with(&bundle, &trust, &options)),
        "proxy.ends-soon"
    );
}

#[test]
fn c6_only_a_user_certificate_may_be_of_version_1() {
    // OpenSSL's builder writes no extensions into older versions, as it should.
    let (bundle, ca) = chain_with(2, |s| s.version = 0);
    assert!(verify(&bundle, &ca).is_ok());
    let trust = TrustStore::from_pem(ca.pem().as_bytes()).unwrap();
    let mut strict = VerifyOptions::at(NOW);
    strict.accept_plain_users = false;
    assert_eq!(code(verify_with(&bundle, &trust, &strict)), "cert.version");
    for version in [0, 1] {
        assert_eq!(error_at(3, |s| s.version = version).code(), "cert.version");
    }
    assert_eq!(error_at(2, |s| s.version = 1).code(), "cert.version");
}

#[test]
fn c6_unknown_critical_and_repeated_extensions_are_refused_everywhere() {
    for place in 0..4 {
        let unknown = |s: &mut Spec| {
            s.extra
                .push(extension("1.3.6.1.4.1.99999.1", true, &[5, 0]))
        };
        assert_eq!(error_at(place, unknown).code(), "cert.critical");
        let harmless = |s: &mut Spec| {
            s.extra
                .push(extension("1.3.6.1.4.1.99999.1", false, &[5, 0]));
        };
        let (bundle, ca) = chain_with(place, harmless);
        assert!(verify(&bundle, &ca).is_ok());
        let twice = |s: &mut Spec| {
            s.extra
                .push(extension("1.3.6.1.4.1.99999.1", false, &[5, 0]));
            s.extra
                .push(extension("1.3.6.1.4.1.99999.1", false, &[5, 0]));
        };
        assert_eq!(error_at(place, twice).code(), "cert.repeated");
        let unreadable = |s: &mut Spec| {
            s.usage = None;
            s.extra.push(extension("2.5.29.15", true, &[1, 2, 3]));
        };
        assert_eq!(error_at(place, unreadable).code(), "cert.extension");
    }
}

#[test]
fn c6_inner_and_outer_algorithm_must_agree() {
    let pki = Pki::new();
    let der = pki.user.x509.to_der().unwrap();
    // The second mention of ecdsa-with-SHA256 is the outer one; make it ecdsa-with-SHA384.
    let oid = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let at = der.windows(8).rposition(|w| w == oid).unwrap();
    let mut changed = der;
    changed[at + 7] = 3;
    let x509 = openssl::x509::X509::from_der(&changed).unwrap();
    let user = Cert {
        x509,
        key: pki.user.key.clone(),
    };
    assert_eq!(code(verify(&user.bundle(&[]), &pki.ca)), "cert.algorithms");
}

#[test]
fn c15_weak_keys_and_digests_are_refused() {
    let rsa = |bits| move |s: &mut Spec| s.key = rsa_key(bits);
    assert_eq!(error_at(0, rsa(768)).code(), "cert.key-size");
    assert_eq!(error_at(2, rsa(1024)).code(), "cert.key-size");
    assert_eq!(error_at(3, rsa(1024)).code(), "cert.key-size");
    let (bundle, ca) = chain_with(0, rsa(1024));
    assert!(verify(&bundle, &ca).is_ok());
    let ed25519 = |s: &mut Spec| s.key = openssl::pkey::PKey::generate_ed25519().unwrap();
    // Its signature on the next certificate needs a digest of its own, so only the first place.
    let (bundle, ca) = {
        let pki = Pki::new();
        let proxy = Spec::proxy(&pki.user, "1")
            .set(ed25519)
            .signed_by(&pki.user);
        (proxy.pem() + &pki.user.pem(), pki.ca)
    };
    let trust = TrustStore::from_pem(ca.pem().as_bytes()).unwrap();
    let mut options = VerifyOptions::at(NOW);
    options.require_key = false;
    assert_eq!(
        code(verify_with(&bundle, &trust, &options)),
        "cert.key-kind"
    );

    // The signature that a trust anchor puts on itself proves nothing and may be old.
    let (bundle, ca) = chain_with(3, |s| s.digest = MessageDigest::sha1());
    assert!(verify(&bundle, &ca).is_ok());
    for place in 0..3 {
        assert_eq!(
            error_at(place, |s| s.digest = MessageDigest::sha1()).code(),
            "cert.weak-signature"
        );
        let (bundle, ca) = chain_with(place, |s| s.digest = MessageDigest::sha1());
        let trust = TrustStore::from_pem(ca.pem().as_bytes()).unwrap();
        let mut options = VerifyOptions::at(NOW);
        options.allow_sha1 = true;
        assert!(verify_with(&bundle, &trust, &options).is_ok());
    }
}

#[test]
fn c15_md5_is_never_accepted() {
    let ca = Spec::ca("/O=Lab/CN=Lab CA")
        .key(rsa_key(2048))
        .self_signed();
    let user = Spec::user("/O=Lab/CN=Jane")
        .set(|s| s.digest = MessageDigest::md5())
        .signed_by(&ca);
    let trust = TrustStore::from_pem(ca.pem().as_bytes()).unwrap();
    let mut options = VerifyOptions::at(NOW);
    options.allow_sha1 = true;
    let verdict = verify_with(&user.bundle(&[]), &trust, &options);
    assert_eq!(code(verdict), "cert.weak-signature");
}

#[test]
fn c16_a_certificate_that_outlives_its_issuer_does_not_prolong_anything() {
    let (bundle, ca) = chain_with(1, |s| s.not_after = NOW + HOUR);
    let (outliving, _) = chain_with(0, |s| s.not_after = NOW + 300 * DAY);
    assert_eq!(verify(&bundle, &ca).unwrap().not_after().unix(), NOW + HOUR);
    assert_eq!(
        credential::earliest_end(outliving.as_bytes()).unwrap(),
        NOW + 12 * HOUR
    );
    assert_eq!(
        credential::earliest_end(bundle.as_bytes()).unwrap(),
        NOW + HOUR
    );
}
