//! Is a certificate signed by the key of another? Straight from the numbers in both certificates:
//! OpenSSL's certificate objects cost more to make than all signatures of a path cost to check.

use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcKey, EcPoint};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Public};
use openssl::rsa::{Padding, Rsa};
use openssl::sha::{Sha1, Sha224, Sha256, Sha384, Sha512};
use openssl::sign::{RsaPssSaltlen, Verifier};

use crate::cert::Certificate;
use crate::der::{NotDer, Reader, tag};
use crate::error::VerifyError;
use crate::path::Path;
use crate::problem::ChainProblem;
use crate::strength::{Curve, Digest, KeyKind, MAX_RSA_BITS, Pss, Signature};

/// Checks every signature of a path but the one that the trust anchor put on itself.
///
/// # Errors
/// [`ChainProblem::Signature`] for the first wrong one from the anchor down.
pub(crate) fn check(path: &Path) -> Result<(), VerifyError> {
    for pair in path.links.windows(2).rev() {
        let [child, issuer] = pair else { continue };
        if !signed_by(&child.certificate, &issuer.certificate) {
            return Err(VerifyError::Chain {
                which: child.certificate.which(child.role),
                problem: ChainProblem::Signature,
            });
        }
    }
    Ok(())
}

/// Whether `issuer` signed `child`. Broken algorithms and kinds of keys that are not accepted count
/// as "no".
pub(crate) fn signed_by(child: &Certificate, issuer: &Certificate) -> bool {
    made_by(&issuer.key, &child.signature, &child.der)
}

/// Whether a key made the signature of a certificate, an attribute certificate or a CRL: all three
/// are a sequence of what is signed, the algorithm and the signature.
pub(crate) fn made_by(key: &KeyKind, algorithm: &Signature, der: &[u8]) -> bool {
    let Ok((signed, signature)) = parts(der) else {
        return false;
    };
    let verdict = match (algorithm, key) {
        (Signature::Rsa(digest), KeyKind::Rsa { modulus, exponent }) => {
            rsa(*digest, signed, signature, modulus, exponent)
        }
        (Signature::RsaPss(pss), KeyKind::Rsa { modulus, exponent }) => {
            rsa_pss(*pss, signed, signature, modulus, exponent)
        }
        (
            Signature::RsaPss(pss),
            KeyKind::RsaPss {
                modulus,
                exponent,
                limits,
            },
        ) if limits.is_none_or(|limits| pss.is_within(limits)) => {
            rsa_pss(*pss, signed, signature, modulus, exponent)
        }
        (Signature::Ecdsa(digest), KeyKind::Ec { curve, point }) => {
            ecdsa(*digest, signed, signature, *curve, point)
        }
        _ => return false,
    };
    // What OpenSSL cannot compute with (a point off the curve, wrong padding) is not a signature.
    verdict.unwrap_or(false)
}

/// The signed bytes and the signature (RFC 5280 4.1).
fn parts(der: &[u8]) -> Result<(&[u8], &[u8]), NotDer> {
    let mut outer = Reader::new(der);
    let mut body = outer.enter(tag::SEQUENCE)?;
    outer.finish()?;
    let signed = body.element()?.whole;
    body.expect(tag::SEQUENCE)?;
    match body.expect(tag::BIT_STRING)? {
        // No unused bits: a signature is whole bytes.
        [0, signature @ ..] => body.finish().map(|()| (signed, signature)),
        _ => Err(NotDer),
    }
}

/// RSASSA-PKCS1-v1_5 (RFC 8017 8.2.2): open the signature and compare all of what was encoded with
/// what must be there. OpenSSL checks that the padding fills the rest.
fn rsa(
    digest: Digest,
    signed: &[u8],
    signature: &[u8],
    modulus: &[u8],
    exponent: &[u8],
) -> Result<bool, ErrorStack> {
    let Some(key) = rsa_key(signature, modulus, exponent)? else {
        return Ok(false);
    };
    let mut opened = [0; MAX_RSA_BITS / 8];
    let length = key.public_decrypt(signature, &mut opened, Padding::PKCS1)?;
    let encoded = opened.get(..length).unwrap_or_default();
    let Some(found) = encoded.strip_prefix(digest.info_prefix()) else {
        return Ok(false);
    };
    Ok(found == digest.of(signed).as_slice())
}

/// The key, if it is of a size that is computed with and the signature is as long as it. The same limits as everywhere
/// (OpenSSL has its own, wider ones), so that nobody can buy time.
fn rsa_key(
    signature: &[u8],
    modulus: &[u8],
    exponent: &[u8],
) -> Result<Option<Rsa<Public>>, ErrorStack> {
    if signature.len() != modulus.len() || modulus.len() > MAX_RSA_BITS / 8 || exponent.len() > 8 {
        return Ok(None);
    }
    Rsa::from_public_components(BigNum::from_slice(modulus)?, BigNum::from_slice(exponent)?)
        .map(Some)
}

/// RSASSA-PSS (RFC 8017 8.1.2), by OpenSSL.
fn rsa_pss(
    pss: Pss,
    signed: &[u8],
    signature: &[u8],
    modulus: &[u8],
    exponent: &[u8],
) -> Result<bool, ErrorStack> {
    let Some(key) = rsa_key(signature, modulus, exponent)? else {
        return Ok(false);
    };
    let key = PKey::from_rsa(key)?;
    let mut verifier = Verifier::new(pss.digest.message_digest(), &key)?;
    verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
    verifier.set_rsa_mgf1_md(pss.mask.message_digest())?;
    verifier.set_rsa_pss_saltlen(RsaPssSaltlen::custom(i32::from(pss.salt)))?;
    verifier.verify_oneshot(signature, signed)
}

/// ECDSA (RFC 5758 3.2).
fn ecdsa(
    digest: Digest,
    signed: &[u8],
    signature: &[u8],
    curve: Curve,
    point: &[u8],
) -> Result<bool, ErrorStack> {
    ecdsa_with(
        digest,
        signed,
        &EcdsaSig::from_der(signature)?,
        curve,
        point,
    )
}

/// Whether a token is signed by a key: RS256, or ES256 with its 64 bytes of r and s (RFC 7518 3.3, 3.4).
pub(crate) fn token_signed_by(key: &KeyKind, signed: &[u8], signature: &[u8]) -> bool {
    let verdict = match key {
        KeyKind::Rsa { modulus, exponent } => {
            rsa(Digest::Sha256, signed, signature, modulus, exponent)
        }
        KeyKind::Ec {
            curve: Curve::P256,
            point,
        } => match signature.split_first_chunk::<32>() {
            // OpenSSL refuses zero and too large numbers.
            Some((r, s)) if s.len() == 32 => BigNum::from_slice(r).and_then(|r| {
                let signature = EcdsaSig::from_private_components(r, BigNum::from_slice(s)?)?;
                ecdsa_with(Digest::Sha256, signed, &signature, Curve::P256, point)
            }),
            _ => return false,
        },
        _ => return false,
    };
    verdict.unwrap_or(false)
}

fn ecdsa_with(
    digest: Digest,
    signed: &[u8],
    signature: &EcdsaSig,
    curve: Curve,
    point: &[u8],
) -> Result<bool, ErrorStack> {
    let group = curve.group()?;
    let mut context = BigNumContext::new()?;
    let point = EcPoint::from_bytes(&group, point, &mut context)?;
    let key = EcKey::from_public_key(&group, &point)?;
    key.check_key()?;
    signature.verify(digest.of(signed).as_slice(), &key)
}

/// A hash value; the longest has 64 bytes.
struct Hash {
    bytes: [u8; 64],
    length: usize,
}

impl Hash {
    fn new(value: &[u8]) -> Self {
        let mut bytes = [0; 64];
        let length = value.len().min(bytes.len());
        bytes
            .iter_mut()
            .zip(value)
            .for_each(|(to, from)| *to = *from);
        Self { bytes, length }
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Digest {
    /// Not by the functions that take all at once: those look the algorithm up by its name, for which OpenSSL first
    /// makes tables of all names that it knows, which takes it a millisecond.
    fn of(self, bytes: &[u8]) -> Hash {
        macro_rules! hash {
            ($kind:ident) => {{
                let mut state = $kind::new();
                state.update(bytes);
                Hash::new(&state.finish())
            }};
        }
        match self {
            Self::Sha1 => hash!(Sha1),
            Self::Sha224 => hash!(Sha224),
            Self::Sha256 => hash!(Sha256),
            Self::Sha384 => hash!(Sha384),
            Self::Sha512 => hash!(Sha512),
        }
    }

    fn message_digest(self) -> MessageDigest {
        match self {
            Self::Sha1 => MessageDigest::sha1(),
            Self::Sha224 => MessageDigest::sha224(),
            Self::Sha256 => MessageDigest::sha256(),
            Self::Sha384 => MessageDigest::sha384(),
            Self::Sha512 => MessageDigest::sha512(),
        }
    }

    /// What precedes the hash in a PKCS#1 signature (RFC 8017 9.2, note 1).
    fn info_prefix(self) -> &'static [u8] {
        match self {
            Self::Sha1 => &[48, 33, 48, 9, 6, 5, 0x2b, 14, 3, 2, 26, 5, 0, 4, 20],
            Self::Sha224 => &[
                48, 45, 48, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 4, 5, 0, 4, 28,
            ],
            Self::Sha256 => &[
                48, 49, 48, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 32,
            ],
            Self::Sha384 => &[
                48, 65, 48, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2, 5, 0, 4, 48,
            ],
            Self::Sha512 => &[
                48, 81, 48, 13, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3, 5, 0, 4, 64,
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pem::split_der;
    use crate::proxy::Policy;

    #[test]
    fn the_signatures_of_a_proxy_delegated_by_htcondor_are_right() {
        let answer = include_bytes!("../tests/data/condor-23.9.6-delegated.der");
        let chain: Vec<Certificate> = split_der(answer, 20)
            .unwrap()
            .into_iter()
            .map(|der| Certificate::parse(der.to_vec(), Some(1)).unwrap())
            .collect();
        let [delegated, proxy, user] = chain.as_slice() else {
            panic!()
        };
        assert!(signed_by(delegated, proxy) && signed_by(proxy, user));
        assert!(!signed_by(delegated, user) && !signed_by(proxy, delegated));
        assert!(delegated.subject.extends_by_cn(&proxy.subject));
        let info = delegated.proxy.as_ref().unwrap().info.as_ref().unwrap();
        assert_eq!(info.policy, Policy::Limited);
    }

    #[test]
    fn any_changed_byte_of_what_is_signed_breaks_the_signature() {
        let answer = include_bytes!("../tests/data/condor-23.9.6-delegated.der");
        let [proxy, issuer, ..] = split_der(answer, 20).unwrap()[..] else {
            panic!()
        };
        let issuer = Certificate::parse(issuer.to_vec(), None).unwrap();
        let mut changed = 0;
        for at in 0..proxy.len() {
            let mut bytes = proxy.to_vec();
            bytes[at] ^= 1;
            let Ok(mut certificate) = Certificate::parse(bytes, None) else {
                continue;
            };
            // The algorithm named outside is compared with the one inside by the rules.
            if certificate.algorithms_differ {
                continue;
            }
            certificate.signature = Signature::Rsa(Digest::Sha256);
            assert!(!signed_by(&certificate, &issuer), "byte {at}");
            changed += 1;
        }
        assert!(changed > 500, "{changed}");
    }
}
