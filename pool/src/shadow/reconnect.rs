//! Finds a starter again after the connection broke or the pool was restarted.

use std::time::Duration;

use cedar::net::Stream;
use tokio::time::sleep;

use super::driver::{RunEnd, Shadow, unix_now};
use crate::queue::InterruptKind;
use crate::schedd::claim::Deactivate;
use crate::schedd::startd::TalkError;

/// First pause between attempts; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

impl Shadow<'_> {
    /// Finds the starter within the job's lease: its new syscall socket, or how the run ended. `why` is for the job's
    /// log.
    pub(super) async fn find_again(&mut self, why: &str) -> Result<Box<Stream>, RunEnd> {
        let Some(until) = self.lost(why).await else {
            return Err(RunEnd::Over);
        };
        let mut changes = classad::ClassAd::new();
        changes.insert("JobDisconnectedDate", unix_now());
        self.note(changes, []).await;
        let mut pause = Duration::ZERO;
        for attempt in 1.. {
            self.wait(pause).await?;
            let changes = self.machine.reconnecting(attempt);
            self.note(changes, []).await;
            match self.attempt().await {
                Ok(stream) => return Ok(stream),
                Err(error) if error.is_final() => {
                    return Err(self.given_up(&error.to_string(), RunEnd::ClaimGone).await);
                }
                Err(error) => {
                    tracing::info!(job = %self.job, slot = self.record.slot, attempt, "the starter is not found yet: {error}");
                }
            }
            let left = until - unix_now();
            if left <= 0 {
                let text = "Job disconnected too long: JobLeaseDuration expired";
                return Err(self.given_up(text, RunEnd::Over).await);
            }
            pause = (pause * 2)
                .clamp(FIRST_PAUSE, self.config.reconnect_ceiling)
                .min(Duration::from_secs(u64::try_from(left).unwrap_or(0)));
        }
        Err(RunEnd::Over)
    }

    /// Waits, and listens meanwhile.
    async fn wait(&mut self, pause: Duration) -> Result<(), RunEnd> {
        let mut sleep = std::pin::pin!(sleep(pause));
        loop {
            tokio::select! {
                () = self.cancel.cancelled() => return Err(RunEnd::Stopped),
                () = self.released.cancelled() => {
                    return Err(self.given_up("The startd ended the claim", RunEnd::ClaimGone).await);
                }
                Some(kind) = self.orders.recv() => {
                    self.machine.interrupt(kind, unix_now());
                    // A removed job needs nothing more of its starter. One that is to run again must not run twice.
                    let is_stopped = self.startd.deactivate(Deactivate::Gracefully).await.is_ok();
                    if is_stopped || kind == InterruptKind::Remove {
                        let outcome = self.machine.give_up(unix_now());
                        self.finish(outcome).await;
                        return Err(RunEnd::Over);
                    }
                }
                () = &mut sleep => return Ok(()),
            }
        }
    }

    async fn attempt(&mut self) -> Result<Box<Stream>, TalkError> {
        let job = self.parts.queue.job(self.job).unwrap_or_default();
        let id = job.string("GlobalJobId").unwrap_or_default();
        let starter = self.startd.locate(&id, &self.config.address).await?;
        // The real shadow repeats the key of before, which is dead by now: the output could never be delivered.
        let mut ad = job.clone();
        ad.update(&self.filled_in);
        match self
            .parts
            .transfers
            .register(&ad, self.claim(), &self.record.slot)
        {
            Ok(ticket) => self.ticket = ticket,
            Err(error) => tracing::warn!(job = %self.job, "no new transfer key: {error}"),
        }
        let (stream, info) = self.startd.reconnect(&starter, self.facts()).await?;
        let (changes, event) = self.machine.reconnected(&info, unix_now());
        self.note(changes, [event]).await;
        tracing::info!(job = %self.job, slot = self.record.slot, "reconnected");
        Ok(Box::new(stream))
    }

    async fn given_up(&mut self, why: &str, end: RunEnd) -> RunEnd {
        tracing::info!(job = %self.job, slot = self.record.slot, "not reconnected: {why}");
        let (outcome, event) = self.machine.reconnect_failed(why, unix_now());
        self.note(classad::ClassAd::new(), [event]).await;
        self.finish(outcome).await;
        end
    }
}
