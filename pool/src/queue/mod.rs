//! The durable job queue and what may happen to a job.

mod config;
mod error;
mod run;

use std::sync::Arc;

use cedar::net::Incoming;
use cedar::security::PeerIdentity;
use cedar::security::server::CommandRule;
use classad::ClassAd;
use tokio::sync::{Notify, mpsc};

pub use crate::user_log::EventSink;
pub use config::{IsAdministrator, QueueConfig, SystemPolicy};
pub use error::{NotStartable, OpenError, QueueError, SubmitError};
pub use run::{AfterRun, Interrupt, InterruptKind, RunOutcome, RunRecord, Status};

use crate::JobId;

/// Our own command to submit jobs (WRITE). Payload: ad `{}` (reserved), cluster ad, int n, n proc ads, end of message.
/// Answer: ad with `Result` (0: done) and `ClusterId`, or `ErrorString` and `ErrorCode`.
pub const SAILPLANE_SUBMIT: i32 = 74001;

/// The job queue. Clones share it.
#[derive(Debug, Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner;

/// A job set aside for one claim: not offered to anybody else until this is dropped or the job starts.
#[derive(Debug)]
pub struct Reservation {
    job: JobId,
    _queue: Queue,
}

impl Reservation {
    /// The job.
    pub fn job(&self) -> JobId {
        self.job
    }
}

impl Queue {
    /// Opens or makes the queue.
    ///
    /// # Errors
    /// Another process has it, the disk does not work, or the data base is newer than this program.
    pub fn open(_config: QueueConfig, _events: Arc<dyn EventSink>) -> Result<Self, OpenError> {
        todo!()
    }

    /// The commands served by [`Queue::serve`].
    pub fn commands() -> Vec<(i32, CommandRule)> {
        todo!()
    }

    /// Serves one command.
    pub async fn serve(&self, _incoming: Incoming) {
        todo!()
    }

    /// Adds a cluster of jobs; durable when it returns. `procs` hold what differs between the jobs.
    ///
    /// # Errors
    /// Nothing was submitted, and why.
    pub async fn submit(
        &self,
        _who: &PeerIdentity,
        _cluster: ClassAd,
        _procs: Vec<ClassAd>,
    ) -> Result<i32, SubmitError> {
        todo!()
    }

    /// A job's whole ad.
    pub fn job(&self, _job: JobId) -> Option<ClassAd> {
        todo!()
    }

    /// What a job is at; `None`: not in the queue.
    pub fn status(&self, _job: JobId) -> Option<Status> {
        todo!()
    }

    /// Sets an idle job aside; `None` if it is not idle or set aside already.
    pub fn reserve(&self, _job: JobId) -> Option<Reservation> {
        todo!()
    }

    /// The best idle job of `submitter` that matches `slot` both ways, set aside.
    pub fn next_for(&self, _submitter: &str, _slot: &ClassAd) -> Option<Reservation> {
        todo!()
    }

    /// The job runs; durable when it returns. To be called before the claim is activated.
    ///
    /// # Errors
    /// The job must not be started.
    pub async fn start(&self, _job: JobId, _run: RunRecord) -> Result<(), NotStartable> {
        todo!()
    }

    /// Progress of a running job: usage, `JobStatus` 2, 6 or 7, and what the job sets by itself. Stored within seconds.
    pub async fn update(&self, _job: JobId, _attributes: ClassAd) {
        todo!()
    }

    /// The run is over; durable when it returns, however long that takes. Evaluates the job's policy.
    ///
    /// # Errors
    /// The job does not run, as far as the queue knows.
    pub async fn finish(&self, _job: JobId, _outcome: RunOutcome) -> Result<AfterRun, QueueError> {
        todo!()
    }

    /// Every job with a run that has not been finished: what to reconnect to at start-up.
    pub fn running(&self) -> Vec<(JobId, RunRecord)> {
        todo!()
    }

    /// Wishes about running jobs, from now on; first those that are still unanswered from before. For one listener:
    /// a second call ends the first stream.
    pub fn watch(&self) -> mpsc::UnboundedReceiver<Interrupt> {
        todo!()
    }

    /// Told whenever there may be a new idle job.
    pub fn changed(&self) -> Arc<Notify> {
        todo!()
    }

    /// Names that slots' expressions refer to in jobs: they tell autoclusters apart from now on.
    pub fn extend_significant(&self, _names: &[String]) {
        todo!()
    }

    /// Periodic work: policies, storing progress. To be called every few seconds.
    pub async fn tick(&self) {
        todo!()
    }

    /// The Scheduler ad and one Submitter ad for each submitter.
    pub fn ads(&self) -> Vec<ClassAd> {
        todo!()
    }

    /// Stores what is not stored yet and closes the file. Later changes fail.
    pub async fn close(&self) {
        todo!()
    }
}
