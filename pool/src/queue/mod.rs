//! The durable job queue and what may happen to a job.
//!
//! | module | what |
//! | --- | --- |
//! | `life`, `policy`, `edit` | a job's life as a plain state machine over its ad |
//! | `model`, `autocluster`, `offer` | the queue in memory, and which job is next |
//! | `store` | the file: one SQLite data base, one writer, group commit |
//! | `operations`, `act`, `amend`, `periodic` | changes: in memory first, then on disk, and only then promised |
//! | `outbox` | what the jobs' logs are to tell, kept on the disk until they tell it |
//! | `wire` | the commands of `condor_q`, `condor_rm`, `condor_history`, `condor_submit` and our own |
//!
//! A promise (a submission accepted, a start allowed, an end acknowledged) is given when the change is on the disk. A disk
//! that does not work refuses submissions and starts at once; what has happened already waits in memory until it can be
//! written.
//!
//! What the job's log tells of a change (it was submitted, ended, held, released, removed) is stored in the same transaction as
//! the change. When the log has it, or it was given up because the log cannot be written, it goes with whatever is stored
//! next, or within seconds. What is left when the queue is opened is compared with the end of the log, and appended if it
//! is not there: each such event stands in the log once, whenever the process was killed. What a run reports on its way
//! (it executes, its size, its connection) is not kept so; a crash may take the last of it.

mod act;
mod ads;
mod amend;
mod autocluster;
mod config;
mod edit;
mod error;
mod identity;
mod life;
mod model;
mod offer;
mod operations;
mod outbox;
mod periodic;
mod policy;
mod run;
mod select;
mod store;
mod submission;
#[cfg(test)]
mod tests;
mod wire;

use std::path::PathBuf;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use classad::ClassAd;
use tokio::sync::{Notify, mpsc};

pub use crate::user_log::EventSink;
pub use act::{ActError, ActResult, Action, Outcome};
pub use autocluster::significant_for;
pub use config::{Admission, IsAdministrator, QueueConfig, SystemPolicy};
pub use error::{NotStartable, OpenError, QueueError, SubmitError};
pub use offer::Reservation;
pub use run::{AfterRun, Interrupt, InterruptKind, LeftClaim, RunOutcome, RunRecord, Status};
pub use select::Selection;
#[doc(hidden)]
pub use wire::fuzzing;
pub use wire::{
    ACT_ON_JOBS, QMGMT_WRITE_CMD, QUERY_JOB_ADS, QUERY_JOB_ADS_WITH_AUTH, QUERY_SCHEDD_HISTORY,
    RESCHEDULE, SAILPLANE_SUBMIT,
};

use crate::JobId;
use model::Model;
use outbox::Outbox;
use policy::System;
use store::{Lock, Op, Request, Writer};

/// The job queue. Clones share it.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

struct Inner {
    config: QueueConfig,
    system: System,
    file: PathBuf,
    model: Mutex<Model>,
    /// Locked after the model, so that requests are written in the order of the changes.
    writer: Mutex<Writer>,
    events: Arc<dyn EventSink>,
    outbox: Outbox,
    left_claims: Mutex<Vec<LeftClaim>>,
    listener: Mutex<Option<mpsc::UnboundedSender<Interrupt>>>,
    changed: Arc<Notify>,
    /// When the periodic expressions were evaluated last.
    policies_at: AtomicI64,
    born: i64,
    _lock: Lock,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("file", &self.inner.file)
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Opens or makes the queue. Events that an earlier process stored and may not have written are handed to `events` at
    /// once.
    ///
    /// # Errors
    /// Another process has it, the disk does not work, or the data base is damaged or newer than this program.
    pub fn open(config: QueueConfig, events: Arc<dyn EventSink>) -> Result<Self, OpenError> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.directory)
            .map_err(|source| OpenError::Directory {
                directory: config.directory.clone(),
                source,
            })?;
        let lock = Lock::take(&config.directory)?;
        let file = config.directory.join(store::FILE);
        private_file(&file).map_err(|source| OpenError::Directory {
            directory: config.directory.clone(),
            source,
        })?;
        let connection = store::open(&file)?;
        let loaded = store::load(&connection, &file)?;
        let mut model = Model {
            next_cluster: loaded.next_cluster,
            ..Model::default()
        };
        for (cluster, ad) in loaded.clusters {
            model.add_cluster(cluster, ad);
        }
        let mut runs: std::collections::HashMap<_, _> = loaded.runs.into_iter().collect();
        for (job, ad) in loaded.jobs {
            model.add_job(job, ad, runs.remove(&job));
        }
        let (outbox, left) = Outbox::new(loaded.events);
        let writer = Writer::start(connection, config.max_history, outbox.settled().clone())
            .map_err(OpenError::Thread)?;
        let system = System {
            hold: config.system_periodic_hold.clone(),
            release: config.system_periodic_release.clone(),
            remove: config.system_periodic_remove.clone(),
        };
        if !left.is_empty() {
            events.replay(left);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                system,
                file,
                model: Mutex::new(model),
                writer: Mutex::new(writer),
                events,
                outbox,
                left_claims: Mutex::new(loaded.claims),
                listener: Mutex::new(None),
                changed: Arc::new(Notify::new()),
                policies_at: AtomicI64::new(0),
                born: now(),
                _lock: lock,
            }),
        })
    }

    /// A job's whole ad.
    pub fn job(&self, job: JobId) -> Option<ClassAd> {
        self.model().jobs.get(&job).map(model::Job::whole)
    }

    /// What a job is at; `None`: not in the queue.
    pub fn status(&self, job: JobId) -> Option<Status> {
        self.model().jobs.get(&job).map(|job| job.status)
    }

    /// Whose job it is, as the accountant knows them (`SubmitterJobs::submitter`).
    pub fn submitter(&self, job: JobId) -> Option<String> {
        let model = self.model();
        model.jobs.get(&job).map(|job| job.submitter.to_string())
    }

    /// Every job with a run that has not been finished: what to reconnect to at start-up.
    pub fn running(&self) -> Vec<(JobId, RunRecord)> {
        let model = self.model();
        let record = |id: &JobId| {
            let run = model.jobs.get(id)?.run.as_ref()?;
            Some((*id, RunRecord::clone(run)))
        };
        let mut list: Vec<_> = model.running.iter().filter_map(record).collect();
        list.sort_by_key(|(id, _)| *id);
        list
    }

    /// Claims to be given back at start-up: their last run is over. To be asked once; tell [`Queue::claim_over`] of each.
    pub fn left_claims(&self) -> Vec<LeftClaim> {
        std::mem::take(&mut *lock(&self.inner.left_claims))
    }

    /// Wishes about running jobs, from now on; first those that are still unanswered from before. For one listener:
    /// a second call ends the first stream.
    pub fn watch(&self) -> mpsc::UnboundedReceiver<Interrupt> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let model = self.model();
        for id in &model.running {
            let kind = match model.jobs.get(id).map(|job| job.status) {
                Some(Status::Held) => InterruptKind::Hold,
                Some(Status::Removed) => InterruptKind::Remove,
                _ => continue,
            };
            // The receiver is alive: it is returned below.
            let _ = sender.send(Interrupt { job: *id, kind });
        }
        *lock(&self.inner.listener) = Some(sender);
        drop(model);
        receiver
    }

    /// Keeps an ad of another part of the pool, such as the accounts of the negotiator, over restarts. Stored soon.
    pub fn remember(&self, name: &str, ad: &ClassAd) {
        self.send(Request {
            ops: vec![Op::Note(name.to_owned(), ad.clone())],
            keep: true,
            done: None,
        });
    }

    /// What was remembered under that name.
    pub fn recall(&self, name: &str) -> Option<ClassAd> {
        let found = store::reader(&self.inner.file).and_then(|reader| store::note(&reader, name));
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, name, "cannot read what was remembered in the job queue");
            None
        })
    }

    /// Told whenever there may be a new idle job.
    pub fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.inner.changed)
    }

    /// Names that slots' expressions refer to in jobs (see [`significant_for`]): they tell autoclusters apart from now
    /// on. Costs a walk over all jobs if there is a new one among them.
    pub fn extend_significant(&self, names: &[String]) {
        self.model().extend_significant(names);
    }

    /// Stores what is not stored yet and ends the writer. Later changes fail. If the disk does not work, what waits for
    /// it is lost, and the log says so.
    pub async fn close(&self) {
        self.store_progress().await;
        let thread = lock(&self.inner.writer).finish();
        if let Some(thread) = thread {
            // A panic of the thread has been reported already.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        lock(&self.inner.model)
    }

    /// To be called with the model locked.
    fn send(&self, request: Request) {
        lock(&self.inner.writer).send(request);
    }

    fn interrupt(&self, job: JobId, kind: InterruptKind) {
        if let Some(listener) = lock(&self.inner.listener).as_ref() {
            // Nobody listens: the next listener is told of what still stands.
            let _ = listener.send(Interrupt { job, kind });
        }
    }
}

/// Makes the data base's file, readable by nobody else: claim ids are in it. SQLite's other files follow its mode.
fn private_file(file: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(file)
        .map(drop)
}

/// A lock whose holder panicked still guards consistent data: every change is made in one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Unix time.
fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
