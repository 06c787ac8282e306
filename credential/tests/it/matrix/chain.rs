//! Paths: who may issue whom, and what else is in the file.

use super::{Matrix, Raw, World, jane};
use crate::common::ac::sequence;
use crate::common::raw::{
    BASIC_CONSTRAINTS, CERT_SIGN, CN, IS_CA, KEY_USAGE, Piece, UTF8, ext, longer, name, rdn,
};
use crate::common::{
    Cert, INHERIT_ALL, NOW, PROXY_CERT_INFO, Spec, der, extension, install_ca, install_policy, oid,
    proxy_info,
};

/// A user of this CA and a proxy, with these certificates behind it.
fn under(ca: &Cert, more: &[&Cert]) -> String {
    let user = Raw::user(ca, jane()).signed_by(&ca.key);
    let proxy = Raw::proxy(&jane()).signed_by(&user.key);
    let more: String = more.iter().map(|cert| cert.pem()).collect();
    proxy.bundle(&[&user]) + &more
}

#[test]
fn files_with_more_than_one_path() {
    let w = World::new();
    let mut m = Matrix::default();
    let mallory = Raw::user(&w.ca, name(&[(CN, UTF8, b"Mallory")])).signed_by(&w.ca.key);
    let theirs = Raw::proxy(&name(&[(CN, UTF8, b"Mallory")])).signed_by(&mallory.key);
    let jane_bundle = w.proxy.bundle(&[&w.user]);
    for (case, text) in [
        (
            "another user behind",
            format!("{jane_bundle}{}", mallory.pem()),
        ),
        (
            "another proxy behind",
            format!("{jane_bundle}{}", theirs.pem()),
        ),
        (
            "another chain behind",
            format!("{jane_bundle}{}{}", theirs.pem(), mallory.pem()),
        ),
        (
            "another user between",
            format!(
                "{}{}{}{}",
                w.proxy.pem(),
                w.proxy.key_pem(),
                mallory.pem(),
                w.user.pem()
            ),
        ),
        (
            "an unknown CA behind",
            jane_bundle.clone() + &Spec::ca("/O=Elsewhere/CN=CA").self_signed().pem(),
        ),
        (
            "a second certificate of the user",
            jane_bundle.clone()
                + &Raw::user(&w.ca, jane())
                    .set(|raw| raw.serial = der(2, &[8]))
                    .signed_by(&w.ca.key)
                    .pem(),
        ),
        (
            "a sibling proxy",
            jane_bundle.clone() + &Raw::proxy(&jane()).signed_by(&w.user.key).pem(),
        ),
    ] {
        m.refuse(case, text, w.path(), "bundle.stray");
    }
    m.refuse(
        "another user's proxy in front",
        theirs.pem() + &jane_bundle,
        w.path(),
        "bundle.key-mismatch",
    );
    m.refuse(
        "another user's proxy in front, with its key",
        theirs.pem() + &theirs.key_pem() + &w.proxy.pem() + &w.user.pem(),
        w.path(),
        "chain.incomplete",
    );
    m.refuse(
        "a proxy and its user the wrong way round",
        w.user.pem() + &w.proxy.key_pem() + &w.proxy.pem(),
        w.path(),
        "bundle.key-mismatch",
    );
    m.refuse(
        "the same with the user's key",
        w.user.pem() + &w.user.key_pem() + &w.proxy.pem(),
        w.path(),
        "bundle.stray",
    );
    m.finish(11);
}

#[test]
fn certification_authorities() {
    let w = World::new();
    let mut m = Matrix::default();
    let ca_name = w.ca.x509.subject_name().to_der().unwrap();
    let sub_name = name(&[(CN, UTF8, b"Sub CA")]);
    let sub_with = |change: &dyn Fn(&mut Raw)| {
        Raw::ca(&ca_name, sub_name.clone())
            .set(change)
            .signed_by(&w.ca.key)
            .cert()
    };
    // Its namespace, for those cases that get so far.
    install_policy(w.path(), &sub_with(&|_| ()), "*");
    let sub = sub_with(&|_| ());
    m.accept(
        "a CA between that came along",
        under(&sub, &[&sub]),
        w.path(),
    );
    m.accept(
        "the same with the trust anchor",
        under(&sub, &[&sub, &w.ca]),
        w.path(),
    );
    m.accept("out of order", under(&sub, &[&w.ca, &sub]), w.path());
    m.refuse(
        "the CA between is missing",
        under(&sub, &[]),
        w.path(),
        "chain.untrusted",
    );
    m.refuse(
        "only the trust anchor came along",
        under(&sub, &[&w.ca]),
        w.path(),
        "chain.untrusted",
    );
    let usage =
        |bits: &'static [u8]| sub_with(&|raw| raw.extensions[1] = ext(KEY_USAGE, true, bits));
    let basic = |bytes: &'static [u8]| {
        sub_with(&|raw| raw.extensions[0] = ext(BASIC_CONSTRAINTS, true, bytes))
    };
    let info = proxy_info(None, INHERIT_ALL, None);
    for (case, sub, code) in [
        ("no keyCertSign", usage(&[3, 2, 1, 2]), "chain.key-usage"),
        (
            "only digitalSignature",
            usage(&[3, 2, 7, 0x80]),
            "chain.key-usage",
        ),
        ("cA FALSE", basic(&[0x30, 0]), "chain.issuer"),
        (
            "no basicConstraints",
            sub_with(&|raw| _ = raw.extensions.remove(0)),
            "chain.issuer",
        ),
        (
            "version 1",
            sub_with(&|raw| {
                raw.version.clear();
                raw.extensions.clear();
            }),
            "chain.issuer",
        ),
        (
            "a critical extension nobody knows",
            sub_with(&|raw| raw.extensions.push(ext("1.2.3.4", true, &[5, 0]))),
            "cert.critical",
        ),
        (
            "the mark of a proxy",
            sub_with(&|raw| raw.extensions.push(ext(PROXY_CERT_INFO, true, &info))),
            "proxy.ca",
        ),
        (
            "the mark of a draft proxy",
            sub_with(&|raw| {
                raw.extensions
                    .push(ext("1.3.6.1.4.1.3536.1.222", false, &info))
            }),
            "proxy.ca",
        ),
        (
            "keyUsage twice",
            sub_with(&|raw| raw.extensions.push(ext(KEY_USAGE, true, CERT_SIGN))),
            "cert.repeated",
        ),
        (
            "expired",
            sub_with(&|raw| raw.not_after = crate::common::ac::generalized_time(NOW - 1)),
            "ca.expired",
        ),
        (
            "not yet valid",
            sub_with(&|raw| raw.not_before = crate::common::ac::generalized_time(NOW + 1)),
            "ca.not-yet-valid",
        ),
        (
            "signed by nobody",
            Raw::ca(&ca_name, sub_name.clone())
                .signed_by(&w.user.key)
                .cert(),
            "chain.signature",
        ),
    ] {
        m.refuse(
            &format!("a CA between with {case}"),
            under(&sub, &[&sub]),
            w.path(),
            code,
        );
    }
    for (case, sub) in [
        (
            "without keyUsage",
            sub_with(&|raw| _ = raw.extensions.pop()),
        ),
        (
            "with basicConstraints that are not critical",
            sub_with(&|raw| raw.extensions[0] = ext(BASIC_CONSTRAINTS, false, IS_CA)),
        ),
        ("with path length 0", basic(&[0x30, 6, 1, 1, 0xff, 2, 1, 0])),
    ] {
        m.accept(
            &format!("a CA between {case}"),
            under(&sub, &[&sub]),
            w.path(),
        );
    }
    // Two CAs between.
    let short = basic(&[0x30, 6, 1, 1, 0xff, 2, 1, 0]);
    let low_name = name(&[(CN, UTF8, b"Low CA")]);
    let low_of = |above: &Cert| {
        Raw::ca(&sub_name, low_name.clone())
            .signed_by(&above.key)
            .cert()
    };
    let low = low_of(&short);
    install_policy(w.path(), &low, "*");
    m.refuse(
        "path length 0 with a CA below",
        under(&low, &[&low, &short]),
        w.path(),
        "chain.pathlen",
    );
    let low = low_of(&sub);
    m.accept("two CAs between", under(&low, &[&low, &sub]), w.path());
    m.accept(
        "two CAs between, out of order",
        under(&low, &[&sub, &low]),
        w.path(),
    );
    // Who else may not issue.
    let by_user = Raw::user(&w.ca, name(&[(CN, UTF8, b"Victim")]))
        .set(|raw| raw.issuer = jane())
        .signed_by(&w.user.key);
    m.refuse(
        "a user has issued a user",
        by_user.bundle(&[&w.user]),
        w.path(),
        "chain.issuer",
    );
    let by_proxy = Raw::user(&w.ca, name(&[(CN, UTF8, b"Victim")]))
        .set(|raw| raw.issuer = longer(&jane(), &rdn(&[(CN, UTF8, b"1")])))
        .signed_by(&w.proxy.key);
    m.refuse(
        "a proxy has issued a user",
        by_proxy.bundle(&[&w.proxy, &w.user]),
        w.path(),
        "chain.issuer",
    );
    let own_ca = Raw::ca(&jane(), name(&[(CN, UTF8, b"Own CA")]))
        .signed_by(&w.user.key)
        .cert();
    m.refuse(
        "a user has made a CA",
        under(&own_ca, &[&own_ca, &w.user.cert()]),
        w.path(),
        "chain.issuer",
    );
    m.refuse(
        "a CA in front",
        Piece::from(&sub).bundle(&[]),
        w.path(),
        "chain.no-end-entity",
    );
    m.refuse(
        "the trust anchor in front",
        Piece::from(&w.ca).bundle(&[]),
        w.path(),
        "chain.no-end-entity",
    );
    let self_signed = Raw::user(&w.ca, jane()).set(|raw| raw.issuer = jane());
    let key = self_signed.key.clone();
    let self_signed = self_signed.signed_by(&key);
    m.refuse(
        "a user that signed itself",
        self_signed.bundle(&[]),
        w.path(),
        "chain.untrusted",
    );
    let proxy = Raw::proxy(&jane()).signed_by(&key);
    m.refuse(
        "a proxy of it",
        proxy.bundle(&[&self_signed]),
        w.path(),
        "chain.incomplete",
    );
    m.finish(28);
}

#[test]
fn key_identifiers() {
    let w = World::new();
    let mut m = Matrix::default();
    let id = w.ca.x509.subject_key_id().unwrap().as_slice().to_vec();
    let authority = |content: &[Vec<u8>]| ext("2.5.29.35", false, &sequence(content));
    let issuer = w.ca.x509.issuer_name().to_der().unwrap();
    let serial = crate::common::ac::serial(&w.ca);
    let by_name = |name: &[u8], serial: &[u8]| {
        authority(&[
            der(0x80, &id),
            der(0xa1, &der(0xa4, name)),
            der(0x82, serial),
        ])
    };
    let user = |extension: Vec<u8>| w.user_with(|raw| raw.extensions.push(extension));
    m.accept(
        "the CA's key identifier",
        user(authority(&[der(0x80, &id)])),
        w.path(),
    );
    m.refuse(
        "another key identifier",
        user(authority(&[der(0x80, &[7; 20])])),
        w.path(),
        "chain.other-key",
    );
    m.accept("an empty one", user(authority(&[])), w.path());
    m.accept(
        "the CA's issuer and serial number",
        user(by_name(&issuer, &serial)),
        w.path(),
    );
    m.refuse(
        "another serial number",
        user(by_name(&issuer, &[99])),
        w.path(),
        "chain.other-key",
    );
    m.refuse(
        "another issuer",
        user(by_name(&jane(), &serial)),
        w.path(),
        "chain.other-key",
    );
    m.refuse(
        "unreadable",
        user(ext("2.5.29.35", false, &[0x30, 9])),
        w.path(),
        "cert.extension",
    );
    // A proxy that says another key than its user has.
    let with_id = Raw::user(&w.ca, jane())
        .with(ext("2.5.29.14", false, &der(4, &[5; 20])))
        .signed_by(&w.ca.key);
    let proxy = |key: u8| {
        Raw::proxy(&jane())
            .with(authority(&[der(0x80, &[key; 20])]))
            .signed_by(&with_id.key)
            .bundle(&[&with_id])
    };
    m.accept("a proxy with the user's key identifier", proxy(5), w.path());
    m.refuse(
        "a proxy with another",
        proxy(6),
        w.path(),
        "chain.other-key",
    );
    m.finish(9);
}

/// Name and policy constraints.
#[test]
fn constraints() {
    let w = World::new();
    let mut m = Matrix::default();
    let subtree = |name: &[u8]| sequence(&[der(0xa4, name)]);
    let lab = name(&[
        (super::C, super::PRINTABLE, b"XX"),
        (super::O, UTF8, b"Lab"),
    ]);
    let constrained = |cn: &str, value: &[u8], oid: &str| {
        let ca = Spec::ca(&format!("/C=XX/O=Bound/CN={cn}"))
            .set(|s| s.extra.push(extension(oid, true, value)))
            .self_signed();
        install_ca(w.path(), &ca);
        ca
    };
    let names = "2.5.29.30";
    let permits = sequence(&[der(0xa0, &subtree(&lab))]);
    let excludes = sequence(&[der(0xa1, &subtree(&lab))]);
    let elsewhere = sequence(&[der(0xa0, &subtree(&name(&[(super::O, UTF8, b"Other")])))]);
    let ca = constrained("Permits", &permits, names);
    m.accept("inside what the CA may name", under(&ca, &[]), w.path());
    let ca = constrained("Excludes", &excludes, names);
    m.refuse(
        "among what the CA may not name",
        under(&ca, &[]),
        w.path(),
        "chain.name-constraints",
    );
    let ca = constrained("Elsewhere", &elsewhere, names);
    m.refuse(
        "outside what the CA may name",
        under(&ca, &[]),
        w.path(),
        "chain.name-constraints",
    );
    let ca = constrained("Broken", &[0x30, 9], names);
    m.refuse(
        "unreadable name constraints",
        under(&ca, &[]),
        w.path(),
        "cert.extension",
    );
    // A CA between that demands a policy (RFC 5280 4.2.1.11): those below it need one.
    let ca_name = w.ca.x509.subject_name().to_der().unwrap();
    let policy = |arc: &str| ext("2.5.29.32", false, &sequence(&[sequence(&[oid(arc)])]));
    let demands = ext("2.5.29.36", true, &sequence(&[der(0x80, &[0])]));
    let sub_name = name(&[(CN, UTF8, b"Sub CA")]);
    let sub = Raw::ca(&ca_name, sub_name)
        .with(policy("1.2.3.1"))
        .with(demands)
        .signed_by(&w.ca.key)
        .cert();
    install_policy(w.path(), &sub, "*");
    let user_with = |policies: Option<Vec<u8>>| {
        let raw = Raw::user(&sub, jane()).set(|raw| raw.extensions.extend(policies));
        let user = raw.signed_by(&sub.key);
        Raw::proxy(&jane()).signed_by(&user.key).bundle(&[&user]) + &sub.pem()
    };
    m.accept(
        "the policy that a CA demands",
        user_with(Some(policy("1.2.3.1"))),
        w.path(),
    );
    m.refuse(
        "another policy",
        user_with(Some(policy("1.2.3.2"))),
        w.path(),
        "chain.policy",
    );
    m.refuse("no policy", user_with(None), w.path(), "chain.policy");
    m.finish(7);
}
