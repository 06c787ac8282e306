//! What the CA directory says beside the certificates: whom a CA may certify (rule C14) and whom it
//! no longer vouches for (rule C13).

use std::borrow::Cow;

use crate::cert::Certificate;
use crate::crl::Crl;
use crate::error::{Role, VerifyError};
use crate::namespace::Namespace;
use crate::path::{Link, Path};
use crate::pem;
use crate::problem::{CertificateProblem, ChainProblem, CrlProblem, TrustError};
use crate::trust::TrustStore;
use crate::verify::VerifyOptions;

/// Highest number behind `HASH.r`.
const MAX_SAME_HASH: u32 = 64;

/// Judges each certificate that a CA of the path issued.
///
/// # Errors
/// A subject outside the namespace of its CA, a revoked certificate, or files that cannot be used.
pub(crate) fn check(
    path: &Path,
    trust: &TrustStore,
    options: &VerifyOptions,
) -> Result<(), VerifyError> {
    for pair in path.links.windows(2).rev() {
        let [child, issuer] = pair else { continue };
        if issuer.role != Role::Ca {
            continue;
        }
        check_namespace(child, &issuer.certificate, trust, options)?;
        check_revocation(child, &issuer.certificate, trust, options)?;
    }
    Ok(())
}

fn check_namespace(
    child: &Link,
    ca: &Certificate,
    trust: &TrustStore,
    options: &VerifyOptions,
) -> Result<(), VerifyError> {
    if !trust.is_directory() {
        return Ok(()); // CAs that the caller named one by one
    }
    let mut namespace = Namespace::default();
    let mut has_file = false;
    for extension in ["signing_policy", "namespaces"] {
        let Some((path, text)) = trust.beside(&ca.subject, extension)? else {
            continue;
        };
        has_file = true;
        let added = match extension {
            "namespaces" => namespace.add_namespaces(&text),
            _ => namespace.add_signing_policy(&text),
        };
        added.map_err(|problem| TrustError::NamespaceMalformed {
            path,
            line: problem.line,
        })?;
    }
    let name = || ca.subject.display();
    if !has_file {
        return if options.allow_missing_namespace {
            Ok(())
        } else {
            Err(TrustError::NamespaceMissing { ca: name() }.into())
        };
    }
    if namespace.permits(&ca.subject, &child.certificate.subject) {
        Ok(())
    } else {
        Err(VerifyError::Chain {
            which: child.certificate.which(child.role),
            problem: ChainProblem::Namespace { ca: name() },
        })
    }
}

fn check_revocation(
    child: &Link,
    ca: &Certificate,
    trust: &TrustStore,
    options: &VerifyOptions,
) -> Result<(), VerifyError> {
    // Two CAs may share a name or a hash; what cannot be used is only an error if nothing else can.
    let mut usable = false;
    let mut trouble = None;
    for number in 0..MAX_SAME_HASH {
        let Some((path, content)) = trust.beside(&ca.subject, &format!("r{number}"))? else {
            break;
        };
        let wrong = |problem| TrustError::Crl {
            path: path.clone(),
            problem,
        };
        let der = pem::crl(&content).unwrap_or(Cow::Borrowed(&content));
        let crl = match Crl::parse(&der) {
            Ok(crl) if !crl.is_of(ca) => {
                trouble.get_or_insert_with(|| wrong(CrlProblem::Issuer));
                continue;
            }
            Ok(crl) => crl,
            Err(problem) => return Err(wrong(problem).into()),
        };
        if !crl.is_signed_by(ca) {
            trouble.get_or_insert_with(|| wrong(CrlProblem::Signature));
            continue;
        }
        crl.check(ca, options.allow_sha1, options.at)
            .map_err(wrong)?;
        usable = true;
        let revoked = crl.revocation(&child.certificate.serial).map_err(wrong)?;
        if let Some(since) = revoked {
            let role = child.role;
            return Err(VerifyError::Certificate {
                which: child.certificate.which(role),
                problem: CertificateProblem::Revoked { since, role },
            });
        }
    }
    match trouble {
        _ if usable => Ok(()),
        Some(trouble) => Err(trouble.into()),
        None if options.require_crl => Err(TrustError::CrlMissing {
            ca: ca.subject.display(),
        }
        .into()),
        None => Ok(()),
    }
}
