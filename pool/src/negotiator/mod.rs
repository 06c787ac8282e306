//! The negotiator: gives free slots to idle jobs, fairly between users.

mod accountant;
mod config;
mod cycle;

use std::sync::Arc;

use classad::ClassAd;
use tokio_util::sync::CancellationToken;

use crate::JobId;
use crate::collector::{Collector, Slot};

pub use self::accountant::Accountant;
pub use self::config::NegotiatorConfig;
pub use self::cycle::{Cycle, CycleInput, CycleStats, Reason, Rejection, cycle};

/// Where the idle jobs come from.
pub trait JobSource: Send + Sync {
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

/// The task that runs cycles. Clones share everything.
#[derive(Debug, Clone)]
pub struct Negotiator {}

impl Negotiator {
    /// A negotiator that has not run yet.
    pub fn new(_config: NegotiatorConfig) -> Self {
        todo!()
    }

    /// Runs cycles until cancelled: each `NEGOTIATOR_INTERVAL`, and soon after something changed.
    pub async fn run(
        &self,
        _collector: Collector,
        _jobs: Arc<dyn JobSource>,
        _sink: Arc<dyn MatchSink>,
        _cancel: CancellationToken,
    ) {
        todo!()
    }

    /// Asks for a cycle soon: jobs were submitted or released.
    pub fn kick(&self) {
        todo!()
    }

    /// Why the job got no slot in the last cycle that looked at it, in one sentence.
    pub fn why_not(&self, _job: JobId) -> Option<String> {
        todo!()
    }

    /// The accountant's state as an ad, to be kept over restarts.
    pub fn accounts(&self) -> ClassAd {
        todo!()
    }

    /// Takes up what [`accounts`](Self::accounts) gave before a restart.
    pub fn restore(&self, _accounts: &ClassAd) {
        todo!()
    }
}
