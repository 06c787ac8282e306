//! What can go wrong in the queue, and whose fault it is.

use std::path::PathBuf;

use thiserror::Error;

use crate::JobId;

/// Why the queue could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the job queue {} is in use by process {pid} on {host} since {since}; stop that pool first, or give this one another SPOOL",
        directory.display()
    )]
    InUse {
        /// The queue's directory.
        directory: PathBuf,
        /// Process id of the holder.
        pid: u32,
        /// Its host.
        host: String,
        /// When it opened the queue, local time of the holder.
        since: String,
    },
    /// The directory or the lock cannot be used.
    #[error("cannot open the job queue in {}: {source}", directory.display())]
    Directory {
        /// The queue's directory.
        directory: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data base cannot be read.
    #[error("cannot open the job queue {}: {source}", file.display())]
    Database {
        /// The data base.
        file: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// Written by a newer version of this program.
    #[error(
        "the job queue {} has format {found}, but this program knows formats up to {known}; use the newer program",
        file.display()
    )]
    TooNew {
        /// The data base.
        file: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// A stored ad does not parse.
    #[error("the job queue {} is damaged: {what}", file.display())]
    Damaged {
        /// The data base.
        file: PathBuf,
        /// Which row, and why.
        what: String,
    },
    /// The machine does not give us a thread.
    #[error("cannot start the thread that writes the job queue: {0}")]
    Thread(std::io::Error),
}

/// Why a submission was refused. Nothing of it is in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// The peer is nobody in particular.
    #[error("only an authenticated user can submit jobs")]
    NotAuthenticated,
    /// Known, but of another domain: no account of this machine.
    #[error(
        "{identity} has no account here: jobs are taken from users of the domain {uid_domain} (UID_DOMAIN) only"
    )]
    Foreign {
        /// The authenticated identity.
        identity: String,
        /// Our domain.
        uid_domain: String,
    },
    /// No jobs, or more than the queue takes.
    #[error("{0}")]
    Limit(String),
    /// An attribute is missing, wrong, or not the submitter's to set.
    #[error("{0}")]
    BadJob(String),
    /// They could never run here: no account, or a log that cannot be written.
    #[error("jobs like this could never run here: {0}")]
    NeverRuns(String),
    /// The disk of the queue is full or broken.
    #[error(
        "the pool cannot store new jobs: {0}; nothing was submitted, submit again when the administrator has mended it"
    )]
    Disk(String),
}

impl SubmitError {
    /// The number that goes with it on the wire.
    pub fn code(&self) -> i32 {
        match self {
            Self::NotAuthenticated | Self::Foreign { .. } => 1,
            Self::Limit(_) => 2,
            Self::BadJob(_) | Self::NeverRuns(_) => 3,
            Self::Disk(_) => 4,
        }
    }
}

/// Why a job cannot be started now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotStartable {
    /// It left the queue.
    #[error("job {0} is no longer in the queue")]
    Gone(JobId),
    /// It is not idle any more.
    #[error("job {job} is {status}, not idle")]
    NotIdle {
        /// The job.
        job: JobId,
        /// What it is instead.
        status: super::Status,
    },
    /// The start could not be made durable.
    #[error("job {job} was not started, because the queue cannot store that it runs: {why}")]
    Disk {
        /// The job.
        job: JobId,
        /// What the disk said.
        why: String,
    },
}

/// Why the end of a run was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueueError {
    /// It left the queue.
    #[error("job {0} is no longer in the queue")]
    Gone(JobId),
    /// It does not run.
    #[error("job {0} does not run")]
    NotRunning(JobId),
    /// The queue is being closed.
    #[error("the job queue is closed")]
    Closed,
}
