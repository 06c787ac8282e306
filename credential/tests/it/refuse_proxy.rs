//! Violations of RFC 3820, one by one, and the proxy kinds that are not accepted.

use credential::{LimitedProxies, TrustStore, VerifyOptions, verify_proxy};
use openssl::x509::extension::KeyUsage;

use crate::common::{
    ANY_LANGUAGE, Cert, HOUR, INDEPENDENT, INHERIT_ALL, LIMITED, NOW, PROXY_CERT_INFO, Spec, der,
    dn, dn_plus, extension, oid, proxy_info,
};
use crate::verify_with;
use crate::{Pki, code, verify};

/// The verdict on a proxy of Jane, changed.
#[track_caller]
fn refused(change: impl FnOnce(&mut Spec)) -> &'static str {
    let pki = Pki::new();
    let proxy = Spec::proxy(&pki.user, "1").set(change).signed_by(&pki.user);
    code(verify(&proxy.bundle(&[&pki.user]), &pki.ca))
}

fn with_info(info: &[u8]) -> impl FnOnce(&mut Spec) {
    let replacement = extension(PROXY_CERT_INFO, true, info);
    move |s| s.extra = vec![replacement]
}

#[test]
fn c8_the_subject_must_be_the_issuers_plus_one_cn() {
    for subject in [
        "/C=XX/O=Lab/CN=Jane Doe",
        "/C=XX/O=Lab/CN=Jane Doe/CN=1/CN=2",
        "/C=XX/O=Lab/CN=Jane Doe/OU=1",
        "/C=XX/O=Lab/CN=Mallory/CN=1",
        "/C=XX/O=Lab/CN=1",
        "/CN=1",
    ] {
        assert_eq!(
            refused(|s| s.subject = dn(subject)),
            "proxy.subject",
            "{subject}"
        );
    }
}

#[test]
fn c8_alternative_names_ca_bits_and_signing_rights_are_not_for_proxies() {
    assert_eq!(
        refused(|s| s.alternative_name = Some("host.example")),
        "proxy.alternative-name"
    );
    let issuer_name = der(0x30, &der(0x82, b"host.example"));
    assert_eq!(
        refused(|s| s.extra.push(extension("2.5.29.18", false, &issuer_name))),
        "proxy.alternative-name"
    );
    let usage = |change: fn(&mut KeyUsage)| {
        let mut usage = KeyUsage::new();
        usage.critical().digital_signature();
        change(&mut usage);
        usage
    };
    let cert_sign = usage(|u| {
        u.key_cert_sign();
    });
    let crl_sign = usage(|u| {
        u.crl_sign();
    });
    assert_eq!(refused(|s| s.usage = Some(cert_sign)), "proxy.key-usage");
    assert_eq!(refused(|s| s.usage = Some(crl_sign)), "proxy.key-usage");
}

#[test]
fn c8_a_proxy_that_says_ca_is_refused() {
    // Seen from the anchor it is a CA that a user issued.
    assert_eq!(refused(|s| s.basic = Some((true, None))), "proxy.ca");
}

#[test]
fn c8_the_issuer_needs_the_right_to_sign() {
    let ca = Spec::ca("/O=Lab/CN=Lab CA").self_signed();
    let mut usage = KeyUsage::new();
    usage.critical().key_encipherment();
    let user = Spec::user("/O=Lab/CN=Jane")
        .set(|s| s.usage = Some(usage))
        .signed_by(&ca);
    let proxy = Spec::proxy(&user, "1").signed_by(&user);
    assert_eq!(code(verify(&proxy.bundle(&[&user]), &ca)), "proxy.issuer");
    let silent = Spec::user("/O=Lab/CN=Jane")
        .set(|s| s.usage = None)
        .signed_by(&ca);
    let proxy = Spec::proxy(&silent, "1").signed_by(&silent);
    assert!(verify(&proxy.bundle(&[&silent]), &ca).is_ok());
}

#[test]
fn c8_a_proxy_of_a_ca_is_refused() {
    let pki = Pki::new();
    let proxy = Spec::proxy(&pki.ca, "1").signed_by(&pki.ca);
    let refused = code(verify(&proxy.bundle(&[&pki.ca]), &pki.ca));
    assert!(
        matches!(refused, "proxy.issuer" | "chain.incomplete"),
        "{refused}"
    );
    let sub = Spec::ca("/C=XX/O=Lab/CN=Sub").signed_by(&pki.ca);
    let proxy = Spec::proxy(&sub, "1").signed_by(&sub);
    assert_eq!(
        code(verify(&proxy.bundle(&[&sub]), &pki.ca)),
        "proxy.issuer"
    );
}

#[test]
fn c8_the_proxy_extension_must_be_critical_single_and_readable() {
    let info = proxy_info(None, INHERIT_ALL, None);
    assert_eq!(
        refused(|s| s.extra = vec![extension(PROXY_CERT_INFO, false, &info)]),
        "proxy.extension"
    );
    assert_eq!(
        refused(|s| s.extra.push(extension(PROXY_CERT_INFO, true, &info))),
        "cert.repeated"
    );
    for garbage in [&[][..], &[5, 0], &[0x30, 0], &[0x30, 3, 2, 1, 0]] {
        assert_eq!(refused(with_info(garbage)), "proxy.extension");
    }
    let mut trailing = info;
    trailing.push(0);
    assert_eq!(refused(with_info(&trailing)), "proxy.extension");
    let negative = der(
        0x30,
        &[der(2, &[0xff]), der(0x30, &oid(INHERIT_ALL))].concat(),
    );
    assert_eq!(refused(with_info(&negative)), "proxy.extension");
}

#[test]
fn c10_only_full_and_limited_policies_are_accepted() {
    for language in [
        INDEPENDENT,
        ANY_LANGUAGE,
        "1.2.3.4",
        "1.3.6.1.4.1.3536.1.1.1.8",
    ] {
        assert_eq!(
            refused(with_info(&proxy_info(None, language, None))),
            "proxy.policy"
        );
        assert_eq!(
            refused(with_info(&proxy_info(None, language, Some(b"x")))),
            "proxy.policy"
        );
    }
    for language in [INHERIT_ALL, LIMITED] {
        assert_eq!(
            refused(with_info(&proxy_info(None, language, Some(b"x")))),
            "proxy.policy"
        );
        assert_eq!(
            refused(with_info(&proxy_info(None, language, Some(b"")))),
            "proxy.policy"
        );
    }
}

/// A chain of proxies, the path limit of each given from the user down.
fn proxies(limits: &[Option<u8>]) -> Result<usize, &'static str> {
    let pki = Pki::new();
    let mut chain: Vec<Cert> = vec![pki.user];
    for (index, limit) in limits.iter().enumerate() {
        let issuer = &chain[0];
        let info = proxy_info(*limit, INHERIT_ALL, None);
        let proxy = Spec::proxy_with(issuer, &index.to_string(), &info).signed_by(issuer);
        chain.insert(0, proxy);
    }
    let rest: Vec<&Cert> = chain.iter().skip(1).collect();
    verify(&chain[0].bundle(&rest), &pki.ca)
        .map(|credential| credential.proxy_depth())
        .map_err(|error| error.code())
}

#[test]
fn c9_the_smallest_path_limit_along_the_way_counts() {
    assert_eq!(proxies(&[Some(0)]), Ok(1));
    assert_eq!(proxies(&[Some(0), None]), Err("proxy.pathlen"));
    assert_eq!(proxies(&[Some(1), None]), Ok(2));
    assert_eq!(proxies(&[Some(1), None, None]), Err("proxy.pathlen"));
    assert_eq!(proxies(&[Some(1), Some(9), None]), Err("proxy.pathlen"));
    assert_eq!(proxies(&[None, Some(0), None]), Err("proxy.pathlen"));
    assert_eq!(proxies(&[Some(2), Some(1), Some(0)]), Ok(3));
}

#[test]
fn c11_no_full_proxy_below_a_limited_one() {
    let pki = Pki::new();
    let limited = Spec::limited(&pki.user, "1").signed_by(&pki.user);
    let below = Spec::limited(&limited, "2").signed_by(&limited);
    assert!(
        verify(&below.bundle(&[&limited, &pki.user]), &pki.ca)
            .unwrap()
            .limited()
    );
    let full = Spec::proxy(&limited, "2").signed_by(&limited);
    let bundle = full.bundle(&[&limited, &pki.user]);
    assert_eq!(code(verify(&bundle, &pki.ca)), "proxy.full-below-limited");
}

#[test]
fn c17_limited_proxies_can_be_denied_or_required() {
    let pki = Pki::new();
    let limited = Spec::limited(&pki.user, "1").signed_by(&pki.user);
    let trust = TrustStore::from_pem(pki.ca.pem().as_bytes()).unwrap();
    let verdict = |proxy: &Cert, rule| {
        let mut options = VerifyOptions::at(NOW);
        options.limited = rule;
        verify_with(&proxy.bundle(&[&pki.user]), &trust, &options)
    };
    assert_eq!(
        code(verdict(&limited, LimitedProxies::Deny)),
        "proxy.limited"
    );
    assert_eq!(
        code(verdict(&pki.proxy, LimitedProxies::Require)),
        "proxy.limited"
    );
    assert!(verdict(&pki.proxy, LimitedProxies::Deny).is_ok());
    assert!(verdict(&limited, LimitedProxies::Require).is_ok());
}

#[test]
fn c12_old_globus_and_draft_proxies_are_refused_by_name() {
    for cn in ["proxy", "limited proxy"] {
        let no_extension = |s: &mut Spec| s.extra.clear();
        let pki = Pki::new();
        let proxy = Spec::proxy(&pki.user, cn)
            .set(no_extension)
            .signed_by(&pki.user);
        assert_eq!(
            code(verify(&proxy.bundle(&[&pki.user]), &pki.ca)),
            "proxy.legacy"
        );
        let below = Spec::proxy(&proxy, "1").signed_by(&proxy);
        let bundle = below.bundle(&[&proxy, &pki.user]);
        assert_eq!(
            code(verify(&bundle, &pki.ca)),
            "proxy.legacy",
            "RFC under legacy"
        );
        let legacy = Spec::proxy(&pki.proxy, cn)
            .set(no_extension)
            .signed_by(&pki.proxy);
        let bundle = legacy.bundle(&[&pki.proxy, &pki.user]);
        assert_eq!(
            code(verify(&bundle, &pki.ca)),
            "proxy.legacy",
            "legacy under RFC"
        );
    }
    let draft = || {
        extension(
            "1.3.6.1.4.1.3536.1.222",
            true,
            &proxy_info(None, INHERIT_ALL, None),
        )
    };
    assert_eq!(refused(|s| s.extra = vec![draft()]), "proxy.draft");
    assert_eq!(refused(|s| s.extra.push(draft())), "proxy.two-kinds");
}

#[test]
fn c12_a_user_whose_own_name_ends_like_an_old_proxy_is_left_whole() {
    let ca = Spec::ca("/O=Lab").self_signed();
    let user = Spec::user("/O=Lab/CN=proxy").signed_by(&ca);
    let credential = verify(&user.bundle(&[]), &ca).unwrap();
    assert_eq!(credential.identity().as_str(), "/O=Lab/CN=proxy");
}

#[test]
fn a_proxy_of_another_user_under_janes_name_is_found_by_its_signature() {
    let pki = Pki::new();
    let (mallory, _) = pki.other_user();
    let forged = Spec::new(dn_plus(pki.user.x509.subject_name(), "1"))
        .set(|s| {
            s.key_identifiers = false;
            s.extra = vec![extension(
                PROXY_CERT_INFO,
                true,
                &proxy_info(None, INHERIT_ALL, None),
            )];
        })
        .signed_by(&Cert {
            x509: pki.user.x509.clone(),
            key: mallory.key,
        });
    let bundle = forged.bundle(&[&pki.user]);
    assert_eq!(code(verify(&bundle, &pki.ca)), "chain.signature");
}

#[test]
fn c11_c12_kinds_of_proxies_never_follow_each_other() {
    let pki = Pki::new();
    let mut options = VerifyOptions::at(NOW);
    options.accept_gt3 = true;
    options.accept_legacy = true;
    let trust = TrustStore::from_pem(pki.ca.pem().as_bytes()).unwrap();
    let draft = |issuer: &Cert, critical, info: &[u8]| {
        Spec::proxy(issuer, "9")
            .set(|s| s.extra = vec![extension("1.3.6.1.4.1.3536.1.222", critical, info)])
            .signed_by(issuer)
    };
    let info = proxy_info(None, INHERIT_ALL, None);
    let legacy = |issuer: &Cert, cn: &str| {
        Spec::proxy(issuer, cn)
            .set(|s| s.extra.clear())
            .signed_by(issuer)
    };
    let rfc = |issuer: &Cert| Spec::proxy(issuer, "2").signed_by(issuer);
    let verify = |leaf: &Cert, chain: &[&Cert]| {
        verify_proxy(leaf.bundle(chain).as_bytes(), &trust, &options)
    };
    let user = &pki.user;
    let (old, older, new) = (draft(user, true, &info), legacy(user, "proxy"), rfc(user));
    for first in [&old, &older, &new] {
        assert!(verify(first, &[user]).is_ok());
    }
    // The same kind may follow; no other may.
    assert!(verify(&draft(&old, true, &info), &[&old, user]).is_ok());
    assert!(verify(&legacy(&older, "proxy"), &[&older, user]).is_ok());
    for (leaf, above) in [
        (rfc(&older), &older),
        (rfc(&old), &old),
        (legacy(&new, "proxy"), &new),
        (legacy(&old, "proxy"), &old),
        (draft(&new, true, &info), &new),
        (draft(&older, true, &info), &older),
    ] {
        assert_eq!(code(verify(&leaf, &[above, user])), "proxy.mixed");
    }
    // Limited is sticky, and the draft's extension has to be critical and obeyed.
    let limited = legacy(user, "limited proxy");
    assert!(verify(&limited, &[user]).unwrap().limited());
    let full = legacy(&limited, "proxy");
    assert_eq!(
        code(verify(&full, &[&limited, user])),
        "proxy.full-below-limited"
    );
    let lax = draft(user, false, &info);
    assert_eq!(code(verify(&lax, &[user])), "proxy.extension");
    let tagged = [der(0x30, &oid(INHERIT_ALL)), der(0xa1, &der(2, &[0]))];
    let last = draft(user, true, &der(0x30, &tagged.concat()));
    assert!(verify(&last, &[user]).is_ok());
    let below = draft(&last, true, &info);
    assert_eq!(code(verify(&below, &[&last, user])), "proxy.pathlen");
    // A user whose own name ends like a proxy's is left whole.
    let odd = Spec::user("/C=XX/O=Lab/CN=Jane Doe/CN=proxy").signed_by(&pki.ca);
    let verdict = verify(&rfc(&odd), &[&odd]).unwrap();
    assert_eq!(
        verdict.identity().as_str(),
        "/C=XX/O=Lab/CN=Jane Doe/CN=proxy"
    );
}

#[test]
fn c16_lifetimes_may_be_bounded_by_level() {
    let pki = Pki::new();
    let trust = TrustStore::from_pem(pki.ca.pem().as_bytes()).unwrap();
    let long = |issuer: &Cert, cn: &str, hours| {
        Spec::proxy(issuer, cn)
            .valid(NOW, NOW + hours * HOUR)
            .signed_by(issuer)
    };
    let first = long(&pki.user, "1", 20);
    let second = long(&first, "2", 5);
    let third = long(&second, "3", 2);
    let bundle = third.bundle(&[&second, &first, &pki.user]);
    let verify = |levels: &[i64], leaf: Option<i64>| {
        let mut options = VerifyOptions::at(NOW);
        options.maximum_proxy_lifetimes = levels.iter().map(|hours| hours * HOUR).collect();
        options.maximum_leaf_lifetime = leaf.map(|hours| hours * HOUR);
        verify_proxy(bundle.as_bytes(), &trust, &options)
    };
    for (levels, leaf) in [
        (&[][..], None),
        (&[20], None),
        (&[20, 5], Some(2)),
        (&[20, 5, 2], None),
    ] {
        assert!(verify(levels, leaf).is_ok(), "{levels:?} {leaf:?}");
    }
    for (levels, leaf) in [
        (&[19][..], None),
        (&[20, 4], None),
        (&[20, 5, 1], None),
        (&[], Some(1)),
        (&[20, 5, 2], Some(1)),
    ] {
        assert_eq!(
            code(verify(levels, leaf)),
            "proxy.lifetime",
            "{levels:?} {leaf:?}"
        );
    }
}
