//! One ad with what the collector notes about it.

use std::sync::Arc;

use cedar::ClaimId;
use classad::{ClassAd, Value};

/// Updates remembered one by one (`COLLECTOR_DAEMON_HISTORY_SIZE`).
const HISTORY: u32 = 128;

/// An ad in a table.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// What everybody may read.
    pub(super) public: Arc<ClassAd>,
    /// The private ad, or the private attributes that were in the public one.
    pub(super) private: Option<Arc<ClassAd>>,
    /// Unix time of the end of its life.
    pub(super) expires: i64,
    pub(super) updates: Updates,
    pub(super) reservation: Option<Reservation>,
}

/// A slot that is being claimed.
#[derive(Debug, Clone)]
pub(super) struct Reservation {
    /// Public form of the claim id it is claimed by.
    pub(super) claim: Option<String>,
    /// Unix time.
    pub(super) until: i64,
}

impl Record {
    /// The id by which a slot can be claimed.
    pub(super) fn claim(&self) -> Option<ClaimId> {
        let private = self.private.as_ref()?;
        let text = private
            .string("ClaimId")
            .or_else(|| private.string("Capability"))?;
        ClaimId::parse(&text).ok()
    }

    /// Claim ids of the dynamic slots, which come as a list or as a string of names.
    pub(super) fn child_claims(&self) -> Vec<String> {
        let Some(private) = &self.private else {
            return Vec::new();
        };
        match private.eval("ChildClaimIds") {
            Value::List(items) => items
                .iter()
                .filter_map(|item| item.as_str().map(str::to_owned))
                .collect(),
            Value::String(text) => text
                .split([',', ' '])
                .filter(|id| !id.is_empty())
                .map(str::to_owned)
                .collect(),
            _ => Vec::new(),
        }
    }

    /// Whether a match could be made now that could not be made with `before`.
    pub(super) fn offers_more_than(&self, before: Option<&Self>) -> bool {
        let Some(before) = before else {
            return self.claim().is_some();
        };
        let claim = |record: &Self| record.claim().map(|claim| claim.as_str().to_owned());
        let state = |record: &Self| record.public.string("State");
        claim(self) != claim(before) || state(self) != state(before)
    }
}

/// Received and lost updates of one ad, as the collector publishes them (`htcondor:src/condor_collector.V6/collector_stats.cpp`).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Updates {
    total: i64,
    sequenced: i64,
    lost: i64,
    /// The newest update in the highest bit; 1 = lost.
    history: u128,
}

impl Updates {
    /// Takes an update into account; `old` is the ad it replaces.
    pub(super) fn count(&mut self, old: Option<&ClassAd>, new: &ClassAd) {
        let lost = old.and_then(|old| lost_between(old, new));
        self.total += 1;
        self.sequenced += lost.map_or(0, |lost| lost + 1);
        let lost = lost.unwrap_or(0);
        self.lost += lost;
        for _ in 0..lost.min(i64::from(HISTORY)) {
            self.history = self.history >> 1 | 1 << (HISTORY - 1);
        }
        self.history >>= 1;
    }

    /// Puts the figures into the ad.
    pub(super) fn publish(&self, ad: &mut ClassAd) {
        ad.insert("UpdatesTotal", self.total);
        ad.insert("UpdatesSequenced", self.sequenced);
        ad.insert("UpdatesLost", self.lost);
        ad.insert("UpdatesHistory", format!("0x{:032x}", self.history));
    }
}

/// Updates that never came between two that did; `None` if the ads are not numbered.
fn lost_between(old: &ClassAd, new: &ClassAd) -> Option<i64> {
    let expected = old.int("UpdateSequenceNumber")?.saturating_add(1);
    let number = new.int("UpdateSequenceNumber")?;
    let same_process = old.int("DaemonStartTime")? == new.int("DaemonStartTime")?;
    Some(match number {
        _ if !same_process => 0,
        n if n < expected => 1,
        n => n - expected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ad(start: i64, number: i64) -> ClassAd {
        [("DaemonStartTime", start), ("UpdateSequenceNumber", number)]
            .into_iter()
            .collect()
    }

    #[test]
    fn gaps_in_the_numbers_are_lost_updates() {
        let mut updates = Updates::default();
        updates.count(None, &ad(1, 1));
        updates.count(Some(&ad(1, 1)), &ad(1, 2));
        updates.count(Some(&ad(1, 2)), &ad(1, 5));
        // another process begins anew, which loses nothing
        updates.count(Some(&ad(1, 5)), &ad(9, 1));
        updates.count(Some(&ClassAd::new()), &ad(9, 2));
        let mut out = ClassAd::new();
        updates.publish(&mut out);
        assert_eq!(out.int("UpdatesTotal"), Some(5));
        assert_eq!(out.int("UpdatesSequenced"), Some(5));
        assert_eq!(out.int("UpdatesLost"), Some(2));
        // newest first: received, received, received, lost, lost, ...
        assert_eq!(
            out.string("UpdatesHistory").unwrap(),
            "0x18000000000000000000000000000000"
        );
    }
}
