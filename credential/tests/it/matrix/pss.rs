//! RSASSA-PSS, whose parameters say what the OID of other algorithms says (RFC 4055 3.1).

use openssl::hash::MessageDigest;

use super::{Deserves, JANE, Matrix, NOW, Piece, Raw, VerifyOptions, World, jane};
use crate::common::ac::sequence;
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
