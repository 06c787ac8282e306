//! What the schedd and its shadows tell the queue about a run, and what the queue tells them.

use std::fmt;

use cedar::claim::ClaimId;
use classad::ClassAd;

use crate::JobId;

/// `JobStatus` (`htcondor:src/condor_includes/proc.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// 1, waits for a slot.
    Idle,
    /// 2, on a slot.
    Running,
    /// 3, on its way out of the queue.
    Removed,
    /// 4, ended.
    Completed,
    /// 5, waits for somebody to release it.
    Held,
    /// 6, ended on the slot, its output is under way.
    TransferringOutput,
    /// 7, stopped on the slot.
    Suspended,
}

impl Status {
    /// The number in `JobStatus`.
    pub fn number(self) -> i64 {
        match self {
            Self::Idle => 1,
            Self::Running => 2,
            Self::Removed => 3,
            Self::Completed => 4,
            Self::Held => 5,
            Self::TransferringOutput => 6,
            Self::Suspended => 7,
        }
    }

    /// The status of a number in `JobStatus`.
    pub fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::Idle,
            2 => Self::Running,
            3 => Self::Removed,
            4 => Self::Completed,
            5 => Self::Held,
            6 => Self::TransferringOutput,
            7 => Self::Suspended,
            _ => return None,
        })
    }

    /// True while a slot works for the job and nobody wants it to stop.
    pub fn is_active(self) -> bool {
        matches!(
            self,
            Self::Running | Self::TransferringOutput | Self::Suspended
        )
    }

    /// The letter in tables: I, R, X, C, H, `>`, S.
    pub fn letter(self) -> char {
        match self {
            Self::Idle => 'I',
            Self::Running => 'R',
            Self::Removed => 'X',
            Self::Completed => 'C',
            Self::Held => 'H',
            Self::TransferringOutput => '>',
            Self::Suspended => 'S',
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Removed => "removed",
            Self::Completed => "completed",
            Self::Held => "held",
            Self::TransferringOutput => "transferring output",
            Self::Suspended => "suspended",
        })
    }
}

/// Where a job runs: what is needed to find it again after a restart.
#[derive(Debug, Clone)]
pub struct RunRecord {
    /// The claim; a secret, kept in the queue's file and never shown.
    pub claim_id: ClaimId,
    /// `Name` of the slot.
    pub slot: String,
    /// Address of the startd, a sinful.
    pub startd: String,
    /// The slot's ad at the time of the match.
    pub slot_ad: ClassAd,
}

/// A claim of an earlier process whose last run is over, but that was not given back, as far as is known: a starter may
/// still wait there for the answer to its last word.
#[derive(Debug, Clone)]
pub struct LeftClaim {
    /// The claim; a secret.
    pub claim_id: ClaimId,
    /// `Name` of the slot.
    pub slot: String,
    /// Address of the startd, a sinful.
    pub startd: String,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub enum RunOutcome {
    /// The job's process ended by itself or by a signal that was not ours.
    Exited {
        /// As `wait(2)` gives it.
        status: i32,
        /// It left a core file.
        coredump: bool,
        /// What the starter said at the end: usage, exit attributes.
        ad: ClassAd,
    },
    /// It was stopped before its end; it runs again unless it was held or removed meanwhile.
    Evicted {
        /// One sentence for the job's log.
        reason: String,
        /// Vacate code (`htcondor:src/condor_utils/condor_holdcodes.h`), 0 if there is none.
        code: i32,
        /// What the starter said at the end.
        ad: ClassAd,
    },
    /// Something is wrong with the job; running it again would not help.
    Hold {
        /// `HoldReasonCode`.
        code: i32,
        /// `HoldReasonSubCode`.
        subcode: i32,
        /// `HoldReason`.
        reason: String,
        /// What the starter said at the end.
        ad: ClassAd,
    },
    /// It never began on the slot; it is idle again and waits a little before the next try.
    NotStarted {
        /// One sentence.
        reason: String,
    },
    /// The slot was lost and the job's lease has ended.
    ReconnectFailed {
        /// One sentence.
        reason: String,
    },
}

/// What became of a job after its run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AfterRun {
    /// It ended and left the queue, or stays as completed because `LeaveJobInQueue` says so.
    Completed,
    /// Somebody, or its policy, removed it; it left the queue.
    Removed,
    /// It is held.
    Held {
        /// `HoldReason`.
        reason: String,
        /// `HoldReasonCode`.
        code: i32,
        /// `HoldReasonSubCode`.
        subcode: i32,
    },
    /// It waits for its next run.
    Idle,
}

/// A wish of the queue about a running job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupt {
    /// The job.
    pub job: JobId,
    /// What is to be done with it.
    pub kind: InterruptKind,
}

/// What is to be done with a running job. Answer each with [`Queue::finish`](super::Queue::finish).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterruptKind {
    /// It is held: stop it, in the time it may take to vacate.
    Hold,
    /// It is removed: stop it, in the time it may take to vacate.
    Remove,
    /// It goes back to idle.
    Vacate {
        /// Without time to vacate.
        fast: bool,
    },
}
