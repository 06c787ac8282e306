//! One negotiation cycle: a plain function.

use crate::JobId;
use crate::collector::Slot;

use super::{Accountant, Match, SubmitterJobs};

/// What a cycle looks at.
#[derive(Debug, Clone)]
pub struct CycleInput {
    /// Unix time.
    pub now: i64,
    /// The slots.
    pub slots: Vec<Slot>,
    /// The idle jobs.
    pub submitters: Vec<SubmitterJobs>,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Cycle {
    /// The matches in the order they were made.
    pub matches: Vec<Match>,
    /// Requests with jobs left over.
    pub rejections: Vec<Rejection>,
    /// Figures.
    pub stats: CycleStats,
}

/// Jobs that got nothing.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// Whose.
    pub submitter: String,
    /// Which.
    pub jobs: Vec<JobId>,
    /// Why.
    pub reason: Reason,
}

/// Why a request got no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no slot at all.
    NoSlots,
}

/// Figures of a cycle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CycleStats {
    /// Evaluations of `Requirements` made.
    pub evaluations: u64,
}

/// Gives the free slots to the idle jobs.
pub fn cycle(_input: &CycleInput, _accountant: &mut Accountant) -> Cycle {
    todo!()
}
