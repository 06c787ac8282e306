//! What the links to the collectors have proven themselves with, and when the last of it ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar::net::Proof;
use tokio::sync::watch;

/// The proofs of all links. Clones share them.
#[derive(Debug, Clone)]
pub struct Proofs {
    by_collector: Arc<watch::Sender<BTreeMap<String, Proof>>>,
}

impl Default for Proofs {
    fn default() -> Self {
        Self {
            by_collector: Arc::new(watch::Sender::new(BTreeMap::new())),
        }
    }
}

impl Proofs {
    /// A link has proven itself; what it had shown there before does not count any more.
    pub fn tell(&self, collector: &str, proof: Proof) {
        self.by_collector.send_if_modified(|proofs| {
            proofs.insert(collector.to_owned(), proof.clone()).as_ref() != Some(&proof)
        });
    }

    /// Unix time at which the pilot can speak to no collector any more; `None` where there is no such time, or no link
    /// has come about.
    #[must_use]
    pub fn end(&self) -> Option<i64> {
        let proofs = self.by_collector.borrow();
        let ends: Option<Vec<i64>> = proofs.values().map(|proof| proof.ends).collect();
        ends?.into_iter().max()
    }

    /// Hears of every change from now on.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<BTreeMap<String, Proof>> {
        self.by_collector.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use cedar::security::AuthMethod;

    use super::*;

    fn proof(ends: Option<i64>) -> Proof {
        Proof {
            method: AuthMethod::Token,
            origin: None,
            ends,
        }
    }

    #[test]
    fn the_last_link_to_end_counts_and_one_without_an_end_never_does() {
        let proofs = Proofs::default();
        assert_eq!(proofs.end(), None);
        proofs.tell("a", proof(Some(100)));
        proofs.tell("b", proof(Some(200)));
        assert_eq!(proofs.end(), Some(200));
        // Renewed: what was shown before does not count.
        proofs.tell("b", proof(Some(50)));
        assert_eq!(proofs.end(), Some(100));
        proofs.tell("a", proof(None));
        assert_eq!(proofs.end(), None);
    }

    #[test]
    fn only_news_is_told() {
        let proofs = Proofs::default();
        proofs.tell("a", proof(Some(100)));
        let changes = proofs.changes();
        proofs.tell("a", proof(Some(100)));
        assert!(!changes.has_changed().unwrap());
        proofs.tell("a", proof(Some(200)));
        assert!(changes.has_changed().unwrap());
    }
}
