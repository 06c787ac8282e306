//! A PKCS#10 certificate request (RFC 2986), of which only the key counts: whoever asks does not choose the name.

use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Public};
use openssl::sign::Verifier;

use super::error::IssueError;
use crate::der::{NotDer, Reader, dotted_oid, tag};

/// Largest request that is looked at, bytes.
const MAX_REQUEST: usize = 64 * 1024;

/// Smallest RSA key a proxy gets. What real HTCondor asks for is 2048.
const MIN_RSA_BITS: u32 = 1024;
/// Larger ones only cost time.
const MAX_RSA_BITS: u32 = 8192;

struct Parts<'a> {
    /// What is signed.
    signed: &'a [u8],
    key: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// The key of a request, after proof that whoever made the request has its private half.
///
/// Read by hand because the requests of HTCondor 23 say version 3, which the OpenSSL of new distributions refuses; the
/// version means nothing to us.
pub(super) fn requested_key(der: &[u8]) -> Result<PKey<Public>, IssueError> {
    if der.len() > MAX_REQUEST {
        return Err(IssueError::Request);
    }
    let parts = read(der).map_err(|NotDer| IssueError::Request)?;
    let key = PKey::public_key_from_der(parts.key).map_err(|_| IssueError::Request)?;
    match key.id() {
        Id::RSA if !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(&key.bits()) => {
            return Err(IssueError::RequestKey("RSA keys have 1024 to 8192 bits"));
        }
        Id::RSA | Id::EC => {}
        _ => return Err(IssueError::RequestKey("it is neither RSA nor EC")),
    }
    let digest = digest(parts.algorithm).ok_or(IssueError::RequestSignature)?;
    // A signature of the wrong form is an error to OpenSSL, and here the same as a wrong one.
    let is_right = Verifier::new(digest, &key)
        .and_then(|mut verifier| verifier.verify_oneshot(parts.signature, parts.signed))
        .unwrap_or(false);
    if is_right {
        Ok(key)
    } else {
        Err(IssueError::RequestSignature)
    }
}

fn read(der: &[u8]) -> Result<Parts<'_>, NotDer> {
    let mut outer = Reader::new(der);
    let mut request = outer.enter(tag::SEQUENCE)?;
    outer.finish()?;
    let info = request.element()?;
    let mut algorithm = request.enter(tag::SEQUENCE)?;
    let signature = request.expect(tag::BIT_STRING)?;
    request.finish()?;
    if info.tag != tag::SEQUENCE {
        return Err(NotDer);
    }
    let mut content = Reader::new(info.content);
    content.expect(tag::INTEGER)?;
    content.expect(tag::SEQUENCE)?; // the subject
    let key = content.element()?; // attributes may follow
    if key.tag != tag::SEQUENCE {
        return Err(NotDer);
    }
    match signature.split_first() {
        Some((0, signature)) => Ok(Parts {
            signed: info.whole,
            key: key.whole,
            algorithm: algorithm.expect(tag::OID)?,
            signature,
        }),
        _ => Err(NotDer),
    }
}

/// SHA-1 included: the signature only proves possession at this moment, and old software still makes it.
fn digest(algorithm: &[u8]) -> Option<MessageDigest> {
    match dotted_oid(algorithm)?.as_str() {
        "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => Some(MessageDigest::sha1()),
        "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => Some(MessageDigest::sha256()),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(MessageDigest::sha384()),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(MessageDigest::sha512()),
        _ => None,
    }
}
