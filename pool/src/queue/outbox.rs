//! Events that stand on the disk with the change that they tell of, until they stand in the log.
//!
//! A process that ends after the change was stored, and before the log was written, would otherwise take the event with it,
//! and whoever reads the log would wait for it for ever.

use std::sync::atomic::{AtomicI64, Ordering};

use super::Queue;
use super::store::Op;
use crate::user_log::{Entry, Receipt, Settled};

/// Events of one log that follow each other are kept together up to so many bytes.
const TOGETHER: usize = 64 << 10;

/// What is kept for logs.
#[derive(Debug)]
pub(super) struct Outbox {
    next: AtomicI64,
    settled: Settled,
}

/// Entries that are to be handed over when they are on the disk.
#[derive(Debug)]
pub(super) struct Outgoing(Vec<(i64, Entry)>);

impl Outbox {
    /// What an earlier process left, with the receipts.
    pub(super) fn new(left: Vec<(i64, Entry)>) -> (Self, Vec<(Entry, Receipt)>) {
        let last = left.iter().map(|(number, _)| *number).max();
        let outbox = Self {
            next: AtomicI64::new(last.unwrap_or(0).saturating_add(1)),
            settled: Settled::default(),
        };
        let left = left.into_iter();
        let left = left.map(|(number, entry)| (entry, outbox.settled.receipt(number)));
        let left = left.collect();
        (outbox, left)
    }

    /// Numbers of entries that need not be kept any more.
    pub(super) fn settled(&self) -> &Settled {
        &self.settled
    }

    /// Adds to `ops` what keeps the entries. To be called with the model locked, so that numbers follow the requests.
    pub(super) fn keep(&self, entries: Vec<Entry>, ops: &mut Vec<Op>) -> Outgoing {
        let mut together: Vec<Entry> = Vec::new();
        for entry in entries {
            match together.last_mut() {
                Some(last)
                    if last.log == entry.log && last.text.len() + entry.text.len() <= TOGETHER =>
                {
                    last.text.push_str(&entry.text);
                }
                _ => together.push(entry),
            }
        }
        let numbered = |entry: Entry| (self.next.fetch_add(1, Ordering::Relaxed), entry);
        let outgoing: Vec<_> = together.into_iter().map(numbered).collect();
        let kept = outgoing.iter();
        ops.extend(kept.map(|(number, entry)| Op::Event(*number, entry.clone())));
        Outgoing(outgoing)
    }
}

impl Queue {
    /// Hands over what is on the disk now. To be called in the order of the requests.
    pub(super) fn hand_over(&self, outgoing: Outgoing) {
        for (number, entry) in outgoing.0 {
            let receipt = self.inner.outbox.settled.receipt(number);
            self.inner.events.append(entry, receipt);
        }
    }
}
