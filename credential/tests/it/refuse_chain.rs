//! Paths that lead nowhere, or not by right.

use credential::{Blame, TrustStore, VerifyError, VerifyOptions};

use crate::common::{Cert, NOW, Spec, der, extension, install_at, install_ca};
use crate::verify_with;
use crate::{Pki, code, verify};

#[test]
fn c5_an_unknown_ca_is_untrusted_even_if_it_comes_along() {
    let pki = Pki::new();
    let stranger = Spec::ca("/C=XX/O=Elsewhere/CN=Other CA").self_signed();
    let error = verify(&pki.proxy.bundle(&[&pki.user]), &stranger).unwrap_err();
    assert_eq!(
        (error.code(), error.blame()),
        ("chain.untrusted", Blame::Job)
    );
    assert!(
        error.to_string().contains("/C=XX/O=Lab/CN=Lab CA"),
        "{error}"
    );
    let along = pki.proxy.bundle(&[&pki.user, &pki.ca]);
    assert_eq!(code(verify(&along, &stranger)), "chain.untrusted");
}

#[test]
fn c5_a_ca_of_the_right_name_with_another_key_is_refused() {
    for key_identifiers in [true, false] {
        let make = || {
            Spec::ca("/O=Lab/CN=Lab CA")
                .set(|s| s.key_identifiers = key_identifiers)
                .self_signed()
        };
        let (trusted, forger) = (make(), make());
        let user = Spec::user("/O=Lab/CN=Jane")
            .set(|s| s.key_identifiers = key_identifiers)
            .signed_by(&forger);
        let proxy = Spec::proxy(&user, "1").signed_by(&user);
        let expected = if key_identifiers {
            "chain.other-key"
        } else {
            "chain.signature"
        };
        assert_eq!(code(verify(&proxy.bundle(&[&user]), &trusted)), expected);
        // Bringing the forged CA does not help.
        let refused = code(verify(&proxy.bundle(&[&user, &forger]), &trusted));
        assert!(matches!(
            refused,
            "chain.other-key" | "bundle.stray" | "chain.signature"
        ));
    }
}

#[test]
fn c6_a_changed_certificate_is_found_by_its_signature_at_each_place() {
    let pki = Pki::new();
    let second = Spec::proxy(&pki.proxy, "2").signed_by(&pki.proxy);
    for place in 0..3 {
        let mut chain = [second.clone(), pki.proxy.clone(), pki.user.clone()];
        let mut bytes = chain[place].x509.to_der().unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        chain[place].x509 = openssl::x509::X509::from_der(&bytes).unwrap();
        let error = verify(&chain[0].bundle(&[&chain[1], &chain[2]]), &pki.ca).unwrap_err();
        assert_eq!(error.code(), "chain.signature", "place {place}: {error}");
        let VerifyError::Chain { which, .. } = error else {
            panic!()
        };
        assert_eq!(which.position, Some(place + 1));
    }
}

#[test]
fn c7_a_user_cannot_issue_another_user() {
    let pki = Pki::new();
    let victim = Spec::user("/C=XX/O=Lab/CN=Victim").signed_by(&pki.user);
    assert_eq!(
        code(verify(&victim.bundle(&[&pki.user]), &pki.ca)),
        "chain.issuer"
    );
    let below = Spec::user("/C=XX/O=Lab/CN=Jane Doe/CN=Victim").signed_by(&pki.user);
    assert_eq!(
        code(verify(&below.bundle(&[&pki.user]), &pki.ca)),
        "chain.issuer"
    );
    let false_ca = Spec::ca("/C=XX/O=Lab/CN=Own CA").signed_by(&pki.user);
    let victim = Spec::user("/C=XX/O=Lab/CN=Victim").signed_by(&false_ca);
    let bundle = victim.bundle(&[&false_ca, &pki.user]);
    assert_eq!(code(verify(&bundle, &pki.ca)), "chain.issuer");
}

#[test]
fn c7_a_proxy_cannot_issue_a_user() {
    let pki = Pki::new();
    let victim = Spec::user("/C=XX/O=Lab/CN=Victim").signed_by(&pki.proxy);
    let bundle = victim.bundle(&[&pki.proxy, &pki.user]);
    assert_eq!(code(verify(&bundle, &pki.ca)), "chain.issuer");
}

#[test]
fn c7_a_ca_certificate_is_no_credential() {
    let pki = Pki::new();
    assert_eq!(
        code(verify(&pki.ca.bundle(&[]), &pki.ca)),
        "chain.no-end-entity"
    );
    let sub = Spec::ca("/O=Lab/CN=Sub").signed_by(&pki.ca);
    assert_eq!(
        code(verify(&sub.bundle(&[]), &pki.ca)),
        "chain.no-end-entity"
    );
}

#[test]
fn a_self_signed_user_is_untrusted() {
    let pki = Pki::new();
    let own = Spec::user("/C=XX/O=Lab/CN=Jane Doe").self_signed();
    assert_eq!(code(verify(&own.bundle(&[]), &pki.ca)), "chain.untrusted");
    let proxy = Spec::proxy(&own, "1").signed_by(&own);
    let refused = code(verify(&proxy.bundle(&[&own]), &pki.ca));
    assert!(
        matches!(refused, "chain.untrusted" | "chain.incomplete"),
        "{refused}"
    );
}

#[test]
fn a_proxy_without_its_user_certificate_is_incomplete() {
    let pki = Pki::new();
    assert_eq!(
        code(verify(&pki.proxy.bundle(&[]), &pki.ca)),
        "chain.incomplete"
    );
}

#[test]
fn c7_ca_path_length_and_key_usage_are_obeyed() {
    let chain = |root: Spec, middle: Spec| {
        let root = root.self_signed();
        let middle = middle.signed_by(&root);
        let last = Spec::ca("/O=Lab/CN=Last").signed_by(&middle);
        let user = Spec::user("/O=Lab/CN=Jane").signed_by(&last);
        verify(&user.bundle(&[&last, &middle]), &root)
    };
    let (root, middle) = (
        || Spec::ca("/O=Lab/CN=Root"),
        || Spec::ca("/O=Lab/CN=Middle"),
    );
    let limit = |n| move |s: &mut Spec| s.basic = Some((true, Some(n)));
    assert!(chain(root().set(limit(2)), middle().set(limit(1))).is_ok());
    assert_eq!(code(chain(root(), middle().set(limit(0)))), "chain.pathlen");
    assert_eq!(code(chain(root().set(limit(1)), middle())), "chain.pathlen");
    let no_sign = |s: &mut Spec| {
        let mut usage = openssl::x509::extension::KeyUsage::new();
        usage.critical().digital_signature().crl_sign();
        s.usage = Some(usage);
    };
    assert_eq!(
        code(chain(root(), middle().set(no_sign))),
        "chain.key-usage"
    );
    assert_eq!(
        code(chain(root().set(no_sign), middle())),
        "chain.key-usage"
    );
}

#[test]
fn name_constraints_of_a_ca_hold_for_users_and_their_proxies() {
    // permittedSubtrees { directoryName /O=Lab }
    let name = crate::common::dn("/O=Lab").to_der().unwrap();
    let subtree = der(0x30, &der(0xa4, &name));
    let constraint = der(0x30, &der(0xa0, &subtree));
    let ca = Spec::ca("/O=Lab/CN=Lab CA")
        .set(|s| s.extra.push(extension("2.5.29.30", true, &constraint)))
        .self_signed();
    for (subject, expected) in [
        ("/O=Lab/CN=Jane", None),
        ("/O=Bank/CN=Jane", Some("chain.name-constraints")),
    ] {
        let user = Spec::user(subject).signed_by(&ca);
        let proxy = Spec::proxy(&user, "1").signed_by(&user);
        let verdict = verify(&proxy.bundle(&[&user]), &ca);
        assert_eq!(verdict.err().map(|error| error.code()), expected);
    }
}

#[test]
fn something_in_the_directory_that_is_no_ca_trusts_nobody() {
    let own = Spec::user("/O=Lab/CN=Own").self_signed();
    let user = Spec::user("/O=Lab/CN=Jane").signed_by(&own);
    let error = verify(&user.bundle(&[]), &own).unwrap_err();
    assert_eq!((error.code(), error.blame()), ("chain.issuer", Blame::Site));
}

#[test]
fn a_subordinate_ca_in_the_directory_needs_its_root_there() {
    let root = Spec::ca("/O=Lab/CN=Root").self_signed();
    let sub = Spec::ca("/O=Lab/CN=Sub").signed_by(&root);
    let user = Spec::user("/O=Lab/CN=Jane").signed_by(&sub);
    let refused = code(verify(&user.bundle(&[&root]), &sub));
    assert_eq!(refused, "chain.untrusted");
}

fn with_directory(fill: impl FnOnce(&std::path::Path), bundle: &str) -> VerifyError {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path());
    let trust = TrustStore::load(directory.path());
    verify_with(bundle, &trust, &VerifyOptions::at(NOW)).unwrap_err()
}

#[test]
fn trouble_with_the_directory_is_the_sites_and_names_the_file() {
    let pki = Pki::new();
    let bundle = pki.proxy.bundle(&[&pki.user]);
    let hash = format!("{:08x}", pki.ca.x509.subject_name_hash());
    let garbage = |ca: &Cert| ca.pem().replace("MI", "!!");
    let error = with_directory(
        |d| std::fs::write(d.join(format!("{hash}.0")), garbage(&pki.ca)).unwrap(),
        &bundle,
    );
    assert_eq!(
        (error.code(), error.blame()),
        ("trust.malformed", Blame::Site)
    );
    assert!(error.to_string().contains(&hash), "{error}");
    let error = with_directory(
        |d| std::fs::create_dir(d.join(format!("{hash}.0"))).unwrap(),
        &bundle,
    );
    assert_eq!(error.code(), "trust.malformed");
    let error = with_directory(|d| std::fs::remove_dir(d).unwrap(), &bundle);
    assert_eq!(
        (error.code(), error.blame()),
        ("trust.unreadable", Blame::Site)
    );
    assert!(!error.retryable());
    let error = with_directory(
        |d| (0..65).for_each(|_| install_at(d, &hash, &Spec::ca("/O=x").self_signed())),
        &bundle,
    );
    assert_eq!(error.code(), "trust.too-many");
}

#[test]
fn a_ca_removed_from_the_directory_is_no_longer_trusted() {
    let pki = Pki::new();
    let bundle = pki.proxy.bundle(&[&pki.user]);
    let directory = tempfile::tempdir().unwrap();
    install_ca(directory.path(), &pki.ca);
    let trust = TrustStore::load(directory.path());
    let verdict = || verify_with(&bundle, &trust, &VerifyOptions::at(NOW));
    assert!(verdict().is_ok());
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(code(verdict()), "chain.untrusted");
}

#[test]
fn c15_explicit_curve_parameters_are_refused_before_anything_computes_with_them() {
    let pki = Pki::new();
    let mut group =
        openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap();
    group.set_asn1_flag(openssl::ec::Asn1Flag::EXPLICIT_CURVE);
    let key =
        openssl::pkey::PKey::from_ec_key(openssl::ec::EcKey::generate(&group).unwrap()).unwrap();
    let user = Spec::user("/C=XX/O=Lab/CN=Jane")
        .key(key)
        .signed_by(&pki.ca);
    let trust = TrustStore::from_pem(pki.ca.pem().as_bytes()).unwrap();
    let mut options = VerifyOptions::at(NOW);
    options.require_key = false;
    assert_eq!(
        code(verify_with(&user.pem(), &trust, &options)),
        "cert.key-kind"
    );
}
