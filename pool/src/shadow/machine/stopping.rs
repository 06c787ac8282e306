//! Wishes of the queue, limits of the job, and patience with the starter.

use super::{Due, KILLING_TIME, LAST_PATIENCE, Machine, Phase, Wish};
use crate::queue::{InterruptKind, RunOutcome};
use crate::schedd::claim::Deactivate;
use crate::shadow::exit::{hold, short_time};
use classad::ClassAd;

impl Machine {
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

    pub(super) fn stop(&mut self, how: Deactivate, now: i64) -> Option<Deactivate> {
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

    pub(super) fn silence_ends(&self) -> Option<i64> {
        // Busy with files the starter does not report.
        self.silent_until
            .filter(|_| self.phase == Phase::Executing && !self.is_transferring)
    }

    pub(super) fn stop_ends(&self) -> Option<i64> {
        self.stopping.map(|(how, since)| match how {
            Deactivate::Gracefully => since + self.vacate_time + KILLING_TIME,
            Deactivate::Forcibly => since + LAST_PATIENCE,
        })
    }

    /// Limits of the job that still count: when, hold code, reason.
    pub(super) fn limits(&self) -> impl Iterator<Item = (i64, i32, String)> {
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
}

/// How grave a wish is: a graver one replaces another.
fn weight(kind: InterruptKind) -> u8 {
    match kind {
        InterruptKind::Vacate { .. } => 0,
        InterruptKind::Hold => 1,
        InterruptKind::Remove => 2,
    }
}
