//! Carries out what the machines say: answers, jobs, errands, updates.

use std::time::Duration;

use cedar::net::Stream;
use cedar::{ClaimId, Sinful};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError};
use tracing::Instrument;
use validation::engine::black_hole::{Effect, Launch};

use super::errand;
use super::event::{Action, Cause, ClaimNumber, Event, Force, Outcome, State, Ticket, Verdict};
use super::seat::{Pending, RunningJob};
use super::startd::{Bar, LineNote, Startd};
use crate::advertise::offer::short_slot_name;
use crate::backoff::random;
use crate::blame::Exit;
use crate::job::{
    Activation, Hold, JobEnd, JobProgress, LineEnds, LineState, SlotFacts, StopHow, StopOrder,
    Wish, Wishes,
};

/// What the end of a job says of the environment: nothing, if it was the job's own doing, or the submit side's, or
/// nobody's. What the job said of itself, such as its exit code, is not looked at.
fn launch(end: &JobEnd) -> Option<(Launch, String)> {
    match end {
        JobEnd::Finished | JobEnd::Evicted | JobEnd::Requeued => Some((Launch::Ran, String::new())),
        JobEnd::Site { reason, .. } | JobEnd::HeldByNode { reason } => {
            Some((Launch::Failed, reason.clone()))
        }
        JobEnd::Held
        | JobEnd::Submit { .. }
        | JobEnd::NotStarted { .. }
        | JobEnd::ShadowLost
        | JobEnd::LeaseOver => None,
    }
}

/// Orders a job may have waiting: a soft one, a hard one, and room for repetitions.
const ORDERS: usize = 8;

/// Limit of answering an activation that is refused.
const ANSWER: Duration = Duration::from_secs(10);

impl Startd {
    /// Feeds one event to a slot and carries out what follows. True if it accepted a claim.
    pub(super) fn event(&mut self, slot: usize, event: Event) -> bool {
        let now = self.clock.now();
        let mut actions = Vec::new();
        let Some(seat) = self.seats.get_mut(slot) else {
            return false;
        };
        let was_claimed = seat.machine.claim().is_some();
        seat.machine.handle(now, event, &mut actions);
        if was_claimed || seat.machine.claim().is_some() {
            self.note_claimed();
        }
        let mut accepted = false;
        for action in actions {
            match action {
                Action::Claim { accepted: answer } => accepted = answer,
                Action::Activation { ticket, verdict } => self.answer(slot, ticket, verdict),
                Action::Stop { force, cause } => self.stop(slot, force, cause),
                Action::Suspend(suspended) => {
                    let wish = if suspended {
                        Wish::Suspend
                    } else {
                        Wish::Continue
                    };
                    self.wish(slot, wish);
                }
                Action::Abandon(claim) => self.abandon(slot, claim),
                Action::SendAlive(claim) => self.send_alive(claim),
                Action::SendRelease(claim) => self.send_release(claim),
                Action::Forget(claim) => self.forget(claim),
                Action::Advertise { urgent } => {
                    self.note_state(slot);
                    self.board.changed(slot, urgent);
                }
            }
        }
        accepted
    }

    fn note_state(&self, slot: usize) {
        if let Some(seat) = self.seats.get(slot) {
            let (state, activity) = seat.machine.shown();
            tracing::debug!(
                slot = seat.number,
                state = state.as_str(),
                activity = activity.as_str(),
                "slot changed"
            );
        }
    }

    fn answer(&mut self, slot: usize, ticket: Ticket, verdict: Verdict) {
        let Some(pending) = self
            .seats
            .get_mut(slot)
            .and_then(|seat| seat.pending.remove(&ticket))
        else {
            return;
        };
        match verdict {
            Verdict::Start => self.start_job(slot, pending),
            Verdict::Refuse => {
                tracing::info!(claim = pending.id.public(), "refused an activation");
                self.refuse(pending.stream);
            }
            Verdict::TryAgain => self.reply(pending.stream, 2),
        }
    }

    /// Answers 0 to an activation.
    pub(super) fn refuse(&mut self, stream: Stream) {
        self.reply(stream, 0);
    }

    fn reply(&mut self, mut stream: Stream, code: i64) {
        self.errands.spawn(async move {
            let mut message = stream.message();
            message.int(code);
            // The shadow that does not hear it treats the closed connection as the same answer.
            let _ = tokio::time::timeout(ANSWER, stream.send(message)).await;
            errand::Errand::Released
        });
    }

    fn start_job(&mut self, slot: usize, pending: Pending) {
        let Pending {
            claim,
            id,
            ad,
            mut stream,
        } = pending;
        let Some(machine_ad) = self.ad(slot) else {
            return;
        };
        let Some(seat) = self.seats.get_mut(slot) else {
            return;
        };
        seat.counts.jobs += 1;
        let facts = SlotFacts {
            name: self.identity.slot_name(seat.number),
            short_name: short_slot_name(seat.number),
            machine: self.identity.machine.clone(),
            cpus: self.offer.slot_cpus(),
            memory_mib: self.offer.slot_memory_mib(),
            disk_kib: machine_ad
                .int("Disk")
                .and_then(|disk| u64::try_from(disk).ok())
                .unwrap_or(0),
            machine_ad,
            account: self.offer.accounts.get(&seat.number).cloned(),
        };
        let (orders, orders_rx) = mpsc::channel(ORDERS);
        let (progress, progress_rx) = watch::channel(JobProgress::default());
        let lines = self.lines.0.clone();
        let activation = seat.machine.activations();
        let (line, reconnects) = LineEnds::new(move |state| {
            // The task that would hear it ends only with the pilot.
            let _ = lines.send((slot, claim, activation, state));
        });
        let (wishes, wishes_rx) = Wishes::channel();
        let runner = self.runner.clone();
        let work = async move {
            let mut message = stream.message();
            message.int(1);
            if let Err(error) = stream.send(message).await {
                return JobEnd::NotStarted {
                    why: format!("the shadow was gone before the answer: {error}"),
                };
            }
            let activation = Activation {
                claim: id,
                stream,
                slot: facts,
                line,
                wishes: wishes_rx,
            };
            runner.run(activation, orders_rx, progress).await
        };
        let span = tracing::info_span!("slot", number = seat.number);
        let task = self.jobs.spawn(work.instrument(span));
        self.job_of_task.insert(task.id(), (slot, claim));
        seat.job = Some(RunningJob {
            ad,
            orders,
            progress: progress_rx,
            reconnects,
            wishes,
            task,
            unclear: false,
        });
    }

    fn stop(&self, slot: usize, force: Force, cause: Cause) {
        let by = self.identity.address.to_string();
        let Some(seat) = self.seats.get(slot) else {
            return;
        };
        let Some(job) = &seat.job else { return };
        let holder = seat
            .machine
            .claim()
            .and_then(|(claim, _)| self.claims.get(claim)?.holder.clone());
        let by = match cause {
            Cause::Retire | Cause::Preempt => by,
            Cause::Deactivate | Cause::DeactivateForcibly => {
                holder.map_or(by, |holder| holder.client_machine)
            }
        };
        let how = match cause {
            Cause::Deactivate => StopHow::Deactivate,
            Cause::DeactivateForcibly => StopHow::DeactivateForcibly,
            Cause::Retire => StopHow::Retire,
            Cause::Preempt => StopHow::Preempt(self.hold(slot)),
        };
        let order = match force {
            Force::Soft => StopOrder::Soft { by, how },
            Force::Hard => StopOrder::Hard { by, how },
        };
        // A full queue already holds an order as hard; a closed one means that the job is over.
        let _ = job.orders.try_send(order);
    }

    /// How a job that leaves its slot for `PREEMPT` is held, if it is to be.
    fn hold(&self, slot: usize) -> Option<Hold> {
        let job = self.seats.get(slot)?.job.as_ref()?;
        let progress = job.progress.borrow().clone();
        let now = self.clock.unix(self.clock.now());
        self.config
            .eviction
            .held(&self.ad(slot)?, &job.ad, &progress, now)
    }

    /// Passes a wish to the running job.
    pub(super) fn wish(&self, slot: usize, wish: Wish) {
        if let Some(job) = self.seats.get(slot).and_then(|seat| seat.job.as_ref()) {
            job.wishes.send(wish);
        }
    }

    fn abandon(&mut self, slot: usize, claim: ClaimNumber) {
        if let Some(job) = self.seats.get_mut(slot).and_then(|seat| seat.job.take()) {
            tracing::error!(slot = slot + 1, "a killed job did not end; giving it up");
            self.job_of_task.retain(|_, of| *of != (slot, claim));
            job.task.abort();
        }
    }

    /// Whom a claim belongs to, and its id; `None` when nobody holds it.
    fn schedd_of(&self, claim: ClaimNumber) -> Option<(Sinful, ClaimId)> {
        let record = self.claims.get(claim)?;
        let schedd = record.holder.as_ref()?.schedd.clone()?;
        Some((schedd, record.id.clone()))
    }

    fn send_alive(&mut self, claim: ClaimNumber) {
        let Some((schedd, id)) = self.schedd_of(claim) else {
            return;
        };
        self.errands
            .spawn(errand::alive(self.client.clone(), schedd, claim, id));
    }

    fn send_release(&mut self, claim: ClaimNumber) {
        let Some((schedd, id)) = self.schedd_of(claim) else {
            return;
        };
        self.errands
            .spawn(errand::release(self.client.clone(), schedd, id));
    }

    fn forget(&mut self, claim: ClaimNumber) {
        if let Some(record) = self.claims.get(claim) {
            tracing::info!(claim = record.id.public(), "the claim is over");
        }
        self.claims.end(self.clock.now(), claim);
    }

    /// A job lost its shadow for now, or has it back.
    pub(super) fn line_changed(&mut self, (slot, claim, activation, state): LineNote) {
        let connected = state == LineState::Connected;
        // The last words of a job may come after the start of the next one.
        let is_present = self
            .seats
            .get(slot)
            .is_some_and(|seat| seat.job.is_some() && seat.machine.activations() == activation);
        if is_present {
            self.event(slot, Event::Line { claim, connected });
        }
    }

    /// A job's task has ended.
    pub(super) fn job_done(&mut self, ended: Result<(Id, JobEnd), JoinError>) {
        let (task, end) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let reason = format!("the task of a job failed: {error}");
                (
                    error.id(),
                    JobEnd::Site {
                        permanent: false,
                        reason,
                    },
                )
            }
        };
        // An abandoned job has no entry any more.
        let Some((slot, claim)) = self.job_of_task.remove(&task) else {
            return;
        };
        let Some(seat) = self.seats.get_mut(slot) else {
            return;
        };
        seat.job = None;
        let launch = launch(&end);
        if let Some((Launch::Failed, _)) = launch {
            seat.counts.failures += 1;
        }
        let outcome = match &end {
            JobEnd::Site {
                permanent: false,
                reason,
            }
            | JobEnd::HeldByNode { reason } => {
                let pause = seat.pause.next(random());
                tracing::warn!(
                    slot = seat.number,
                    ?pause,
                    "the node could not run a job: {reason}"
                );
                seat.trouble = Some(reason.clone());
                Outcome::BackOff(pause)
            }
            JobEnd::Site {
                permanent: true, ..
            } => Outcome::Reusable,
            JobEnd::ShadowLost => Outcome::ShadowLost,
            JobEnd::LeaseOver => {
                tracing::warn!(
                    slot = seat.number,
                    "no shadow came back within a job's lease"
                );
                Outcome::LeaseOver
            }
            JobEnd::Submit { reason } => {
                let pause = seat.pause.next(random());
                tracing::warn!(
                    slot = seat.number,
                    ?pause,
                    "the submit side could not do its part for a job: {reason}"
                );
                seat.trouble = Some(reason.clone());
                Outcome::BackOff(pause)
            }
            JobEnd::NotStarted { why } => {
                tracing::info!(slot = seat.number, "a job was not started: {why}");
                Outcome::Reusable
            }
            JobEnd::Finished | JobEnd::Evicted | JobEnd::Held | JobEnd::Requeued => {
                seat.pause.reset();
                seat.trouble = None;
                Outcome::Reusable
            }
        };
        if let JobEnd::Site {
            permanent: true,
            reason,
        } = end
        {
            self.retire(Exit::SitePermanent, reason, self.config.shutdown_limit);
        }
        if let Some((launch, why)) = launch {
            self.hole.note(self.clock.now(), launch, &why);
            self.look_into_the_hole();
        }
        self.event(slot, Event::JobEnded { claim, outcome });
    }

    /// Stops or resumes matching as the count of environment failures wants it.
    pub(super) fn look_into_the_hole(&mut self) {
        match self.hole.effect(self.clock.now()) {
            Effect::Open => self.bar(Bar::BlackHole, None),
            Effect::Closed { why, .. } => {
                if !self.bars.contains_key(&Bar::BlackHole) {
                    tracing::error!("no jobs for now: {why}");
                }
                self.bar(Bar::BlackHole, Some(why));
            }
            Effect::Retire { why } => {
                if self.ending.is_none() {
                    self.retire(Exit::SiteTransient, why, self.config.shutdown_limit);
                }
            }
        }
    }

    /// Whether a slot shows that it is offered; for tests and for the log at the start.
    #[must_use]
    pub fn offered(&self) -> usize {
        self.seats
            .iter()
            .filter(|seat| seat.machine.shown().0 == State::Unclaimed)
            .count()
    }
}
