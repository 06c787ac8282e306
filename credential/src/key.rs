//! The private key: does it belong to the first certificate, and is it really a private key?
//!
//! Comparing public halves is not enough. A certificate is public, and a file with its modulus
//! and invented private numbers would pass as possession of the key. So an RSA key has to show
//! the factors of the modulus and exponents that fit, an EC key has to yield its public point.
//! Both cost microseconds, where a test signature costs most of a millisecond.

use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::ec::{EcPoint, PointConversionForm};
use openssl::error::ErrorStack;

use crate::der::{NotDer, Reader, dotted_oid, tag};
use crate::error::VerifyError;
use crate::pem::{KeyBlock, KeyForm};
use crate::problem::BundleProblem;
use crate::strength::{Curve, KeyKind};

/// Largest key block worth looking at: RSA with 8192 bits has about 4700 bytes.
const MAX_KEY_BYTES: usize = 8 * 1024;

const RSA: &str = "1.2.840.113549.1.1.1";
const EC: &str = "1.2.840.10045.2.1";

/// # Errors
/// [`BundleProblem::KeyMalformed`] or [`BundleProblem::KeyMismatch`], or a failure of OpenSSL.
pub(crate) fn check(block: &KeyBlock, public: &KeyKind) -> Result<(), VerifyError> {
    if block.der.len() > MAX_KEY_BYTES {
        return Err(BundleProblem::KeyMalformed.into());
    }
    let key = read(block).map_err(|NotDer| BundleProblem::KeyMalformed)?;
    match (key, public) {
        (PrivateKey::Rsa(key), KeyKind::Rsa { modulus, exponent }) => {
            if key.modulus != modulus || key.exponent != exponent {
                return Err(BundleProblem::KeyMismatch.into());
            }
            if key.is_consistent()? {
                Ok(())
            } else {
                Err(BundleProblem::KeyMalformed.into())
            }
        }
        (PrivateKey::Ec(key), KeyKind::Ec { curve, point }) => {
            if key.curve.is_some_and(|own| own != *curve) || !key.yields(*curve, point)? {
                return Err(BundleProblem::KeyMismatch.into());
            }
            Ok(())
        }
        _ => Err(BundleProblem::KeyMismatch.into()),
    }
}

enum PrivateKey<'a> {
    Rsa(RsaKey<'a>),
    Ec(EcKey<'a>),
}

struct RsaKey<'a> {
    modulus: &'a [u8],
    exponent: &'a [u8],
    private: &'a [u8],
    factors: [&'a [u8]; 2],
    exponents: [&'a [u8]; 2],
    coefficient: &'a [u8],
}

struct EcKey<'a> {
    curve: Option<Curve>,
    scalar: &'a [u8],
}

fn read(block: &KeyBlock) -> Result<PrivateKey<'_>, NotDer> {
    match block.form {
        KeyForm::Pkcs1 => read_pkcs1(&block.der).map(PrivateKey::Rsa),
        KeyForm::Sec1 => read_sec1(&block.der, None).map(PrivateKey::Ec),
        KeyForm::Pkcs8 => {
            let mut outer = Reader::new(&block.der);
            let mut body = outer.enter(tag::SEQUENCE)?;
            outer.finish()?;
            body.unsigned()?; // version, 0 or 1
            let mut algorithm = body.enter(tag::SEQUENCE)?;
            let inner = body.expect(tag::OCTET_STRING)?; // attributes may follow
            match dotted_oid(algorithm.expect(tag::OID)?).as_deref() {
                Some(RSA) => read_pkcs1(inner).map(PrivateKey::Rsa),
                Some(EC) => {
                    let curve = curve(algorithm.expect(tag::OID)?)?;
                    read_sec1(inner, Some(curve)).map(PrivateKey::Ec)
                }
                _ => Err(NotDer),
            }
        }
    }
}

/// RFC 8017 A.1.2, two primes only.
fn read_pkcs1(der: &[u8]) -> Result<RsaKey<'_>, NotDer> {
    let mut outer = Reader::new(der);
    let mut body = outer.enter(tag::SEQUENCE)?;
    outer.finish()?;
    if body.unsigned()? != [0] {
        return Err(NotDer);
    }
    let key = RsaKey {
        modulus: body.unsigned()?,
        exponent: body.unsigned()?,
        private: body.unsigned()?,
        factors: [body.unsigned()?, body.unsigned()?],
        exponents: [body.unsigned()?, body.unsigned()?],
        coefficient: body.unsigned()?,
    };
    body.finish()?;
    Ok(key)
}

/// RFC 5915 3.
fn read_sec1(der: &[u8], curve_outside: Option<Curve>) -> Result<EcKey<'_>, NotDer> {
    let mut outer = Reader::new(der);
    let mut body = outer.enter(tag::SEQUENCE)?;
    outer.finish()?;
    if body.unsigned()? != [1] {
        return Err(NotDer);
    }
    let scalar = body.expect(tag::OCTET_STRING)?;
    let mut named = None;
    if body.peek_tag() == Some(0xa0) {
        named = Some(curve(body.enter(0xa0)?.expect(tag::OID)?)?);
    }
    match (named, curve_outside) {
        (Some(a), Some(b)) if a != b => Err(NotDer),
        (named, outside) => Ok(EcKey {
            curve: named.or(outside),
            scalar,
        }),
    }
}

fn curve(oid: &[u8]) -> Result<Curve, NotDer> {
    dotted_oid(oid).as_deref().and_then(Curve::of).ok_or(NotDer)
}

/// A secret number, wiped when it goes.
struct Secret(BigNum);

impl Secret {
    fn new(bytes: &[u8]) -> Result<Self, ErrorStack> {
        BigNum::from_slice(bytes).map(Self)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.clear();
    }
}

impl RsaKey<'_> {
    /// p q = n with neither factor 1, e d = 1 both modulo p-1 and q-1, the shortened exponents are
    /// those of d, and the coefficient is the inverse of q: then whoever made this file knows the
    /// private key, and every program that reads it can use it (RFC 8017 3.2).
    fn is_consistent(&self) -> Result<bool, ErrorStack> {
        let mut context = BigNumContext::new()?;
        let one = BigNum::from_u32(1)?;
        let modulus = BigNum::from_slice(self.modulus)?;
        let public = BigNum::from_slice(self.exponent)?;
        let private = Secret::new(self.private)?;
        let [p, q] = [Secret::new(self.factors[0])?, Secret::new(self.factors[1])?];
        if p.0 <= one || q.0 <= one {
            return Ok(false);
        }
        let mut product = Secret(BigNum::new()?);
        product.0.checked_mul(&p.0, &q.0, &mut context)?;
        if product.0 != modulus {
            return Ok(false);
        }
        for (factor, short) in [(&p, self.exponents[0]), (&q, self.exponents[1])] {
            let short = Secret::new(short)?;
            let mut order = Secret(BigNum::new()?);
            order.0.checked_sub(&factor.0, &one)?;
            if order.0 <= one
                || remainder(&private.0, &order.0, &mut context)?.0 != short.0
                || product_modulo(&public, &short.0, &order.0, &mut context)?.0 != one
            {
                return Ok(false);
            }
        }
        let coefficient = Secret::new(self.coefficient)?;
        Ok(product_modulo(&q.0, &coefficient.0, &p.0, &mut context)?.0 == one)
    }
}

fn remainder(
    number: &BigNumRef,
    modulus: &BigNumRef,
    context: &mut BigNumContext,
) -> Result<Secret, ErrorStack> {
    let mut out = Secret(BigNum::new()?);
    out.0.checked_rem(number, modulus, context)?;
    Ok(out)
}

fn product_modulo(
    a: &BigNumRef,
    b: &BigNumRef,
    modulus: &BigNumRef,
    context: &mut BigNumContext,
) -> Result<Secret, ErrorStack> {
    let mut out = Secret(BigNum::new()?);
    out.0.mod_mul(a, b, modulus, context)?;
    Ok(out)
}

impl EcKey<'_> {
    /// Whether scalar times generator is the point of the certificate.
    fn yields(&self, curve: Curve, point: &[u8]) -> Result<bool, ErrorStack> {
        let group = curve.group()?;
        let mut context = BigNumContext::new()?;
        let scalar = Secret::new(self.scalar)?;
        let mut order = BigNum::new()?;
        group.order(&mut order, &mut context)?;
        if scalar.0.num_bits() == 0 || scalar.0 >= order {
            return Ok(false);
        }
        let mut own = EcPoint::new(&group)?;
        own.mul_generator2(&group, &scalar.0, &mut context)?;
        // A certificate may hold the point in either form (RFC 5480 2.2).
        for form in [
            PointConversionForm::UNCOMPRESSED,
            PointConversionForm::COMPRESSED,
        ] {
            if own.to_bytes(&group, form, &mut context)? == point {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
