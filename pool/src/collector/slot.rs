use std::fmt;
use std::sync::Arc;

use cedar::ClaimId;
use classad::ClassAd;

/// A slot as the collector knows it.
#[derive(Clone)]
pub struct Slot {
    /// `Name` of its ad.
    pub name: String,
    /// Its public ad.
    pub ad: Arc<ClassAd>,
    /// The id by which it can be claimed next; `None`: its private ad has none.
    pub claim: Option<ClaimId>,
    /// Claim ids of its dynamic slots. Secret.
    pub child_claims: Vec<String>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("name", &self.name)
            .field("claim", &self.claim)
            .finish_non_exhaustive()
    }
}
