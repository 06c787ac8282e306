//! RFC 3820, line by line, and the kinds from before it.

use credential::{LimitedProxies, VerifyOptions};

use super::{Deserves, JANE, Matrix, Raw, World, jane};
use crate::common::ac::sequence;
use crate::common::raw::{
    BASIC_CONSTRAINTS, CERT_SIGN, CN, IS_CA, KEY_USAGE, Piece, SIGN, UTF8, ext, longer, rdn,
};
use crate::common::{
    ANY_LANGUAGE, INDEPENDENT, INHERIT_ALL, LIMITED, NOW, PROXY_CERT_INFO, der, oid, proxy_info,
};

const DRAFT: &str = "1.3.6.1.4.1.3536.1.222";
const LIMITED_SHORT: &str = "1.3.6.1.4.1.3536.1.1.1";

/// The extension that makes a proxy, in place of the usual one.
fn info(raw: &mut Raw, value: &[u8]) {
    raw.extensions[1] = ext(PROXY_CERT_INFO, true, value);
}

#[test]
fn the_extension() {
    let w = World::new();
    let mut m = Matrix::default();
    let language = |language: &str| sequence(&[sequence(&[oid(language)])]);
    let length = |number: &[u8]| sequence(&[der(2, number), sequence(&[oid(INHERIT_ALL)])]);
    for (case, value) in [
        ("inherit all", language(INHERIT_ALL)),
        ("limited", language(LIMITED)),
        ("path length 0 and nothing below", length(&[0])),
        (
            "a path length of four bytes",
            length(&[0x7f, 0xff, 0xff, 0xff]),
        ),
        (
            "a path length of nine bytes",
            length(&[1, 0, 0, 0, 0, 0, 0, 0, 0]),
        ),
    ] {
        m.accept(case, w.proxy_with(|raw| info(raw, &value)), w.path());
    }
    for (case, value, code) in [
        ("independent", language(INDEPENDENT), "proxy.policy"),
        ("any language", language(ANY_LANGUAGE), "proxy.policy"),
        (
            "a language nobody knows",
            language("1.2.3.4"),
            "proxy.policy",
        ),
        (
            "one arc short of limited",
            language(LIMITED_SHORT),
            "proxy.policy",
        ),
        (
            "policy text with inherit all",
            proxy_info(None, INHERIT_ALL, Some(b"x")),
            "proxy.policy",
        ),
        (
            "empty policy text with inherit all",
            proxy_info(None, INHERIT_ALL, Some(b"")),
            "proxy.policy",
        ),
        (
            "policy text with limited",
            proxy_info(None, LIMITED, Some(b"x")),
            "proxy.policy",
        ),
        ("negative path length", length(&[0xff]), "proxy.extension"),
        (
            "path length with a zero in front",
            length(&[0, 1]),
            "proxy.extension",
        ),
        ("path length without bytes", length(&[]), "proxy.extension"),
        ("no policy", sequence(&[der(2, &[1])]), "proxy.extension"),
        (
            "a policy without language",
            sequence(&[sequence(&[])]),
            "proxy.extension",
        ),
        (
            "the draft's order",
            sequence(&[sequence(&[oid(INHERIT_ALL)]), der(0xa1, &der(2, &[1]))]),
            "proxy.extension",
        ),
        (
            "two policies",
            sequence(&[sequence(&[oid(INHERIT_ALL)]), sequence(&[oid(INHERIT_ALL)])]),
            "proxy.extension",
        ),
        (
            "bytes behind it",
            [language(INHERIT_ALL), vec![0]].concat(),
            "proxy.extension",
        ),
        ("nothing in it", vec![], "proxy.extension"),
    ] {
        m.refuse(case, w.proxy_with(|raw| info(raw, &value)), w.path(), code);
    }
    let full = proxy_info(None, INHERIT_ALL, None);
    m.refuse(
        "not critical",
        w.proxy_with(|raw| raw.extensions[1] = ext(PROXY_CERT_INFO, false, &full)),
        w.path(),
        "proxy.extension",
    );
    m.refuse(
        "twice",
        w.proxy_with(|raw| raw.extensions.push(ext(PROXY_CERT_INFO, true, &full))),
        w.path(),
        "cert.repeated",
    );
    m.refuse(
        "full and limited",
        w.proxy_with(|raw| {
            raw.extensions
                .push(ext(PROXY_CERT_INFO, true, &language(LIMITED)))
        }),
        w.path(),
        "cert.repeated",
    );
    m.refuse(
        "none",
        w.proxy_with(|raw| _ = raw.extensions.pop()),
        w.path(),
        "chain.issuer",
    );
    m.refuse(
        "the draft's beside it",
        w.proxy_with(|raw| raw.extensions.push(ext(DRAFT, true, &full))),
        w.path(),
        "proxy.two-kinds",
    );
    m.finish(26);
}

#[test]
fn the_rest_of_a_proxy() {
    let w = World::new();
    let mut m = Matrix::default();
    let more = |extension: Vec<u8>| w.proxy_with(|raw| raw.extensions.push(extension));
    let names = sequence(&[der(0x82, b"host.example")]);
    m.refuse(
        "subject alternative name",
        more(ext("2.5.29.17", false, &names)),
        w.path(),
        "proxy.alternative-name",
    );
    m.refuse(
        "issuer alternative name",
        more(ext("2.5.29.18", false, &names)),
        w.path(),
        "proxy.alternative-name",
    );
    m.refuse(
        "unreadable alternative name",
        more(ext("2.5.29.17", false, &[0xff])),
        w.path(),
        "proxy.alternative-name",
    );
    m.refuse(
        "cA",
        more(ext(BASIC_CONSTRAINTS, true, IS_CA)),
        w.path(),
        "proxy.ca",
    );
    m.refuse(
        "cA, not critical",
        more(ext(BASIC_CONSTRAINTS, false, IS_CA)),
        w.path(),
        "proxy.ca",
    );
    m.accept(
        "basicConstraints without cA",
        more(ext(BASIC_CONSTRAINTS, true, &[0x30, 0])),
        w.path(),
    );
    let usage =
        |bits: &'static [u8]| w.proxy_with(|raw| raw.extensions[0] = ext(KEY_USAGE, true, bits));
    m.refuse(
        "keyCertSign and cRLSign",
        usage(CERT_SIGN),
        w.path(),
        "proxy.key-usage",
    );
    m.refuse(
        "digitalSignature and keyCertSign",
        usage(&[3, 2, 2, 0x84]),
        w.path(),
        "proxy.key-usage",
    );
    m.refuse(
        "digitalSignature and cRLSign",
        usage(&[3, 2, 1, 0x82]),
        w.path(),
        "proxy.key-usage",
    );
    m.accept(
        "only keyEncipherment, and nothing below",
        usage(&[3, 2, 5, 0x20]),
        w.path(),
    );
    m.accept(
        "no keyUsage",
        w.proxy_with(|raw| _ = raw.extensions.remove(0)),
        w.path(),
    );
    // Subjects.
    let subject = |name: Vec<u8>| w.proxy_with(|raw| raw.subject = name);
    m.accept(
        "a long CN",
        subject(longer(&jane(), &rdn(&[(CN, UTF8, &[b'7'; 60])]))),
        w.path(),
    );
    m.accept(
        "a CN that is no number",
        subject(longer(&jane(), &rdn(&[(CN, UTF8, b"proxy")]))),
        w.path(),
    );
    m.accept(
        "a CN that says limited and is not",
        subject(longer(&jane(), &rdn(&[(CN, UTF8, b"limited proxy")]))),
        w.path(),
    );
    m.refuse(
        "the user's own name",
        subject(jane()),
        w.path(),
        "proxy.subject",
    );
    m.refuse(
        "two CNs more",
        subject(longer(
            &longer(&jane(), &rdn(&[(CN, UTF8, b"1")])),
            &rdn(&[(CN, UTF8, b"2")]),
        )),
        w.path(),
        "proxy.subject",
    );
    m.refuse(
        "an OU more",
        subject(longer(&jane(), &rdn(&[("2.5.4.11", UTF8, b"1")]))),
        w.path(),
        "proxy.subject",
    );
    m.refuse(
        "two attributes in the last RDN",
        subject(longer(&jane(), &rdn(&[(CN, UTF8, b"1"), (CN, UTF8, b"2")]))),
        w.path(),
        "proxy.subject",
    );
    m.refuse(
        "another user's name",
        subject(longer(
            &super::name(&[(CN, UTF8, b"Mallory")]),
            &rdn(&[(CN, UTF8, b"1")]),
        )),
        w.path(),
        "proxy.subject",
    );
    m.refuse(
        "an empty name",
        subject(sequence(&[])),
        w.path(),
        "proxy.subject",
    );
    m.accept(
        "the user's name in other letters and types",
        subject(longer(
            &super::name(&[
                (super::C, super::PRINTABLE, b"xx"),
                (super::O, super::PRINTABLE, b"LAB"),
                (CN, super::PRINTABLE, b"jane  DOE"),
            ]),
            &rdn(&[(CN, UTF8, b"1")]),
        )),
        w.path(),
    );
    // Issuers.
    let by_ca = Raw::proxy(&jane()).set(|raw| {
        raw.issuer = w.ca.x509.subject_name().to_der().unwrap();
        raw.subject = longer(&raw.issuer, &rdn(&[(CN, UTF8, b"1")]));
    });
    m.refuse(
        "issued by a CA",
        by_ca.signed_by(&w.ca.key).bundle(&[]),
        w.path(),
        "proxy.issuer",
    );
    let alone = w.proxy.bundle(&[]);
    m.refuse(
        "the user's certificate is missing",
        alone,
        w.path(),
        "chain.incomplete",
    );
    let namesake = Raw::user(&w.ca, jane()).signed_by(&w.ca.key);
    m.refuse(
        "another certificate of the same name",
        w.proxy.bundle(&[&namesake]),
        w.path(),
        "chain.signature",
    );
    let wrong_id = w.proxy_with(|raw| {
        raw.extensions
            .push(ext("2.5.29.35", false, &sequence(&[der(0x80, &[9; 20])])))
    });
    m.accept(
        "a key identifier, and the user has none",
        wrong_id,
        w.path(),
    );
    m.finish(25);
}

/// A chain of proxies, each with its own extension, from the user down; the last is the leaf.
fn chain(w: &World, kinds: &[Vec<u8>]) -> String {
    let mut chain: Vec<Piece> = vec![w.user.clone()];
    let mut name = jane();
    for (index, kind) in kinds.iter().enumerate() {
        let number = format!("{}", index + 1);
        let raw = Raw::proxy(&name).set(|raw| {
            raw.subject = longer(&name, &rdn(&[(CN, UTF8, number.as_bytes())]));
            info(raw, kind);
        });
        name = raw.subject.clone();
        let key = &chain[0].key;
        let proxy = raw.signed_by(key);
        chain.insert(0, proxy);
    }
    let rest: Vec<&Piece> = chain[1..].iter().collect();
    chain[0].bundle(&rest)
}

#[test]
fn depth_and_limits() {
    let w = World::new();
    let mut m = Matrix::default();
    let full = |length: Option<u8>| proxy_info(length, INHERIT_ALL, None);
    let limited = |length: Option<u8>| proxy_info(length, LIMITED, None);
    for (case, kinds) in [
        ("two full", vec![full(None), full(None)]),
        ("five full", vec![full(None); 5]),
        ("full, limited", vec![full(None), limited(None)]),
        ("limited, limited", vec![limited(None), limited(None)]),
        (
            "full, limited, limited",
            vec![full(None), limited(None), limited(None)],
        ),
        (
            "path length 1 with one below",
            vec![full(Some(1)), full(None)],
        ),
        (
            "path length 2, 1, 0",
            vec![full(Some(2)), full(Some(1)), full(Some(0))],
        ),
    ] {
        m.accept(case, chain(&w, &kinds), w.path());
    }
    for (case, kinds, code) in [
        (
            "limited, full",
            vec![limited(None), full(None)],
            "proxy.full-below-limited",
        ),
        (
            "full, limited, full",
            vec![full(None), limited(None), full(None)],
            "proxy.full-below-limited",
        ),
        (
            "limited, full, limited",
            vec![limited(None), full(None), limited(None)],
            "proxy.full-below-limited",
        ),
        (
            "path length 0 with one below",
            vec![full(Some(0)), full(None)],
            "proxy.pathlen",
        ),
        (
            "path length 1 with two below",
            vec![full(Some(1)), full(None), full(None)],
            "proxy.pathlen",
        ),
        (
            "a limit that its child ignores",
            vec![full(Some(1)), full(Some(9)), full(None)],
            "proxy.pathlen",
        ),
        (
            "independent in the middle",
            vec![full(None), proxy_info(None, INDEPENDENT, None), full(None)],
            "proxy.policy",
        ),
    ] {
        m.refuse(case, chain(&w, &kinds), w.path(), code);
    }
    // Nineteen certificates are one less than a file may have, the CA comes from the directory.
    m.accept(
        "eighteen proxies",
        chain(&w, &vec![full(None); 18]),
        w.path(),
    );
    let lifetimes = |limited: LimitedProxies| {
        let mut options = VerifyOptions::at(NOW);
        options.limited = limited;
        options
    };
    let (one_full, one_limited) = (chain(&w, &[full(None)]), chain(&w, &[limited(None)]));
    let deny = lifetimes(LimitedProxies::Deny);
    let require = lifetimes(LimitedProxies::Require);
    m.judge(
        "limited where none is wanted",
        &one_limited,
        w.path(),
        &deny,
        Deserves::Code("proxy.limited"),
    );
    m.judge(
        "full where limited is wanted",
        &one_full,
        w.path(),
        &require,
        Deserves::Code("proxy.limited"),
    );
    m.judge(
        "limited where it is wanted",
        &one_limited,
        w.path(),
        &require,
        Deserves::Identity(JANE),
    );
    m.judge(
        "no proxy where limited is wanted",
        w.user.bundle(&[]),
        w.path(),
        &require,
        Deserves::Code("proxy.limited"),
    );
    // The limit is the least on the way (RFC 3820 4.1.3); OpenSSL wants it to shrink at each step.
    let mut old = VerifyOptions::at(NOW);
    old.accept_legacy = true;
    let grows = chain(&w, &[full(Some(1)), full(Some(9))]);
    let is_jane = Deserves::Identity(JANE);
    m.judge("path length that grows", grows, w.path(), &old, is_jane);
    // A proxy without the right to sign signs another.
    let mute = Raw::proxy(&jane())
        .set(|raw| raw.extensions[0] = ext(KEY_USAGE, true, &[3, 2, 5, 0x20]))
        .signed_by(&w.user.key);
    let name = longer(&jane(), &rdn(&[(CN, UTF8, b"1")]));
    let below = Raw::proxy(&name)
        .signed_by(&mute.key)
        .bundle(&[&mute, &w.user]);
    m.refuse(
        "a proxy that may not sign has signed one",
        below,
        w.path(),
        "proxy.issuer",
    );
    m.finish(21);
}

#[test]
fn older_kinds() {
    let w = World::new();
    let mut m = Matrix::default();
    let mut old = VerifyOptions::at(NOW);
    old.accept_gt3 = true;
    old.accept_legacy = true;
    let (mut gt3, mut legacy) = (VerifyOptions::at(NOW), VerifyOptions::at(NOW));
    gt3.accept_gt3 = true;
    legacy.accept_legacy = true;
    let below = |issuer: &[u8], cn: &[u8], kind: Option<Vec<u8>>| {
        Raw::proxy(issuer).set(|raw| {
            raw.subject = longer(issuer, &rdn(&[(CN, UTF8, cn)]));
            raw.extensions = vec![ext(KEY_USAGE, true, SIGN)];
            raw.extensions.extend(kind);
        })
    };
    let draft = |language: &str| ext(DRAFT, true, &sequence(&[sequence(&[oid(language)])]));
    let rfc = |language: &str| ext(PROXY_CERT_INFO, true, &proxy_info(None, language, None));
    let pair = |first: Raw, second: &dyn Fn(&[u8]) -> Raw| {
        let name = first.subject.clone();
        let first = first.signed_by(&w.user.key);
        second(&name)
            .signed_by(&first.key)
            .bundle(&[&first, &w.user])
    };
    let one = |raw: Raw| raw.signed_by(&w.user.key).bundle(&[&w.user]);
    let is = Deserves::Identity(JANE);
    let code = Deserves::Code;
    let now = VerifyOptions::at(NOW);
    let cases: [(&str, String, &VerifyOptions, Deserves<'_>); 27] = [
        (
            "legacy, not accepted",
            one(below(&jane(), b"proxy", None)),
            &now,
            code("proxy.legacy"),
        ),
        (
            "legacy, only drafts accepted",
            one(below(&jane(), b"proxy", None)),
            &gt3,
            code("proxy.legacy"),
        ),
        (
            "legacy, accepted",
            one(below(&jane(), b"proxy", None)),
            &legacy,
            is,
        ),
        (
            "legacy limited, accepted",
            one(below(&jane(), b"limited proxy", None)),
            &legacy,
            is,
        ),
        (
            "legacy in capitals",
            one(below(&jane(), b"PROXY", None)),
            &legacy,
            is,
        ),
        (
            "another CN",
            one(below(&jane(), b"Proxy 1", None)),
            &legacy,
            code("chain.issuer"),
        ),
        (
            "draft, not accepted",
            one(below(&jane(), b"1", Some(draft(INHERIT_ALL)))),
            &now,
            code("proxy.draft"),
        ),
        (
            "draft, only legacy accepted",
            one(below(&jane(), b"1", Some(draft(INHERIT_ALL)))),
            &legacy,
            code("proxy.draft"),
        ),
        (
            "draft, accepted",
            one(below(&jane(), b"1", Some(draft(INHERIT_ALL)))),
            &gt3,
            is,
        ),
        (
            "draft limited, accepted",
            one(below(&jane(), b"1", Some(draft(LIMITED)))),
            &gt3,
            is,
        ),
        (
            "draft independent",
            one(below(&jane(), b"1", Some(draft(INDEPENDENT)))),
            &gt3,
            code("proxy.policy"),
        ),
        (
            "draft, not critical",
            one(below(
                &jane(),
                b"1",
                Some(ext(
                    DRAFT,
                    false,
                    &sequence(&[sequence(&[oid(INHERIT_ALL)])]),
                )),
            )),
            &gt3,
            code("proxy.extension"),
        ),
        (
            "draft with path length in its tag",
            one(below(
                &jane(),
                b"1",
                Some(ext(
                    DRAFT,
                    true,
                    &sequence(&[sequence(&[oid(INHERIT_ALL)]), der(0xa1, &der(2, &[0]))]),
                )),
            )),
            &gt3,
            is,
        ),
        (
            "draft in the order of the RFC",
            one(below(
                &jane(),
                b"1",
                Some(ext(DRAFT, true, &proxy_info(Some(0), INHERIT_ALL, None))),
            )),
            &gt3,
            is,
        ),
        (
            "legacy, legacy",
            pair(below(&jane(), b"proxy", None), &|n| {
                below(n, b"proxy", None)
            }),
            &old,
            is,
        ),
        (
            "legacy, legacy limited",
            pair(below(&jane(), b"proxy", None), &|n| {
                below(n, b"limited proxy", None)
            }),
            &old,
            is,
        ),
        (
            "legacy limited, legacy full",
            pair(below(&jane(), b"limited proxy", None), &|n| {
                below(n, b"proxy", None)
            }),
            &old,
            code("proxy.full-below-limited"),
        ),
        (
            "legacy, RFC",
            pair(below(&jane(), b"proxy", None), &|n| {
                below(n, b"1", Some(rfc(INHERIT_ALL)))
            }),
            &old,
            code("proxy.mixed"),
        ),
        (
            "legacy, draft",
            pair(below(&jane(), b"proxy", None), &|n| {
                below(n, b"1", Some(draft(INHERIT_ALL)))
            }),
            &old,
            code("proxy.mixed"),
        ),
        (
            "draft, draft",
            pair(below(&jane(), b"1", Some(draft(INHERIT_ALL))), &|n| {
                below(n, b"2", Some(draft(INHERIT_ALL)))
            }),
            &old,
            is,
        ),
        (
            "draft limited, draft full",
            pair(below(&jane(), b"1", Some(draft(LIMITED))), &|n| {
                below(n, b"2", Some(draft(INHERIT_ALL)))
            }),
            &old,
            code("proxy.full-below-limited"),
        ),
        (
            "draft, RFC",
            pair(below(&jane(), b"1", Some(draft(INHERIT_ALL))), &|n| {
                below(n, b"2", Some(rfc(INHERIT_ALL)))
            }),
            &old,
            code("proxy.mixed"),
        ),
        (
            "draft, legacy",
            pair(below(&jane(), b"1", Some(draft(INHERIT_ALL))), &|n| {
                below(n, b"proxy", None)
            }),
            &old,
            code("proxy.mixed"),
        ),
        (
            "RFC, draft",
            pair(below(&jane(), b"1", Some(rfc(INHERIT_ALL))), &|n| {
                below(n, b"2", Some(draft(INHERIT_ALL)))
            }),
            &old,
            code("proxy.mixed"),
        ),
        (
            "RFC, legacy",
            pair(below(&jane(), b"1", Some(rfc(INHERIT_ALL))), &|n| {
                below(n, b"proxy", None)
            }),
            &old,
            code("proxy.mixed"),
        ),
        (
            "RFC, with older kinds accepted",
            one(below(&jane(), b"1", Some(rfc(INHERIT_ALL)))),
            &old,
            is,
        ),
        (
            "two kinds in one, with both accepted",
            one(below(&jane(), b"1", Some(draft(INHERIT_ALL))).with(rfc(INHERIT_ALL))),
            &old,
            code("proxy.two-kinds"),
        ),
    ];
    for (case, bundle, options, deserves) in cases {
        m.judge(case, bundle, w.path(), options, deserves);
    }
    // A user whose own name ends like a legacy proxy keeps all of it.
    let own = longer(&jane(), &rdn(&[(CN, UTF8, b"proxy")]));
    let user = Raw::user(&w.ca, own.clone()).signed_by(&w.ca.key);
    let whole = format!("{JANE}/CN=proxy");
    m.judge(
        "a user called proxy",
        user.bundle(&[]),
        w.path(),
        &old,
        Deserves::Identity(&whole),
    );
    let proxy = Raw::proxy(&own).signed_by(&user.key);
    m.judge(
        "a proxy of a user called proxy",
        proxy.bundle(&[&user]),
        w.path(),
        &now,
        Deserves::Identity(&whole),
    );
    let alone = below(&jane(), b"proxy", None).signed_by(&w.user.key);
    m.judge(
        "legacy without its user",
        alone.bundle(&[]),
        w.path(),
        &old,
        code("chain.incomplete"),
    );
    m.finish(30);
}
