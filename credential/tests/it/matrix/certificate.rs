//! Elements of a certificate, right and wrong, in the user's certificate and in the proxy.

use credential::VerifyOptions;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;

use super::{Deserves, JANE, Matrix, Raw, World, jane};
use crate::common::ac::{generalized_time, sequence};
use crate::common::raw::{BASIC_CONSTRAINTS, KEY_USAGE, SIGN, ext};
use crate::common::{HOUR, NOW, Spec, der, install_ca, oid};

const UTC: u8 = 0x17;
const GENERALIZED: u8 = 0x18;

fn time(tag: u8, text: &str) -> Vec<u8> {
    der(tag, text.as_bytes())
}

#[test]
fn times() {
    let w = World::new();
    let mut m = Matrix::default();
    // NOW is 2027-01-01 00:00:00.
    for (case, end) in [
        ("UTCTime", time(UTC, "270102000000Z")),
        ("UTCTime of 2049", time(UTC, "491231235959Z")),
        (
            "GeneralizedTime before 2050",
            time(GENERALIZED, "20270102000000Z"),
        ),
        (
            "GeneralizedTime of 2050",
            time(GENERALIZED, "20500101000000Z"),
        ),
        (
            "no end that anybody knows",
            time(GENERALIZED, "99991231235959Z"),
        ),
        ("a leap day", time(GENERALIZED, "20280229000000Z")),
    ] {
        m.accept(case, w.user_with(|raw| raw.not_after = end), w.path());
    }
    for (case, end, code) in [
        (
            "UTCTime of 1950",
            time(UTC, "500101000000Z"),
            "cert.expired",
        ),
        ("a second ago", generalized_time(NOW - 1), "cert.expired"),
        ("now", generalized_time(NOW), "cert.expired"),
        ("no seconds", time(UTC, "2701020000Z"), "cert.malformed"),
        ("no zone", time(UTC, "270102000000"), "cert.malformed"),
        (
            "a zone with hours",
            time(UTC, "270102000000+0100"),
            "cert.malformed",
        ),
        (
            "a fraction of a second",
            time(GENERALIZED, "20270102000000.5Z"),
            "cert.malformed",
        ),
        (
            "four digits in a UTCTime",
            time(UTC, "20270102000000Z"),
            "cert.malformed",
        ),
        (
            "two digits in a GeneralizedTime",
            time(GENERALIZED, "270102000000Z"),
            "cert.malformed",
        ),
        (
            "the thirtieth of February",
            time(UTC, "270230000000Z"),
            "cert.malformed",
        ),
        (
            "no leap day in 2027",
            time(UTC, "270229000000Z"),
            "cert.malformed",
        ),
        (
            "the thirteenth month",
            time(UTC, "271301000000Z"),
            "cert.malformed",
        ),
        (
            "the twenty-fifth hour",
            time(UTC, "270102250000Z"),
            "cert.malformed",
        ),
        (
            "a leap second",
            time(UTC, "270102235960Z"),
            "cert.malformed",
        ),
        (
            "a sign among the digits",
            time(UTC, "27+102000000Z"),
            "cert.malformed",
        ),
        ("an integer", der(2, &[1]), "cert.malformed"),
    ] {
        m.refuse(case, w.user_with(|raw| raw.not_after = end), w.path(), code);
    }
    let from = |start: i64| w.proxy_with(|raw| raw.not_before = generalized_time(start));
    m.accept("begins now", from(NOW), w.path());
    m.refuse(
        "begins in a second",
        from(NOW + 1),
        w.path(),
        "proxy.not-yet-valid",
    );
    m.refuse(
        "begins in five minutes",
        from(NOW + 300),
        w.path(),
        "proxy.not-yet-valid",
    );
    let backwards = w.proxy_with(|raw| {
        raw.not_before = generalized_time(NOW + HOUR);
        raw.not_after = generalized_time(NOW - HOUR);
    });
    m.refuse(
        "ends before it begins",
        backwards,
        w.path(),
        "proxy.expired",
    );
    let before = w.user_with(|raw| raw.not_before = time(UTC, "500101000000Z"));
    m.accept("a user of 1950", before, w.path());
    m.finish(27);
}

#[test]
fn numbers_and_versions() {
    let w = World::new();
    let mut m = Matrix::default();
    for (case, serial) in [
        ("zero", vec![0]),
        ("one", vec![1]),
        ("twenty bytes", [vec![0x7f], vec![0xff; 19]].concat()),
        ("negative", vec![0xff, 0x7f]),
        ("thirty bytes", vec![0x11; 30]),
    ] {
        let bundle = w.user_with(|raw| raw.serial = der(2, &serial));
        m.accept(&format!("serial number {case}"), bundle, w.path());
    }
    m.refuse(
        "no serial number",
        w.user_with(|raw| raw.serial = vec![]),
        w.path(),
        "cert.malformed",
    );
    let version = |number: &[u8]| der(0xa0, &der(2, number));
    for (case, encoded, code) in [
        ("1 with extensions", vec![], "cert.version"),
        (
            "1 said aloud, with extensions",
            version(&[0]),
            "cert.version",
        ),
        ("2", version(&[1]), "cert.version"),
        ("4", version(&[3]), "cert.version"),
        ("300", version(&[1, 44]), "cert.version"),
    ] {
        let user = w.user_with(|raw| raw.version.clone_from(&encoded));
        m.refuse(&format!("user of version {case}"), user, w.path(), code);
        let proxy = w.proxy_with(|raw| raw.version = encoded);
        m.refuse(&format!("proxy of version {case}"), proxy, w.path(), code);
    }
    let plain = |raw: &mut Raw| {
        raw.version.clear();
        raw.extensions.clear();
    };
    m.accept(
        "user of version 1 without extensions",
        w.user_with(plain),
        w.path(),
    );
    let mut strict = VerifyOptions::at(NOW);
    strict.accept_plain_users = false;
    m.judge(
        "the same where it is not accepted",
        w.user_with(plain),
        w.path(),
        &strict,
        Deserves::Code("cert.version"),
    );
    let unique = der(0x81, &[0, 1, 2]);
    m.accept(
        "unique identifiers",
        w.user_with(|raw| raw.unique_ids = unique),
        w.path(),
    );
    let trailer = w.user_with(|raw| raw.trailer = der(5, &[]));
    m.refuse(
        "something behind the extensions",
        trailer,
        w.path(),
        "cert.malformed",
    );
    m.finish(20);
}

#[test]
fn extensions() {
    let w = World::new();
    let mut m = Matrix::default();
    let user = |extension: Vec<u8>| w.user_with(|raw| raw.extensions.push(extension));
    let proxy = |extension: Vec<u8>| w.proxy_with(|raw| raw.extensions.push(extension));
    let unknown = |critical| ext("1.2.3.4.5", critical, &der(4, b"?"));
    m.accept(
        "unknown, not critical, in the user",
        user(unknown(false)),
        w.path(),
    );
    m.accept(
        "unknown, not critical, in the proxy",
        proxy(unknown(false)),
        w.path(),
    );
    m.refuse(
        "unknown, critical, in the user",
        user(unknown(true)),
        w.path(),
        "cert.critical",
    );
    m.refuse(
        "unknown, critical, in the proxy",
        proxy(unknown(true)),
        w.path(),
        "cert.critical",
    );
    let twice = ext(KEY_USAGE, true, SIGN);
    m.refuse(
        "keyUsage twice in the user",
        user(twice.clone()),
        w.path(),
        "cert.repeated",
    );
    m.refuse(
        "keyUsage twice in the proxy",
        proxy(twice),
        w.path(),
        "cert.repeated",
    );
    let both = w.user_with(|raw| raw.extensions.extend([unknown(false), unknown(false)]));
    m.refuse("an unknown one twice", both, w.path(), "cert.repeated");
    let attributes = ext("1.3.6.1.4.1.8005.100.100.5", true, &[0x30, 0]);
    m.refuse(
        "critical attributes of a VO",
        proxy(attributes),
        w.path(),
        "cert.critical",
    );
    let ignored = ext("1.3.6.1.4.1.8005.100.100.5", false, &[0x30, 0]);
    m.accept("attributes that nobody looks at", proxy(ignored), w.path());
    // keyUsage of the user.
    let usage =
        |bits: &'static [u8]| w.user_with(|raw| raw.extensions[1] = ext(KEY_USAGE, true, bits));
    m.accept("only digitalSignature", usage(&[3, 2, 7, 0x80]), w.path());
    m.refuse(
        "only keyEncipherment",
        usage(&[3, 2, 5, 0x20]),
        w.path(),
        "proxy.issuer",
    );
    m.refuse(
        "only nonRepudiation",
        usage(&[3, 2, 6, 0x40]),
        w.path(),
        "proxy.issuer",
    );
    m.refuse("no bit at all", usage(&[3, 1, 0]), w.path(), "proxy.issuer");
    m.refuse(
        "not a bit string",
        usage(&[4, 1, 0x80]),
        w.path(),
        "cert.extension",
    );
    m.accept(
        "no keyUsage",
        w.user_with(|raw| _ = raw.extensions.pop()),
        w.path(),
    );
    m.accept(
        "keyUsage that is not critical",
        w.user_with(|raw| raw.extensions[1] = ext(KEY_USAGE, false, SIGN)),
        w.path(),
    );
    // basicConstraints of the user.
    let basic = |bytes: &'static [u8]| {
        w.user_with(|raw| raw.extensions[0] = ext(BASIC_CONSTRAINTS, true, bytes))
    };
    m.accept("cA FALSE said aloud", basic(&[0x30, 3, 1, 1, 0]), w.path());
    m.refuse(
        "basicConstraints unreadable",
        basic(&[0x30, 1]),
        w.path(),
        "cert.extension",
    );
    m.refuse(
        "negative path length",
        basic(&[0x30, 6, 1, 1, 0xff, 2, 1, 0xff]),
        w.path(),
        "cert.extension",
    );
    // FALSE is the default and DER leaves it out, but many write it.
    let said = sequence(&[oid("1.2.3.4.5"), der(1, &[0]), der(4, &[5, 0])]);
    m.accept("critical FALSE said aloud", user(said), w.path());
    let extended = |critical| {
        ext(
            "2.5.29.37",
            critical,
            &sequence(&[oid("1.3.6.1.5.5.7.3.2")]),
        )
    };
    m.accept("extendedKeyUsage", user(extended(false)), w.path());
    m.accept("critical extendedKeyUsage", user(extended(true)), w.path());
    m.accept(
        "an alternative name in the user",
        user(ext(
            "2.5.29.17",
            false,
            &sequence(&[der(0x81, b"jane@lab.example")]),
        )),
        w.path(),
    );
    m.accept(
        "policies",
        user(ext(
            "2.5.29.32",
            false,
            &sequence(&[sequence(&[oid("1.2.840.113612.5.2.2.1")])]),
        )),
        w.path(),
    );
    m.accept(
        "Netscape's certificate type",
        user(ext("2.16.840.1.113730.1.1", false, &[3, 2, 4, 0xb0])),
        w.path(),
    );
    m.finish(25);
}

#[test]
fn algorithms() {
    let w = World::new();
    let mut m = Matrix::default();
    let ecdsa = |arc: &str| sequence(&[oid(&format!("1.2.840.10045.4.{arc}"))]);
    for (case, arc, digest) in [
        ("SHA-224", "3.1", MessageDigest::sha224()),
        ("SHA-384", "3.3", MessageDigest::sha384()),
        ("SHA-512", "3.4", MessageDigest::sha512()),
    ] {
        let bundle = w.user_with(|raw| {
            raw.inside = ecdsa(arc);
            raw.digest = digest;
        });
        m.accept(case, bundle, w.path());
    }
    let sha1 = |raw: &mut Raw| {
        raw.inside = ecdsa("1");
        raw.digest = MessageDigest::sha1();
    };
    m.refuse(
        "SHA-1 on the user",
        w.user_with(sha1),
        w.path(),
        "cert.weak-signature",
    );
    m.refuse(
        "SHA-1 on the proxy",
        w.proxy_with(sha1),
        w.path(),
        "cert.weak-signature",
    );
    let mut old = VerifyOptions::at(NOW);
    old.allow_sha1 = true;
    m.judge(
        "SHA-1 where it is allowed",
        w.user_with(sha1),
        w.path(),
        &old,
        Deserves::Identity(JANE),
    );
    m.refuse(
        "SHA-256 said, SHA-384 made",
        w.user_with(|raw| raw.digest = MessageDigest::sha384()),
        w.path(),
        "chain.signature",
    );
    m.refuse(
        "RSA said, EC made",
        w.user_with(|raw| raw.inside = sequence(&[oid("1.2.840.113549.1.1.11"), der(5, &[])])),
        w.path(),
        "chain.signature",
    );
    m.refuse(
        "another algorithm outside",
        w.user_with(|raw| raw.outside = Some(ecdsa("3.3"))),
        w.path(),
        "cert.algorithms",
    );
    m.refuse(
        "parameters outside only",
        w.user_with(|raw| raw.outside = Some(sequence(&[oid("1.2.840.10045.4.3.2"), der(5, &[])]))),
        w.path(),
        "cert.algorithms",
    );
    m.refuse(
        "an algorithm nobody knows",
        w.user_with(|raw| raw.inside = sequence(&[oid("1.2.3.4")])),
        w.path(),
        "cert.signature-kind",
    );
    for (case, arc, code) in [
        ("MD5", "4", "cert.weak-signature"),
        ("MD2", "2", "cert.weak-signature"),
        ("PSS without its parameters", "10", "cert.signature-kind"),
    ] {
        let algorithm = sequence(&[oid(&format!("1.2.840.113549.1.1.{arc}")), der(5, &[])]);
        m.refuse(
            case,
            w.user_with(|raw| raw.inside = algorithm),
            w.path(),
            code,
        );
    }
    // Keys.
    let with_key = |key: PKey<openssl::pkey::Private>| w.proxy_with(|raw| raw.key = key);
    let rsa = |bits: u32| PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
    m.refuse(
        "a proxy of RSA 512",
        with_key(rsa(512)),
        w.path(),
        "cert.key-size",
    );
    m.refuse(
        "a proxy of RSA 1023",
        with_key(rsa(1023)),
        w.path(),
        "cert.key-size",
    );
    m.accept("a proxy of RSA 1024", with_key(rsa(1024)), w.path());
    let rsa_user = |bits: u32| {
        let key = rsa(bits);
        let user = Raw::user(&w.ca, jane())
            .set(|raw| raw.key = key)
            .signed_by(&w.ca.key);
        let proxy = Raw::proxy(&jane())
            .set(|raw| raw.inside = sequence(&[oid("1.2.840.113549.1.1.11"), der(5, &[])]));
        proxy.signed_by(&user.key).bundle(&[&user])
    };
    m.refuse(
        "a user of RSA 1024",
        rsa_user(1024),
        w.path(),
        "cert.key-size",
    );
    m.accept("a user of RSA 2048", rsa_user(2048), w.path());
    m.accept("a user of RSA 4096", rsa_user(4096), w.path());
    // With the exponent 1 every number is its own signature.
    let modulus = Rsa::generate(2048).unwrap().n().to_vec();
    let numbers = |exponent: &[u8]| {
        let key = sequence(&[
            der(2, &[vec![0], modulus.clone()].concat()),
            der(2, exponent),
        ]);
        let key = [vec![0], key].concat();
        sequence(&[
            sequence(&[oid("1.2.840.113549.1.1.1"), der(5, &[])]),
            der(3, &key),
        ])
    };
    let mut keyless = VerifyOptions::at(NOW);
    keyless.require_key = false;
    for (case, exponent) in [
        ("exponent 1", &[1][..]),
        ("an even exponent", &[2]),
        ("exponent 0", &[0]),
    ] {
        let raw = Raw::proxy(&jane()).set(|raw| raw.key_info = Some(numbers(exponent)));
        let bundle = raw.signed_by(&w.user.key).pem() + &w.user.pem();
        m.judge(
            case,
            bundle,
            w.path(),
            &keyless,
            Deserves::Code("cert.key-kind"),
        );
    }
    // A weak CA is the site's.
    let weak = Spec::ca("/C=XX/O=Weak/CN=CA").key(rsa(1024)).self_signed();
    install_ca(w.path(), &weak);
    let user = Spec::user("/C=XX/O=Lab/CN=Jane Doe").signed_by(&weak);
    m.refuse(
        "a CA of RSA 1024",
        user.bundle(&[]),
        w.path(),
        "cert.key-size",
    );
    let md5 = Spec::ca("/C=XX/O=Old/CN=CA")
        .key(rsa(2048))
        .set(|s| s.digest = MessageDigest::sha1())
        .self_signed();
    install_ca(w.path(), &md5);
    let user = Spec::user("/C=XX/O=Lab/CN=Jane Doe").signed_by(&md5);
    m.accept(
        "a trust anchor that signed itself with SHA-1",
        user.bundle(&[]),
        w.path(),
    );
    m.finish(23);
}
