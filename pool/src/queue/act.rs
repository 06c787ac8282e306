//! Hold, release, remove, vacate: what users and policies do to jobs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cedar::security::PeerIdentity;
use thiserror::Error;
use tokio::sync::oneshot;

use super::edit::Edit;
use super::identity::Identity;
use super::life::{self, Next};
use super::model::{Job, Model};
use super::policy::{Why, code};
use super::run::{InterruptKind, Status};
use super::select::{Condition, Selection};
use super::store::{Op, Request};
use super::{Queue, now};
use crate::JobId;
use crate::user_log::{Entry, Event};

/// Jobs acted on at a time.
const PORTION: usize = 500;

/// Longest wait for the disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be done to jobs; the numbers are those of `JobAction` (`htcondor:src/condor_utils/enum_utils.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// 1
    Hold,
    /// 2
    Release,
    /// 3
    Remove,
    /// 4: without waiting for the slot's word.
    RemoveByForce,
    /// 5
    Vacate,
    /// 6
    VacateFast,
}

impl Action {
    /// The number in `JobAction`.
    pub fn number(self) -> i64 {
        match self {
            Self::Hold => 1,
            Self::Release => 2,
            Self::Remove => 3,
            Self::RemoveByForce => 4,
            Self::Vacate => 5,
            Self::VacateFast => 6,
        }
    }

    /// The action of a number in `JobAction`; `None` for those not served here (suspend, continue and others).
    pub fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::Hold,
            2 => Self::Release,
            3 => Self::Remove,
            4 => Self::RemoveByForce,
            5 => Self::Vacate,
            6 => Self::VacateFast,
            _ => return None,
        })
    }
}

/// What came of an action on one job; the numbers are those of `action_result_t`
/// (`htcondor:src/condor_daemon_client/dc_schedd.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActResult {
    /// 1: done.
    Success,
    /// 2: there is no such job.
    NotFound,
    /// 3: the job's status does not allow it.
    BadStatus,
    /// 4: it was so already.
    AlreadyDone,
    /// 5: it is somebody else's job.
    PermissionDenied,
}

impl ActResult {
    /// The number on the wire.
    pub fn number(self) -> i64 {
        match self {
            Self::Success => 1,
            Self::NotFound => 2,
            Self::BadStatus => 3,
            Self::AlreadyDone => 4,
            Self::PermissionDenied => 5,
        }
    }
}

/// An action on one job, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The job.
    pub job: JobId,
    /// What came of it.
    pub result: ActResult,
}

/// Why an action was not taken at all, or is not certain to last.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ActError {
    /// The peer is nobody in particular.
    #[error("only an authenticated user can act on jobs")]
    NotAuthenticated,
    /// It happened, but the disk does not take it.
    #[error("the action was taken, but is not stored yet: {0}")]
    Disk(String),
}

/// Who acts.
#[derive(Debug, Clone)]
pub(super) struct Actor {
    /// As told in reasons.
    name: String,
    /// Whose jobs are this actor's own.
    owner: Option<String>,
    pub(super) administrator: bool,
}

impl Actor {
    /// Whether jobs of that owner are this actor's own.
    pub(super) fn is(&self, owner: &str) -> bool {
        self.owner.as_deref() == Some(owner)
    }

    /// Whether the job is this user's to change.
    pub(super) fn may(&self, job: &Job) -> bool {
        self.administrator || self.is(&job.owner)
    }

    /// `reason`, with who gave it.
    fn says(&self, reason: &str, otherwise: &str) -> String {
        if reason.is_empty() {
            format!("{otherwise} (by user {})", self.name)
        } else {
            format!("{reason} (by user {})", self.name)
        }
    }
}

/// Everything one action on one job brings with it.
#[derive(Default)]
pub(super) struct Effects {
    ops: Vec<Op>,
    /// What the jobs' logs tell.
    entries: Vec<Entry>,
    interrupts: Vec<(JobId, InterruptKind)>,
    /// There may be a job to run now.
    pub(super) released: bool,
}

impl Queue {
    /// Whose word this is.
    pub(super) fn actor(
        &self,
        who: &PeerIdentity,
        from: Option<IpAddr>,
    ) -> Result<Actor, ActError> {
        let (name, owner) = match Identity::of(who, &self.inner.config.uid_domain) {
            Identity::Local(user) => (user, Some(user.to_owned())),
            Identity::Foreign { identity } => (identity, None),
            Identity::Nobody => return Err(ActError::NotAuthenticated),
        };
        Ok(Actor {
            name: name.to_owned(),
            owner,
            administrator: (self.inner.config.is_administrator)(who, from),
        })
    }

    /// Does something to jobs; on the disk when it returns.
    ///
    /// # Errors
    /// Nothing was done, or it is not on the disk; the error says which.
    pub async fn act(
        &self,
        who: &PeerIdentity,
        from: Option<IpAddr>,
        action: Action,
        selection: &Selection,
        reason: &str,
        subcode: i32,
    ) -> Result<Vec<Outcome>, ActError> {
        let actor = self.actor(who, from)?;
        let jobs = self.selected(action, selection);
        self.commit(&actor, action, &jobs, reason, subcode).await
    }

    /// The jobs an action is about: with a constraint only those it makes sense for, as the schedd has it.
    pub(super) fn selected(&self, action: Action, selection: &Selection) -> Vec<JobId> {
        match selection {
            Selection::Constraint(expr) => {
                let condition = Condition::new(expr, now());
                let candidates = condition.candidates(&self.model());
                candidates
                    .into_iter()
                    .filter(|job| sensible(action, job.status) && condition.holds(job))
                    .map(|job| job.id)
                    .collect()
            }
            Selection::Ids(ids) => {
                let model = self.model();
                let mut found = Vec::new();
                for (cluster, proc) in ids {
                    match proc {
                        Some(proc) => found.push(JobId::new(*cluster, *proc)),
                        None => found.extend(model.cluster_jobs(*cluster)),
                    }
                }
                found
            }
        }
    }

    /// What would come of an action now.
    pub(super) fn rehearse(&self, actor: &Actor, action: Action, jobs: &[JobId]) -> Vec<Outcome> {
        let model = self.model();
        let judge = |job: &JobId| Outcome {
            job: *job,
            result: judge(&model, actor, action, *job),
        };
        jobs.iter().map(judge).collect()
    }

    /// Takes the action, and waits for the disk.
    pub(super) async fn commit(
        &self,
        actor: &Actor,
        action: Action,
        jobs: &[JobId],
        reason: &str,
        subcode: i32,
    ) -> Result<Vec<Outcome>, ActError> {
        let mut outcomes = Vec::with_capacity(jobs.len());
        // In portions: others get at the queue in between, and not all ads are in memory at once.
        for portion in jobs.chunks(PORTION) {
            let word = Word {
                actor,
                reason,
                subcode,
            };
            let receiver = self.take_all(action, portion, &word, &mut outcomes);
            // The disk may be full for hours; the user should not wait for that.
            match tokio::time::timeout(PATIENCE, receiver).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(why))) => return Err(ActError::Disk(why)),
                Ok(Err(_)) => return Err(ActError::Disk("the job queue is closed".to_owned())),
                Err(_) => {
                    let why = "the disk of the job queue does not answer".to_owned();
                    return Err(ActError::Disk(why));
                }
            }
        }
        Ok(outcomes)
    }

    fn take_all(
        &self,
        action: Action,
        jobs: &[JobId],
        word: &Word<'_>,
        outcomes: &mut Vec<Outcome>,
    ) -> oneshot::Receiver<Result<(), String>> {
        let now = now();
        let mut model = self.model();
        let mut effects = Effects::default();
        for job in jobs {
            let result = judge(&model, word.actor, action, *job);
            if result == ActResult::Success {
                self.take(&mut model, action, *job, word, &mut effects, now);
            }
            outcomes.push(Outcome { job: *job, result });
        }
        self.dispatch(effects)
    }

    /// Sends what an action brings with it. To be called with the model locked.
    pub(super) fn dispatch(&self, effects: Effects) -> oneshot::Receiver<Result<(), String>> {
        let (sender, receiver) = oneshot::channel();
        for (job, kind) in effects.interrupts {
            self.interrupt(job, kind);
        }
        if effects.released {
            self.inner.changed.notify_one();
        }
        let mut ops = effects.ops;
        let outgoing = self.inner.outbox.keep(effects.entries, &mut ops);
        if ops.is_empty() {
            // Nothing to store; the receiver is alive.
            let _ = sender.send(Ok(()));
            return receiver;
        }
        let queue = self.clone();
        self.send(Request {
            ops,
            keep: true,
            done: Some(Box::new(move |result| {
                if result.is_ok() {
                    queue.hand_over(outgoing);
                }
                let _ = sender.send(result);
            })),
        });
        receiver
    }

    fn take(
        &self,
        model: &mut Model,
        action: Action,
        id: JobId,
        word: &Word<'_>,
        effects: &mut Effects,
        now: i64,
    ) {
        match action {
            Action::Hold => {
                let why = Why {
                    reason: word.actor.says(word.reason, "via condor_hold"),
                    code: code::USER_REQUEST,
                    subcode: word.subcode,
                };
                self.hold_job(model, id, &why, effects, now);
            }
            Action::Release => {
                let reason = word.actor.says(word.reason, "via condor_release");
                self.release_job(model, id, &reason, effects, now);
            }
            Action::Remove | Action::RemoveByForce => {
                let reason = word.actor.says(word.reason, "via condor_rm");
                let force = action == Action::RemoveByForce;
                self.remove_job(model, id, &reason, force, effects, now);
            }
            Action::Vacate => effects
                .interrupts
                .push((id, InterruptKind::Vacate { fast: false })),
            Action::VacateFast => effects
                .interrupts
                .push((id, InterruptKind::Vacate { fast: true })),
        }
    }

    fn hold_job(&self, model: &mut Model, id: JobId, why: &Why, effects: &mut Effects, now: i64) {
        let Some(mut edit) = model.edit(id) else {
            return;
        };
        life::hold(&mut edit, why, now);
        self.put(model, id, &edit, effects);
        if model.running.contains(&id) {
            effects.interrupts.push((id, InterruptKind::Hold));
        } else {
            self.tell(&edit, &life::held_event(&edit), effects);
        }
    }

    fn release_job(
        &self,
        model: &mut Model,
        id: JobId,
        reason: &str,
        effects: &mut Effects,
        now: i64,
    ) {
        let Some(mut edit) = model.edit(id) else {
            return;
        };
        life::release(&mut edit, reason, now);
        self.put(model, id, &edit, effects);
        let event = Event::Released {
            reason: Some(reason.to_owned()),
        };
        self.tell(&edit, &event, effects);
        effects.released = true;
    }

    fn remove_job(
        &self,
        model: &mut Model,
        id: JobId,
        reason: &str,
        force: bool,
        effects: &mut Effects,
        now: i64,
    ) {
        let Some(mut edit) = model.edit(id) else {
            return;
        };
        let running = model.running.contains(&id);
        if edit.status() != Status::Removed {
            life::remove(&mut edit, reason, now);
        }
        if force {
            edit.set("LeaveJobInQueue", false);
        }
        if running {
            effects.interrupts.push((id, InterruptKind::Remove));
        }
        self.put(model, id, &edit, effects);
        if running && !force {
            return;
        }
        self.tell(&edit, &life::aborted(&edit), effects);
        model.totals.removed += 1;
        if life::where_to(&edit, now) == Next::Leaves {
            if running {
                effects.ops.push(Op::DropRun(id));
            }
            effects.ops.extend(self.retire(model, id));
        }
    }

    /// The job's log is to tell this.
    fn tell(&self, edit: &Edit, event: &Event, effects: &mut Effects) {
        let entry = self.inner.events.compose(edit.ad(), event);
        effects.entries.extend(entry);
    }

    pub(super) fn put(&self, model: &mut Model, id: JobId, edit: &Edit, effects: &mut Effects) {
        let changes = edit.clone().into_changes();
        model.change(id, |job| {
            let cluster = Arc::clone(&job.cluster);
            changes.apply(&mut job.own, &cluster);
        });
        effects.ops.extend(model.stored(id));
    }

    /// What a policy wants is done in nobody's name; true if anything was done.
    pub(super) fn enforce(&self, id: JobId, verdict: super::policy::Verdict) {
        use super::policy::Verdict;
        let now = now();
        let mut model = self.model();
        let Some(status) = model.jobs.get(&id).map(|job| job.status) else {
            return;
        };
        let mut effects = Effects::default();
        match verdict {
            Verdict::Stay => return,
            Verdict::Hold(why) if sensible(Action::Hold, status) && status != Status::Held => {
                self.hold_job(&mut model, id, &why, &mut effects, now);
            }
            Verdict::Release(why) if status == Status::Held => {
                self.release_job(&mut model, id, &why.reason, &mut effects, now);
            }
            Verdict::Remove(why) if status != Status::Removed => {
                self.remove_job(&mut model, id, &why.reason, false, &mut effects, now);
            }
            Verdict::Vacate(_) if status.is_active() => {
                let vacate = InterruptKind::Vacate { fast: false };
                effects.interrupts.push((id, vacate));
            }
            _ => return,
        }
        // Nobody waits for the disk here; it is written in its turn.
        drop(self.dispatch(effects));
    }

    /// A job that is through and stayed in the queue may leave now.
    pub(super) fn let_go(&self, id: JobId) {
        let mut model = self.model();
        let through = model.jobs.get(&id).is_some_and(|job| {
            job.run.is_none() && matches!(job.status, Status::Completed | Status::Removed)
        });
        if through {
            let mut effects = Effects::default();
            effects.ops.extend(self.retire(&mut model, id));
            drop(self.dispatch(effects));
        }
    }
}

struct Word<'a> {
    actor: &'a Actor,
    reason: &'a str,
    subcode: i32,
}

/// Whether an action by constraint is about jobs of that status at all.
fn sensible(action: Action, status: Status) -> bool {
    match action {
        Action::Remove => status != Status::Removed,
        Action::RemoveByForce => status == Status::Removed,
        Action::Hold => !matches!(status, Status::Removed | Status::Completed),
        Action::Release => status == Status::Held,
        Action::Vacate | Action::VacateFast => status.is_active(),
    }
}

fn judge(model: &Model, actor: &Actor, action: Action, id: JobId) -> ActResult {
    let Some(job) = model.jobs.get(&id) else {
        return ActResult::NotFound;
    };
    if !actor.may(job) {
        return ActResult::PermissionDenied;
    }
    match (action, job.status) {
        (Action::Hold, Status::Held) => {
            let by = job.own.int("HoldReasonCode");
            if by == Some(i64::from(code::USER_REQUEST)) || by == Some(code::SPOOLING_INPUT) {
                ActResult::AlreadyDone
            } else {
                ActResult::Success
            }
        }
        (Action::Hold, Status::Removed | Status::Completed) => ActResult::BadStatus,
        (Action::Release, Status::Held) => {
            if job.own.int("HoldReasonCode") == Some(code::SPOOLING_INPUT) {
                ActResult::BadStatus
            } else {
                ActResult::Success
            }
        }
        (Action::Remove, Status::Removed) => ActResult::AlreadyDone,
        (Action::RemoveByForce, Status::Removed) | (Action::Hold | Action::Remove, _) => {
            ActResult::Success
        }
        (Action::Vacate | Action::VacateFast, status) if status.is_active() => ActResult::Success,
        _ => ActResult::BadStatus,
    }
}
