//! Dynamic accounts: numbers that belong to nobody, each for one payload at a time.

use std::collections::HashMap;

use launch_protocol::policy::{Entry, Query};

/// How many numbers the name service is asked about at the start: what one payload needs.
const ASKED_FIRST: usize = 1;
/// With fewer in hand more are asked for ahead of need.
const FEW: usize = 8;
/// How many at once afterwards.
const ASKED_AT_ONCE: usize = 32;
/// In a range as small as this none is kept ready: the others are for those who need one now.
const SMALL: u32 = 8;

/// The range, and what is known about it.
#[derive(Debug)]
pub(crate) struct Dynamic {
    range: Option<(u32, u32)>,
    /// Is there an account with this number?
    taken: HashMap<u32, bool>,
    /// Where the search for a free one begins; moves on so that a number rests.
    next: u32,
}

impl Dynamic {
    /// `start` spreads brokers over the range, so that they do not all begin at its first number.
    pub(crate) fn new(range: Option<(u32, u32)>, start: u32) -> Self {
        Self {
            range,
            taken: HashMap::new(),
            next: start,
        }
    }

    /// Is there more than what may be needed at any moment?
    pub(crate) fn is_large(&self) -> bool {
        self.range
            .is_some_and(|(first, last)| last - first >= SMALL - 1)
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

    /// Takes in its answers; those about the numbers of another range, which was configured when it was asked, are of no
    /// use.
    pub(crate) fn learn(&mut self, queries: &[Query], entries: &[Option<Entry>]) {
        for (query, entry) in queries.iter().zip(entries) {
            let ours = |uid: &u32| self.range.is_some_and(|it| (it.0..=it.1).contains(uid));
            if let Query::Uid(uid) = query
                && ours(uid)
            {
                self.taken.insert(*uid, entry.is_some());
            }
        }
    }

    /// The next search begins behind this one.
    pub(crate) fn used(&mut self, uid: u32) {
        let first = self.range.map_or(0, |(first, _)| first);
        self.next = uid.saturating_sub(first).wrapping_add(1);
    }

    /// Numbers that are known to belong to nobody, from where the search begins.
    pub(crate) fn free(&self) -> Vec<u32> {
        let Some((first, last)) = self.range else {
            return Vec::new();
        };
        let count = u64::from(last - first) + 1;
        let start = u64::from(self.next) % count;
        let known = self.taken.iter().filter(|(_, taken)| !**taken);
        let mut free: Vec<_> = known.map(|(uid, _)| *uid).collect();
        free.sort_unstable_by_key(|uid| (u64::from(uid - first) + count - start) % count);
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m3_only_numbers_that_belong_to_nobody_are_free() {
        let mut dynamic = Dynamic::new(Some((60_000, 60_009)), 8);
        let first = dynamic.unknown();
        assert_eq!(first, [Query::Uid(60_008)]);
        dynamic.learn(&first, &[Some(Entry::Group { gid: 1 })]);
        let queries = [first, dynamic.unknown()].concat();
        assert_eq!(queries.len(), 10);
        assert_eq!(dynamic.free(), [0_u32; 0]);
        let taken = Some(Entry::Group { gid: 1 });
        let entries: Vec<_> = (0..10)
            .map(|place| taken.clone().filter(|_| place == 0))
            .collect();
        dynamic.learn(&queries, &entries);
        let free = dynamic.free();
        assert_eq!(free.first(), Some(&60_009));
        assert_eq!((free.len(), free.contains(&60_008)), (9, false));
        assert!(dynamic.unknown().is_empty());
        dynamic.used(60_003);
        assert_eq!(dynamic.free().first(), Some(&60_004));
        assert_eq!(Dynamic::new(None, 0).unknown(), []);
    }

    #[test]
    fn answers_about_a_range_that_is_configured_no_more_are_of_no_use() {
        let mut dynamic = Dynamic::new(Some((60_000, 60_009)), 0);
        let others = [Query::Uid(50_000), Query::Uid(60_005), Query::Uid(70_000)];
        dynamic.learn(&others, &[None, None, None]);
        assert_eq!(dynamic.free(), [60_005]);
        let mut none = Dynamic::new(None, 0);
        none.learn(&others, &[None, None, None]);
        assert_eq!(none.free(), [0_u32; 0]);
    }

    #[test]
    fn a_small_range_is_for_those_who_need_one_now() {
        let is_large = |last| Dynamic::new(Some((60_000, last)), 0).is_large();
        assert!(is_large(60_007) && !is_large(60_006));
        assert!(!Dynamic::new(None, 0).is_large());
    }
}
