//! The claim state machine of one static slot: events in, actions out, the time as an argument.
//!
//! It knows claims only by number and jobs not at all; ids, sessions, ads, sockets and the evaluation of START belong
//! to the task that drives it ([`crate::slot::Startd`]). Behaviour follows protocol page 02, sections 2.4 to 2.9
//! (`htcondor:src/condor_startd.V6/ResState.cpp`), and differs on purpose in one place: an activation that comes
//! before the previous job is reaped waits a moment for it instead of being sent away for a second.

use std::time::Duration;

use super::event::{
    Action, Activity, Cause, ClaimNumber, Deactivation, Event, Force, Lease, Outcome, Pledge,
    Policy, State, Ticket, Time, Verdict,
};

#[derive(Debug, Clone, Copy)]
struct Claim {
    number: ClaimNumber,
    since: Time,
    lease: Lease,
    lease_end: Time,
    next_alive: Time,
    alive_in_flight: bool,
    activations: u64,
    /// The submit side was told (or will be) that no job follows.
    closing: bool,
    /// The submit side gave the claim up by itself: nothing to tell it.
    given_up: bool,
}

#[derive(Debug, Clone, Copy)]
struct Job {
    since: Time,
    pledge: Pledge,
    stopped: Option<Force>,
    /// Its shadow is away, and may come back.
    adrift: bool,
    /// Its user has stopped it for a while.
    suspended: bool,
    /// `PREEMPT` was true while it ran. There is no way back from that.
    preempted: bool,
    /// An activation that waits for this job to be reaped, and until when.
    waiting: Option<(Ticket, Pledge, Time)>,
}

impl Job {
    /// On whose account it is stopped at the end of its retirement time.
    const fn ends_by(&self) -> Cause {
        if self.preempted {
            Cause::Preempt
        } else {
            Cause::Retire
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Work {
    Idle,
    Busy(Job),
    Retiring(Job, Time),
    Vacating(Job, Time),
    Killing(Job, Time),
    Goodbye(Time),
}

#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::large_enum_variant,
    reason = "one a slot, and never passed around"
)]
enum Phase {
    Open,
    Held(Claim, Work),
    Ended,
}

/// The state of one slot.
#[derive(Debug, Clone)]
pub struct Machine {
    policy: Policy,
    phase: Phase,
    offered: ClaimNumber,
    willing: bool,
    retiring: bool,
    back_off: Option<Time>,
    shown: (State, Activity),
    state_since: Time,
    activity_since: Time,
}

impl Machine {
    /// A slot that offers `first`.
    #[must_use]
    pub fn new(now: Time, policy: Policy, first: ClaimNumber) -> Self {
        Self {
            policy,
            phase: Phase::Open,
            offered: first,
            willing: true,
            retiring: false,
            back_off: None,
            shown: (State::Unclaimed, Activity::Idle),
            state_since: now,
            activity_since: now,
        }
    }

    /// State and activity for the ad.
    #[must_use]
    pub fn shown(&self) -> (State, Activity) {
        self.shown
    }

    /// When the present state and activity were entered.
    #[must_use]
    pub fn since(&self) -> (Time, Time) {
        (self.state_since, self.activity_since)
    }

    /// The claim a schedd may ask for next.
    #[must_use]
    pub fn offered(&self) -> ClaimNumber {
        self.offered
    }

    /// Offers `next` from now on; what was offered is given back, and is good for nothing any more.
    pub fn offer_instead(&mut self, next: ClaimNumber) -> ClaimNumber {
        std::mem::replace(&mut self.offered, next)
    }

    /// The claim a schedd holds, and since when.
    #[must_use]
    pub fn claim(&self) -> Option<(ClaimNumber, Time)> {
        match &self.phase {
            Phase::Held(claim, _) => Some((claim.number, claim.since)),
            Phase::Open | Phase::Ended => None,
        }
    }

    /// When the running job was activated.
    #[must_use]
    pub fn job_since(&self) -> Option<Time> {
        match &self.phase {
            Phase::Held(
                _,
                Work::Busy(job)
                | Work::Retiring(job, _)
                | Work::Vacating(job, _)
                | Work::Killing(job, _),
            ) => Some(job.since),
            _ => None,
        }
    }

    /// Whether a job runs that `PREEMPT` is evaluated for: one that nothing has stopped yet.
    #[must_use]
    pub fn preemptible(&self) -> bool {
        matches!(
            &self.phase,
            Phase::Held(_, Work::Busy(job) | Work::Retiring(job, _))
                if !job.preempted && job.stopped.is_none()
        )
    }

    /// How many jobs the present claim was activated for.
    #[must_use]
    pub fn activations(&self) -> u64 {
        match &self.phase {
            Phase::Held(claim, _) => claim.activations,
            Phase::Open | Phase::Ended => 0,
        }
    }

    /// The machine is done: the pilot retires and nothing is left in this slot.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// Whether new claims and jobs are taken at all.
    #[must_use]
    pub fn accepting(&self) -> bool {
        self.willing && !self.retiring && self.back_off.is_none()
    }

    /// The `Start` answer to a deactivation: may the claim be activated again?
    #[must_use]
    pub fn reusable(&self, now: Time, claim: ClaimNumber) -> bool {
        match &self.phase {
            Phase::Held(held, Work::Idle | Work::Busy(_)) => {
                held.number == claim
                    && self.accepting()
                    && !held.closing
                    && !self.worn_out(now, held)
            }
            _ => false,
        }
    }

    /// The next moment at which [`Event::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        let back_off = self.back_off;
        let work = match &self.phase {
            Phase::Held(claim, work) => {
                let lease = self.lease_counts(claim, work).then_some(claim.lease_end);
                let alive = self.alive_due(claim, work);
                let worn = match (work, self.policy.worklife) {
                    (Work::Idle, Some(life)) if claim.activations > 0 => {
                        Some(claim.since.saturating_add(life))
                    }
                    _ => None,
                };
                let own = match work {
                    Work::Idle => None,
                    Work::Busy(job) => job.waiting.map(|(_, _, until)| until),
                    Work::Goodbye(until) => Some(*until),
                    Work::Retiring(job, until)
                    | Work::Vacating(job, until)
                    | Work::Killing(job, until) => {
                        Some(job.waiting.map_or(*until, |(_, _, wait)| wait.min(*until)))
                    }
                };
                [lease, alive, worn, own].into_iter().flatten().min()
            }
            Phase::Open | Phase::Ended => None,
        };
        [back_off, work].into_iter().flatten().min()
    }

    /// Takes one event; what to do is appended to `out` in order.
    pub fn handle(&mut self, now: Time, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Request {
                claim,
                fits,
                lease,
                next,
            } => self.request(now, claim, fits, lease, next, out),
            Event::Undelivered(claim) => self.undelivered(claim, out),
            Event::Activate {
                claim,
                ticket,
                fits,
                pledge,
            } => self.activate(now, claim, ticket, fits, pledge, out),
            Event::Deactivate {
                claim,
                how,
                told_reusable,
                activation,
            } => {
                self.deactivate(now, claim, how, told_reusable, activation, out);
            }
            Event::Suspend { claim, suspended } => self.suspend(claim, suspended, out),
            Event::Release(claim) => self.released(now, claim, out),
            Event::Alive(claim) | Event::AliveAnswered { claim, known: true } => {
                self.renew(now, claim)
            }
            Event::AliveAnswered {
                claim,
                known: false,
            } => self.released(now, claim, out),
            Event::AliveFailed(claim) => self.alive_failed(now, claim),
            Event::JobEnded { claim, outcome } => self.job_ended(now, claim, outcome, out),
            Event::Line { claim, connected } => self.line(now, claim, connected),
            Event::Start {
                willing,
                fits_claim,
            } => self.start(willing, fits_claim, out),
            Event::Retire { limit } => self.retire(now, limit, out),
            Event::RetireFast => self.retire_fast(now, out),
            Event::Stranded => self.stranded(out),
            Event::Preempt => self.preempt(now, out),
            Event::Tick => self.tick(now, out),
        }
        self.show(now, out);
    }

    fn request(
        &mut self,
        now: Time,
        claim: ClaimNumber,
        fits: bool,
        lease: Lease,
        next: ClaimNumber,
        out: &mut Vec<Action>,
    ) {
        let free = matches!(self.phase, Phase::Open);
        let accepted = free && fits && self.accepting() && claim == self.offered;
        if accepted {
            self.offered = next;
            let held = Claim {
                number: claim,
                since: now,
                lease,
                lease_end: now.saturating_add(lease.length),
                next_alive: now.saturating_add(lease.length / 3),
                alive_in_flight: false,
                activations: 0,
                closing: false,
                given_up: false,
            };
            self.phase = Phase::Held(held, Work::Idle);
        }
        out.push(Action::Claim { accepted });
    }

    fn undelivered(&mut self, claim: ClaimNumber, out: &mut Vec<Action>) {
        if let Phase::Held(held, Work::Idle) = self.phase
            && held.number == claim
            && held.activations == 0
        {
            self.end_claim(&held, out);
        }
    }

    fn activate(
        &mut self,
        now: Time,
        claim: ClaimNumber,
        ticket: Ticket,
        fits: bool,
        pledge: Pledge,
        out: &mut Vec<Action>,
    ) {
        let reusable = self.reusable(now, claim);
        let verdict = match &mut self.phase {
            Phase::Held(held, work) if held.number == claim && fits && reusable => match work {
                Work::Idle => {
                    held.activations += 1;
                    held.lease_end = now.saturating_add(held.lease.length);
                    *work = Work::Busy(Job {
                        since: now,
                        pledge,
                        stopped: None,
                        adrift: false,
                        suspended: false,
                        preempted: false,
                        waiting: None,
                    });
                    Some(Verdict::Start)
                }
                Work::Busy(job) if job.waiting.is_none() => {
                    // Whoever sends the next job does not want the one whose shadow is away any more.
                    if job.adrift {
                        stop(job, Force::Hard, Cause::DeactivateForcibly, out);
                    }
                    job.waiting = Some((
                        ticket,
                        pledge,
                        now.saturating_add(self.policy.activation_wait),
                    ));
                    None
                }
                Work::Busy(_) => Some(Verdict::TryAgain),
                _ => Some(Verdict::Refuse),
            },
            _ => Some(Verdict::Refuse),
        };
        if let Some(verdict) = verdict {
            out.push(Action::Activation { ticket, verdict });
        }
    }

    fn deactivate(
        &mut self,
        now: Time,
        claim: ClaimNumber,
        how: Deactivation,
        told_reusable: bool,
        activation: u64,
        out: &mut Vec<Action>,
    ) {
        let Phase::Held(mut held, mut work) = self.phase else {
            return;
        };
        if held.number != claim {
            return;
        }
        held.lease_end = now.saturating_add(held.lease.length);
        held.closing |= !told_reusable;
        let (force, cause) = match how {
            Deactivation::Gently => (Force::Soft, Cause::Deactivate),
            Deactivation::Forcibly => (Force::Hard, Cause::DeactivateForcibly),
        };
        match &mut work {
            // The submit side will not release a claim of which it was told that it closes (02, section 2.7).
            Work::Idle | Work::Goodbye(_) => {
                if held.closing {
                    held.given_up = true;
                    self.end_claim(&held, out);
                    return;
                }
            }
            Work::Busy(job) | Work::Retiring(job, _) | Work::Vacating(job, _) => {
                if held.activations == activation {
                    stop(job, force, cause, out);
                }
            }
            Work::Killing(..) => {}
        }
        self.phase = Phase::Held(held, work);
    }

    /// Only a job that nobody has told to stop can be suspended; a command that makes no sense is ignored (02, section
    /// 2.7).
    fn suspend(&mut self, claim: ClaimNumber, suspended: bool, out: &mut Vec<Action>) {
        if let Phase::Held(held, Work::Busy(job)) = &mut self.phase
            && held.number == claim
            && job.stopped.is_none()
            && job.suspended != suspended
        {
            job.suspended = suspended;
            out.push(Action::Suspend(suspended));
        }
    }

    fn released(&mut self, now: Time, claim: ClaimNumber, out: &mut Vec<Action>) {
        let Phase::Held(mut held, work) = self.phase else {
            return;
        };
        if held.number == claim {
            held.given_up = true;
            self.close_hard(now, held, work, Cause::DeactivateForcibly, out);
        }
    }

    /// Ends a claim with its job, without regard for either.
    fn close_hard(
        &mut self,
        now: Time,
        mut held: Claim,
        work: Work,
        cause: Cause,
        out: &mut Vec<Action>,
    ) {
        held.closing = true;
        let work = match work {
            Work::Idle | Work::Goodbye(_) => {
                self.end_claim(&held, out);
                return;
            }
            Work::Killing(..) => work,
            Work::Busy(mut job) | Work::Retiring(mut job, _) | Work::Vacating(mut job, _) => {
                refuse_waiting(&mut job, out);
                stop(&mut job, Force::Hard, cause, out);
                Work::Killing(job, now.saturating_add(self.policy.killing_timeout))
            }
        };
        self.phase = Phase::Held(held, work);
    }

    fn renew(&mut self, now: Time, claim: ClaimNumber) {
        if let Phase::Held(held, _) = &mut self.phase
            && held.number == claim
        {
            held.alive_in_flight = false;
            held.lease_end = now.saturating_add(held.lease.length);
            held.next_alive = now.saturating_add(held.lease.length / 3);
        }
    }

    fn alive_failed(&mut self, now: Time, claim: ClaimNumber) {
        let retry = self.policy.alive_retry;
        if let Phase::Held(held, _) = &mut self.phase
            && held.number == claim
        {
            held.alive_in_flight = false;
            held.next_alive = now.saturating_add(retry);
        }
    }

    /// While the shadow is away the schedd is asked whether it still knows the claim, however quiet the claim may be
    /// while a job runs: one that was restarted, and does not send a shadow, would let the job run for nothing.
    fn line(&mut self, now: Time, claim: ClaimNumber, connected: bool) {
        let retry = self.policy.alive_retry;
        if let Phase::Held(held, work) = &mut self.phase
            && held.number == claim
            && let Work::Busy(job) | Work::Retiring(job, _) | Work::Vacating(job, _) = work
        {
            job.adrift = !connected;
            held.lease_end = now.saturating_add(held.lease.length);
            held.next_alive = if connected {
                now.saturating_add(held.lease.length / 3)
            } else {
                now.saturating_add(retry)
            };
        }
    }

    fn job_ended(
        &mut self,
        now: Time,
        claim: ClaimNumber,
        outcome: Outcome,
        out: &mut Vec<Action>,
    ) {
        let Phase::Held(mut held, work) = self.phase else {
            return;
        };
        if held.number != claim {
            return;
        }
        let mut job = match work {
            Work::Busy(job)
            | Work::Retiring(job, _)
            | Work::Vacating(job, _)
            | Work::Killing(job, _) => job,
            Work::Idle | Work::Goodbye(_) => return,
        };
        held.lease_end = now.saturating_add(held.lease.length);
        match outcome {
            Outcome::Reusable => {}
            // The submit side is there: it has sent the next job.
            Outcome::ShadowLost | Outcome::LeaseOver if job.waiting.is_some() => {}
            Outcome::ShadowLost if held.lease.we_send => held.next_alive = now,
            // Nobody is there to say goodbye, and nobody would tell us that the claim is gone.
            Outcome::ShadowLost | Outcome::LeaseOver => held.closing = true,
            Outcome::BackOff(pause) => self.back_off = Some(now.saturating_add(pause)),
        }
        let busy = matches!(work, Work::Busy(_));
        held.closing |= !busy || !self.accepting() || self.worn_out(now, &held);
        if held.closing {
            refuse_waiting(&mut job, out);
            if held.given_up || matches!(outcome, Outcome::ShadowLost | Outcome::LeaseOver) {
                self.end_claim(&held, out);
            } else {
                self.phase =
                    Phase::Held(held, Work::Goodbye(now.saturating_add(self.policy.goodbye)));
            }
            return;
        }
        let next = match job.waiting.take() {
            Some((ticket, pledge, _)) => {
                held.activations += 1;
                out.push(Action::Activation {
                    ticket,
                    verdict: Verdict::Start,
                });
                // The ad changes in every figure that belongs to the job though not in its state.
                out.push(Action::Advertise { urgent: false });
                self.activity_since = now;
                Work::Busy(Job {
                    since: now,
                    pledge,
                    stopped: None,
                    adrift: false,
                    suspended: false,
                    preempted: false,
                    waiting: None,
                })
            }
            None => Work::Idle,
        };
        self.phase = Phase::Held(held, next);
    }

    fn start(&mut self, willing: bool, fits_claim: bool, out: &mut Vec<Action>) {
        self.willing = willing;
        if let Phase::Held(held, Work::Idle) = self.phase
            && !(willing && fits_claim)
        {
            self.end_claim(&held, out);
        }
    }

    fn retire(&mut self, now: Time, limit: Duration, out: &mut Vec<Action>) {
        self.retiring = true;
        match self.phase {
            Phase::Open => self.phase = Phase::Ended,
            Phase::Held(held, Work::Idle) => self.end_claim(&held, out),
            Phase::Held(held, Work::Busy(job)) => self.wind_down(now, held, job, limit, out),
            Phase::Held(held, Work::Retiring(job, until)) => {
                let until = until.min(now.saturating_add(limit));
                self.phase = Phase::Held(held, Work::Retiring(job, until));
            }
            Phase::Held(..) | Phase::Ended => {}
        }
    }

    /// Lets a job use up its retirement time, of which no more than `limit` is left; no other follows.
    fn wind_down(
        &mut self,
        now: Time,
        mut held: Claim,
        mut job: Job,
        limit: Duration,
        out: &mut Vec<Action>,
    ) {
        held.closing = true;
        refuse_waiting(&mut job, out);
        // Retirement time is for running, not for waiting.
        if std::mem::take(&mut job.suspended) {
            out.push(Action::Suspend(false));
        }
        let until = job
            .since
            .saturating_add(job.pledge.retirement)
            .min(now.saturating_add(limit))
            .max(now);
        self.phase = Phase::Held(held, Work::Retiring(job, until));
        self.tick(now, out);
    }

    /// As HTCondor's startd does it (`htcondor:src/condor_startd.V6/ResState.cpp`, `eval_policy`): the claim ends with
    /// the job, which keeps the retirement time that it was promised.
    fn preempt(&mut self, now: Time, out: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Held(_, Work::Busy(job) | Work::Retiring(job, _)) => job.preempted = true,
            Phase::Held(..) | Phase::Open | Phase::Ended => return,
        }
        if let Phase::Held(held, Work::Busy(job)) = self.phase {
            self.wind_down(now, held, job, Duration::MAX, out);
        }
    }

    fn stranded(&mut self, out: &mut Vec<Action>) {
        let Phase::Held(mut held, work) = self.phase else {
            return;
        };
        held.closing = true;
        match work {
            Work::Idle => self.end_claim(&held, out),
            _ => self.phase = Phase::Held(held, work),
        }
    }

    fn retire_fast(&mut self, now: Time, out: &mut Vec<Action>) {
        self.retiring = true;
        match self.phase {
            Phase::Open => self.phase = Phase::Ended,
            Phase::Held(held, work) => self.close_hard(now, held, work, Cause::Retire, out),
            Phase::Ended => {}
        }
    }

    fn tick(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.back_off.is_some_and(|until| until <= now) {
            self.back_off = None;
        }
        let Phase::Held(mut held, mut work) = self.phase else {
            return;
        };
        if self.lease_counts(&held, &work) && held.lease_end <= now {
            self.close_hard(now, held, work, Cause::DeactivateForcibly, out);
            return;
        }
        match &mut work {
            Work::Idle if held.activations > 0 && self.worn_out(now, &held) => {
                self.end_claim(&held, out);
                return;
            }
            Work::Goodbye(until) if *until <= now => {
                self.end_claim(&held, out);
                return;
            }
            Work::Idle | Work::Goodbye(_) => {}
            Work::Busy(job) => {
                if let Some((ticket, _, until)) = job.waiting
                    && until <= now
                {
                    job.waiting = None;
                    out.push(Action::Activation {
                        ticket,
                        verdict: Verdict::TryAgain,
                    });
                }
            }
            Work::Retiring(job, until) if *until <= now => {
                let mut job = *job;
                let cause = job.ends_by();
                stop(&mut job, Force::Soft, cause, out);
                work = Work::Vacating(job, now.saturating_add(job.pledge.vacate));
            }
            Work::Vacating(job, until) if *until <= now => {
                let mut job = *job;
                let cause = job.ends_by();
                stop(&mut job, Force::Hard, cause, out);
                work = Work::Killing(job, now.saturating_add(self.policy.killing_timeout));
            }
            Work::Killing(_, until) if *until <= now => {
                out.push(Action::Abandon(held.number));
                self.end_claim(&held, out);
                return;
            }
            Work::Retiring(..) | Work::Vacating(..) | Work::Killing(..) => {}
        }
        if self.alive_due(&held, &work).is_some_and(|due| due <= now) {
            held.alive_in_flight = true;
            out.push(Action::SendAlive(held.number));
        }
        self.phase = Phase::Held(held, work);
    }

    fn end_claim(&mut self, held: &Claim, out: &mut Vec<Action>) {
        if !held.given_up {
            out.push(Action::SendRelease(held.number));
        }
        out.push(Action::Forget(held.number));
        self.phase = if self.retiring {
            Phase::Ended
        } else {
            Phase::Open
        };
    }

    fn worn_out(&self, now: Time, held: &Claim) -> bool {
        held.activations > 0
            && self
                .policy
                .worklife
                .is_some_and(|life| held.since.saturating_add(life) <= now)
    }

    fn lease_counts(&self, held: &Claim, work: &Work) -> bool {
        match work {
            Work::Idle => true,
            Work::Busy(_) | Work::Retiring(..) | Work::Vacating(..) => {
                !held.lease.silent_while_active
            }
            Work::Killing(..) | Work::Goodbye(_) => false,
        }
    }

    fn alive_due(&self, held: &Claim, work: &Work) -> Option<Time> {
        let asks = self.lease_counts(held, work) || is_adrift(work);
        (held.lease.we_send && !held.alive_in_flight && asks).then_some(held.next_alive)
    }

    /// Derives what the ad shows and asks for an update when it changed.
    fn show(&mut self, now: Time, out: &mut Vec<Action>) {
        let new = match &self.phase {
            Phase::Open if self.accepting() => (State::Unclaimed, Activity::Idle),
            Phase::Open | Phase::Ended => (State::Owner, Activity::Idle),
            Phase::Held(_, Work::Idle) => (State::Claimed, Activity::Idle),
            Phase::Held(_, Work::Busy(job)) if job.suspended => {
                (State::Claimed, Activity::Suspended)
            }
            Phase::Held(_, Work::Busy(_)) => (State::Claimed, Activity::Busy),
            Phase::Held(_, Work::Retiring(..)) => (State::Claimed, Activity::Retiring),
            Phase::Held(_, Work::Vacating(..) | Work::Goodbye(_)) => {
                (State::Preempting, Activity::Vacating)
            }
            Phase::Held(_, Work::Killing(..)) => (State::Preempting, Activity::Killing),
        };
        let old = self.shown;
        if new == old {
            return;
        }
        self.shown = new;
        self.activity_since = now;
        if new.0 != old.0 {
            self.state_since = now;
        }
        out.push(Action::Advertise {
            urgent: new.0 != old.0,
        });
    }
}

fn is_adrift(work: &Work) -> bool {
    matches!(work, Work::Busy(job) | Work::Retiring(job, _) | Work::Vacating(job, _) if job.adrift)
}

/// Passes an order on, unless one as hard went before.
fn stop(job: &mut Job, force: Force, cause: Cause, out: &mut Vec<Action>) {
    if job.stopped.is_none_or(|before| before < force) {
        job.stopped = Some(force);
        // Whoever stops it wakes it first.
        job.suspended = false;
        out.push(Action::Stop { force, cause });
    }
}

fn refuse_waiting(job: &mut Job, out: &mut Vec<Action>) {
    if let Some((ticket, _, _)) = job.waiting.take() {
        out.push(Action::Activation {
            ticket,
            verdict: Verdict::Refuse,
        });
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
