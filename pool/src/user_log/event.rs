//! What can happen to a job, with everything its log entry tells.

use classad::ClassAd;

use super::entry::{Entry, Receipt};

/// Takes the events of jobs. The log writer implements it; whoever changes a job calls it.
///
/// An event that something stands on (a job is in the queue, it ended) is composed first, kept on the disk with the
/// change that it tells of, and then appended; a later process replays what the receipts do not say to be settled.
pub trait EventSink: Send + Sync {
    /// Something happened to `job` that its log tells and that a crash may take away again. Must not block.
    fn event(&self, job: &ClassAd, event: Event) {
        if let Some(entry) = self.compose(job, &event) {
            self.append(entry, Receipt::none());
        }
    }

    /// What the log of `job` (its merged ad: log file, format, job number and owner are taken from it) will say of an
    /// event that happens now; `None`: it has no log. Must not block.
    fn compose(&self, job: &ClassAd, event: &Event) -> Option<Entry>;

    /// Appends an entry, and settles the receipt when it stands in the log or is given up. Entries of one log stand there in
    /// the order of these calls. Must not block.
    fn append(&self, entry: Entry, receipt: Receipt);

    /// Appends those of the entries that do not stand in their logs already, in order, before anything that comes later.
    /// Must not block.
    fn replay(&self, entries: Vec<(Entry, Receipt)>);
}

/// Processor time of a job, or of what served it, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cpu {
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub system: u64,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Exit(i32),
    /// By a signal.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Where the core file is on the submit side, if there is one.
        core: Option<String>,
    },
}

impl Ended {
    /// Reads a status as `wait(2)` gives it.
    #[must_use]
    pub fn from_wait_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Exit((status >> 8) & 0xff),
            signal => Self::Signal { signal, core: None },
        }
    }
}

/// Which part of a sandbox's transfer is told (`htcondor:src/condor_utils/condor_event.h`, `FileTransferEventType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferStep {
    /// Input waits for its turn.
    InputQueued,
    /// Input is on its way.
    InputStarted,
    /// Input is there.
    InputFinished,
    /// Output waits for its turn.
    OutputQueued,
    /// Output is on its way.
    OutputStarted,
    /// Output is there.
    OutputFinished,
}

/// One event. Hosts are addresses in sinful form, `<127.0.0.1:1234?...>`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// 000: the job is in the queue.
    Submit {
        /// The schedd's address.
        host: String,
        /// `submit_event_notes` of the submit file (a DAG's node name goes here).
        notes: Option<String>,
        /// `submit_event_user_notes` of the submit file.
        user_notes: Option<String>,
    },
    /// 001: it runs.
    Execute {
        /// The startd's address.
        host: String,
        /// The slot's name.
        slot: Option<String>,
        /// Attributes of the slot that the job asked to be told, such as `Cpus` and `Memory`; written by name.
        properties: ClassAd,
    },
    /// 004: it went back into the queue.
    Evicted {
        /// Why, if there is something to say.
        reason: Option<String>,
        /// Hold-like code of the reason, 0 if there is none.
        code: i32,
        /// Further detail of `code`.
        subcode: i32,
        /// It had ended by itself and policy wants it run again.
        requeued: Option<Ended>,
        /// What the job used since it last started.
        remote: Cpu,
        /// What the submit side used for it.
        local: Cpu,
        /// Bytes the job sent (its output).
        sent: f64,
        /// Bytes the job received (its input).
        received: f64,
        /// Requested, provisioned and used resources ([`super::usage_ad`]).
        usage: Option<ClassAd>,
    },
    /// 005: it ended and leaves the queue.
    Terminated {
        /// How.
        ended: Ended,
        /// What the job used in its last run.
        run_remote: Cpu,
        /// What the submit side used in the last run.
        run_local: Cpu,
        /// As `run_remote`, over all runs.
        total_remote: Cpu,
        /// As `run_local`, over all runs.
        total_local: Cpu,
        /// Bytes the job sent in its last run.
        sent: f64,
        /// Bytes the job received in its last run.
        received: f64,
        /// As `sent`, over all runs.
        total_sent: f64,
        /// As `received`, over all runs.
        total_received: f64,
        /// Requested, provisioned and used resources ([`super::usage_ad`]).
        usage: Option<ClassAd>,
        /// The job ad's `ToE`: who ended it, how and when.
        toe: Option<ClassAd>,
    },
    /// 006: its size is known anew.
    ImageSize {
        /// Virtual size in KiB.
        image_kb: i64,
        /// `MemoryUsage` in MiB.
        memory_mb: Option<i64>,
        /// `ResidentSetSize` in KiB.
        resident_kb: Option<i64>,
        /// `ProportionalSetSizeKb` in KiB.
        proportional_kb: Option<i64>,
    },
    /// 007: the submit side of the running job failed.
    ShadowException {
        /// Why.
        message: String,
        /// Bytes the job sent.
        sent: f64,
        /// Bytes the job received.
        received: f64,
    },
    /// 008: anything, in one line.
    Generic {
        /// The line.
        text: String,
    },
    /// 009: it was removed.
    Aborted {
        /// Why (`RemoveReason`).
        reason: Option<String>,
        /// The job ad's `ToE`, if the job ran.
        toe: Option<ClassAd>,
    },
    /// 010: it is suspended.
    Suspended {
        /// Number of processes stopped.
        processes: i32,
    },
    /// 011: it runs again.
    Unsuspended,
    /// 012: it is held.
    Held {
        /// `HoldReason`.
        reason: Option<String>,
        /// `HoldReasonCode`.
        code: i32,
        /// `HoldReasonSubCode`.
        subcode: i32,
    },
    /// 013: it may run again.
    Released {
        /// `ReleaseReason`.
        reason: Option<String>,
    },
    /// 021: the execute side reports a failure, or something to know.
    RemoteError {
        /// Who reports it, such as `starter`.
        daemon: String,
        /// The slot's or machine's name.
        host: String,
        /// One or more lines.
        message: String,
        /// Whether it is an error; else a message.
        critical: bool,
        /// Hold code, 0 if there is none.
        code: i32,
        /// Hold subcode.
        subcode: i32,
    },
    /// 022: the connection to the execute side is lost; the job may still run.
    Disconnected {
        /// Why.
        reason: String,
        /// The slot's name.
        startd_name: String,
        /// The startd's address.
        startd: String,
    },
    /// 023: connected again.
    Reconnected {
        /// The slot's name.
        startd_name: String,
        /// The startd's address.
        startd: String,
        /// The starter's address.
        starter: String,
    },
    /// 024: not connected again; the job goes back into the queue.
    ReconnectFailed {
        /// Why.
        reason: String,
        /// The slot's name.
        startd_name: String,
    },
    /// 028: attributes of the job ad, as `job_ad_information_attrs` asks. The writer adds it by itself.
    JobAdInformation {
        /// The attributes.
        ad: ClassAd,
    },
    /// 040: the transfer of its files got further.
    FileTransfer {
        /// How far.
        step: TransferStep,
        /// Seconds that the transfer waited for its turn (with the steps `...Started`).
        queue_seconds: Option<u64>,
        /// The other side's address (with `InputStarted`).
        host: Option<String>,
    },
}

impl Event {
    /// HTCondor's number of the event (`htcondor:src/condor_utils/condor_event.h`, `ULogEventNumber`).
    #[must_use]
    pub fn number(&self) -> u16 {
        match self {
            Self::Submit { .. } => 0,
            Self::Execute { .. } => 1,
            Self::Evicted { .. } => 4,
            Self::Terminated { .. } => 5,
            Self::ImageSize { .. } => 6,
            Self::ShadowException { .. } => 7,
            Self::Generic { .. } => 8,
            Self::Aborted { .. } => 9,
            Self::Suspended { .. } => 10,
            Self::Unsuspended => 11,
            Self::Held { .. } => 12,
            Self::Released { .. } => 13,
            Self::RemoteError { .. } => 21,
            Self::Disconnected { .. } => 22,
            Self::Reconnected { .. } => 23,
            Self::ReconnectFailed { .. } => 24,
            Self::JobAdInformation { .. } => 28,
            Self::FileTransfer { .. } => 40,
        }
    }
}
