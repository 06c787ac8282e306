//! Dynamic accounts: numbers that belong to nobody, each for one payload at a time.

use std::collections::HashMap;

use launch_protocol::policy::{Entry, Query};

use crate::account::{Rules, TargetAccount};
use crate::errands::Runner;
use crate::lease::{Lease, LeaseDir, Taken};
use crate::spawn::Identity;

/// How many numbers the name service is asked about at once.
const ASKED_AT_ONCE: u32 = 32;
/// How many are looked at ahead of need, in one idle moment.
const VETTED_AT_ONCE: u32 = 4;

/// The range, and what is known about it.
#[derive(Debug)]
pub(crate) struct Dynamic {
    range: Option<(u32, u32)>,
    /// Is there an account with this number?
    taken: HashMap<u32, bool>,
    /// Where the search for a free one begins; moves on so that a number rests.
    next: u32,
    /// A number as which nothing ran when we looked, ahead of need. What has run as it since was
    /// started by a broker that had its lease, and gave that back only after it had seen the last
    /// process of it gone. So it need not be looked at again.
    vetted: Option<u32>,
    /// None was found; do not look again before somebody asks.
    barren: bool,
}

impl Dynamic {
    pub(crate) fn new(range: Option<(u32, u32)>) -> Self {
        Self {
            range,
            taken: HashMap::new(),
            // Spreads brokers over the range, so that they do not all begin at its first number.
            next: std::process::id(),
            vetted: None,
            barren: false,
        }
    }

    /// All numbers, from where the search begins.
    fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        let (first, last) = self.range.unwrap_or((1, 0));
        let (count, start) = ((last + 1).saturating_sub(first), self.next);
        (0..count).map(move |step| first + start.wrapping_add(step) % count)
    }

    /// The next numbers to ask the name service about.
    pub(crate) fn unknown(&self) -> Vec<Query> {
        self.numbers()
            .filter(|uid| !self.taken.contains_key(uid))
            .take(usize::try_from(ASKED_AT_ONCE).unwrap_or(1))
            .map(Query::Uid)
            .collect()
    }

    /// Takes in its answers.
    pub(crate) fn learn(&mut self, queries: &[Query], entries: &[Option<Entry>]) {
        for (query, entry) in queries.iter().zip(entries) {
            if let Query::Uid(uid) = query {
                self.taken.insert(*uid, entry.is_some());
            }
        }
    }

    /// Should one be looked at ahead of need?
    pub(crate) fn is_cold(&self) -> bool {
        self.range.is_some() && self.vetted.is_none() && !self.barren
    }

    /// Somebody will ask soon.
    pub(crate) fn expect_use(&mut self) {
        self.barren = false;
    }

    /// Has one been looked at?
    pub(crate) fn is_warm(&self) -> bool {
        self.vetted.is_some()
    }

    /// What was seen is too old to rely on.
    pub(crate) fn cool_down(&mut self) {
        self.vetted = None;
    }

    /// Looks for one that is free, ahead of need. Takes no lease: that would keep the number from
    /// brokers that need it now.
    pub(crate) fn vet(&mut self, rules: Rules<'_>, leases: &LeaseDir, runner: Runner<'_>) {
        let free = self
            .free(rules)
            .filter(|account| !leases.exists(&account.uid().to_string()))
            .take(usize::try_from(VETTED_AT_ONCE).unwrap_or(1))
            .find(|account| runner.is_in_use(&Identity::from(account)) == Ok(false));
        self.vetted = free.as_ref().map(TargetAccount::uid);
        self.barren = self.vetted.is_none();
        if let (Some(uid), Some((first, _))) = (self.vetted, self.range) {
            self.next = uid - first;
        }
    }

    /// Takes one of the numbers that are known to belong to nobody.
    pub(crate) fn take(
        &mut self,
        rules: Rules<'_>,
        leases: &LeaseDir,
        runner: Runner<'_>,
    ) -> Option<(TargetAccount, Lease)> {
        let vetted = self.vetted.take();
        self.barren = false;
        let (account, lease) = self.free(rules).find_map(|account| {
            let Ok(Taken::Fresh(lease)) = leases.take(&account.uid().to_string()) else {
                return None;
            };
            let idle = vetted == Some(account.uid())
                || runner.is_in_use(&Identity::from(&account)) == Ok(false);
            if !idle {
                // Something runs as this number that no broker answers for.
                leases.release(lease);
                return None;
            }
            Some((account, lease))
        })?;
        let first = self.range.map_or(0, |(first, _)| first);
        self.next = account.uid() - first + 1;
        Some((account, lease))
    }

    /// Numbers that are known to belong to nobody.
    pub(crate) fn free(&self, rules: Rules<'_>) -> impl Iterator<Item = TargetAccount> {
        self.numbers()
            .filter(|uid| self.taken.get(uid) == Some(&false))
            .filter_map(move |uid| TargetAccount::dynamic(uid, rules).ok())
    }
}

#[cfg(test)]
mod tests {
    use launch_protocol::policy::Caller;

    use super::*;
    use crate::account::tests::settings;

    #[test]
    fn m3_only_numbers_that_belong_to_nobody_are_free() {
        let (settings, caller) = (settings(), Caller::default());
        let rules = Rules {
            settings: &settings,
            caller: &caller,
            groups: None,
        };
        let mut dynamic = Dynamic::new(settings.targets.dynamic_uids);
        dynamic.next = 8;
        let queries = dynamic.unknown();
        assert_eq!(queries.len(), 10);
        assert_eq!(queries.first(), Some(&Query::Uid(60_008)));
        assert_eq!(dynamic.free(rules).count(), 0);
        let taken = Some(Entry::Group { gid: 1 });
        let entries: Vec<_> = (0..10)
            .map(|place| taken.clone().filter(|_| place == 0))
            .collect();
        dynamic.learn(&queries, &entries);
        let free: Vec<_> = dynamic.free(rules).map(|account| account.uid()).collect();
        assert_eq!(free.first(), Some(&60_009));
        assert_eq!((free.len(), free.contains(&60_008)), (9, false));
        assert!(dynamic.unknown().is_empty());
        assert_eq!(Dynamic::new(None).unknown(), []);
    }
}
