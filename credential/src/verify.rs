//! The whole verification, from bytes to verdict.

use crate::cert::Certificate;
use crate::error::{Role, VerifyError, Which};
use crate::identity::{ChainLink, Expiry, Identity, VerifiedCredential};
use crate::path::Path;
use crate::pem::Bundle;
use crate::problem::BundleProblem;
use crate::trust::TrustStore;
use crate::voms::{Attributes, VomsOptions};
use crate::{ca_files, key, opinion, policy, rules, signature, voms};

/// What to do with limited proxies. HTCondor delegates a limited one by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum LimitedProxies {
    /// Accept both kinds.
    #[default]
    Allow,
    /// Accept full proxies only.
    Deny,
    /// Accept limited proxies only.
    Require,
}

/// When OpenSSL verifies the accepted path once more by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum SecondOpinion {
    /// When a CA limits the names below it.
    #[default]
    WhenNeeded,
    /// For every path: three times the time of a verification, no known gain.
    Always,
}

/// What is accepted. [`VerifyOptions::at`] gives the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// The time to verify at, Unix seconds.
    pub at: i64,
    /// Limited proxies; default: accepted.
    pub limited: LimitedProxies,
    /// Refuse a bundle without private key; default: true. Without a key nobody has shown that the
    /// credential is theirs.
    pub require_key: bool,
    /// Smallest RSA key of users and CAs, bits; default 2048.
    pub minimum_rsa_bits: usize,
    /// Smallest RSA key of proxies, bits; default 1024, which older Globus tools make. They live
    /// for hours.
    pub minimum_proxy_rsa_bits: usize,
    /// Accept SHA-1 signatures; default: false. MD5 never is.
    pub allow_sha1: bool,
    /// Accept a user certificate of version 1, which has no extensions; default: true. A CA that is
    /// made by hand with OpenSSL issues these unless told otherwise, and OpenSSL and Globus accept
    /// them. Proxies and CAs always need version 3, for it is their extensions that make them so.
    pub accept_plain_users: bool,
    /// Accept the proxies of the GT3 draft; default: false.
    pub accept_gt3: bool,
    /// Accept the proxies from before RFC 3820, `CN=proxy`; default: false.
    pub accept_legacy: bool,
    /// Refuse when a CA has no certificate revocation list; default: false. One that is there is
    /// always obeyed, and has to be in order.
    pub require_crl: bool,
    /// Accept what a CA signed that has neither a signing policy nor namespaces; default: false.
    /// What is there is always obeyed, and has to be in order.
    pub allow_missing_namespace: bool,
    /// Seconds of validity that must be left; default 0.
    pub minimum_left: i64,
    /// The longest validity of proxies, seconds: the first for the one that the user signed, the
    /// next for the one below; the last given holds for all deeper ones. Default: none.
    pub maximum_proxy_lifetimes: Vec<i64>,
    /// The longest validity of the first certificate of a bundle, seconds; default: none.
    pub maximum_leaf_lifetime: Option<i64>,
    /// VOMS servers that are believed; default `None`: attributes are not looked at, and nobody has
    /// any.
    pub voms: Option<VomsOptions>,
    /// OpenSSL's own verification of the path; default: when needed.
    pub second_opinion: SecondOpinion,
}

impl VerifyOptions {
    /// The defaults, at a time given in Unix seconds.
    #[must_use]
    pub fn at(at: i64) -> Self {
        Self {
            at,
            limited: LimitedProxies::default(),
            require_key: true,
            minimum_rsa_bits: 2048,
            minimum_proxy_rsa_bits: 1024,
            allow_sha1: false,
            accept_plain_users: true,
            accept_gt3: false,
            accept_legacy: false,
            require_crl: false,
            allow_missing_namespace: false,
            minimum_left: 0,
            maximum_proxy_lifetimes: Vec::new(),
            maximum_leaf_lifetime: None,
            voms: None,
            second_opinion: SecondOpinion::default(),
        }
    }
}

/// Verifies a credential: a PEM bundle whose first certificate is an RFC 3820 proxy or a user
/// certificate, with its private key and the certificates up to the CA.
///
/// # Errors
/// The reason of the refusal; see [`VerifyError::code`].
pub fn verify_proxy(
    bundle_pem: &[u8],
    trust: &TrustStore,
    options: &VerifyOptions,
) -> Result<VerifiedCredential, VerifyError> {
    let bundle = Bundle::parse(bundle_pem)?;
    let certificates = read_all(bundle.certificates)?;
    let leaf = certificates.first().ok_or(BundleProblem::Empty)?;
    match &bundle.key {
        Some(block) => key::check(block, &leaf.key)?,
        None if options.require_key => return Err(BundleProblem::NoKey.into()),
        None => {}
    }
    let path = Path::build(certificates, trust, options.at)?;
    let findings = rules::check(&path, options)?;
    let identity = identity(&path)?;
    signature::check(&path)?;
    ca_files::check(&path, trust, options)?;
    check_constraints(&path, options)?;
    let attributes = match &options.voms {
        Some(voms) => voms::check(&path, trust, options, voms)?,
        None => Attributes::default(),
    };
    let chain = path
        .links
        .iter()
        .map(|link| ChainLink {
            role: link.role,
            subject: link.certificate.subject.display(),
            not_before: link.certificate.not_before,
            not_after: link.certificate.not_after,
        })
        .collect();
    let end_of_attributes = attributes.not_after.unwrap_or(i64::MAX);
    Ok(VerifiedCredential {
        identity,
        issuers: issuers(&path),
        fqans: attributes.fqans,
        not_after: Expiry::new(findings.not_after.min(end_of_attributes)),
        limited: findings.limited,
        chain,
    })
}

/// What CAs say about the names and policies of those below them, where one does. It ends with the
/// user: proxies are named by RFC 3820 3.4 and have no policies. OpenSSL judges the names.
pub(crate) fn check_constraints(path: &Path, options: &VerifyOptions) -> Result<(), VerifyError> {
    if options.second_opinion == SecondOpinion::Always {
        opinion::check(&path.links, options.at)?;
    }
    let user = path.links.iter().position(|link| link.role == Role::User);
    let Some(links) = user.and_then(|user| path.links.get(user..)) else {
        return Ok(());
    };
    let any = |wanted: fn(&Certificate) -> bool| links.iter().any(|l| wanted(&l.certificate));
    if any(|certificate| certificate.name_constraints) {
        opinion::check(links, options.at)?;
    }
    if any(|certificate| certificate.policy_constraints) {
        policy::check(links)?;
    }
    Ok(())
}

/// The CAs of a path, from the one that issued the user's certificate to the trust anchor. One whose
/// name has no text is left out: nobody can ban or name it.
fn issuers(path: &Path) -> Vec<Identity> {
    let cas = path.links.iter().filter(|link| link.role == Role::Ca);
    cas.filter_map(|link| link.certificate.subject.text().ok())
        .map(Identity::new)
        .collect()
}

/// The earliest end of validity among the certificates of a bundle, Unix seconds. Nothing is
/// verified: for log lines and for planning, never for a decision about rights.
///
/// # Errors
/// The bundle cannot be read.
pub fn earliest_end(bundle_pem: &[u8]) -> Result<i64, VerifyError> {
    let certificates = read_all(Bundle::parse(bundle_pem)?.certificates)?;
    let end = certificates
        .iter()
        .map(|certificate| certificate.not_after)
        .min();
    end.ok_or_else(|| BundleProblem::Empty.into())
}

pub(crate) fn read_all(certificates: Vec<Vec<u8>>) -> Result<Vec<Certificate>, VerifyError> {
    let numbered = certificates.into_iter().enumerate();
    numbered
        .map(|(index, der)| {
            let position = Some(index + 1);
            Certificate::parse(der, position).map_err(|problem| VerifyError::Certificate {
                which: Which {
                    role: Role::Unknown,
                    position,
                    subject: String::new(),
                },
                problem,
            })
        })
        .collect()
}

fn identity(path: &Path) -> Result<Identity, VerifyError> {
    let user = path.links.iter().find(|link| link.role == Role::User);
    // The rules refuse a path that begins with a CA, so every other has a user.
    let user = user.ok_or(BundleProblem::Empty)?;
    user.certificate
        .subject
        .text()
        .map(Identity::new)
        .map_err(|problem| VerifyError::Name {
            which: user.certificate.which(user.role),
            problem,
        })
}
