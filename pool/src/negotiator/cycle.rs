//! One negotiation cycle: a plain function of slots, jobs and accounts.
//!
//! Slots whose ads agree in everything that any job or the slot's own policy refers to are one group ([`super::groups`])
//! and are evaluated once for each request. Slots are then given out one by one, each time to the submitter with the
//! least use in proportion to its effective priority; so shares differ from fair ones by no more than one slot's weight.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use classad::{ClassAd, half_match};

use super::groups::Groups;
use super::rank::{Preference, Ranks};
use super::weight::Part;
use super::{Accountant, Match, SubmitterJobs};
use crate::JobId;
use crate::collector::Slot;

/// What a cycle looks at.
#[derive(Debug, Clone)]
pub struct CycleInput {
    /// Unix time.
    pub now: i64,
    /// The slots; those that are claimed are left alone.
    pub slots: Vec<Slot>,
    /// The idle jobs.
    pub submitters: Vec<SubmitterJobs>,
    /// How matching slots are ordered.
    pub ranks: Ranks,
    /// Most evaluations of `Requirements`; requests that would need more wait for the next cycle.
    pub max_evaluations: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Cycle {
    /// The matches in the order they were made.
    pub matches: Vec<Match>,
    /// Requests with jobs left over.
    pub rejections: Vec<Rejection>,
    /// Figures.
    pub stats: CycleStats,
}

/// Jobs that got nothing.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// Whose.
    pub submitter: String,
    /// Their ad.
    pub ad: Arc<ClassAd>,
    /// Which.
    pub jobs: Vec<JobId>,
    /// Why.
    pub reason: Reason,
}

/// Why a request got no slot, or no further one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No slot is free.
    NoFreeSlots,
    /// No free slot fulfils the job's `Requirements`.
    JobRefuses,
    /// Free slots fulfil the job's `Requirements`, but their own (`START`) refuse the job, or they have too little left.
    SlotsRefuse,
    /// The free slots that match were given to other jobs.
    Taken,
    /// The cycle had made all the evaluations it may.
    NotReached,
}

/// Figures of a cycle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CycleStats {
    /// Free slots at the beginning.
    pub free_slots: usize,
    /// Groups of free slots that no job can tell apart.
    pub groups: usize,
    /// Idle jobs.
    pub jobs: usize,
    /// Evaluations of `Requirements` made.
    pub evaluations: u64,
}

/// A submitter's turn: the one with the least comes first.
#[derive(Debug)]
struct Turn {
    /// Use times effective priority.
    load: f64,
    priority: f64,
    submitter: usize,
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        self.load
            .total_cmp(&other.load)
            .then(self.priority.total_cmp(&other.priority))
            .then(self.submitter.cmp(&other.submitter))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn {}

/// What a request and a group of slots say of each other.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    JobRefuses,
    SlotRefuses,
    Fits(Preference),
}

/// A submitter in the course of the cycle.
#[derive(Debug)]
struct Progress {
    used: f64,
    priority: f64,
    /// The request whose turn it is.
    request: usize,
    /// Its first job that has no slot yet.
    job: usize,
    /// What is known of it and the groups, by number of the group.
    verdicts: Vec<Option<Verdict>>,
}

struct Run<'a> {
    input: &'a CycleInput,
    groups: Groups,
    cycle: Cycle,
}

/// Gives the free slots to the idle jobs.
pub fn cycle(input: &CycleInput, accountant: &Accountant) -> Cycle {
    let groups = Groups::of(input);
    let mut run = Run {
        cycle: Cycle {
            stats: CycleStats {
                free_slots: groups.free(),
                groups: groups.len(),
                jobs: input
                    .submitters
                    .iter()
                    .flat_map(|submitter| &submitter.requests)
                    .map(|request| request.jobs.len())
                    .sum(),
                evaluations: 0,
            },
            ..Cycle::default()
        },
        groups,
        input,
    };
    let mut states: Vec<Progress> = input
        .submitters
        .iter()
        .map(|submitter| Progress {
            used: submitter.running_weight.max(0.0),
            priority: accountant.effective_priority(&submitter.submitter),
            request: 0,
            job: 0,
            verdicts: Vec::new(),
        })
        .collect();
    let turn = |state: &Progress, submitter| {
        Reverse(Turn {
            load: state.used * state.priority,
            priority: state.priority,
            submitter,
        })
    };
    let mut turns: BinaryHeap<_> = states
        .iter()
        .enumerate()
        .map(|(number, state)| turn(state, number))
        .collect();
    while let Some(Reverse(next)) = turns.pop() {
        let Some(state) = states.get_mut(next.submitter) else {
            continue;
        };
        if let Some(weight) = run.serve(state, next.submitter) {
            state.used += weight;
            turns.push(turn(state, next.submitter));
        }
    }
    run.cycle
}

impl Run<'_> {
    /// Gives the submitter one slot and says what it weighs; `None`: there is none for it.
    fn serve(&mut self, state: &mut Progress, number: usize) -> Option<f64> {
        let input = self.input;
        let submitter = input.submitters.get(number)?;
        while let Some(request) = submitter.requests.get(state.request) {
            if let Some(&job) = request.jobs.get(state.job) {
                match self.place(&request.ad, &mut state.verdicts) {
                    Ok((slot, weight)) => {
                        state.job += 1;
                        self.cycle.matches.push(Match {
                            job,
                            submitter: submitter.submitter.clone(),
                            slot,
                        });
                        return Some(weight);
                    }
                    Err(reason) => self.cycle.rejections.push(Rejection {
                        submitter: submitter.submitter.clone(),
                        ad: Arc::clone(&request.ad),
                        jobs: request.jobs.get(state.job..).unwrap_or_default().to_vec(),
                        reason,
                    }),
                }
            }
            state.request += 1;
            state.job = 0;
            state.verdicts.clear();
        }
        None
    }

    /// Takes the best slot for a job.
    fn place(
        &mut self,
        job: &ClassAd,
        verdicts: &mut Vec<Option<Verdict>>,
    ) -> Result<(Slot, f64), Reason> {
        if self.cycle.stats.free_slots == 0 {
            return Err(Reason::NoFreeSlots);
        }
        loop {
            verdicts.resize(self.groups.len(), None);
            let mut best: Option<(Preference, usize)> = None;
            for (number, verdict) in verdicts.iter_mut().enumerate() {
                let Some(ad) = self.groups.open(number) else {
                    continue;
                };
                let known = match *verdict {
                    Some(known) => known,
                    None => {
                        if self.cycle.stats.evaluations >= self.input.max_evaluations {
                            return Err(Reason::NotReached);
                        }
                        let found = self.judge(job, ad);
                        self.cycle.stats.evaluations += match found {
                            Verdict::JobRefuses => 1,
                            _ => 2,
                        };
                        *verdict.insert(found)
                    }
                };
                if let Verdict::Fits(preference) = known
                    && best.is_none_or(|(other, _)| preference > other)
                {
                    best = Some((preference, number));
                }
            }
            let Some((_, number)) = best else {
                return Err(why(verdicts));
            };
            if let Some(taken) = self.groups.take(number, job, self.input.now) {
                return Ok(taken);
            }
            // Cannot be: what fits can be taken. Were it so, the group would be tried for ever.
            if let Some(verdict) = verdicts.get_mut(number) {
                *verdict = Some(Verdict::SlotRefuses);
            }
        }
    }

    fn judge(&self, job: &ClassAd, slot: &ClassAd) -> Verdict {
        let now = self.input.now;
        if !half_match(job, slot, now) {
            return Verdict::JobRefuses;
        }
        let enough =
            || !super::weight::is_partitionable(slot) || Part::of(slot, job, now).is_some();
        if !half_match(slot, job, now) || !enough() {
            return Verdict::SlotRefuses;
        }
        Verdict::Fits(self.input.ranks.preference(job, slot, now))
    }
}

/// Why nothing was found, from all that was learned on the way.
fn why(verdicts: &[Option<Verdict>]) -> Reason {
    let known = || verdicts.iter().flatten();
    if known().any(|verdict| matches!(verdict, Verdict::Fits(_))) {
        Reason::Taken
    } else if known().any(|verdict| matches!(verdict, Verdict::SlotRefuses)) {
        Reason::SlotsRefuse
    } else if known().next().is_some() {
        Reason::JobRefuses
    } else {
        // Every slot was given away before this request had its turn.
        Reason::Taken
    }
}

#[cfg(test)]
#[path = "cycle_tests.rs"]
mod tests;
