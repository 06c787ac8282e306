//! The second opinion: OpenSSL verifies the very path that the rules accepted.
//!
//! It is asked where a path has what the rules do not judge (name constraints of a CA), or always if
//! the options say so. The tests of this crate ask it for every chain.

use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509StoreContext, X509VerifyResult};

use crate::error::VerifyError;
use crate::path::Link;
use crate::problem::{CertificateProblem, ChainProblem};

/// Lets OpenSSL verify a path, or the upper part of one, at a time, with the certificates of the CA
/// directory as the only trusted ones and those of the bundle as the only others.
///
/// # Errors
/// A wrong signature, a name constraint, anything else OpenSSL objects to, and any
/// difference between its path and ours.
pub(crate) fn check(links: &[Link], at: i64) -> Result<(), VerifyError> {
    let mut trusted = X509StoreBuilder::new()?;
    let mut between = Stack::new()?;
    let mut leaf = None;
    for (index, link) in links.iter().enumerate() {
        let x509 = X509::from_der(&link.certificate.der).map_err(|_| VerifyError::Certificate {
            which: link.certificate.which(link.role),
            problem: CertificateProblem::Malformed,
        })?;
        match (index, link.certificate.position) {
            (0, _) => leaf = Some(x509),
            (_, None) => trusted.add_cert(x509)?,
            (_, Some(_)) => between.push(x509)?,
        }
    }
    // A path always has a first certificate.
    let Some(leaf) = leaf else {
        return Err(ErrorStack::get().into());
    };
    let mut parameters = X509VerifyParam::new()?;
    parameters.set_flags(X509VerifyFlags::ALLOW_PROXY_CERTS)?;
    parameters.set_time(at);
    trusted.set_param(&parameters)?;
    let trusted = trusted.build();

    let mut context = X509StoreContext::new()?;
    let (result, depth, same) = context.init(&trusted, &leaf, &between, |context| {
        let verified = context.verify_cert()?;
        let result = context.error();
        let same = verified && follows(context.chain(), links)?;
        Ok((result, context.error_depth(), same))
    })?;
    if same && result == X509VerifyResult::OK {
        return Ok(());
    }
    let depth = usize::try_from(depth).unwrap_or(0);
    let link = links.get(depth).or_else(|| links.first());
    match link {
        Some(link) => Err(refusal(link, result)),
        None => Err(ErrorStack::get().into()),
    }
}

fn follows(
    chain: Option<&openssl::stack::StackRef<X509>>,
    links: &[Link],
) -> Result<bool, ErrorStack> {
    let Some(chain) = chain else { return Ok(false) };
    if chain.len() != links.len() {
        return Ok(false);
    }
    for (theirs, ours) in chain.iter().zip(links) {
        if theirs.to_der()? != ours.certificate.der {
            return Ok(false);
        }
    }
    Ok(true)
}

// Numbers from OpenSSL's x509_vfy.h.
const CERT_SIGNATURE_FAILURE: i32 = 7;
const AKID_SKID_MISMATCH: i32 = 30;
const PERMITTED_VIOLATION: i32 = 47;
const EXCLUDED_VIOLATION: i32 = 48;
const SUBTREE_MINMAX: i32 = 49;
const UNSUPPORTED_NAME_SYNTAX: i32 = 53;

fn refusal(link: &Link, result: X509VerifyResult) -> VerifyError {
    let number = result.as_raw();
    let problem = match number {
        CERT_SIGNATURE_FAILURE => ChainProblem::Signature,
        AKID_SKID_MISMATCH => ChainProblem::OtherKey,
        PERMITTED_VIOLATION | EXCLUDED_VIOLATION | SUBTREE_MINMAX..=UNSUPPORTED_NAME_SYNTAX => {
            ChainProblem::NameConstraints
        }
        _ => ChainProblem::Refused {
            number,
            text: result.error_string(),
        },
    };
    VerifyError::Chain {
        which: link.certificate.which(link.role),
        problem,
    }
}
