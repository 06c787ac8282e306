//! Which check is run when: a state machine without clock and without tasks. Events go in (a check has ended, time has
//! passed), steps come out (run this one, skip that one).

use std::time::Duration;

use super::graph::{self, GraphError, Needs};
use crate::check::{Check, Period};

/// Time since the start of the engine.
pub type Time = Duration;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Run a check.
    Run {
        /// Its number.
        check: usize,
        /// It has been run before.
        again: bool,
        /// Its limit.
        limit: Duration,
    },
    /// Do not run it, because another has not passed.
    Skip {
        /// Its number.
        check: usize,
        /// The other's.
        because: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For its first run.
    Waiting,
    /// Since then.
    Running(Time),
    /// Until then, or for ever.
    Resting(Option<Time>),
}

#[derive(Debug, Clone)]
struct Item {
    needs: Needs,
    period: Option<Duration>,
    limit: Duration,
    state: State,
    /// Whether it passed when it ended last.
    passed: Option<bool>,
}

/// The state of all checks.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    checks: Vec<Check>,
    items: Vec<Item>,
}

/// A period of nothing would be a check that never rests.
const SHORTEST_PERIOD: Duration = Duration::from_secs(1);

/// The limit of a check that has none (0).
const NO_LIMIT: Duration = Duration::from_secs(315_576_000);

impl Schedule {
    /// Checks to be run for the first time as soon as what they wait for has ended. May be called again, with checks
    /// that wait for earlier ones. Nothing is added if there is an error.
    ///
    /// # Errors
    /// [`GraphError`].
    pub fn add(&mut self, checks: impl IntoIterator<Item = Check>) -> Result<(), GraphError> {
        let mut all = self.checks.clone();
        all.extend(checks);
        let needs = graph::resolve(&all.iter().collect::<Vec<_>>())?;
        let new = all.iter().zip(needs).skip(self.items.len());
        self.items.extend(new.map(|(check, needs)| {
            Item {
                needs,
                period: match check.period {
                    Period::Once => None,
                    Period::Every(period) => Some(period.max(SHORTEST_PERIOD)),
                },
                limit: Some(check.limit)
                    .filter(|limit| !limit.is_zero())
                    .unwrap_or(NO_LIMIT),
                state: State::Waiting,
                passed: None,
            }
        }));
        self.checks = all;
        Ok(())
    }

    /// What can be done now. Skips are final: they are not to be reported back.
    pub fn steps(&mut self, now: Time) -> Vec<Step> {
        let mut steps = Vec::new();
        // One that is skipped may be what another waits for.
        loop {
            let before = steps.len();
            for check in 0..self.items.len() {
                steps.extend(self.step(check, now));
            }
            if steps.len() == before {
                return steps;
            }
        }
    }

    fn step(&mut self, check: usize, now: Time) -> Option<Step> {
        let item = self.items.get(check)?;
        let again = match item.state {
            State::Waiting => {
                let mut waits = item.needs.passed.iter().chain(&item.needs.ended);
                if waits.any(|&other| !self.has_ended(other)) {
                    return None;
                }
                false
            }
            State::Resting(Some(due)) if due <= now => true,
            State::Resting(_) | State::Running(_) => return None,
        };
        let because = item
            .needs
            .passed
            .iter()
            .copied()
            .find(|&other| !self.has_passed(other));
        let item = self.items.get_mut(check)?;
        if let Some(because) = because {
            item.passed = Some(false);
            item.state = State::Resting(item.period.map(|period| now.saturating_add(period)));
            return Some(Step::Skip { check, because });
        }
        item.state = State::Running(now);
        let limit = match item.period {
            Some(period) if again => item.limit.min(period),
            _ => item.limit,
        };
        Some(Step::Run {
            check,
            again,
            limit,
        })
    }

    fn has_ended(&self, check: usize) -> bool {
        self.items
            .get(check)
            .is_some_and(|item| item.passed.is_some())
    }

    fn has_passed(&self, check: usize) -> bool {
        self.items
            .get(check)
            .is_some_and(|item| item.passed == Some(true))
    }

    /// A check that was to be run has ended.
    pub fn ended(&mut self, check: usize, passed: bool, now: Time) {
        if let Some(item) = self.items.get_mut(check)
            && let State::Running(since) = item.state
        {
            item.passed = Some(passed);
            let due = item
                .period
                .map(|period| since.saturating_add(period).max(now));
            item.state = State::Resting(due);
        }
    }

    /// When [`steps`](Self::steps) has to be asked again, if nothing ends before.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.items
            .iter()
            .filter_map(|item| match item.state {
                State::Resting(due) => due,
                State::Waiting | State::Running(_) => None,
            })
            .min()
    }

    /// Every check has ended, or been skipped, at least once.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.items.iter().all(|item| item.passed.is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn every(name: &str, seconds: u64) -> Check {
        Check::new(name, "").every(Duration::from_secs(seconds))
    }

    fn seconds(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    fn schedule(checks: Vec<Check>) -> Schedule {
        let mut schedule = Schedule::default();
        schedule.add(checks).unwrap();
        schedule
    }

    fn runs(steps: &[Step]) -> Vec<usize> {
        steps
            .iter()
            .filter_map(|step| match step {
                Step::Run { check, .. } => Some(*check),
                Step::Skip { .. } => None,
            })
            .collect()
    }

    #[test]
    fn independent_ones_start_together_and_others_when_they_may() {
        let mut schedule = schedule(vec![
            Check::new("a", ""),
            Check::new("b", ""),
            Check::new("c", "").needs("a"),
            Check::new("d", "").after("b"),
            Check::new("e", "").needs("c"),
        ]);
        assert_eq!(runs(&schedule.steps(seconds(0))), [0, 1]);
        schedule.ended(1, false, seconds(1));
        assert_eq!(runs(&schedule.steps(seconds(1))), [3]);
        schedule.ended(0, false, seconds(2));
        assert_eq!(
            schedule.steps(seconds(2)),
            [
                Step::Skip {
                    check: 2,
                    because: 0
                },
                Step::Skip {
                    check: 4,
                    because: 2
                }
            ]
        );
        assert!(!schedule.settled());
        schedule.ended(3, true, seconds(3));
        assert!(schedule.settled());
        assert_eq!(schedule.deadline(), None);
    }

    #[test]
    fn a_check_comes_again_a_period_after_its_last_start_and_never_twice_at_a_time() {
        let mut schedule = schedule(vec![every("a", 60)]);
        assert_eq!(runs(&schedule.steps(seconds(0))), [0]);
        assert!(schedule.steps(seconds(1000)).is_empty());
        schedule.ended(0, true, seconds(5));
        assert_eq!(schedule.deadline(), Some(seconds(60)));
        assert!(schedule.steps(seconds(59)).is_empty());
        let steps = schedule.steps(seconds(60));
        assert_eq!(
            steps,
            [Step::Run {
                check: 0,
                again: true,
                limit: seconds(10)
            }]
        );
        // One that took longer than its period comes at once.
        schedule.ended(0, false, seconds(200));
        assert_eq!(runs(&schedule.steps(seconds(200))), [0]);
    }

    #[test]
    fn what_depends_on_a_check_that_fails_later_is_skipped_until_it_passes_again() {
        let mut schedule = schedule(vec![every("a", 10), every("b", 10).needs("a")]);
        let mut now = 0;
        assert_eq!(runs(&schedule.steps(seconds(now))), [0]);
        schedule.ended(0, true, seconds(now));
        assert_eq!(runs(&schedule.steps(seconds(now))), [1]);
        schedule.ended(1, true, seconds(now));
        now = 10;
        schedule.steps(seconds(now));
        schedule.ended(0, false, seconds(now));
        schedule.ended(1, true, seconds(now));
        now = 20;
        assert_eq!(
            schedule.steps(seconds(now)),
            [
                Step::Run {
                    check: 0,
                    again: true,
                    limit: seconds(10)
                },
                Step::Skip {
                    check: 1,
                    because: 0
                }
            ]
        );
        schedule.ended(0, true, seconds(now));
        now = 30;
        assert_eq!(runs(&schedule.steps(seconds(now))), [0, 1]);
    }

    #[test]
    fn more_can_be_added_while_others_run() {
        let mut schedule = schedule(vec![Check::new("a", "")]);
        schedule.steps(seconds(0));
        schedule
            .add(vec![Check::new("b", "").needs("a"), Check::new("c", "")])
            .unwrap();
        assert_eq!(runs(&schedule.steps(seconds(0))), [2]);
        assert!(schedule.add(vec![Check::new("a", "")]).is_err());
        schedule.ended(0, true, seconds(1));
        assert_eq!(runs(&schedule.steps(seconds(1))), [1]);
    }

    /// Checks that wait for earlier ones only (every graph without circles is one of them), with what comes of each
    /// run, and how long it takes.
    #[derive(Debug, Clone)]
    struct Plan {
        needs: Vec<usize>,
        after: Vec<usize>,
        period: Option<u64>,
        runs: Vec<(bool, u64)>,
    }

    fn plans() -> impl Strategy<Value = Vec<Plan>> {
        let one = (
            prop::collection::vec(any::<prop::sample::Index>(), 0..3),
            prop::collection::vec(any::<prop::sample::Index>(), 0..2),
            prop::option::of(1_u64..20),
            prop::collection::vec((prop::bool::weighted(0.7), 0_u64..30), 1..4),
        );
        prop::collection::vec(one, 1..12).prop_map(|all| {
            all.into_iter()
                .enumerate()
                .map(|(number, (needs, after, period, runs))| {
                    let earlier = |list: Vec<prop::sample::Index>| {
                        list.into_iter()
                            .filter(|_| number > 0)
                            .map(|index| index.index(number))
                            .collect()
                    };
                    Plan {
                        needs: earlier(needs),
                        after: earlier(after),
                        period,
                        runs,
                    }
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn whatever_comes_of_them(plans in plans()) {
            let checks = plans.iter().enumerate().map(|(number, plan)| {
                let mut check = Check::new(&format!("c{number}"), "");
                for other in &plan.needs {
                    check = check.needs(&format!("c{other}"));
                }
                for other in &plan.after {
                    check = check.after(&format!("c{other}"));
                }
                match plan.period {
                    Some(period) => check.every(Duration::from_secs(period)),
                    None => check,
                }
            }).collect();
            let mut schedule = schedule(checks);
            let mut last: BTreeMap<usize, bool> = BTreeMap::new();
            let mut begun: BTreeMap<usize, u64> = BTreeMap::new();
            let mut running: BTreeMap<usize, u64> = BTreeMap::new();
            let mut count: BTreeMap<usize, usize> = BTreeMap::new();
            for now in 0..200_u64 {
                // Ends first, then steps, as the shell does it.
                let over: Vec<usize> = running.iter().filter(|(_, end)| **end <= now).map(|(check, _)| *check).collect();
                for check in over {
                    running.remove(&check);
                    let nth = count[&check] - 1;
                    let plan = &plans[check];
                    let passed = plan.runs[nth % plan.runs.len()].0;
                    schedule.ended(check, passed, seconds(now));
                    last.insert(check, passed);
                }
                for step in schedule.steps(seconds(now)) {
                    match step {
                        Step::Run { check, again, .. } => {
                            let plan = &plans[check];
                            prop_assert!(!running.contains_key(&check), "two at a time");
                            prop_assert_eq!(again, last.contains_key(&check));
                            for other in &plan.needs {
                                prop_assert_eq!(last.get(other), Some(&true), "run without what it needs");
                            }
                            for other in &plan.after {
                                prop_assert!(last.contains_key(other), "run before what it follows");
                            }
                            if let Some(before) = begun.insert(check, now) {
                                prop_assert!(now - before >= plan.period.unwrap(), "too soon");
                            }
                            let nth = count.entry(check).or_insert(0);
                            running.insert(check, now + plan.runs[*nth % plan.runs.len()].1);
                            *nth += 1;
                        }
                        Step::Skip { check, because } => {
                            prop_assert!(plans[check].needs.contains(&because));
                            prop_assert_ne!(last.get(&because), Some(&true), "skipped for nothing");
                            prop_assert!(!running.contains_key(&check));
                            last.insert(check, false);
                        }
                    }
                }
                if let Some(due) = schedule.deadline() {
                    prop_assert!(due > seconds(now), "something due was left");
                }
            }
            // The longest chain of the longest runs has ended long before.
            prop_assert_eq!(schedule.settled(), last.len() == plans.len());
            let longest: u64 = plans.iter().map(|plan| plan.runs[0].1).sum();
            if longest < 200 {
                prop_assert!(schedule.settled(), "something never came to be run");
            }
        }
    }
}
