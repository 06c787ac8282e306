//! How a run ends, and what is told of it.

use classad::ClassAd;

use super::{Machine, Phase, Reaction, Step, Wish};
use crate::queue::{InterruptKind, RunOutcome};
use crate::shadow::exit::{ExitReason, hold, vacate};

impl Machine {
    pub(super) fn job_exit(&mut self, status: i32, code: i32, update: &ClassAd, now: i64) -> Step {
        let mut step = Step::new(Reaction::Silence);
        let reason = ExitReason::from_code(code);
        if matches!(reason, ExitReason::Exited { .. }) {
            self.has_begun(None, now, &mut step);
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
    pub(super) fn stopped(
        &self,
        said: (Option<String>, Option<i64>),
        ad: ClassAd,
        now: i64,
    ) -> RunOutcome {
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

    pub(super) fn evicted(
        &self,
        reason: String,
        code: i32,
        mut ad: ClassAd,
        now: i64,
    ) -> RunOutcome {
        ad.insert("LastVacateTime", now);
        ad.insert("VacateReason", reason.as_str());
        ad.insert("VacateReasonCode", i64::from(code));
        ad.insert("VacateReasonSubCode", 0);
        RunOutcome::Evicted { reason, code, ad }
    }

    /// What every end of a run tells.
    pub(super) fn final_ad(&mut self, mut ad: ClassAd, now: i64) -> ClassAd {
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
    pub(super) fn committed(&self, mut ad: ClassAd, now: i64) -> ClassAd {
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
}
