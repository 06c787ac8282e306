//! One run of a job, seen from the submit side. Pure: calls of the starter, wishes of the queue and the passing of
//! time go in; answers, changes of the job's ad, events for its log and the run's outcome come out. Times are unix
//! seconds.

mod connection;
mod ending;
mod reports;
mod stopping;
mod transfer;

use classad::{ClassAd, Expr};

use super::answer::{Answer, Sessions};
use super::file_call::FileCall;
use super::syscall::Call;
use super::update::{Figures, Rights};
use crate::queue::{InterruptKind, RunOutcome};
use crate::schedd::claim::Deactivate;
use crate::user_log::Event;

/// Errors of system calls, in HTCondor's platform-neutral numbers.
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
/// How many times the promised interval of its updates a starter may stay silent.
const SILENCE_FACTOR: i64 = 3;
/// After the vacate time the startd has this many seconds to kill the job, then it is told to be quick
/// (`KILLING_TIMEOUT`).
const KILLING_TIME: i64 = 30;
/// Seconds after a forcible stop until nothing more is expected of the starter.
const LAST_PATIENCE: i64 = 60;

/// Where a job runs.
#[derive(Debug, Clone)]
pub struct Place {
    /// The slot's name.
    pub slot: String,
    /// The startd's address.
    pub startd: String,
    /// The longest time the slot lets a job vacate, seconds.
    pub max_vacate: i64,
    /// The slot's weight, for accounting.
    pub weight: f64,
    /// Whether its starters take up a broken conversation again, as its ad says (`HasReconnect`).
    pub reconnects: bool,
    /// Our host's name, for texts.
    pub our_host: String,
}

/// What the starter told about itself.
#[derive(Debug, Clone, Default)]
pub struct Starter {
    /// Its slot's name.
    pub name: Option<String>,
    /// Where commands for it go.
    pub address: Option<String>,
    /// Whether it takes up the conversation again after the connection broke.
    pub reconnects: bool,
    /// Its version banner.
    pub version: Option<String>,
    /// What the execute event tells about the slot.
    properties: ClassAd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Executing,
    Suspended,
    Over,
}

/// Why a running job is being stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wish {
    Queue(InterruptKind),
    /// A limit of the job's own.
    Limit {
        code: i32,
        reason: String,
    },
}

/// What follows from a call.
#[derive(Debug)]
pub enum Reaction {
    /// Send this.
    Answer(Answer),
    /// Send the job's ad, with what the starter needs beside.
    JobAd,
    /// Send an attribute of the job's ad.
    Attribute(String),
    /// Send uid and gid of the owner.
    UserInfo,
    /// Narrow the job's requirements, then say how it went.
    Constrain(Expr),
    /// Do it for the owner, then send the result.
    File(FileCall),
    /// Delegate the job's proxy with at most this end.
    Proxy {
        /// Unix time.
        expiration: i64,
    },
    /// Make this durable, then send 0.
    Finish(RunOutcome),
    /// The starter is gone; no answer.
    Abort(RunOutcome),
    /// No answer.
    Silence,
}

/// Everything that follows from a call.
#[derive(Debug)]
pub struct Step {
    /// What is sent.
    pub reaction: Reaction,
    /// Attributes of the job that change; may be empty.
    pub changes: ClassAd,
    /// What the job's log tells.
    pub events: Vec<Event>,
}

impl Step {
    fn answer(answer: Answer) -> Self {
        Self::new(Reaction::Answer(answer))
    }

    fn new(reaction: Reaction) -> Self {
        Self {
            reaction,
            changes: ClassAd::new(),
            events: Vec::new(),
        }
    }
}

/// What follows from the passing of time.
#[derive(Debug)]
pub enum Due {
    /// Send this to the startd.
    Deactivate(Deactivate),
    /// The starter has been silent for too long: treat the connection as broken.
    Cut,
    /// Nothing more is to be expected: the run is over like this.
    GiveUp(RunOutcome),
}

/// What follows from a broken connection.
#[derive(Debug)]
pub enum Lost {
    /// The starter may be found again until then.
    Reconnect {
        /// End of the job's lease, unix time.
        until: i64,
    },
    /// The run is over.
    Over(RunOutcome),
}

/// Numbers of the job's ad that this run counts on.
#[derive(Debug, Clone, Default)]
struct Counts {
    starts: i64,
    completions: i64,
    suspensions: i64,
    suspended_seconds: i64,
    uncommitted_suspension: i64,
    committed_suspension: i64,
    committed: i64,
    committed_slot: f64,
    reconnects: i64,
    reconnect_attempts: i64,
    input_transfers: i64,
    output_transfers: i64,
}

/// One run.
#[derive(Debug)]
pub struct Machine {
    place: Place,
    starter: Starter,
    sessions: Sessions,
    phase: Phase,
    rights: Rights,
    figures: Figures,
    counts: Counts,
    allowed_job: Option<i64>,
    allowed_execute: Option<i64>,
    lease: Option<i64>,
    vacate_time: i64,
    graceful_removal: bool,
    /// The pool was restarted since it began; what was reported just before that may not be known.
    resumed: bool,
    activated: i64,
    executing: Option<i64>,
    ended: Option<i64>,
    suspended: Option<i64>,
    last_contact: i64,
    silent_until: Option<i64>,
    is_transferring: bool,
    /// Bytes of this run, as the job sees it.
    sent: f64,
    received: f64,
    wish: Option<Wish>,
    /// What was sent to the startd, and when.
    stopping: Option<(Deactivate, i64)>,
}

impl Machine {
    /// A run of the job `ad` that was just activated.
    #[must_use]
    pub fn new(ad: &ClassAd, place: Place, sessions: Sessions, now: i64) -> Self {
        Self::make(ad, place, sessions, now, false)
    }

    /// A run of before a restart of the pool; its connection is gone.
    #[must_use]
    pub fn resumed(ad: &ClassAd, place: Place, sessions: Sessions, now: i64) -> Self {
        Self::make(ad, place, sessions, now, true)
    }

    fn make(ad: &ClassAd, place: Place, sessions: Sessions, now: i64, goes_on: bool) -> Self {
        let int = |name: &str| ad.int(name).unwrap_or(0);
        let real = |name: &str| ad.real(name).unwrap_or(0.0);
        let activated = if goes_on {
            ad.int("JobCurrentStartDate").unwrap_or(now)
        } else {
            now
        };
        let executing = ad
            .int("JobCurrentStartExecutingDate")
            .filter(|since| goes_on && *since >= activated);
        let suspended = ad
            .int("LastSuspensionTime")
            .filter(|since| goes_on && *since >= activated);
        let phase = match (executing, suspended) {
            (None, _) => Phase::Starting,
            (Some(_), None) => Phase::Executing,
            (Some(_), Some(_)) => Phase::Suspended,
        };
        let last_contact = if goes_on {
            ad.int("LastJobLeaseRenewal").unwrap_or(activated)
        } else {
            now
        };
        let own_vacate = ad
            .int("JobMaxVacateTime")
            .or_else(|| ad.int("KillSigTimeout"));
        Self {
            vacate_time: own_vacate
                .unwrap_or(place.max_vacate)
                .min(place.max_vacate)
                .max(0),
            starter: Starter {
                // What the starter said before a restart is not kept.
                reconnects: goes_on && place.reconnects,
                ..Starter::default()
            },
            place,
            sessions,
            phase,
            rights: Rights::of(ad),
            figures: Figures::new(ad, goes_on),
            counts: Counts {
                starts: int("NumJobStarts"),
                completions: int("NumJobCompletions"),
                suspensions: int("TotalSuspensions"),
                suspended_seconds: int("CumulativeSuspensionTime"),
                uncommitted_suspension: int("UncommittedSuspensionTime"),
                committed_suspension: int("CommittedSuspensionTime"),
                committed: int("CommittedTime"),
                committed_slot: real("CommittedSlotTime"),
                reconnects: int("NumJobReconnects"),
                reconnect_attempts: int("TotalJobReconnectAttempts"),
                input_transfers: int("NumInputTransferStarts"),
                output_transfers: int("NumOutputTransferStarts"),
            },
            allowed_job: ad.int("AllowedJobDuration"),
            allowed_execute: ad.int("AllowedExecuteDuration"),
            lease: ad.int("JobLeaseDuration").filter(|lease| *lease > 0),
            resumed: goes_on,
            graceful_removal: ad.bool("WantGracefulRemoval").unwrap_or(true),
            activated,
            executing,
            ended: None,
            suspended,
            last_contact,
            silent_until: None,
            is_transferring: false,
            sent: 0.0,
            received: 0.0,
            wish: None,
            stopping: None,
        }
    }

    /// What is known of the starter.
    #[must_use]
    pub fn starter(&self) -> &Starter {
        &self.starter
    }

    /// Where it runs.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What the job may ask.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// Whether the job's process has begun to run and the run is not over.
    #[must_use]
    pub fn is_executing(&self) -> bool {
        matches!(self.phase, Phase::Executing | Phase::Suspended)
    }

    /// Whether a sandbox is on its way.
    #[must_use]
    pub fn is_transferring(&self) -> bool {
        self.is_transferring
    }

    /// Takes a call of the starter.
    pub fn call(&mut self, call: Call, now: i64) -> Step {
        self.last_contact = now;
        match call {
            Call::GetJobInfo => Step::new(Reaction::JobAd),
            Call::RegisterStarterInfo(ad) => {
                self.starter_info(&ad);
                Step::answer(Answer::OK)
            }
            Call::GetSecSessionInfo => Step::answer(Answer::Sessions(self.sessions.clone())),
            Call::RegisterJobInfo(ad) => self.update(&ad, now),
            Call::BeginExecution => {
                let mut step = Step::answer(Answer::OK);
                self.begin_execution(now, &mut step);
                step
            }
            Call::EventNotification(ad) => {
                let kind = ad.string("EventType").unwrap_or_default();
                if kind.eq_ignore_ascii_case("ActivationExecutionExit") {
                    self.ended = Some(now);
                }
                Step::answer(Answer::OK)
            }
            Call::DprintfStats(line) => {
                tracing::debug!(line = line.trim_end(), "statistics of the starter");
                Step::answer(Answer::OK)
            }
            Call::JobTermination(ad) => {
                let mut step = Step::answer(Answer::OK);
                self.begin_execution(now, &mut step);
                let (changes, _) = self.figures.take(&ad, self.rights);
                step.changes.update(&changes);
                step
            }
            Call::JobExit { status, reason, ad } => self.job_exit(status, reason, &ad, now),
            Call::Ulog(ad) => self.ulog(&ad, now),
            Call::GetJobAttr(name) => {
                if self.rights.may_read_attributes() && !cedar::is_private(&name) {
                    Step::new(Reaction::Attribute(name))
                } else {
                    Step::answer(Answer::Failed(EACCES))
                }
            }
            Call::SetJobAttr { name, expr } => self.set_attribute(&name, &expr),
            Call::Constrain(expr) => match Expr::parse_old(&expr) {
                _ if !self.rights.may_set("Requirements") => Step::answer(Answer::Failed(EACCES)),
                Ok(expr) => Step::new(Reaction::Constrain(expr)),
                Err(_) => Step::answer(Answer::Failed(EINVAL)),
            },
            Call::GetUserInfo => Step::new(Reaction::UserInfo),
            Call::GetCreds => Step::answer(Answer::NoCredentials),
            Call::GetDelegatedProxy { expiration } => Step::new(Reaction::Proxy { expiration }),
            Call::File(call) => Step::new(Reaction::File(call)),
            Call::Unknown(number) => {
                tracing::info!(number, "the starter made a call that is not known here");
                Step::new(Reaction::Silence)
            }
        }
    }
}
