//! The negotiator: gives free slots to idle jobs, fairly between users.
//!
//! [`cycle()`] is one negotiation cycle, a plain function; [`Accountant`] says who is next; [`analyse`] explains why a job
//! gets nothing; [`Negotiator`] is the task that runs cycles when something changed.

mod accountant;
mod ads;
mod analysis;
mod config;
mod cycle;
mod groups;
mod rank;
mod serve;
mod task;
mod weight;

use std::sync::Arc;

use classad::ClassAd;

use crate::JobId;
use crate::collector::Slot;

pub use self::accountant::{Account, Accountant};
pub use self::analysis::{Analysis, analyse};
pub use self::config::NegotiatorConfig;
pub use self::cycle::{Cycle, CycleInput, CycleStats, Reason, Rejection, cycle};
pub use self::rank::Ranks;
pub use self::task::Negotiator;

/// Where the idle jobs come from.
pub trait JobSource: Send + Sync {
    /// Attributes of jobs that the slots' own policies refer to: jobs that differ in one of them may not be in one
    /// request. Said before each [`idle`](Self::idle).
    fn slots_ask_for(&self, names: &[String]);

    /// The idle jobs, by submitter.
    fn idle(&self) -> Vec<SubmitterJobs>;
}

/// Where the matches go to.
pub trait MatchSink: Send + Sync {
    /// Takes the matches of one cycle. Several matches may be for the same partitionable slot and then carry the same
    /// claim id: it serves the first of them, and what `REQUEST_CLAIM` hands back as leftovers the next.
    /// The slots are reserved in the collector.
    fn matched(&self, matches: Vec<Match>);
}

/// The idle jobs of one submitter.
#[derive(Debug, Clone)]
pub struct SubmitterJobs {
    /// `user@uid_domain`, or the accounting group and user with the domain.
    pub submitter: String,
    /// Sum of the slot weights this submitter has now.
    pub running_weight: f64,
    /// The jobs, best first, grouped by what matters for a match.
    pub requests: Vec<ResourceRequest>,
}

/// Jobs that no slot can tell apart.
#[derive(Debug, Clone)]
pub struct ResourceRequest {
    /// Ad of one of them.
    pub ad: Arc<ClassAd>,
    /// The jobs in order of their priority.
    pub jobs: Vec<JobId>,
}

/// A job and the slot it shall run on.
#[derive(Debug, Clone)]
pub struct Match {
    /// The job.
    pub job: JobId,
    /// Whose it is, as in [`SubmitterJobs::submitter`].
    pub submitter: String,
    /// The slot; of a partitionable one, the ad says what was left of it when this match was made.
    pub slot: Slot,
}
