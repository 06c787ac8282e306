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
use crate::strength::{Curve, EC, KeyKind, RSA, RSASSA_PSS};

/// Largest key block worth looking at: RSA with 8192 bits has about 4700 bytes.
const MAX_KEY_BYTES: usize = 8 * 1024;

/// # Errors
/// [`BundleProblem::KeyMalformed`] or [`BundleProblem::KeyMismatch`], or a failure of OpenSSL.
pub(crate) fn check(block: &KeyBlock, public: &KeyKind) -> Result<(), VerifyError> {
    if block.der.len() > MAX_KEY_BYTES {
        return Err(BundleProblem::KeyMalformed.into());
    }
    let key = read(block).map_err(|NotDer| BundleProblem::KeyMalformed)?;
    match (key, public) {
        (PrivateKey::Rsa(key), KeyKind::Rsa { modulus, exponent })
        | (
            PrivateKey::RsaPss(key),
            KeyKind::RsaPss {
                modulus, exponent, ..
            },
        ) => {
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
            if key.curve != *curve {
                return Err(BundleProblem::KeyMismatch.into());
            }
            match key.yields(point)? {
                Yield::Point => Ok(()),
                Yield::Another => Err(BundleProblem::KeyMismatch.into()),
                Yield::OwnIsWrong => Err(BundleProblem::KeyMalformed.into()),
            }
        }
        _ => Err(BundleProblem::KeyMismatch.into()),
    }
}

enum PrivateKey<'a> {
    Rsa(RsaKey<'a>),
    /// For RSASSA-PSS only.
    RsaPss(RsaKey<'a>),
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
    curve: Curve,
    scalar: &'a [u8],
    /// The public half, where the file has it too.
    public: Option<&'a [u8]>,
}

/// What a private number and a public point are to each other.
enum Yield {
    /// They belong together.
    Point,
    Another,
    /// They do, but the file says another public half; other programs would believe that.
    OwnIsWrong,
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
                Some(RSASSA_PSS) => read_pkcs1(inner).map(PrivateKey::RsaPss),
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

/// `[1]` around the public half.
const PUBLIC: u8 = 0xa1;

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
    let public = match body.optional(PUBLIC)? {
        Some(tagged) => match Reader::new(tagged).expect(tag::BIT_STRING)? {
            [0, point @ ..] => Some(point),
            _ => return Err(NotDer),
        },
        None => None,
    };
    match (named, curve_outside) {
        (Some(a), Some(b)) if a != b => Err(NotDer),
        (named, outside) => Ok(EcKey {
            curve: named.or(outside).ok_or(NotDer)?,
            scalar,
            public,
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
    fn yields(&self, point: &[u8]) -> Result<Yield, ErrorStack> {
        let group = self.curve.group()?;
        let mut context = BigNumContext::new()?;
        let scalar = Secret::new(self.scalar)?;
        let mut order = BigNum::new()?;
        group.order(&mut order, &mut context)?;
        if scalar.0.num_bits() == 0 || scalar.0 >= order {
            return Ok(Yield::Another);
        }
        let mut own = EcPoint::new(&group)?;
        own.mul_generator2(&group, &scalar.0, &mut context)?;
        // A certificate may hold the point in either form (RFC 5480 2.2).
        let forms = [
            own.to_bytes(&group, PointConversionForm::UNCOMPRESSED, &mut context)?,
            own.to_bytes(&group, PointConversionForm::COMPRESSED, &mut context)?,
        ];
        let is_own = |point: &[u8]| forms.iter().any(|form| form == point);
        Ok(match (is_own(point), self.public) {
            (false, _) => Yield::Another,
            (true, Some(public)) if !is_own(public) => Yield::OwnIsWrong,
            (true, _) => Yield::Point,
        })
    }
}
