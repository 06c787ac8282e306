//! Building the one path from the first certificate to a trust anchor, by names and key
//! identifiers (rules C4 and C5). Signatures are judged later; here they only decide between
//! several CAs of one name.

use crate::cert::Certificate;
use crate::error::{Role, VerifyError};
use crate::problem::ChainProblem;
use crate::signature::signed_by;
use crate::trust::TrustStore;

/// Longest path, trust anchor included: a full bundle whose CAs all come from the directory.
const MAX_PATH: usize = 24;

/// A certificate and its part in the path.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) certificate: Certificate,
    pub(crate) role: Role,
}

/// From the first certificate of the bundle to a self-issued certificate of the CA directory.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) links: Vec<Link>,
}

impl Path {
    /// Uses up the bundle: every certificate in it has to be part of the path, or a copy of one.
    ///
    /// # Errors
    /// No path, or certificates left over.
    pub(crate) fn build(bundle: Vec<Certificate>, trust: &TrustStore) -> Result<Self, VerifyError> {
        let mut unused: Vec<Certificate> = Vec::with_capacity(bundle.len());
        for certificate in bundle {
            if unused.iter().all(|other| other.der != certificate.der) {
                unused.push(certificate);
            }
        }
        if unused.is_empty() {
            return Err(crate::problem::BundleProblem::Empty.into());
        }
        let mut current = unused.remove(0);
        let mut done = Vec::with_capacity(4);
        loop {
            let anchored = current.position.is_none() && current.self_issued();
            let issuer = if anchored {
                None
            } else {
                Some(find_issuer(&current, &mut unused, trust)?)
            };
            done.push(current);
            match issuer {
                None => break,
                Some(issuer) if done.len() == MAX_PATH => {
                    let which = issuer.which(Role::Unknown);
                    return Err(VerifyError::Chain {
                        which,
                        problem: ChainProblem::TooLong(MAX_PATH),
                    });
                }
                Some(issuer) => current = issuer,
            }
        }
        if let Some(stray) = unused
            .iter()
            .find(|left| done.iter().all(|used| used.der != left.der))
        {
            return Err(VerifyError::Chain {
                which: stray.which(Role::Unknown),
                problem: ChainProblem::Stray,
            });
        }
        Ok(Self {
            links: with_roles(done),
        })
    }

    /// The first certificate.
    pub(crate) fn leaf(&self) -> Option<&Link> {
        self.links.first()
    }
}

/// From the anchor down: CAs as long as they are CAs, then one user, then proxies. What is in the CA
/// directory is always taken as a CA, so that the rules refuse it by that name if it is none.
fn with_roles(certificates: Vec<Certificate>) -> Vec<Link> {
    let mut above = Role::Ca;
    let mut links: Vec<Link> = certificates
        .into_iter()
        .rev()
        .map(|certificate| {
            let is_ca = certificate.position.is_none() || certificate.basic.ca;
            above = match above {
                Role::Ca if is_ca => Role::Ca,
                Role::Ca => Role::User,
                _ => Role::Proxy,
            };
            Link {
                certificate,
                role: above,
            }
        })
        .collect();
    links.reverse();
    links
}

fn find_issuer(
    child: &Certificate,
    bundle: &mut Vec<Certificate>,
    trust: &TrustStore,
) -> Result<Certificate, VerifyError> {
    let fits = |candidate: &Certificate| child.names_issuer(candidate);
    let from_directory = child.position.is_none();
    let is_proxy = child.proxy.is_some() || child.draft_proxy.is_some();
    let mut other_key = false;
    // A proxy is never issued by a CA, so the directory is not asked for the name of a user.
    if !is_proxy {
        let known = trust.by_hash(&child.issuer)?;
        other_key |= !known.is_empty();
        if let Some(issuer) = choose(child, known.into_iter().filter(fits).collect()) {
            return Ok(issuer);
        }
    }
    // Once the path has entered the directory it stays there. A self-issued certificate of the
    // bundle is never a step: trust comes from the directory only.
    if !from_directory {
        let index = bundle
            .iter()
            .position(|other| fits(other) && !other.self_issued());
        if let Some(index) = index {
            return Ok(bundle.remove(index));
        }
    }
    if !is_proxy && !other_key {
        let known = trust.by_search(&child.issuer)?;
        other_key |= !known.is_empty();
        if let Some(issuer) = choose(child, known.into_iter().filter(fits).collect()) {
            return Ok(issuer);
        }
    }
    let issuer = child.issuer.display();
    let (role, problem) = if other_key {
        (Role::Unknown, ChainProblem::OtherKey)
    } else if is_proxy {
        (Role::Proxy, ChainProblem::Incomplete { issuer })
    } else if child.self_issued() {
        (Role::Unknown, ChainProblem::SelfSigned)
    } else {
        (Role::Unknown, ChainProblem::Untrusted { issuer })
    };
    Err(VerifyError::Chain {
        which: child.which(role),
        problem,
    })
}

/// Among CAs of one name the one that really signed; with a single one the question is left to the
/// verification of the path.
fn choose(child: &Certificate, mut candidates: Vec<Certificate>) -> Option<Certificate> {
    let index = match candidates.len() {
        0 => return None,
        1 => 0,
        _ => candidates
            .iter()
            .position(|issuer| signed_by(child, issuer))
            .unwrap_or(0),
    };
    Some(candidates.swap_remove(index))
}
