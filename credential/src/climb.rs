//! The way up through the CA directory. CAs may have several certificates there (renewed with the
//! same key, or certified by another CA), and some may lead nowhere: the first chain that ends in a
//! self-issued certificate counts.

use std::cmp::Reverse;

use crate::cert::Certificate;
use crate::error::{Role, VerifyError};
use crate::path::MAX_PATH;
use crate::problem::ChainProblem;
use crate::signature::signed_by;
use crate::trust::TrustStore;

/// The CA directory while a path is built.
pub(crate) struct Directory<'a> {
    trust: &'a TrustStore,
    pub(crate) at: i64,
    /// How many CAs may still be looked at. CAs that certify each other make many paths.
    budget: usize,
}

/// Most CAs of the directory that are looked at for one path.
const MAX_STEPS: usize = 64;

#[derive(Clone, Copy)]
pub(crate) enum Lookup {
    /// Files whose name is the hash of the CA.
    ByHash,
    /// Every file.
    BySearch,
}

pub(crate) enum Found {
    /// From the issuer to a self-issued certificate.
    Chain(Vec<Certificate>),
    /// A CA of that name, with another key.
    OtherKey,
    Nothing,
}

impl<'a> Directory<'a> {
    pub(crate) fn new(trust: &'a TrustStore, at: i64) -> Self {
        Self {
            trust,
            at,
            budget: MAX_STEPS,
        }
    }

    /// The CAs above a certificate that is not of the directory.
    pub(crate) fn chain_above(
        &mut self,
        child: &Certificate,
        lookup: Lookup,
    ) -> Result<Found, VerifyError> {
        let known = match lookup {
            Lookup::ByHash => self.trust.by_hash(&child.issuer)?,
            Lookup::BySearch => self.trust.by_search(&child.issuer)?,
        };
        if known.is_empty() {
            return Ok(Found::Nothing);
        }
        match self.first_chain(child, known, &mut Vec::new())? {
            Some(chain) => Ok(Found::Chain(chain)),
            None => Ok(Found::OtherKey),
        }
    }

    /// The first chain that one of these candidates begins, the best one first; `None` if none fits.
    fn first_chain(
        &mut self,
        child: &Certificate,
        candidates: Vec<Certificate>,
        below: &mut Vec<Vec<u8>>,
    ) -> Result<Option<Vec<Certificate>>, VerifyError> {
        let mut failure = None;
        for candidate in self.in_order(child, candidates) {
            if self.budget == 0 || below.len() == MAX_PATH {
                return Err(too_long(&candidate));
            }
            self.budget -= 1;
            if candidate.self_issued() {
                return Ok(Some(vec![candidate]));
            }
            if below.contains(&candidate.der) {
                failure.get_or_insert_with(|| too_long(&candidate));
                continue;
            }
            below.push(candidate.der.clone());
            let above = self.above(&candidate, below);
            below.pop();
            match above {
                Ok(mut chain) => {
                    chain.insert(0, candidate);
                    return Ok(Some(chain));
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// The chain above a CA of the directory.
    fn above(
        &mut self,
        ca: &Certificate,
        below: &mut Vec<Vec<u8>>,
    ) -> Result<Vec<Certificate>, VerifyError> {
        let mut known = self.trust.by_hash(&ca.issuer)?;
        if known.is_empty() {
            known = self.trust.by_search(&ca.issuer)?;
        }
        let problem = if known.is_empty() {
            let issuer = ca.issuer.display();
            ChainProblem::Untrusted { issuer }
        } else {
            ChainProblem::OtherKey
        };
        self.first_chain(ca, known, below)?
            .ok_or_else(|| VerifyError::Chain {
                which: ca.which(Role::Unknown),
                problem,
            })
    }

    /// Those of the candidates that can be the issuer: the ones that really signed if there is a
    /// choice, those that are valid now first, then trust anchors, then those that end last. With a
    /// single one the question who signed is left to the verification of the path.
    fn in_order(&self, child: &Certificate, mut candidates: Vec<Certificate>) -> Vec<Certificate> {
        candidates.retain(|candidate| child.names_issuer(candidate));
        if candidates.len() > 1 {
            let signers: Vec<bool> = candidates
                .iter()
                .map(|candidate| signed_by(child, candidate))
                .collect();
            if signers.contains(&true) {
                let mut is_signer = signers.into_iter();
                candidates.retain(|_| is_signer.next().unwrap_or(false));
            }
            candidates.sort_by_key(|candidate| {
                let is_valid = candidate.is_valid(self.at);
                Reverse((is_valid, candidate.self_issued(), candidate.not_after))
            });
        }
        candidates
    }
}

pub(crate) fn too_long(ca: &Certificate) -> VerifyError {
    VerifyError::Chain {
        which: ca.which(Role::Unknown),
        problem: ChainProblem::TooLong(MAX_PATH),
    }
}
