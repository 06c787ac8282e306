//! Which job is next: for the negotiator, and for a claim that is free again.

use std::sync::Arc;

use classad::{ClassAd, symmetric_match};

use super::model::{Job, Model};
use super::run::Status;
use super::{Queue, now};
use crate::JobId;
use crate::negotiator::{JobSource, ResourceRequest, SubmitterJobs};

/// Most autoclusters that are tried for one free claim.
const MAX_TRIES: usize = 500;

/// A job set aside for one claim: not offered to anybody else until this is dropped or the job starts.
#[derive(Debug)]
pub struct Reservation {
    job: JobId,
    queue: Queue,
}

impl Reservation {
    /// The job.
    pub fn job(&self) -> JobId {
        self.job
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut model = self.queue.model();
        let Some(job) = model.jobs.get_mut(&self.job) else {
            return;
        };
        job.reserved = false;
        let idle = job.status == Status::Idle && job.run.is_none();
        drop(model);
        if idle {
            self.queue.inner.changed.notify_one();
        }
    }
}

impl Queue {
    /// Sets an idle job aside; `None` if it is not idle or set aside already.
    pub fn reserve(&self, job: JobId) -> Option<Reservation> {
        let mut model = self.model();
        let found = model.jobs.get_mut(&job)?;
        if found.status != Status::Idle || found.run.is_some() || found.reserved {
            return None;
        }
        found.reserved = true;
        drop(model);
        Some(Reservation {
            job,
            queue: self.clone(),
        })
    }

    /// The best idle job of `submitter` that matches `slot` both ways, set aside.
    ///
    /// One job of each autocluster is tried, not every job.
    pub fn next_for(&self, submitter: &str, slot: &ClassAd) -> Option<Reservation> {
        let now = now();
        let heads: Vec<(JobId, ClassAd)> = {
            let model = self.model();
            let groups = groups(&model, submitter, now);
            let heads = groups.into_iter().take(MAX_TRIES);
            heads
                .filter_map(|jobs| {
                    let first = *jobs.first()?;
                    Some((first, model.jobs.get(&first)?.whole()))
                })
                .collect()
        };
        // Whoever was faster with one job leaves us the next of its group at the next call.
        heads
            .into_iter()
            .filter(|(_, ad)| symmetric_match(ad, slot, now))
            .find_map(|(job, _)| self.reserve(job))
    }
}

/// The available idle jobs of a submitter, by priority and autocluster, best first.
fn groups(model: &Model, submitter: &str, now: i64) -> Vec<Vec<JobId>> {
    let Some(idle) = model.idle.get(submitter) else {
        return Vec::new();
    };
    let available = |job: &Job| !job.reserved && job.not_before <= now;
    let mut found: Vec<((i64, i64, JobId), Vec<JobId>)> = Vec::with_capacity(idle.len());
    for ((prio, _), group) in idle {
        let mut free = group
            .iter()
            .filter(|(_, id)| model.jobs.get(id).is_some_and(available))
            .peekable();
        if let Some((qdate, first)) = free.peek().copied() {
            let rank = (*prio, *qdate, *first);
            found.push((rank, free.map(|(_, id)| *id).collect()));
        }
    }
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, jobs)| jobs).collect()
}

impl JobSource for Queue {
    fn slots_ask_for(&self, names: &[String]) {
        self.extend_significant(names);
    }

    fn idle(&self) -> Vec<SubmitterJobs> {
        let now = now();
        let model = self.model();
        let mut submitters: Vec<&Arc<str>> = model.submitters.keys().collect();
        submitters.sort();
        submitters
            .into_iter()
            .map(|submitter| {
                let requests = groups(&model, submitter, now).into_iter();
                let requests = requests.filter_map(|jobs| {
                    let ad = model.jobs.get(jobs.first()?)?.whole();
                    Some(ResourceRequest {
                        ad: Arc::new(ad),
                        jobs,
                    })
                });
                SubmitterJobs {
                    submitter: submitter.to_string(),
                    running_weight: weight(&model, submitter),
                    requests: requests.collect(),
                }
            })
            .collect()
    }
}

/// The slot weights that a submitter's running jobs take.
pub(super) fn weight(model: &Model, submitter: &str) -> f64 {
    model
        .running
        .iter()
        .filter_map(|id| model.jobs.get(id))
        .filter(|job| &*job.submitter == submitter)
        .map(|job| job.own.real("MachineAttrSlotWeight0").unwrap_or(1.0))
        .sum()
}
