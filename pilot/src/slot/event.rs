//! What goes into the claim state machine ([`super::machine`]) and what comes out.

use std::time::Duration;

/// Time since the pilot's start, monotonic.
pub type Time = Duration;

/// Names one claim id of this pilot; from 1, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimNumber(pub u64);

/// Names one ACTIVATE_CLAIM that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// `State` of the slot ad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Not offered: a back-off runs, the helper is away, or the pilot retires.
    Owner,
    /// Offered.
    Unclaimed,
    /// A schedd holds the claim.
    Claimed,
    /// The claim is being ended.
    Preempting,
}

impl State {
    /// The word used in the ad.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "Owner",
            Self::Unclaimed => "Unclaimed",
            Self::Claimed => "Claimed",
            Self::Preempting => "Preempting",
        }
    }
}

/// `Activity` of the slot ad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activity {
    /// No job.
    Idle,
    /// A job runs.
    Busy,
    /// A job is there, and its user has stopped it for a while.
    Suspended,
    /// A job runs and may use up its retirement time; no other follows.
    Retiring,
    /// The job was told to end.
    Vacating,
    /// The job was killed.
    Killing,
}

impl Activity {
    /// The word used in the ad.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Busy => "Busy",
            Self::Suspended => "Suspended",
            Self::Retiring => "Retiring",
            Self::Vacating => "Vacating",
            Self::Killing => "Killing",
        }
    }
}

/// The times that rule a slot.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `CLAIM_WORKLIFE`: age after which a claim takes no further job; `None` is without limit.
    pub worklife: Option<Duration>,
    /// `KILLING_TIMEOUT`: from the kill to giving a job up.
    pub killing_timeout: Duration,
    /// How long an activation may wait for the previous job of the claim to be reaped. Shorter than the 20 s after
    /// which a shadow gives up (protocol 01, section 1.7).
    pub activation_wait: Duration,
    /// How long a closing claim waits for the shadow's last 403/404, which wants to hear `Start = false`.
    pub goodbye: Duration,
    /// Pause before a failed ALIVE is sent again.
    pub alive_retry: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            worklife: Some(Duration::from_secs(1200)),
            killing_timeout: Duration::from_secs(30),
            activation_wait: Duration::from_secs(5),
            goodbye: Duration::from_secs(2),
            alive_retry: Duration::from_secs(5),
        }
    }
}

/// What REQUEST_CLAIM says about keeping the claim alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Time without a sign of life after which the claim ends.
    pub length: Duration,
    /// `StartdSendsAlives`: we send ALIVE to the schedd; otherwise it sends them to us.
    pub we_send: bool,
    /// `_condor_StartdHandlesAlives`: while a job runs the lease is not counted.
    pub silent_while_active: bool,
}

/// What was promised to a job when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pledge {
    /// `MaxJobRetirementTime` of machine and job: run time that is left to it before it is told to end.
    pub retirement: Duration,
    /// Time between the soft and the hard kill.
    pub vacate: Duration,
}

/// What ended a job, as far as the claim is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The claim may take the next job.
    Reusable,
    /// The shadow is gone; the schedd shall say whether it still wants the claim.
    ShadowLost,
    /// The shadow was gone for longer than the job's lease: so is the claim.
    LeaseOver,
    /// The node could not run it; no job for this long.
    BackOff(Duration),
}

/// How a claim's job is told to stop by the submit side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deactivation {
    /// 403.
    Gently,
    /// 404, which is also the goodbye after a finished job.
    Forcibly,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// REQUEST_CLAIM.
    Request {
        /// The claim asked for.
        claim: ClaimNumber,
        /// Whether slot and job match each other.
        fits: bool,
        /// How it is kept alive.
        lease: Lease,
        /// The number to offer after this one.
        next: ClaimNumber,
    },
    /// The acceptance of a claim could not be delivered.
    Undelivered(ClaimNumber),
    /// ACTIVATE_CLAIM.
    Activate {
        /// The claim to run the job on.
        claim: ClaimNumber,
        /// Names this request in the answer.
        ticket: Ticket,
        /// Whether slot and job match each other now.
        fits: bool,
        /// What the job is promised.
        pledge: Pledge,
    },
    /// DEACTIVATE_CLAIM or its forcible form, after [`super::machine::Machine::reusable`] was sent as the answer.
    Deactivate {
        /// The claim.
        claim: ClaimNumber,
        /// Which form.
        how: Deactivation,
        /// What the submit side was told.
        told_reusable: bool,
        /// [`super::machine::Machine::activations`] when it was told: the answer goes out before the kill, and a job that was
        /// activated meanwhile is not meant.
        activation: u64,
    },
    /// SUSPEND_CLAIM (402), or CONTINUE_CLAIM (401).
    Suspend {
        /// The claim.
        claim: ClaimNumber,
        /// False: it goes on.
        suspended: bool,
    },
    /// RELEASE_CLAIM.
    Release(ClaimNumber),
    /// ALIVE from the schedd.
    Alive(ClaimNumber),
    /// The schedd answered our ALIVE.
    AliveAnswered {
        /// The claim.
        claim: ClaimNumber,
        /// Whether the schedd knows it.
        known: bool,
    },
    /// Our ALIVE could not be delivered.
    AliveFailed(ClaimNumber),
    /// The job of this claim is over.
    JobEnded {
        /// The claim.
        claim: ClaimNumber,
        /// What follows from it.
        outcome: Outcome,
    },
    /// The job of this claim lost its shadow for now, or it has come back.
    Line {
        /// The claim.
        claim: ClaimNumber,
        /// A shadow is there.
        connected: bool,
    },
    /// START was evaluated again, or the pilot paused or went on.
    Start {
        /// New work is taken at all.
        willing: bool,
        /// It is true for the job that the idle claim was made for.
        fits_claim: bool,
    },
    /// The pilot ends. `limit` bounds the retirement time of a running job.
    Retire {
        /// Time from now until a job must have been told to end.
        limit: Duration,
    },
    /// The pilot ends at once: jobs are killed.
    RetireFast,
    /// Whoever holds the claim cannot reach us any more, because the id names an address that is no good now: a job
    /// that runs may end, no other follows.
    Stranded,
    /// `PREEMPT` is true: the running job uses up its retirement time and is told to end then; no other follows.
    Preempt,
    /// Time passed.
    Tick,
}

/// The answer to an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// 1: the connection becomes the job's.
    Start,
    /// 0: not this job, not now.
    Refuse,
    /// 2: ask again in a second.
    TryAgain,
}

/// How hard a job is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Force {
    /// Signal, then kill after the vacate time.
    Soft,
    /// Kill.
    Hard,
}

/// On whose account a job is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// 403.
    Deactivate,
    /// 404, 443, or the end of the lease.
    DeactivateForcibly,
    /// The pilot retires.
    Retire,
    /// `PREEMPT`.
    Preempt,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Answer the REQUEST_CLAIM.
    Claim {
        /// Accepted or refused.
        accepted: bool,
    },
    /// Answer the activation with this ticket.
    Activation {
        /// Which one.
        ticket: Ticket,
        /// The answer.
        verdict: Verdict,
    },
    /// Stop the job.
    Stop {
        /// How hard.
        force: Force,
        /// Why.
        cause: Cause,
    },
    /// Suspend the job, or let it go on.
    Suspend(bool),
    /// Give the job up: it did not end though killed.
    Abandon(ClaimNumber),
    /// Send ALIVE to the schedd.
    SendAlive(ClaimNumber),
    /// Send RELEASE_CLAIM to the schedd.
    SendRelease(ClaimNumber),
    /// The claim is over; its session may go.
    Forget(ClaimNumber),
    /// The slot ad changed. `urgent`: matches depend on it, do not wait to collect further changes.
    Advertise {
        /// Send without delay.
        urgent: bool,
    },
}
