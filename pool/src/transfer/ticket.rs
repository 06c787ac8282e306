//! What a running job's shadow holds: the key of its transfers, and how they go.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::registry::Registration;

/// Which way the files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the execute side.
    Input,
    /// Back to the submit side.
    Output,
}

/// Why a transfer failed, in the form of a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `HoldReasonCode`: 12 for output, 13 for input, 32 and 33 for too much of them (protocol page 03, section 5.1).
    pub code: i64,
    /// `HoldReasonSubCode`, an errno where there is one.
    pub subcode: i64,
    /// `HoldReason`, one line, in the shape a user knows from HTCondor's shadow.
    pub reason: String,
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is where it should be.
    Done,
    /// It failed for good: hold the job.
    Hold(Failure),
    /// It failed, and the next attempt may succeed; the sentence says why. The pilot may try again on the same ticket.
    TryAgain(String),
}

/// A transfer that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which way.
    pub direction: Direction,
    /// How.
    pub outcome: Outcome,
    /// Bytes of file content moved.
    pub bytes: u64,
    /// Files moved.
    pub files: u64,
    /// Unix seconds at which the peer was connected, at which the first file moved, and at which it was over.
    pub queued: i64,
    /// See [`queued`](Self::queued).
    pub started: i64,
    /// See [`queued`](Self::queued).
    pub finished: i64,
    /// An output that went to the spool, for the next run (an eviction).
    pub is_spooled: bool,
    /// Address of the execute side, for event 040's `Host`.
    pub host: String,
}

/// Something to note about a transfer: what the job's event log tells as event 040.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferEvent {
    /// The pilot is connected and waits for its turn.
    Queued(Direction),
    /// Files begin to move. Seconds of waiting, and the peer's address.
    Started {
        /// Which way.
        direction: Direction,
        /// Seconds it waited for its turn.
        waited: i64,
        /// Address of the execute side.
        host: String,
    },
    /// It is over.
    Finished(Report),
}

/// The right of one run of a job to transfer files. Dropping it ends the right, and running transfers with it.
#[derive(Debug)]
pub struct TransferTicket {
    pub(super) registration: Arc<Registration>,
    pub(super) events: mpsc::UnboundedReceiver<TransferEvent>,
    pub(super) input: watch::Receiver<Option<Report>>,
    pub(super) output: watch::Receiver<Option<Report>>,
}

impl TransferTicket {
    /// The key, for `TransferKey` of the job ad that is sent to the pilot. Secret.
    #[must_use]
    pub fn key(&self) -> &str {
        self.registration.key()
    }

    /// The account whose files are transferred.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.registration.job.owner
    }

    /// The next thing that happens to a transfer. Dropping the future loses nothing. `None`: the registry is gone.
    pub async fn next_event(&mut self) -> Option<TransferEvent> {
        self.events.recv().await
    }

    /// Waits until an input transfer has ended; at once if one has.
    pub async fn input_done(&mut self) -> Option<Report> {
        done(&mut self.input).await
    }

    /// Waits until an output transfer has ended; at once if one has.
    pub async fn output_result(&mut self) -> Option<Report> {
        done(&mut self.output).await
    }

    /// The last input transfer, if one has ended.
    #[must_use]
    pub fn last_input(&self) -> Option<Report> {
        self.input.borrow().clone()
    }

    /// The last output transfer, if one has ended.
    #[must_use]
    pub fn last_output(&self) -> Option<Report> {
        self.output.borrow().clone()
    }

    /// Whether a transfer is going on.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.registration.is_busy()
    }
}

impl Drop for TransferTicket {
    fn drop(&mut self) {
        self.registration.end();
    }
}

async fn done(side: &mut watch::Receiver<Option<Report>>) -> Option<Report> {
    side.wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|report| report.clone())
}
