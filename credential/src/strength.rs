//! Which keys and signature algorithms are strong enough (rule C15).

use std::fmt;

use openssl::ec::EcGroup;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::der::{NotDer, Reader, dotted_oid, tag};
use crate::problem::CertificateProblem;

/// Largest RSA key that is verified. Beyond it a verification costs milliseconds and nobody gains.
pub(crate) const MAX_RSA_BITS: usize = 8192;

/// A public key, as far as the rules care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// RSA: modulus and exponent, big endian without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// The same for RSASSA-PSS and nothing else, with these parameters if it says so; a longer salt will do.
    RsaPss {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
        limits: Option<Pss>,
    },
    /// A named curve and the public point.
    Ec { curve: Curve, point: Vec<u8> },
    /// Anything else, explicit curve parameters included.
    Other,
}

/// The accepted curves (RFC 5480 2.1.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    pub(crate) fn of(oid: &str) -> Option<Self> {
        match oid {
            "1.2.840.10045.3.1.7" => Some(Self::P256),
            "1.3.132.0.34" => Some(Self::P384),
            "1.3.132.0.35" => Some(Self::P521),
            _ => None,
        }
    }

    pub(crate) fn group(self) -> Result<EcGroup, ErrorStack> {
        EcGroup::from_curve_name(match self {
            Self::P256 => Nid::X9_62_PRIME256V1,
            Self::P384 => Nid::SECP384R1,
            Self::P521 => Nid::SECP521R1,
        })
    }
}

impl KeyKind {
    pub(crate) fn of(info: &SubjectPublicKeyInfo<'_>) -> Self {
        Self::read(info.raw).unwrap_or(Self::Other)
    }

    /// Reads a SubjectPublicKeyInfo (RFC 3279 2.3.1, RFC 4055 3.1, RFC 5480 2). By hand, because programs differ in
    /// what they make of numbers that are not DER.
    fn read(info: &[u8]) -> Result<Self, NotDer> {
        let mut outer = Reader::new(info);
        let mut body = outer.enter(tag::SEQUENCE)?;
        outer.finish()?;
        let mut algorithm = body.enter(tag::SEQUENCE)?;
        let oid = dotted_oid(algorithm.expect(tag::OID)?).ok_or(NotDer)?;
        let [0, key @ ..] = body.expect(tag::BIT_STRING)? else {
            return Err(NotDer);
        };
        body.finish()?;
        match oid.as_str() {
            RSA => {
                let parameters = algorithm.optional(tag::NULL)?.unwrap_or_default();
                algorithm.finish()?;
                let (modulus, exponent) = rsa_numbers(key)?;
                let is_plain = parameters.is_empty();
                is_plain
                    .then_some(Self::Rsa { modulus, exponent })
                    .ok_or(NotDer)
            }
            RSASSA_PSS => {
                let limits = if algorithm.is_empty() {
                    None
                } else {
                    Some(Pss::read(algorithm)?.ok_or(NotDer)?)
                };
                let (modulus, exponent) = rsa_numbers(key)?;
                Ok(Self::RsaPss {
                    modulus,
                    exponent,
                    limits,
                })
            }
            EC => {
                let curve = dotted_oid(algorithm.expect(tag::OID)?).ok_or(NotDer)?;
                algorithm.finish()?;
                Ok(Self::Ec {
                    curve: Curve::of(&curve).ok_or(NotDer)?,
                    point: key.to_vec(),
                })
            }
            _ => Err(NotDer),
        }
    }

    /// Modulus and exponent of an RSA key of either kind.
    fn rsa(&self) -> Option<(&[u8], &[u8])> {
        match self {
            Self::Rsa { modulus, exponent }
            | Self::RsaPss {
                modulus, exponent, ..
            } => Some((modulus, exponent)),
            _ => None,
        }
    }

    /// # Errors
    /// [`CertificateProblem::KeyKind`], or [`CertificateProblem::KeySize`] for RSA below `minimum`
    /// or above [`MAX_RSA_BITS`].
    pub(crate) fn check(&self, minimum: usize) -> Result<(), CertificateProblem> {
        match (self.rsa(), self) {
            // With the exponent 1, or an even one, a signature is no secret.
            (Some((_, exponent)), _) if !is_sound_exponent(exponent) => {
                Err(CertificateProblem::KeyKind)
            }
            (Some((modulus, _)), _) => {
                let bits = bit_length(modulus);
                if (minimum..=MAX_RSA_BITS).contains(&bits) {
                    Ok(())
                } else {
                    Err(CertificateProblem::KeySize {
                        bits,
                        minimum,
                        maximum: MAX_RSA_BITS,
                    })
                }
            }
            (None, Self::Ec { .. }) => Ok(()),
            (None, _) => Err(CertificateProblem::KeyKind),
        }
    }
}

/// As people say it, for those who look at a certificate.
impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa { modulus, .. } => write!(f, "RSA {}", bit_length(modulus)),
            Self::RsaPss { modulus, .. } => write!(f, "RSA-PSS {}", bit_length(modulus)),
            Self::Ec { curve, .. } => f.write_str(match curve {
                Curve::P256 => "EC P-256",
                Curve::P384 => "EC P-384",
                Curve::P521 => "EC P-521",
            }),
            Self::Other => f.write_str("of another kind"),
        }
    }
}

/// A digest in a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Digest {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// A signature algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Signature {
    /// RSASSA-PKCS1-v1_5.
    Rsa(Digest),
    /// RSASSA-PSS, with what its parameters say.
    RsaPss(Pss),
    /// ECDSA.
    Ecdsa(Digest),
    /// RSA with MD2, MD4 or MD5.
    Broken,
    /// Something else.
    Other(String),
}

impl Signature {
    /// Reads the content of an AlgorithmIdentifier (RFC 5280 4.1.1.2).
    ///
    /// # Errors
    /// It is not DER of that shape.
    pub(crate) fn read(identifier: &[u8]) -> Result<Self, NotDer> {
        let mut identifier = Reader::new(identifier);
        let oid = dotted_oid(identifier.expect(tag::OID)?).ok_or(NotDer)?;
        if oid == RSASSA_PSS {
            let pss = Pss::read(identifier).unwrap_or_default();
            return Ok(pss.map_or(Self::Other(oid), Self::RsaPss));
        }
        Ok(Self::of(&oid))
    }

    /// Sorts an algorithm identifier (RFC 4055, RFC 5758, RFC 3279).
    fn of(oid: &str) -> Self {
        match oid {
            "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => Self::Rsa(Digest::Sha1),
            "1.2.840.113549.1.1.14" => Self::Rsa(Digest::Sha224),
            "1.2.840.113549.1.1.11" => Self::Rsa(Digest::Sha256),
            "1.2.840.113549.1.1.12" => Self::Rsa(Digest::Sha384),
            "1.2.840.113549.1.1.13" => Self::Rsa(Digest::Sha512),
            "1.2.840.10045.4.1" => Self::Ecdsa(Digest::Sha1),
            "1.2.840.10045.4.3.1" => Self::Ecdsa(Digest::Sha224),
            "1.2.840.10045.4.3.2" => Self::Ecdsa(Digest::Sha256),
            "1.2.840.10045.4.3.3" => Self::Ecdsa(Digest::Sha384),
            "1.2.840.10045.4.3.4" => Self::Ecdsa(Digest::Sha512),
            "1.2.840.113549.1.1.2"
            | "1.2.840.113549.1.1.3"
            | "1.2.840.113549.1.1.4"
            | "1.3.14.3.2.3" => Self::Broken,
            _ => Self::Other(oid.to_owned()),
        }
    }

    /// # Errors
    /// SHA-1 unless allowed, MD5 always, unknown algorithms always.
    pub(crate) fn check(&self, allow_sha1: bool) -> Result<(), CertificateProblem> {
        match self {
            Self::Rsa(Digest::Sha1)
            | Self::Ecdsa(Digest::Sha1)
            | Self::RsaPss(Pss {
                digest: Digest::Sha1,
                ..
            }) if !allow_sha1 => Err(CertificateProblem::WeakSignature("SHA-1")),
            Self::Rsa(_) | Self::Ecdsa(_) | Self::RsaPss(_) => Ok(()),
            Self::Broken => Err(CertificateProblem::WeakSignature("MD5")),
            Self::Other(oid) => Err(CertificateProblem::SignatureKind(oid.clone())),
        }
    }
}

/// What the parameters of RSASSA-PSS say (RFC 4055 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pss {
    pub(crate) digest: Digest,
    /// The digest inside the mask generation function MGF1.
    pub(crate) mask: Digest,
    /// Bytes.
    pub(crate) salt: u8,
}

impl Pss {
    /// Whether a key with these parameters makes such signatures (RFC 4055 3.3).
    pub(crate) fn is_within(self, limits: Self) -> bool {
        (self.digest, self.mask) == (limits.digest, limits.mask) && self.salt >= limits.salt
    }

    /// Reads what follows the algorithm's OID; `Ok(None)`: well formed, but nothing that is known here.
    /// Parameters that are left out have defaults, all parameters together must not be (RFC 4055 3.1).
    fn read(mut identifier: Reader<'_>) -> Result<Option<Self>, NotDer> {
        let mut fields = identifier.enter(tag::SEQUENCE)?;
        identifier.finish()?;
        let digest = match fields.optional(0xa0)? {
            Some(algorithm) => hash_algorithm(algorithm)?,
            None => Some(Digest::Sha1),
        };
        let mask = match fields.optional(0xa1)? {
            Some(tagged) => {
                let mut tagged = Reader::new(tagged);
                let mut function = tagged.enter(tag::SEQUENCE)?;
                tagged.finish()?;
                let oid = dotted_oid(function.expect(tag::OID)?).ok_or(NotDer)?;
                let hash = function.element()?;
                function.finish()?;
                let digest = hash_algorithm(hash.whole)?;
                digest.filter(|_| oid == MGF1)
            }
            None => Some(Digest::Sha1),
        };
        let salt = match fields.optional(0xa2)? {
            Some(tagged) => number(tagged)?,
            None => Some(20),
        };
        let trailer = match fields.optional(0xa3)? {
            Some(tagged) => number(tagged)?,
            None => Some(1),
        };
        fields.finish()?;
        Ok(match (digest, mask, salt, trailer) {
            (Some(digest), Some(mask), Some(salt), Some(1)) => Some(Self { digest, mask, salt }),
            _ => None,
        })
    }
}

/// An AlgorithmIdentifier of a digest, with parameters that are NULL or absent; `None` for another.
fn hash_algorithm(der: &[u8]) -> Result<Option<Digest>, NotDer> {
    let mut outer = Reader::new(der);
    let mut fields = outer.enter(tag::SEQUENCE)?;
    outer.finish()?;
    let oid = dotted_oid(fields.expect(tag::OID)?).ok_or(NotDer)?;
    if fields
        .optional(tag::NULL)?
        .is_some_and(|null| !null.is_empty())
    {
        return Err(NotDer);
    }
    fields.finish()?;
    Ok(match oid.as_str() {
        "1.3.14.3.2.26" => Some(Digest::Sha1),
        "2.16.840.1.101.3.4.2.4" => Some(Digest::Sha224),
        "2.16.840.1.101.3.4.2.1" => Some(Digest::Sha256),
        "2.16.840.1.101.3.4.2.2" => Some(Digest::Sha384),
        "2.16.840.1.101.3.4.2.3" => Some(Digest::Sha512),
        _ => None,
    })
}

/// An INTEGER of one byte; `None` for a larger one.
fn number(der: &[u8]) -> Result<Option<u8>, NotDer> {
    let mut outer = Reader::new(der);
    let number = outer.unsigned()?;
    outer.finish()?;
    Ok(match number {
        [only] => Some(*only),
        _ => None,
    })
}

/// rsaEncryption (RFC 3279 2.3.1) and id-ecPublicKey (RFC 5480 2.1.1).
pub(crate) const RSA: &str = "1.2.840.113549.1.1.1";
pub(crate) const EC: &str = "1.2.840.10045.2.1";
/// id-RSASSA-PSS and id-mgf1 (RFC 4055 3.1 and 2.2).
pub(crate) const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";
const MGF1: &str = "1.2.840.113549.1.1.8";

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha1 => "SHA-1",
            Self::Sha224 => "SHA-224",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        })
    }
}

/// As people say it.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(digest) => write!(f, "{digest} with RSA"),
            Self::RsaPss(pss) => write!(f, "{} with RSA-PSS", pss.digest),
            Self::Ecdsa(digest) => write!(f, "{digest} with ECDSA"),
            Self::Broken => f.write_str("MD5 or older with RSA"),
            Self::Other(oid) => f.write_str(oid),
        }
    }
}

/// RFC 8017 A.1.1.
fn rsa_numbers(der: &[u8]) -> Result<(Vec<u8>, Vec<u8>), NotDer> {
    let mut outer = Reader::new(der);
    let mut body = outer.enter(tag::SEQUENCE)?;
    outer.finish()?;
    let modulus = body.unsigned()?.to_vec();
    let exponent = body.unsigned()?.to_vec();
    body.finish()?;
    Ok((modulus, exponent))
}

fn is_sound_exponent(exponent: &[u8]) -> bool {
    exponent != [1] && exponent.last().is_some_and(|last| last % 2 == 1)
}

fn bit_length(bytes: &[u8]) -> usize {
    match bytes.split_first() {
        Some((first, rest)) => {
            let top: usize = (u8::BITS - first.leading_zeros()) as usize;
            top + rest.len() * 8
        }
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_that_protect_nothing_are_refused() {
        let key = |exponent: &[u8]| {
            KeyKind::Rsa {
                modulus: vec![0xff; 256],
                exponent: exponent.to_vec(),
            }
            .check(2048)
        };
        for good in [&[3][..], &[1, 0, 1]] {
            assert_eq!(key(good), Ok(()));
        }
        for bad in [&[][..], &[1], &[2], &[1, 0]] {
            assert_eq!(key(bad), Err(CertificateProblem::KeyKind));
        }
    }

    #[test]
    fn sizes_are_counted_in_bits() {
        assert_eq!(bit_length(&[]), 0);
        assert_eq!(bit_length(&[1]), 1);
        assert_eq!(bit_length(&[0x80, 0]), 16);
        assert_eq!(bit_length(&[1, 0]), 9);
    }
}
