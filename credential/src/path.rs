//! Building the one path from the first certificate to a trust anchor, by names and key
//! identifiers (rules C4 and C5). Signatures are judged later; here they only decide between
//! several CAs of one name.

use crate::cert::Certificate;
use crate::climb::{Directory, Found, Lookup, too_long};
use crate::error::{Role, VerifyError};
use crate::problem::ChainProblem;
use crate::signature::signed_by;
use crate::trust::TrustStore;

/// Longest path, trust anchor included: a full bundle whose CAs all come from the directory.
pub(crate) const MAX_PATH: usize = 24;

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
    /// Where a CA has several certificates, those that are valid `at` a time (Unix seconds) are
    /// preferred.
    ///
    /// # Errors
    /// No path, or certificates left over.
    pub(crate) fn build(
        bundle: Vec<Certificate>,
        trust: &TrustStore,
        at: i64,
    ) -> Result<Self, VerifyError> {
        let mut unused: Vec<Certificate> = Vec::with_capacity(bundle.len());
        for certificate in bundle {
            if unused.iter().all(|other| other.der != certificate.der) {
                unused.push(certificate);
            }
        }
        if unused.is_empty() {
            return Err(crate::problem::BundleProblem::Empty.into());
        }
        let mut done = vec![unused.remove(0)];
        let mut directory = Directory::new(trust, at);
        while let Some(current) = done.last() {
            match find_issuer(current, &mut unused, &mut directory)? {
                Issuer::FromBundle(issuer) => done.push(*issuer),
                Issuer::FromDirectory(chain) => {
                    done.extend(chain);
                    break;
                }
            }
        }
        if let Some(issuer) = done.get(MAX_PATH) {
            return Err(too_long(issuer));
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

/// The next step up.
enum Issuer {
    FromBundle(Box<Certificate>),
    /// All that is left of the path: once it has entered the directory it stays there.
    FromDirectory(Vec<Certificate>),
}

fn find_issuer(
    child: &Certificate,
    bundle: &mut Vec<Certificate>,
    directory: &mut Directory<'_>,
) -> Result<Issuer, VerifyError> {
    // A proxy is never issued by a CA, so the directory is not asked for the name of a user first.
    let is_proxy = child.has_proxy_extension() && !child.basic.ca;
    let mut other_key = false;
    let in_bundle = |bundle: &[Certificate]| {
        bundle
            .iter()
            .position(|other| child.names_issuer(other) && !is_self_signed(other))
    };
    if !is_proxy {
        match directory.chain_above(child, Lookup::ByHash)? {
            // A name alone does not decide where there is a choice.
            Found::Chain(chain)
                if is_best(
                    child,
                    &chain,
                    in_bundle(bundle).and_then(|index| bundle.get(index)),
                    directory.at,
                ) =>
            {
                return Ok(Issuer::FromDirectory(chain));
            }
            Found::Chain(_) => other_key = true,
            Found::OtherKey => other_key = true,
            Found::Nothing => {}
        }
    }
    // A self-signed certificate of the bundle is never a step: trust comes from the directory only.
    if let Some(index) = in_bundle(bundle) {
        return Ok(Issuer::FromBundle(Box::new(bundle.remove(index))));
    }
    if !other_key {
        match directory.chain_above(child, Lookup::BySearch)? {
            Found::Chain(chain) => return Ok(Issuer::FromDirectory(chain)),
            Found::OtherKey => other_key = true,
            Found::Nothing => {}
        }
    }
    let has_namesake = bundle
        .iter()
        .any(|other| child.issuer.same_as(&other.subject) && !is_self_signed(other));
    let is_proxy = is_proxy || child.subject.legacy_proxy_of(&child.issuer).is_some();
    let issuer = child.issuer.display();
    let (role, problem) = if other_key {
        (Role::Unknown, ChainProblem::OtherKey)
    } else if has_namesake {
        (Role::Unknown, ChainProblem::OtherIssuer { issuer })
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

/// Whether the chain of the directory goes before a certificate of the bundle with the same name. A CA
/// below another may have been renewed with the same key, and the bundle then has the certificate that
/// the directory does not; where the two are the same, and at a trust anchor, the directory has the say.
fn is_best(
    child: &Certificate,
    chain: &[Certificate],
    in_bundle: Option<&Certificate>,
    at: i64,
) -> bool {
    let (Some(ca), Some(other)) = (chain.first(), in_bundle) else {
        return true;
    };
    let is_better = !ca.self_issued()
        && ca.der != other.der
        && (other.is_valid(at) || !ca.is_valid(at))
        && signed_by(child, other);
    signed_by(child, ca) && !is_better
}

/// Whether nobody but itself vouches for a certificate. One of a CA that changed its key may have the
/// same name twice and be signed by the old key (RFC 5280 3.2, self-issued).
fn is_self_signed(certificate: &Certificate) -> bool {
    certificate.names_issuer(certificate) && signed_by(certificate, certificate)
}
