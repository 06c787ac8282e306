//! Dynamic accounts: numbers that belong to nobody, each for one payload at a time.

use std::collections::HashMap;

use launch_protocol::policy::{Entry, Query};
use nix::unistd::Pid;

use crate::account::{Rules, TargetAccount};
use crate::errands::{DONE, Runner, exit_status};
use crate::lease::{Lease, LeaseDir, Taken};
use crate::spawn::Identity;
use crate::sys;

/// How many numbers the name service is asked about at the start.
const ASKED_FIRST: usize = 2;
/// With fewer in hand more are asked for ahead of need.
const FEW: usize = 8;
/// How many at once afterwards.
const ASKED_AT_ONCE: usize = 32;
/// How often one is looked at before it counts as in use.
const LOOKS: u32 = 3;
/// After so many that were in use none is looked at ahead of need.
const VETTED_IN_VAIN: u32 = 4;

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
    /// A number at which a child is looking now.
    vetting: Option<(u32, Pid)>,
    /// How many in a row were in use.
    in_vain: u32,
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
            vetting: None,
            in_vain: 0,
            barren: false,
        }
    }

    /// All numbers, from where the search begins.
    fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        let (first, last) = self.range.unwrap_or((1, 0));
        let (count, start) = ((last + 1).saturating_sub(first), self.next);
        (0..count).map(move |step| first + start.wrapping_add(step) % count)
    }

    /// The next numbers to ask the name service about: at first few, because each may take it a
    /// while and most callers need one.
    pub(crate) fn unknown(&self) -> Vec<Query> {
        let count = if self.taken.is_empty() {
            ASKED_FIRST
        } else {
            ASKED_AT_ONCE
        };
        self.numbers()
            .filter(|uid| !self.taken.contains_key(uid))
            .take(count)
            .map(Query::Uid)
            .collect()
    }

    /// Are so few known to belong to nobody that more should be asked for ahead of need?
    pub(crate) fn knows_few(&self) -> bool {
        let free = self.taken.values().filter(|taken| !**taken).count();
        free < FEW && self.numbers().any(|uid| !self.taken.contains_key(&uid))
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
        let none = self.vetted.is_none() && self.vetting.is_none();
        self.range.is_some() && none && !self.barren
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

    /// Begins to look at one that may be free, ahead of need. Takes no lease: that would keep the
    /// number from brokers that need it now.
    pub(crate) fn vet(&mut self, rules: Rules<'_>, leases: &LeaseDir, runner: Runner<'_>) {
        let free = self
            .free(rules)
            .find(|account| !leases.exists(&account.uid().to_string()));
        self.vetting = free.and_then(|account| {
            let child = runner.look_for_processes(&Identity::from(&account));
            Some((account.uid(), child.ok()?))
        });
        self.barren = self.vetting.is_none();
    }

    /// Takes note that a child has been reaped; true if it was one that looked.
    pub(crate) fn reaped(&mut self, child: Pid, status: i32) -> bool {
        let Some((uid, _)) = self.vetting.take_if(|(_, looking)| *looking == child) else {
            return false;
        };
        let first = self.range.map_or(0, |(first, _)| first);
        if exit_status(status) == Some(DONE) {
            (self.vetted, self.next, self.in_vain) = (Some(uid), uid - first, 0);
        } else {
            self.next = uid - first + 1;
            self.in_vain += 1;
            self.barren = self.in_vain >= VETTED_IN_VAIN;
        }
        true
    }

    /// Takes one of the numbers that are known to belong to nobody.
    pub(crate) fn take(
        &mut self,
        rules: Rules<'_>,
        leases: &LeaseDir,
        runner: Runner<'_>,
    ) -> Option<(TargetAccount, Lease)> {
        if let Some((_, child)) = self.vetting
            && let Ok(status) = sys::wait_for(child)
        {
            self.reaped(child, status);
        }
        let vetted = self.vetted.take();
        self.vetting = None;
        (self.barren, self.in_vain) = (false, 0);
        let (account, lease) = self.free(rules).find_map(|account| {
            let Ok(Taken::Fresh(lease)) = leases.take(&account.uid().to_string()) else {
                return None;
            };
            // What is seen may be the child of another broker that is looking, too.
            let look = |_| runner.is_in_use(&Identity::from(&account)) == Ok(false);
            let idle = vetted == Some(account.uid()) || (0..LOOKS).any(look);
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
        let first = dynamic.unknown();
        assert_eq!(first, [Query::Uid(60_008), Query::Uid(60_009)]);
        dynamic.learn(&first[..1], &[Some(Entry::Group { gid: 1 })]);
        let queries = [first[..1].to_vec(), dynamic.unknown()].concat();
        assert_eq!(queries.len(), 10);
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
