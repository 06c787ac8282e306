//! What the starter reports.

use classad::ClassAd;

use super::{EACCES, EINVAL, Machine, Phase, Reaction, SILENCE_FACTOR, Step};
use crate::queue::{RunOutcome, Status};
use crate::shadow::answer::Answer;
use crate::shadow::exit::{RemoteError, vacate};
use crate::user_log::Event;

impl Machine {
    pub(super) fn starter_info(&mut self, ad: &ClassAd) {
        self.starter.name = ad.string("Name").or_else(|| self.starter.name.take());
        self.starter.address = ad
            .string("StarterIpAddr")
            .or_else(|| self.starter.address.take());
        self.starter.version = ad
            .string("CondorVersion")
            .or_else(|| self.starter.version.take());
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

    pub(super) fn begin_execution(&mut self, now: i64, step: &mut Step) {
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

    /// The job is known to run, though nobody has said that it began: the call can have been lost with a connection, or
    /// what followed from it with the pool. In the latter case its log tells of it already.
    pub(super) fn has_begun(&mut self, since: Option<i64>, now: i64, step: &mut Step) {
        let events = step.events.len();
        let since = since.filter(|since| self.resumed && (self.activated..=now).contains(since));
        self.begin_execution(since.unwrap_or(now), step);
        if self.resumed {
            step.events.truncate(events);
        }
    }

    pub(super) fn slot_name(&self) -> &str {
        self.starter.name.as_deref().unwrap_or(&self.place.slot)
    }

    pub(super) fn update(&mut self, ad: &ClassAd, now: i64) -> Step {
        let mut step = Step::answer(Answer::OK);
        let state = ad.string("JobState");
        if state.is_some() {
            self.has_begun(ad.int("JobStartDate"), now, &mut step);
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

    pub(super) fn suspend(&mut self, ad: &ClassAd, now: i64, step: &mut Step) {
        self.phase = Phase::Suspended;
        self.suspended = Some(now);
        self.counts.suspensions += 1;
        step.changes
            .insert("TotalSuspensions", self.counts.suspensions);
        step.changes.insert("LastSuspensionTime", now);
        step.changes.insert("JobStatus", Status::Suspended.number());
        let processes = ad
            .int("NumPids")
            .and_then(|count| i32::try_from(count).ok());
        step.events.push(Event::Suspended {
            processes: processes.unwrap_or(0),
        });
    }

    pub(super) fn go_on(&mut self, now: i64, step: &mut Step) {
        self.phase = Phase::Executing;
        self.end_suspension(now, &mut step.changes);
        step.changes.insert("JobStatus", Status::Running.number());
        step.events.push(Event::Unsuspended);
    }

    pub(super) fn end_suspension(&mut self, now: i64, changes: &mut ClassAd) {
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

    pub(super) fn set_attribute(&self, name: &str, expr: &str) -> Step {
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

    pub(super) fn ulog(&mut self, ad: &ClassAd, now: i64) -> Step {
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
}
