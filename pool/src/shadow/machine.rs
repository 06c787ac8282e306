//! One run of a job, seen from the submit side. Pure: calls of the starter, wishes of the queue and the passing of
//! time go in; answers, changes of the job's ad, events for its log and the run's outcome come out. Times are unix
//! seconds.

use classad::{ClassAd, Expr};

use super::answer::{Answer, Sessions};
use super::exit::{ExitReason, RemoteError, hold, short_time, vacate};
use super::file_call::FileCall;
use super::syscall::Call;
use super::update::{Figures, Rights};
use crate::queue::{InterruptKind, RunOutcome};
use crate::schedd::claim::Deactivate;
use crate::user_log::{Event, TransferStep};

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
    activated: i64,
    executing: Option<i64>,
    ended: Option<i64>,
    suspended: Option<i64>,
    last_contact: i64,
    silent_until: Option<i64>,
    is_transferring: bool,
    input_queued: Option<i64>,
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
                // What was known before the restart is not kept; the startd will tell.
                reconnects: goes_on,
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
            graceful_removal: ad.bool("WantGracefulRemoval").unwrap_or(true),
            activated,
            executing,
            ended: None,
            suspended,
            last_contact,
            silent_until: None,
            is_transferring: false,
            input_queued: None,
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

    fn starter_info(&mut self, ad: &ClassAd) {
        self.starter.name = ad.string("Name").or(self.starter.name.take());
        self.starter.address = ad.string("StarterIpAddr").or(self.starter.address.take());
        self.starter.version = ad.string("CondorVersion").or(self.starter.version.take());
        self.starter.reconnects = ad.bool("HasReconnect").unwrap_or(false);
        let mut properties = ClassAd::new();
        let resources = ad
            .string("MachineResources")
            .unwrap_or_else(|| "Cpus Memory Disk".to_owned());
        let scratch = std::iter::once("CondorScratchDir");
        for name in scratch.chain(resources.split_whitespace()) {
            if let Some(expr) = ad.get(name) {
                properties.insert(name, expr.clone());
            }
        }
        self.starter.properties = properties;
    }

    fn begin_execution(&mut self, now: i64, step: &mut Step) {
        if self.phase != Phase::Starting {
            return;
        }
        self.phase = Phase::Executing;
        self.executing = Some(now);
        self.counts.starts += 1;
        step.changes.insert("JobCurrentStartExecutingDate", now);
        step.changes
            .insert("ActivationSetupDuration", now - self.activated);
        step.changes.insert("NumJobStarts", self.counts.starts);
        step.events.push(Event::Execute {
            host: self.place.startd.clone(),
            slot: Some(self.slot_name().to_owned()),
            properties: self.starter.properties.clone(),
        });
    }

    fn slot_name(&self) -> &str {
        self.starter.name.as_deref().unwrap_or(&self.place.slot)
    }

    fn update(&mut self, ad: &ClassAd, now: i64) -> Step {
        let mut step = Step::answer(Answer::OK);
        let state = ad.string("JobState");
        if state.is_some() {
            // The call that says so can have been lost with a connection.
            self.begin_execution(now, &mut step);
        }
        let promise = ad.int("_condor_JOBINFO_MAXINTERVAL").unwrap_or(0);
        self.silent_until =
            (promise > 0).then(|| now.saturating_add(promise.saturating_mul(SILENCE_FACTOR)));
        if let Some(address) = ad.string("StarterIpAddr") {
            self.starter.address = Some(address);
        }
        let (changes, event) = self.figures.take(ad, self.rights);
        step.changes.update(&changes);
        step.changes.insert("LastJobLeaseRenewal", now);
        step.events.extend(event);
        match (state.as_deref(), self.phase) {
            (Some("Suspended"), Phase::Executing) => self.suspend(ad, now, &mut step),
            (Some("Running"), Phase::Suspended) => self.go_on(now, &mut step),
            _ => {}
        }
        step
    }

    fn suspend(&mut self, ad: &ClassAd, now: i64, step: &mut Step) {
        self.phase = Phase::Suspended;
        self.suspended = Some(now);
        self.counts.suspensions += 1;
        step.changes
            .insert("TotalSuspensions", self.counts.suspensions);
        step.changes.insert("LastSuspensionTime", now);
        step.changes
            .insert("JobStatus", crate::queue::Status::Suspended.number());
        let processes = ad
            .int("NumPids")
            .and_then(|count| i32::try_from(count).ok());
        step.events.push(Event::Suspended {
            processes: processes.unwrap_or(0),
        });
    }

    fn go_on(&mut self, now: i64, step: &mut Step) {
        self.phase = Phase::Executing;
        self.end_suspension(now, &mut step.changes);
        step.changes
            .insert("JobStatus", crate::queue::Status::Running.number());
        step.events.push(Event::Unsuspended);
    }

    fn end_suspension(&mut self, now: i64, changes: &mut ClassAd) {
        let Some(since) = self.suspended.take() else {
            return;
        };
        let seconds = (now - since).max(0);
        self.counts.suspended_seconds += seconds;
        self.counts.uncommitted_suspension += seconds;
        changes.insert("CumulativeSuspensionTime", self.counts.suspended_seconds);
        changes.insert(
            "UncommittedSuspensionTime",
            self.counts.uncommitted_suspension,
        );
        changes.insert("LastSuspensionTime", 0);
    }

    fn set_attribute(&mut self, name: &str, expr: &str) -> Step {
        if !self.rights.may_set(name) {
            tracing::info!(name, "the job may not set this attribute of its ad");
            return Step::answer(Answer::Failed(EACCES));
        }
        let mut step = Step::answer(Answer::OK);
        let line = format!("{name} = {expr}");
        match classad::parse_assignment_old(&line) {
            Ok((name, expr)) => step.changes.insert(name, expr),
            Err(_) => return Step::answer(Answer::Failed(EINVAL)),
        }
        step
    }

    fn ulog(&mut self, ad: &ClassAd, now: i64) -> Step {
        let mut step = Step::new(Reaction::Silence);
        let Some(error) = RemoteError::read(ad) else {
            match ad.int("EventTypeNumber") {
                Some(8) => step.events.push(Event::Generic {
                    text: ad.string("Info").unwrap_or_default(),
                }),
                number => {
                    tracing::info!(?number, "an event of the starter is not for the job's log")
                }
            }
            return step;
        };
        let (code, reason) = error.reason(
            self.slot_name(),
            self.executing.is_some(),
            &self.place.our_host,
        );
        step.events.push(Event::RemoteError {
            daemon: error.daemon.clone(),
            host: self.slot_name().to_owned(),
            message: error.message.clone(),
            critical: error.critical,
            code: error.code,
            subcode: error.subcode,
        });
        if error.critical {
            self.phase = Phase::Over;
            let ad = self.final_ad(ClassAd::new(), now);
            let outcome = if code == 0 {
                self.evicted(reason, vacate::STARTER_ERROR, ad, now)
            } else {
                RunOutcome::Hold {
                    code,
                    subcode: error.subcode,
                    reason,
                    ad,
                }
            };
            step.reaction = Reaction::Abort(outcome);
        }
        step
    }

    fn job_exit(&mut self, status: i32, code: i32, update: &ClassAd, now: i64) -> Step {
        let mut step = Step::new(Reaction::Silence);
        let reason = ExitReason::from_code(code);
        if matches!(reason, ExitReason::Exited { .. }) {
            self.begin_execution(now, &mut step);
        }
        let (mut changes, event) = self.figures.take(update, self.rights);
        step.events.extend(event);
        self.phase = Phase::Over;
        self.silent_until = None;
        let outcome = match reason {
            ExitReason::Exited { coredump } => {
                self.counts.completions += 1;
                changes.insert("NumJobCompletions", self.counts.completions);
                let ad = self.final_ad(changes, now);
                RunOutcome::Exited {
                    status,
                    coredump,
                    ad: self.committed(ad, now),
                }
            }
            ExitReason::NotStarted => RunOutcome::NotStarted {
                reason: "The starter could not start the job".to_owned(),
            },
            ExitReason::MissedDeferralTime => RunOutcome::Hold {
                code: hold::MISSED_DEFERRED_EXECUTION_TIME,
                subcode: 0,
                reason: "Job missed its execution time".to_owned(),
                ad: self.final_ad(changes, now),
            },
            ExitReason::Evicted => {
                let ad = self.final_ad(changes, now);
                let said = (
                    update.string("VacateReason"),
                    update.int("VacateReasonCode"),
                );
                self.stopped(said, ad, now)
            }
            ExitReason::Failed(code) => {
                let ad = self.final_ad(changes, now);
                self.evicted(
                    format!("The starter on {} failed ({code})", self.slot_name()),
                    vacate::SHADOW_EXCEPTION,
                    ad,
                    now,
                )
            }
        };
        step.reaction = Reaction::Finish(outcome);
        step
    }

    /// The outcome of a run that was stopped, for whatever reason.
    fn stopped(&self, said: (Option<String>, Option<i64>), ad: ClassAd, now: i64) -> RunOutcome {
        match &self.wish {
            Some(Wish::Limit { code, reason }) => RunOutcome::Hold {
                code: *code,
                subcode: 0,
                reason: reason.clone(),
                ad,
            },
            // Who wished it and why is known to the queue.
            Some(Wish::Queue(kind)) => {
                let reason = match kind {
                    InterruptKind::Hold => "The job was held while it ran",
                    InterruptKind::Remove => "The job was removed while it ran",
                    InterruptKind::Vacate { fast: false } => "The job was asked to vacate",
                    InterruptKind::Vacate { fast: true } => "The job was told to vacate at once",
                };
                self.evicted(reason.to_owned(), vacate::USER_VACATE_JOB, ad, now)
            }
            None => {
                let (reason, code) = said;
                self.evicted(
                    reason.unwrap_or_else(|| "Unspecified job interruption".to_owned()),
                    code.and_then(|code| i32::try_from(code).ok())
                        .unwrap_or(vacate::JOB_SHOULD_REQUEUE),
                    ad,
                    now,
                )
            }
        }
    }

    fn evicted(&self, reason: String, code: i32, mut ad: ClassAd, now: i64) -> RunOutcome {
        ad.insert("LastVacateTime", now);
        ad.insert("VacateReason", reason.as_str());
        ad.insert("VacateReasonCode", i64::from(code));
        ad.insert("VacateReasonSubCode", 0);
        RunOutcome::Evicted { reason, code, ad }
    }

    /// What every end of a run tells.
    fn final_ad(&mut self, mut ad: ClassAd, now: i64) -> ClassAd {
        if self.executing.is_some() {
            ad.insert("ActivationDuration", now - self.activated);
            ad.insert(
                "ActivationTeardownDuration",
                now - self.ended.unwrap_or(now),
            );
        }
        self.end_suspension(now, &mut ad);
        ad.insert("BytesSent", self.sent);
        ad.insert("BytesRecvd", self.received);
        ad
    }

    /// Counts the run as work that was not in vain.
    fn committed(&self, mut ad: ClassAd, now: i64) -> ClassAd {
        let seconds = (now - self.activated).max(0);
        ad.insert("CommittedTime", self.counts.committed + seconds);
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds of a run are far below 2^52"
        )]
        let slot_time = self.place.weight * seconds as f64;
        ad.insert("CommittedSlotTime", self.counts.committed_slot + slot_time);
        if self.counts.uncommitted_suspension > 0 {
            ad.insert(
                "CommittedSuspensionTime",
                self.counts.committed_suspension + self.counts.uncommitted_suspension,
            );
            ad.insert("UncommittedSuspensionTime", 0);
        }
        ad
    }

    /// The queue wants something of the run. What is to be sent to the startd, if anything.
    pub fn interrupt(&mut self, kind: InterruptKind, now: i64) -> Option<Deactivate> {
        let is_graver = match (&self.wish, kind) {
            (Some(Wish::Limit { .. }), InterruptKind::Vacate { .. }) => false,
            (Some(Wish::Queue(before)), _) => weight(kind) > weight(*before),
            (None | Some(_), _) => true,
        };
        if is_graver {
            self.wish = Some(Wish::Queue(kind));
        }
        let how = match kind {
            InterruptKind::Vacate { fast: true } => Deactivate::Forcibly,
            InterruptKind::Remove | InterruptKind::Hold if !self.graceful_removal => {
                Deactivate::Forcibly
            }
            _ => Deactivate::Gracefully,
        };
        self.stop(how, now)
    }

    fn stop(&mut self, how: Deactivate, now: i64) -> Option<Deactivate> {
        match self.stopping {
            Some((before, _)) if before == how || before == Deactivate::Forcibly => None,
            _ if self.phase == Phase::Over => None,
            _ => {
                self.stopping = Some((how, now));
                Some(how)
            }
        }
    }

    /// When [`Machine::pass`] is to be called next, unix time.
    #[must_use]
    pub fn deadline(&self) -> Option<i64> {
        if self.phase == Phase::Over {
            return None;
        }
        let limits = self.limits().map(|(at, _, _)| at).min();
        [limits, self.silence_ends(), self.stop_ends()]
            .into_iter()
            .flatten()
            .min()
    }

    fn silence_ends(&self) -> Option<i64> {
        // Busy with files the starter does not report.
        self.silent_until
            .filter(|_| self.phase == Phase::Executing && !self.is_transferring)
    }

    fn stop_ends(&self) -> Option<i64> {
        self.stopping.map(|(how, since)| match how {
            Deactivate::Gracefully => since + self.vacate_time + KILLING_TIME,
            Deactivate::Forcibly => since + LAST_PATIENCE,
        })
    }

    /// Limits of the job that still count: when, hold code, reason.
    fn limits(&self) -> impl Iterator<Item = (i64, i32, String)> {
        let is_stopping = self.stopping.is_some();
        let job = self.allowed_job.map(|limit| {
            (
                self.activated.saturating_add(limit),
                hold::JOB_DURATION_EXCEEDED,
                format!(
                    "The job exceeded allowed job duration of {}",
                    short_time(limit)
                ),
            )
        });
        let execute = self.allowed_execute.zip(self.executing);
        let execute = execute.map(|(limit, since)| {
            (
                since.saturating_add(limit).saturating_add(1),
                hold::JOB_EXECUTE_EXCEEDED,
                format!(
                    "The job exceeded allowed execute duration of {}",
                    short_time(limit)
                ),
            )
        });
        job.into_iter().chain(execute).filter(move |_| !is_stopping)
    }

    /// Time has passed.
    pub fn pass(&mut self, now: i64) -> Option<Due> {
        if self.phase == Phase::Over {
            return None;
        }
        let over = self.limits().find(|(at, _, _)| *at <= now);
        if let Some((_, code, reason)) = over {
            self.wish.get_or_insert(Wish::Limit { code, reason });
            return self.stop(Deactivate::Gracefully, now).map(Due::Deactivate);
        }
        if self.stop_ends().is_some_and(|at| at <= now) {
            return Some(match self.stopping {
                Some((Deactivate::Gracefully, _)) => {
                    self.stopping = Some((Deactivate::Forcibly, now));
                    Due::Deactivate(Deactivate::Forcibly)
                }
                _ => Due::GiveUp(self.give_up(now)),
            });
        }
        if self.silence_ends().is_some_and(|at| at <= now) {
            self.silent_until = None;
            return Some(Due::Cut);
        }
        None
    }

    /// The outcome of a run whose starter says nothing any more after it was stopped, or cannot be reached to be stopped.
    pub fn give_up(&mut self, now: i64) -> RunOutcome {
        self.phase = Phase::Over;
        let ad = self.final_ad(ClassAd::new(), now);
        self.stopped((None, None), ad, now)
    }

    /// The startd took the claim back without a word of the starter.
    pub fn released(&mut self, now: i64) -> RunOutcome {
        self.phase = Phase::Over;
        let ad = self.final_ad(ClassAd::new(), now);
        let reason = format!("{} ended the claim", self.place.slot);
        self.stopped((Some(reason), None), ad, now)
    }

    /// The connection broke.
    pub fn lost(&mut self, now: i64) -> (Lost, Vec<Event>) {
        let until = self
            .lease
            .map(|lease| self.last_contact.saturating_add(lease));
        match until {
            Some(until) if self.starter.reconnects => {
                self.silent_until = None;
                let event = Event::Disconnected {
                    reason: "Socket between submit and execute hosts closed unexpectedly"
                        .to_owned(),
                    startd_name: self.place.slot.clone(),
                    startd: self.place.startd.clone(),
                };
                (Lost::Reconnect { until }, vec![event])
            }
            _ => {
                self.phase = Phase::Over;
                let starter = self
                    .starter
                    .address
                    .as_deref()
                    .unwrap_or(&self.place.startd);
                let reason = format!("Can no longer talk to condor_starter {starter}");
                let event = Event::ShadowException {
                    message: reason.clone(),
                    sent: self.sent,
                    received: self.received,
                };
                let ad = self.final_ad(ClassAd::new(), now);
                let outcome = match self.wish {
                    Some(_) => self.stopped((None, None), ad, now),
                    None => self.evicted(reason, vacate::SHADOW_EXCEPTION, ad, now),
                };
                (Lost::Over(outcome), vec![event])
            }
        }
    }

    /// Attributes of the job while it is not connected.
    pub fn reconnecting(&mut self, attempt: i64) -> ClassAd {
        self.counts.reconnect_attempts += 1;
        let mut changes = ClassAd::new();
        changes.insert("JobCurrentReconnectAttempt", attempt);
        changes.insert("TotalJobReconnectAttempts", self.counts.reconnect_attempts);
        changes
    }

    /// The starter was found again and said `info` about itself.
    pub fn reconnected(&mut self, info: &ClassAd, now: i64) -> (ClassAd, Event) {
        self.starter_info(info);
        self.last_contact = now;
        self.counts.reconnects += 1;
        let mut changes = ClassAd::new();
        changes.insert("NumJobReconnects", self.counts.reconnects);
        changes.insert("LastJobLeaseRenewal", now);
        changes.insert(
            "JobDisconnectedDate",
            Expr::literal(classad::Value::Undefined),
        );
        changes.insert(
            "JobCurrentReconnectAttempt",
            Expr::literal(classad::Value::Undefined),
        );
        let event = Event::Reconnected {
            startd_name: self.place.slot.clone(),
            startd: self.place.startd.clone(),
            starter: self.starter.address.clone().unwrap_or_default(),
        };
        (changes, event)
    }

    /// The starter was not found again.
    pub fn reconnect_failed(&mut self, reason: &str, now: i64) -> (RunOutcome, Event) {
        self.phase = Phase::Over;
        let event = Event::ReconnectFailed {
            reason: reason.to_owned(),
            startd_name: self.place.slot.clone(),
        };
        let outcome = if self.wish.is_some() {
            let ad = self.final_ad(ClassAd::new(), now);
            self.stopped((None, None), ad, now)
        } else {
            RunOutcome::ReconnectFailed {
                reason: reason.to_owned(),
            }
        };
        (outcome, event)
    }

    /// Whether somebody wants the run to end.
    #[must_use]
    pub fn is_unwanted(&self) -> bool {
        self.wish.is_some()
    }

    /// The transfer of a sandbox got further; `peer` is the starter's address.
    pub fn transfer(&mut self, step: TransferStep, now: i64) -> (ClassAd, Event) {
        let mut changes = ClassAd::new();
        let (mut queue_seconds, mut host) = (None, None);
        self.is_transferring = !matches!(
            step,
            TransferStep::InputFinished | TransferStep::OutputFinished
        );
        match step {
            TransferStep::InputQueued => {
                self.input_queued = Some(now);
                host.clone_from(&self.starter.address);
                changes.insert("TransferInQueued", now);
                changes.insert("TransferringInput", true);
                changes.insert("TransferQueued", true);
            }
            TransferStep::InputStarted => {
                match self.input_queued {
                    Some(since) => queue_seconds = u64::try_from(now - since).ok(),
                    None => host.clone_from(&self.starter.address),
                }
                self.counts.input_transfers += 1;
                changes.insert("NumInputTransferStarts", self.counts.input_transfers);
                changes.insert("TransferInStarted", now);
                changes.insert("JobCurrentStartTransferInputDate", now);
                changes.insert("TransferringInput", true);
                changes.insert("TransferQueued", false);
            }
            TransferStep::InputFinished => {
                changes.insert("TransferInFinished", now);
                changes.insert("JobCurrentFinishTransferInputDate", now);
                changes.insert("TransferringInput", false);
            }
            TransferStep::OutputQueued => {
                changes.insert("TransferOutQueued", now);
                changes.insert("TransferringOutput", true);
                changes.insert("TransferQueued", true);
            }
            TransferStep::OutputStarted => {
                self.counts.output_transfers += 1;
                changes.insert("NumOutputTransferStarts", self.counts.output_transfers);
                changes.insert("TransferOutStarted", now);
                changes.insert("JobCurrentStartTransferOutputDate", now);
                changes.insert("TransferringOutput", true);
                changes.insert("TransferQueued", false);
            }
            TransferStep::OutputFinished => {
                changes.insert("TransferOutFinished", now);
                changes.insert("JobCurrentFinishTransferOutputDate", now);
                changes.insert("TransferringOutput", false);
            }
        }
        let event = Event::FileTransfer {
            step,
            queue_seconds,
            host,
        };
        (changes, event)
    }

    /// Bytes moved for this run so far: sent by the job (its output), and received by it (its input).
    pub fn moved(&mut self, sent: f64, received: f64) {
        self.sent = sent;
        self.received = received;
    }
}

/// How grave a wish is: a graver one replaces another.
fn weight(kind: InterruptKind) -> u8 {
    match kind {
        InterruptKind::Vacate { .. } => 0,
        InterruptKind::Hold => 1,
        InterruptKind::Remove => 2,
    }
}
