//! What real tools and hostile people make that looks like the usual and is not: encodings that have two readings, keys in
//! forms that few programs write, and things that are allowed and rare.

use std::fs;

use openssl::bn::BigNumContext;
use openssl::ec::PointConversionForm;

use super::{C, Matrix, O, PRINTABLE, Raw, World, jane};
use crate::common::ac::sequence;
use crate::common::crl::CrlSpec;
use crate::common::raw::{BASIC_CONSTRAINTS, CN, IS_CA, KEY_USAGE, SIGN, UTF8, block, ext, name};
use crate::common::{
    INHERIT_ALL, LIMITED, NOW, PROXY_CERT_INFO, Spec, der, ec_key, hash, install_ca,
    install_policy, oid, proxy_info, rsa_key,
};

const EC_KEY: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const RSA: &str = "1.2.840.113549.1.1.1";

/// The point of a key of a curve.
fn point(
    key: &openssl::pkey::PKeyRef<openssl::pkey::Private>,
    form: PointConversionForm,
) -> Vec<u8> {
    let ec = key.ec_key().unwrap();
    let mut context = BigNumContext::new().unwrap();
    let point = ec.public_key();
    point.to_bytes(ec.group(), form, &mut context).unwrap()
}

fn bits(content: &[u8]) -> Vec<u8> {
    der(3, &[&[0], content].concat())
}

fn ec_info(point: &[u8]) -> Vec<u8> {
    sequence(&[sequence(&[oid(EC_KEY), oid(P256)]), bits(point)])
}

#[test]
fn public_keys() {
    let w = World::new();
    let mut m = Matrix::default();
    let proxy_of = |change: &dyn Fn(&mut Raw)| w.proxy_with(|raw| change(raw));
    // RFC 5480 2.2 allows the short form of a point.
    m.accept(
        "a compressed point",
        proxy_of(&|raw| {
            raw.key_info = Some(ec_info(&point(&raw.key, PointConversionForm::COMPRESSED)))
        }),
        w.path(),
    );
    for (case, change) in [
        ("a point that is not on the curve", 40_usize),
        ("a point of a form nobody knows", 0),
    ] {
        let bundle = proxy_of(&|raw| {
            let mut point = point(&raw.key, PointConversionForm::UNCOMPRESSED);
            point[change] ^= 0x15;
            raw.key_info = Some(ec_info(&point));
        });
        m.refuse(case, bundle, w.path(), "bundle.key-mismatch");
    }
    m.refuse(
        "the point at infinity",
        proxy_of(&|raw| raw.key_info = Some(ec_info(&[0]))),
        w.path(),
        "bundle.key-mismatch",
    );
    m.refuse(
        "a curve without a name",
        proxy_of(&|raw| {
            let point = point(&raw.key, PointConversionForm::UNCOMPRESSED);
            raw.key_info = Some(sequence(&[sequence(&[oid(EC_KEY)]), bits(&point)]));
        }),
        w.path(),
        "bundle.key-mismatch",
    );
    m.refuse(
        "unused bits in the key",
        proxy_of(&|raw| {
            // Unused bits must be 0 for anybody to read on.
            let point = loop {
                let point = point(&raw.key, PointConversionForm::UNCOMPRESSED);
                if point[64].is_multiple_of(2) {
                    break point;
                }
                raw.key = ec_key();
            };
            let bits = der(3, &[&[1], &point[..]].concat());
            raw.key_info = Some(sequence(&[sequence(&[oid(EC_KEY), oid(P256)]), bits]));
        }),
        w.path(),
        "bundle.key-mismatch",
    );
    let rsa = rsa_key(2048);
    let (modulus, exponent) = (
        rsa.rsa().unwrap().n().to_vec(),
        rsa.rsa().unwrap().e().to_vec(),
    );
    let numbers =
        |modulus: &[u8], exponent: &[u8]| bits(&sequence(&[der(2, modulus), der(2, exponent)]));
    let positive = [&[0], &modulus[..]].concat();
    let rsa_proxy = |info: Vec<u8>| {
        w.proxy_with(|raw| {
            raw.key = rsa.clone();
            raw.key_info = Some(info);
        })
    };
    let usual = sequence(&[oid(RSA), der(5, &[])]);
    m.accept(
        "RSA",
        rsa_proxy(sequence(&[usual.clone(), numbers(&positive, &exponent)])),
        w.path(),
    );
    m.refuse(
        "RSA with a negative modulus",
        rsa_proxy(sequence(&[usual.clone(), numbers(&modulus, &exponent)])),
        w.path(),
        "bundle.key-mismatch",
    );
    m.refuse(
        "RSA with something behind the exponent",
        rsa_proxy(sequence(&[
            usual.clone(),
            bits(&sequence(&[
                der(2, &positive),
                der(2, &exponent),
                der(2, &[1]),
            ])),
        ])),
        w.path(),
        "bundle.key-mismatch",
    );
    m.refuse(
        "RSA with zeros before the modulus",
        rsa_proxy(sequence(&[
            usual,
            numbers(&[&[0], &positive[..]].concat(), &exponent),
        ])),
        w.path(),
        "bundle.key-mismatch",
    );
    m.finish(10);
}

#[test]
fn private_keys() {
    let w = World::new();
    let mut m = Matrix::default();
    let proxy = &w.proxy;
    let rest = |key: String| format!("{}{key}{}", proxy.pem(), w.user.pem());
    let secret = proxy
        .key
        .ec_key()
        .unwrap()
        .private_key()
        .to_vec_padded(32)
        .unwrap();
    let curve = der(0xa0, &oid(P256));
    let public = der(
        0xa1,
        &bits(&point(&proxy.key, PointConversionForm::UNCOMPRESSED)),
    );
    let sec1 = |parts: &[Vec<u8>]| sequence(&[&[der(2, &[1]), der(4, &secret)], parts].concat());
    let wrapped = |inner: Vec<u8>| {
        let kind = sequence(&[oid(EC_KEY), oid(P256)]);
        block(
            "PRIVATE KEY",
            &sequence(&[der(2, &[0]), kind, der(4, &inner)]),
        )
    };
    for (case, key) in [
        (
            "SEC1 without its public half",
            block("EC PRIVATE KEY", &sec1(std::slice::from_ref(&curve))),
        ),
        ("PKCS#8 without its public half", wrapped(sec1(&[]))),
        (
            "PKCS#8 with the curve twice",
            wrapped(sec1(&[curve.clone(), public.clone()])),
        ),
        (
            "SEC1 with its parameters in front",
            block("EC PARAMETERS", &oid(P256))
                + &block("EC PRIVATE KEY", &sec1(&[curve.clone(), public])),
        ),
    ] {
        m.accept(case, rest(key), w.path());
    }
    let other = der(
        0xa1,
        &bits(&point(&ec_key(), PointConversionForm::UNCOMPRESSED)),
    );
    m.refuse(
        "SEC1 with another's public half",
        rest(block("EC PRIVATE KEY", &sec1(&[curve.clone(), other]))),
        w.path(),
        "bundle.key-malformed",
    );
    m.refuse(
        "SEC1 without a curve",
        rest(block("EC PRIVATE KEY", &sec1(&[]))),
        w.path(),
        "bundle.key-malformed",
    );
    let zero = sequence(&[der(2, &[1]), der(4, &[0; 32]), curve]);
    m.refuse(
        "a private key of zero",
        rest(block("EC PRIVATE KEY", &zero)),
        w.path(),
        "bundle.key-mismatch",
    );
    m.finish(7);
}

#[test]
fn certificates() {
    let w = World::new();
    let mut m = Matrix::default();
    let user = |change: &dyn Fn(&mut Raw)| w.user_with(|raw| change(raw));
    // What surrounds the signature.
    let proxies = std::iter::repeat_with(|| Raw::proxy(&jane()).signed_by(&w.user.key));
    let mut proxy = proxies
        .into_iter()
        .find(|proxy| proxy.der.last().is_some_and(|last| last.is_multiple_of(2)))
        .unwrap();
    let tail = &proxy.der[proxy.der.len() - 76..];
    let at = (0..tail.len() - 2)
        .find(|at| tail[*at] == 3 && at + 2 + usize::from(tail[at + 1]) == tail.len())
        .unwrap();
    let at = proxy.der.len() - 76 + at;
    assert_eq!(proxy.der[at + 2], 0);
    proxy.der[at + 2] = 1;
    m.refuse(
        "unused bits in the signature",
        proxy.bundle(&[&w.user]),
        w.path(),
        "chain.signature",
    );
    let proxy = |change: &dyn Fn(&mut Raw)| w.proxy_with(|raw| change(raw));
    m.accept(
        "ECDSA with NULL for parameters",
        user(&|raw| {
            raw.inside = sequence(&[oid("1.2.840.10045.4.3.2"), der(5, &[])]);
        }),
        w.path(),
    );
    m.refuse(
        "an extension whose mark of criticality is 1",
        user(&|raw| {
            let value = der(4, &der(5, &[]));
            raw.extensions
                .push(sequence(&[oid("1.2.3.4"), der(1, &[1]), value]));
        }),
        w.path(),
        "cert.critical",
    );
    m.refuse(
        "a serial number with a zero too many",
        user(&|raw| raw.serial = der(2, &[0, 7])),
        w.path(),
        "cert.malformed",
    );
    m.refuse(
        "a serial number without bytes",
        user(&|raw| raw.serial = der(2, &[])),
        w.path(),
        "cert.malformed",
    );
    // Extensions that say what they must not, or what nobody asks.
    for (case, extension) in [
        (
            "a critical use for servers",
            ext("2.5.29.37", true, &sequence(&[oid("1.3.6.1.5.5.7.3.1")])),
        ),
        (
            "any use",
            ext("2.5.29.37", true, &sequence(&[oid("2.5.29.37.0")])),
        ),
        (
            "critical policies",
            ext("2.5.29.32", true, &sequence(&[sequence(&[oid("1.2.3.4")])])),
        ),
        (
            "a critical alternative name",
            ext("2.5.29.17", true, &sequence(&[der(0x81, b"j@lab.example")])),
        ),
        (
            "where lists are",
            ext(
                "2.5.29.31",
                false,
                &sequence(&[sequence(&[der(0xa0, &der(0xa0, &der(0x86, b"http://x/")))])]),
            ),
        ),
        (
            "logs of certificates",
            ext("1.3.6.1.4.1.11129.2.4.2", false, &der(4, &[0, 0])),
        ),
    ] {
        m.accept(
            case,
            user(&|raw| raw.extensions.push(extension.clone())),
            w.path(),
        );
    }
    for (case, extension, code) in [
        (
            "the mark of a test certificate",
            ext("1.3.6.1.4.1.11129.2.4.3", true, &der(5, &[])),
            "cert.critical",
        ),
        (
            "a use that cannot be read",
            ext("2.5.29.37", true, &[0x30, 9]),
            "cert.extension",
        ),
    ] {
        m.refuse(
            case,
            user(&|raw| raw.extensions.push(extension.clone())),
            w.path(),
            code,
        );
    }
    m.refuse(
        "a proxy that limits names",
        proxy(&|raw| {
            let subtree = sequence(&[der(0xa0, &sequence(&[der(0xa4, &jane())]))]);
            raw.extensions.push(ext("2.5.29.30", true, &subtree));
        }),
        w.path(),
        "cert.critical",
    );
    m.accept(
        "the same number as its issuer",
        proxy(&|raw| raw.serial = der(2, &[7])),
        w.path(),
    );
    m.accept(
        "a negative number",
        proxy(&|raw| raw.serial = der(2, &[0x80])),
        w.path(),
    );
    m.accept(
        "the key of the user again",
        proxy(&|raw| raw.key = w.user.key.clone()),
        w.path(),
    );
    m.refuse(
        "cA and the mark of a proxy",
        proxy(&|raw| raw.extensions.push(ext(BASIC_CONSTRAINTS, true, IS_CA))),
        w.path(),
        "proxy.ca",
    );
    m.finish(18);
}

#[test]
fn lists_and_namesakes() {
    let w = World::new();
    let mut m = Matrix::default();
    let bundle = w.proxy.bundle(&[&w.user]);
    let jane = w.user.cert();
    let list = |change: &dyn Fn(&mut CrlSpec)| {
        let list = CrlSpec::new(&w.ca, &[&jane])
            .set(|crl| change(crl))
            .signed_by(&w.ca);
        fs::write(w.path().join(format!("{}.r0", hash(&w.ca))), list).unwrap();
    };
    let reason =
        |number: u8| sequence(&[sequence(&[oid("2.5.29.21"), der(4, &der(10, &[number]))])]);
    for (case, number) in [("on hold", 6), ("taken off a list that is no delta", 8)] {
        list(&|crl| crl.revoked[0].1 = reason(number));
        m.refuse(case, &bundle, w.path(), "cert.revoked");
    }
    list(&|crl| crl.revoked[0].0 = vec![0, 7]);
    m.refuse(
        "a number with a zero too many on the list",
        &bundle,
        w.path(),
        "crl.malformed",
    );
    list(&|crl| {
        crl.revoked = vec![(
            vec![9],
            sequence(&[sequence(&[oid("1.2.3"), der(1, &[0xff]), der(4, &[5, 0])])]),
        )]
    });
    m.refuse(
        "an entry of which something critical is said",
        &bundle,
        w.path(),
        "crl.malformed",
    );
    list(&|crl| {
        crl.revoked.clear();
        crl.extensions.push(("2.5.29.20", false, der(2, &[10])));
    });
    m.refuse("an extension twice", &bundle, w.path(), "crl.malformed");
    list(&|crl| {
        crl.revoked.clear();
        crl.extensions.push(("2.5.29.46", false, sequence(&[])));
    });
    m.accept("where the newest changes are", &bundle, w.path());
    fs::remove_file(w.path().join(format!("{}.r0", hash(&w.ca)))).unwrap();

    // A CA that another has certified too: what the other revokes is not its own.
    let root = Spec::ca("/C=XX/O=Lab/CN=Root").self_signed();
    let cross = Spec::ca("/C=XX/O=Lab/CN=Lab CA")
        .key(w.ca.key.clone())
        .set(|s| s.serial = 55)
        .signed_by(&root);
    install_ca(w.path(), &root);
    let revoked = CrlSpec::new(&root, &[&cross]).signed_by(&root);
    fs::write(w.path().join(format!("{}.r0", hash(&root))), revoked).unwrap();
    m.refuse(
        "a cross-certificate that is not needed, and revoked",
        bundle.clone() + &cross.pem(),
        w.path(),
        "bundle.stray",
    );
    fs::remove_file(w.path().join(format!("{}.0", hash(&w.ca)))).unwrap();
    m.refuse(
        "the same, where nothing else leads to trust",
        bundle + &cross.pem(),
        w.path(),
        "ca.revoked",
    );

    // A user and a CA of one name are two.
    let w = World::new();
    let sub = Spec::ca("/C=XX/O=Lab/CN=Jane Doe")
        .set(|s| s.serial = 5)
        .signed_by(&w.ca);
    install_policy(w.path(), &sub, "*");
    let below = Spec::user("/C=XX/O=Lab/CN=Jane Doe").signed_by(&sub);
    let of_ca = Spec::proxy(&sub, "1").signed_by(&sub);
    m.accept(
        "a user with the name of its CA",
        below.bundle(&[&sub]),
        w.path(),
    );
    m.refuse(
        "a proxy of that CA",
        of_ca.bundle(&[&sub]),
        w.path(),
        "proxy.issuer",
    );
    // Neither the user's certificate of another key.
    let twin = Spec::user("/C=XX/O=Lab/CN=Jane Doe")
        .set(|s| s.serial = 8)
        .signed_by(&w.ca);
    let proxy = Spec::proxy(&twin, "1").signed_by(&twin);
    let swapped = proxy.pem() + &proxy.key_pem() + &w.user.pem();
    m.refuse(
        "another certificate of the same user",
        swapped,
        w.path(),
        "chain.signature",
    );
    m.finish(11);
}

#[test]
fn proxies_of_proxies() {
    let w = World::new();
    let mut m = Matrix::default();
    let user = w.user.cert();
    let info = |length, language: &str| proxy_info(length, language, None);
    let chain = |infos: &[Vec<u8>]| {
        let mut all = vec![user.clone()];
        for (at, info) in infos.iter().enumerate() {
            let issuer = all.last().unwrap();
            let proxy = Spec::proxy_with(issuer, &format!("{at}"), info).signed_by(issuer);
            all.push(proxy);
        }
        all.reverse();
        let rest: Vec<_> = all.iter().skip(1).collect();
        all[0].bundle(&rest)
    };
    let full = |length| info(length, INHERIT_ALL);
    for (case, infos, code) in [
        (
            "5, 0, and one below",
            vec![full(Some(5)), full(Some(0)), full(None)],
            "proxy.pathlen",
        ),
        (
            "1, 9, and one below",
            vec![full(Some(1)), full(Some(9)), full(None)],
            "proxy.pathlen",
        ),
        (
            "none, 0, and two below",
            vec![full(None), full(Some(0)), full(None), full(None)],
            "proxy.pathlen",
        ),
        (
            "limited, full, limited",
            vec![info(None, LIMITED), full(None), info(None, LIMITED)],
            "proxy.full-below-limited",
        ),
        (
            "any language in the middle",
            vec![full(None), info(None, "1.3.6.1.5.5.7.21.0"), full(None)],
            "proxy.policy",
        ),
    ] {
        m.refuse(case, chain(&infos), w.path(), code);
    }
    m.accept(
        "2, 1, 0",
        chain(&[full(Some(2)), full(Some(1)), full(Some(0))]),
        w.path(),
    );
    // The mark said twice, once as critical, and under its name in the drafts beside.
    let twice = w.proxy_with(|raw| {
        raw.extensions
            .push(ext(PROXY_CERT_INFO, false, &full(None)))
    });
    m.refuse("its mark twice", twice, w.path(), "cert.repeated");
    let named = name(&[
        (C, PRINTABLE, b"XX"),
        (O, UTF8, b"Lab"),
        (CN, UTF8, b"Jane Doe"),
        (CN, UTF8, b"1"),
        (CN, UTF8, b"2"),
    ]);
    m.refuse(
        "two steps at once",
        w.proxy_with(|raw| raw.subject = named),
        w.path(),
        "proxy.subject",
    );
    let old = w.proxy_with(|raw| {
        raw.extensions[0] = ext(KEY_USAGE, true, SIGN);
        raw.not_before = crate::common::ac::generalized_time(NOW - 40_000_000);
    });
    m.accept("a proxy that is older than its user", old, w.path());
    m.finish(9);
}
