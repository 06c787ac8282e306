//! The task that runs cycles.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use classad::ClassAd;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ads::{self, LastCycle};
use super::{
    Accountant, Cycle, CycleInput, JobSource, MatchSink, NegotiatorConfig, Reason, Rejection,
    analyse, cycle, groups::asked_of_jobs,
};
use crate::JobId;
use crate::collector::Collector;

/// Changes that come within this time of each other are negotiated together.
const GATHER: Duration = Duration::from_millis(20);

/// The task that runs cycles, and what it knows. Clones share everything.
#[derive(Debug, Clone)]
pub struct Negotiator {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: NegotiatorConfig,
    kick: Notify,
    started: i64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    accountant: Accountant,
    rejections: Vec<Rejection>,
    last: LastCycle,
}

impl Negotiator {
    /// A negotiator that has not run yet.
    pub fn new(config: NegotiatorConfig) -> Self {
        let accountant = Accountant::new(config.half_life.as_secs_f64(), config.default_factor);
        Self {
            inner: Arc::new(Inner {
                kick: Notify::new(),
                started: unix_now(),
                state: Mutex::new(State {
                    accountant,
                    rejections: Vec::new(),
                    last: LastCycle::default(),
                }),
                config,
            }),
        }
    }

    /// Runs cycles until cancelled: each `NEGOTIATOR_INTERVAL`, and soon after something changed.
    pub async fn run(
        &self,
        collector: Collector,
        jobs: Arc<dyn JobSource>,
        sink: Arc<dyn MatchSink>,
        cancel: CancellationToken,
    ) {
        let changed = collector.changed();
        let mut advertised: Option<Instant> = None;
        while !cancel.is_cancelled() {
            let begin = Instant::now();
            let work = {
                let (this, collector) = (self.clone(), collector.clone());
                let (jobs, sink) = (Arc::clone(&jobs), Arc::clone(&sink));
                tokio::task::spawn_blocking(move || this.negotiate(&collector, &*jobs, &*sink))
            };
            let matches = work.await.unwrap_or_else(|error| {
                tracing::error!("a negotiation cycle failed: {error}");
                0
            });
            let due =
                advertised.is_none_or(|last| last.elapsed() >= self.inner.config.update_interval);
            if due || matches > 0 {
                self.advertise(&collector);
                advertised = Some(Instant::now());
            }
            // A long cycle is followed by a pause of its own length, so that there is time for other things.
            let earliest = begin + self.inner.config.delay.max(begin.elapsed() * 2);
            tokio::select! {
                () = cancel.cancelled() => return,
                () = sleep_until(begin + self.inner.config.interval) => {}
                () = changed.notified() => {}
                () = self.inner.kick.notified() => {}
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = sleep_until(earliest.max(Instant::now() + GATHER)) => {}
            }
        }
    }

    /// One cycle; returns the number of matches.
    fn negotiate(
        &self,
        collector: &Collector,
        jobs: &dyn JobSource,
        sink: &dyn MatchSink,
    ) -> usize {
        let (now, begin) = (unix_now(), std::time::Instant::now());
        let all = collector.slots();
        let total = all.len();
        jobs.slots_ask_for(&asked_of_jobs(&all));
        let accountant = {
            let mut state = self.state();
            state.accountant.update(&all, now);
            state.accountant.clone()
        };
        drop(all);
        let submitters = jobs.idle();
        let input = CycleInput {
            now,
            slots: collector.unreserved_slots(),
            ranks: self.inner.config.ranks.clone(),
            max_evaluations: self.inner.config.max_evaluations,
            submitters,
        };
        let Cycle {
            matches,
            rejections,
            stats,
        } = cycle(&input, &accountant);
        let seconds = begin.elapsed().as_secs_f64();
        if stats.jobs > 0 {
            tracing::info!(
                jobs = stats.jobs,
                free_slots = stats.free_slots,
                matches = matches.len(),
                groups = stats.groups,
                evaluations = stats.evaluations,
                seconds,
                "negotiation cycle"
            );
        }
        let count = matches.len();
        {
            let mut state = self.state();
            state.rejections = rejections;
            state.last = LastCycle {
                begin: now,
                seconds,
                longest: seconds.max(state.last.longest),
                stats,
                matches: count,
                submitters: input.submitters.len(),
                slots: total,
            };
        }
        if count > 0 {
            for found in &matches {
                tracing::debug!(job = %found.job, slot = found.slot.name, "match");
                collector.reserve(&found.slot);
            }
            sink.matched(matches);
        }
        count
    }

    /// Our ads: how negotiation goes, and who used what.
    pub fn ads(&self) -> Vec<ClassAd> {
        let now = unix_now();
        let state = self.state();
        let config = &self.inner.config;
        let mut all = ads::accounting(config, &state.accountant, now);
        all.push(ads::negotiator(
            config,
            self.inner.started,
            now,
            &state.last,
        ));
        all
    }

    /// Sets a submitter's priority factor.
    pub fn set_factor(&self, submitter: &str, factor: f64) {
        self.state().accountant.set_factor(submitter, factor);
    }

    /// Unix time of the figures in [`ads`](Self::ads).
    pub(super) fn ads_time(&self) -> i64 {
        self.state().last.begin
    }

    fn advertise(&self, collector: &Collector) {
        for ad in self.ads() {
            collector.advertise(ad);
        }
    }

    /// Asks for a cycle soon: jobs were submitted or released.
    pub fn kick(&self) {
        self.inner.kick.notify_one();
    }

    /// Why the job got no slot in the last cycle, in one sentence; `None`: that cycle did not reject it.
    pub fn why_not(&self, job: JobId, collector: &Collector) -> Option<String> {
        let (ad, reason) = {
            let state = self.state();
            let mut rejections = state.rejections.iter();
            let found = rejections.find(|rejection| rejection.jobs.contains(&job))?;
            (Arc::clone(&found.ad), found.reason)
        };
        if reason == Reason::NotReached {
            return Some("the last negotiation cycle had no time for it".to_owned());
        }
        Some(analyse(&ad, &collector.slots(), unix_now()).to_string())
    }

    /// The accountant's state as an ad, to be kept over restarts.
    pub fn accounts(&self) -> ClassAd {
        self.state().accountant.save()
    }

    /// Takes up what [`accounts`](Self::accounts) gave before a restart.
    pub fn restore(&self, accounts: &ClassAd) {
        self.state().accountant.restore(accounts);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let lock = self.inner.state.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
