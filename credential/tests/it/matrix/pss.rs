//! RSASSA-PSS, whose parameters say what the OID of other algorithms says (RFC 4055 3.1).

use openssl::hash::MessageDigest;

use super::{Deserves, JANE, Matrix, NOW, Piece, Raw, VerifyOptions, World, jane};
use crate::common::ac::sequence;
use crate::common::raw::block;
use crate::common::{der, oid, rsa_key};

const SHA1: &str = "1.3.14.3.2.26";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";
const SHA384: &str = "2.16.840.1.101.3.4.2.2";
const MGF1: &str = "1.2.840.113549.1.1.8";

fn hash(name: &str) -> Vec<u8> {
    sequence(&[oid(name), der(5, &[])])
}

/// An algorithm with these parameters; what is `None` is left out.
fn algorithm(digest: Option<&str>, mask: Option<&str>, salt: Option<u8>, more: &[u8]) -> Vec<u8> {
    let tagged = |tag: u8, value: Option<Vec<u8>>| value.map_or(vec![], |value| der(tag, &value));
    let parameters = sequence(&[
        tagged(0xa0, digest.map(hash)),
        tagged(0xa1, mask.map(|name| sequence(&[oid(MGF1), hash(name)]))),
        tagged(0xa2, salt.map(|bytes| der(2, &[bytes]))),
        more.to_vec(),
    ]);
    sequence(&[oid("1.2.840.113549.1.1.10"), parameters])
}

#[test]
fn signatures_with_parameters() {
    let w = World::new();
    let mut m = Matrix::default();
    let key = rsa_key(2048);
    let user = Raw::user(&w.ca, jane())
        .set(|raw| raw.key = key)
        .signed_by(&w.ca.key);
    let (sha1, sha256, sha384) = (
        MessageDigest::sha1(),
        MessageDigest::sha256(),
        MessageDigest::sha384(),
    );
    let proxy = |says: Vec<u8>, digest: MessageDigest, mask: MessageDigest, salt: i32| {
        let raw = Raw::proxy(&jane()).set(|raw| {
            raw.inside = says;
            raw.digest = digest;
            raw.pss = Some((mask, salt));
        });
        raw.signed_by(&user.key).bundle(&[&user])
    };
    let usual = || algorithm(Some(SHA256), Some(SHA256), Some(32), &[]);
    for (case, says, digest, mask, salt) in [
        ("SHA-256", usual(), sha256, sha256, 32),
        (
            "a salt of its own",
            algorithm(Some(SHA256), Some(SHA256), Some(11), &[]),
            sha256,
            sha256,
            11,
        ),
        (
            "no salt",
            algorithm(Some(SHA256), Some(SHA256), Some(0), &[]),
            sha256,
            sha256,
            0,
        ),
        (
            "SHA-384, salt by default",
            algorithm(Some(SHA384), Some(SHA384), None, &[]),
            sha384,
            sha384,
            20,
        ),
        (
            "two digests",
            algorithm(Some(SHA256), Some(SHA384), Some(32), &[]),
            sha256,
            sha384,
            32,
        ),
        (
            "trailer said",
            algorithm(
                Some(SHA256),
                Some(SHA256),
                Some(32),
                &der(0xa3, &der(2, &[1])),
            ),
            sha256,
            sha256,
            32,
        ),
    ] {
        m.accept(case, proxy(says, digest, mask, salt), w.path());
    }
    for (case, says, digest, mask, salt, code) in [
        (
            "SHA-1 by default",
            algorithm(None, None, None, &[]),
            sha1,
            sha1,
            20,
            "cert.weak-signature",
        ),
        (
            "SHA-1 said",
            algorithm(Some(SHA1), Some(SHA1), Some(20), &[]),
            sha1,
            sha1,
            20,
            "cert.weak-signature",
        ),
        (
            "another salt",
            usual(),
            sha256,
            sha256,
            20,
            "chain.signature",
        ),
        (
            "another mask",
            usual(),
            sha256,
            sha384,
            32,
            "chain.signature",
        ),
        (
            "another digest",
            usual(),
            sha384,
            sha256,
            32,
            "chain.signature",
        ),
        (
            "another trailer",
            algorithm(
                Some(SHA256),
                Some(SHA256),
                Some(32),
                &der(0xa3, &der(2, &[2])),
            ),
            sha256,
            sha256,
            32,
            "cert.signature-kind",
        ),
        (
            "a digest nobody knows",
            algorithm(Some("1.2.3"), Some(SHA256), Some(32), &[]),
            sha256,
            sha256,
            32,
            "cert.signature-kind",
        ),
        (
            "something behind",
            algorithm(Some(SHA256), Some(SHA256), Some(32), &der(5, &[])),
            sha256,
            sha256,
            32,
            "cert.signature-kind",
        ),
    ] {
        m.refuse(case, proxy(says, digest, mask, salt), w.path(), code);
    }
    let mut old = VerifyOptions::at(NOW);
    old.allow_sha1 = true;
    let says = algorithm(None, None, None, &[]);
    m.judge(
        "SHA-1 where it is allowed",
        proxy(says, sha1, sha1, 20),
        w.path(),
        &old,
        Deserves::Identity(JANE),
    );
    let pkcs1 = Raw::proxy(&jane()).set(|raw| raw.inside = usual());
    m.refuse(
        "said, but not done",
        pkcs1.signed_by(&user.key).bundle(&[&user]),
        w.path(),
        "chain.signature",
    );
    let done = Raw::proxy(&jane()).set(|raw| {
        raw.inside = sequence(&[oid("1.2.840.113549.1.1.11"), der(5, &[])]);
        raw.pss = Some((sha256, 32));
    });
    m.refuse(
        "done, but not said",
        done.signed_by(&user.key).bundle(&[&user]),
        w.path(),
        "chain.signature",
    );
    let by_ec: Piece = Raw::proxy(&jane())
        .set(|raw| raw.inside = usual())
        .signed_by(&w.user.key);
    m.refuse(
        "said by a key of a curve",
        by_ec.bundle(&[&w.user]),
        w.path(),
        "chain.signature",
    );
    m.finish(18);
}

/// Keys that say they are for RSASSA-PSS and nothing else (RFC 4055 3.1), in the user's certificate.
#[test]
fn keys_for_it() {
    let w = World::new();
    let mut m = Matrix::default();
    let key = rsa_key(2048);
    let (sha256, sha384) = (MessageDigest::sha256(), MessageDigest::sha384());
    let numbers = key.rsa().unwrap().public_key_to_der_pkcs1().unwrap();
    let bits = der(3, &[&[0], &numbers[..]].concat());
    let unlimited = sequence(&[oid("1.2.840.113549.1.1.10")]);
    let usual = algorithm(Some(SHA256), Some(SHA256), Some(32), &[]);
    let user_of = |kind: &[u8]| {
        let user = Raw::user(&w.ca, jane()).set(|raw| {
            raw.key = key.clone();
            raw.key_info = Some(sequence(&[kind.to_vec(), bits.clone()]));
        });
        user.signed_by(&w.ca.key)
    };
    let proxy = |user: &Piece, says: &[u8], digest: MessageDigest, salt: i32| {
        let raw = Raw::proxy(&jane()).set(|raw| {
            raw.inside = says.to_vec();
            raw.digest = digest;
            raw.pss = Some((digest, salt));
        });
        raw.signed_by(&user.key).bundle(&[user])
    };
    let other = algorithm(Some(SHA384), Some(SHA384), Some(48), &[]);
    let long_salt = algorithm(Some(SHA256), Some(SHA256), Some(64), &[]);
    let short_salt = algorithm(Some(SHA256), Some(SHA256), Some(20), &[]);
    let user = user_of(&unlimited);
    m.accept("no parameters", proxy(&user, &usual, sha256, 32), w.path());
    m.accept(
        "no parameters, SHA-384",
        proxy(&user, &other, sha384, 48),
        w.path(),
    );
    let user = user_of(&usual);
    m.accept(
        "the same parameters",
        proxy(&user, &usual, sha256, 32),
        w.path(),
    );
    m.accept(
        "a longer salt",
        proxy(&user, &long_salt, sha256, 64),
        w.path(),
    );
    for (case, bundle) in [
        ("another digest", proxy(&user, &other, sha384, 48)),
        ("a shorter salt", proxy(&user, &short_salt, sha256, 20)),
        ("a signature of PKCS#1", {
            let raw = Raw::proxy(&jane()).set(|raw| {
                raw.inside = sequence(&[oid("1.2.840.113549.1.1.11"), der(5, &[])]);
            });
            raw.signed_by(&user.key).bundle(&[&user])
        }),
    ] {
        m.refuse(case, bundle, w.path(), "chain.signature");
    }
    let null = sequence(&[oid("1.2.840.113549.1.1.10"), der(5, &[])]);
    let user = user_of(&null);
    m.refuse(
        "NULL for parameters",
        proxy(&user, &usual, sha256, 32),
        w.path(),
        "cert.key-kind",
    );
    // The user's own certificate, whose private key says what it is for, as OpenSSL writes it; or does not.
    let plain = key.private_key_to_pkcs8().unwrap();
    let (rsa, pss) = (
        sequence(&[oid("1.2.840.113549.1.1.1"), der(5, &[])]),
        unlimited.clone(),
    );
    let at = plain
        .windows(rsa.len())
        .position(|part| part == rsa)
        .unwrap();
    let tail = &plain[at + rsa.len()..];
    let private = sequence(&[der(2, &[0]), pss, tail.to_vec()]);
    let user = user_of(&unlimited);
    let own = |key: &[u8]| user.pem() + &block("PRIVATE KEY", key);
    m.accept("its private key", own(&private), w.path());
    m.refuse(
        "a private key for anything",
        own(&plain),
        w.path(),
        "bundle.key-mismatch",
    );
    m.finish(10);
}
