//! The sandboxes of the run.

use classad::ClassAd;

use super::Machine;
use crate::user_log::{Event, TransferStep};

impl Machine {
    /// The transfer of a sandbox got further: it waited so many seconds for its turn, and goes to or comes from `host`.
    /// Waiting by itself is no event; it is told with the start.
    pub fn transfer(
        &mut self,
        step: TransferStep,
        waited: i64,
        host: Option<String>,
        now: i64,
    ) -> (ClassAd, Option<Event>) {
        let mut changes = ClassAd::new();
        self.is_transferring = !matches!(
            step,
            TransferStep::InputFinished | TransferStep::OutputFinished
        );
        let (flag, is_queued) = match step {
            TransferStep::InputQueued => {
                changes.insert("TransferInQueued", now);
                ("TransferringInput", true)
            }
            TransferStep::InputStarted => {
                self.counts.input_transfers += 1;
                changes.insert("NumInputTransferStarts", self.counts.input_transfers);
                changes.insert("TransferInStarted", now);
                changes.insert("JobCurrentStartTransferInputDate", now);
                ("TransferringInput", false)
            }
            TransferStep::InputFinished => {
                changes.insert("TransferInFinished", now);
                changes.insert("JobCurrentFinishTransferInputDate", now);
                ("TransferringInput", false)
            }
            TransferStep::OutputQueued => {
                changes.insert("TransferOutQueued", now);
                ("TransferringOutput", true)
            }
            TransferStep::OutputStarted => {
                self.counts.output_transfers += 1;
                changes.insert("NumOutputTransferStarts", self.counts.output_transfers);
                changes.insert("TransferOutStarted", now);
                changes.insert("JobCurrentStartTransferOutputDate", now);
                ("TransferringOutput", false)
            }
            TransferStep::OutputFinished => {
                changes.insert("TransferOutFinished", now);
                changes.insert("JobCurrentFinishTransferOutputDate", now);
                ("TransferringOutput", false)
            }
        };
        changes.insert(flag, self.is_transferring);
        changes.insert("TransferQueued", is_queued);
        let event = (!is_queued).then(|| Event::FileTransfer {
            step,
            queue_seconds: u64::try_from(waited).ok().filter(|waited| *waited > 0),
            host: host.filter(|_| step == TransferStep::InputStarted),
        });
        (changes, event)
    }

    /// More bytes were moved: sent by the job (its output), or received by it (its input).
    pub fn moved(&mut self, sent: f64, received: f64) {
        self.sent += sent;
        self.received += received;
    }
}
