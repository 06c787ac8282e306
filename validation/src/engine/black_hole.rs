//! A node on which job after job fails at once would swallow a queue. Failures of the environment (the helper, the
//! sandbox, the node's disk) are counted here, by what the pilot saw itself; what jobs say of themselves, such as their
//! exit codes, never counts. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::schedule::Time;

/// When it counts as a black hole, and what is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Failures within the window; 0: never.
    pub failures: usize,
    /// How long a launch counts.
    pub window: Duration,
    /// How long no jobs are taken after the first time; twice as long after each further one.
    pub pause: Duration,
    /// After so many times in a row the pilot retires; 0: never.
    pub times: u32,
}

/// How a launch ended, for the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launch {
    /// The job ran, whatever it said in the end.
    Ran,
    /// The environment kept it from running, or ended it.
    Failed,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Jobs may come.
    Open,
    /// None until then; one sentence.
    Closed {
        /// When they may come again.
        until: Time,
        /// Why not.
        why: String,
    },
    /// None any more; one sentence.
    Retire {
        /// Why not.
        why: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Open,
    Closed(Time, String),
    /// Open again, for a try: the next failure closes at once.
    Trial,
    Over(String),
}

/// What was seen of late.
#[derive(Debug, Clone)]
pub struct BlackHole {
    limits: Limits,
    launches: VecDeque<(Time, Launch)>,
    state: State,
    /// Times in a row that it was closed.
    closed: u32,
}

/// Launches that are remembered at most; far more than any limit on failures.
const REMEMBERED: usize = 10_000;

/// Longest doubling of the pause.
const DOUBLINGS: u32 = 6;

impl BlackHole {
    /// Nothing seen yet.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            launches: VecDeque::new(),
            state: State::Open,
            closed: 0,
        }
    }

    /// A launch has ended.
    pub fn note(&mut self, now: Time, launch: Launch, why: &str) {
        self.pass(now);
        if self.limits.failures == 0 {
            return;
        }
        match (&self.state, launch) {
            (State::Trial, Launch::Ran) => {
                self.state = State::Open;
                self.closed = 0;
                self.launches.clear();
            }
            (State::Trial, Launch::Failed) => self.close(now, "it failed again", why),
            (State::Open, _) => {
                self.launches.push_back((now, launch));
                let window = self.limits.window;
                while self.launches.len() > REMEMBERED
                    || self
                        .launches
                        .front()
                        .is_some_and(|(then, _)| now.saturating_sub(*then) > window)
                {
                    self.launches.pop_front();
                }
                let failed = self.failed();
                // A rare failure among many jobs that ran is no black hole, however many there are in all.
                if failed >= self.limits.failures && failed * 2 >= self.launches.len() {
                    let many = format!(
                        "{failed} of the last {} jobs failed within {} s because of this node",
                        self.launches.len(),
                        window.as_secs()
                    );
                    self.close(now, &many, why);
                }
            }
            // Jobs that had begun before.
            (State::Closed(..) | State::Over(_), _) => {}
        }
    }

    fn failed(&self) -> usize {
        self.launches
            .iter()
            .filter(|(_, launch)| *launch == Launch::Failed)
            .count()
    }

    fn close(&mut self, now: Time, what: &str, why: &str) {
        self.launches.clear();
        self.closed = self.closed.saturating_add(1);
        let sentence = format!("{what}, the last one so: {why}");
        self.state = if self.limits.times > 0 && self.closed >= self.limits.times {
            State::Over(sentence)
        } else {
            let doublings = (self.closed - 1).min(DOUBLINGS);
            let pause = self.limits.pause.saturating_mul(1 << doublings);
            State::Closed(now.saturating_add(pause), sentence)
        };
    }

    /// Time has passed.
    fn pass(&mut self, now: Time) {
        if let State::Closed(until, _) = &self.state
            && *until <= now
        {
            self.state = State::Trial;
        }
    }

    /// What follows at this moment.
    pub fn effect(&mut self, now: Time) -> Effect {
        self.pass(now);
        match &self.state {
            State::Open | State::Trial => Effect::Open,
            State::Closed(until, why) => Effect::Closed {
                until: *until,
                why: why.clone(),
            },
            State::Over(why) => Effect::Retire { why: why.clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        failures: 3,
        window: Duration::from_secs(60),
        pause: Duration::from_secs(100),
        times: 3,
    };

    fn at(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    #[test]
    fn failures_at_a_rate_close_and_a_job_that_runs_opens_for_good() {
        let mut hole = BlackHole::new(LIMITS);
        for now in [0, 30, 100, 130] {
            hole.note(at(now), Launch::Failed, "no account");
            assert_eq!(hole.effect(at(now)), Effect::Open, "{now}");
        }
        hole.note(at(140), Launch::Failed, "no account");
        assert_eq!(
            hole.effect(at(140)),
            Effect::Closed {
                until: at(240),
                why: "3 of the last 3 jobs failed within 60 s because of this node, the last one so: no account"
                    .to_owned()
            }
        );
        // A job that had begun before does not open it.
        hole.note(at(150), Launch::Ran, "");
        assert!(matches!(hole.effect(at(239)), Effect::Closed { .. }));
        assert_eq!(hole.effect(at(240)), Effect::Open);
        hole.note(at(241), Launch::Ran, "");
        hole.note(at(242), Launch::Failed, "no account");
        assert_eq!(hole.effect(at(242)), Effect::Open);
    }

    #[test]
    fn each_failed_trial_closes_twice_as_long_until_it_is_over() {
        let mut hole = BlackHole::new(LIMITS);
        for now in 0..3 {
            hole.note(at(now), Launch::Failed, "x");
        }
        assert_eq!(hole.effect(at(102)), Effect::Open);
        hole.note(at(103), Launch::Failed, "x");
        assert!(matches!(hole.effect(at(103)), Effect::Closed { until, .. } if until == at(303)));
        hole.note(at(400), Launch::Failed, "y");
        assert_eq!(
            hole.effect(at(400)),
            Effect::Retire {
                why: "it failed again, the last one so: y".to_owned()
            }
        );
    }

    #[test]
    fn rare_failures_among_many_jobs_are_no_black_hole() {
        let mut hole = BlackHole::new(LIMITS);
        for now in 0..50 {
            hole.note(at(now), Launch::Ran, "");
            hole.note(at(now), Launch::Ran, "");
            hole.note(at(now), Launch::Failed, "x");
        }
        assert_eq!(hole.effect(at(50)), Effect::Open);
    }

    proptest! {
        #[test]
        fn jobs_that_ran_never_close_it(times in prop::collection::vec(0_u64..1000, 0..100)) {
            let mut hole = BlackHole::new(LIMITS);
            for now in times {
                hole.note(at(now), Launch::Ran, "");
                prop_assert_eq!(hole.effect(at(now)), Effect::Open);
            }
        }

        #[test]
        fn it_never_closes_on_fewer_failures_than_its_limit(
            launches in prop::collection::vec((0_u64..10, any::<bool>()), 0..100),
        ) {
            let mut hole = BlackHole::new(Limits { times: 0, ..LIMITS });
            let (mut now, mut failed) = (0, Vec::new());
            for (step, ran) in launches {
                now += step;
                if hole.effect(at(now)) == Effect::Open && !ran {
                    failed.push(now);
                }
                let trial = hole.closed > 0;
                hole.note(at(now), if ran { Launch::Ran } else { Launch::Failed }, "x");
                if let Effect::Closed { until, .. } = hole.effect(at(now)) {
                    prop_assert!(until > at(now));
                    let recent = failed.iter().filter(|&&then| now - then <= 60).count();
                    prop_assert!(trial || recent >= 3);
                }
            }
        }
    }
}
