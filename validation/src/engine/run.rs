//! The shell around the schedule: tasks, limits, the clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use classad::Expr;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::graph::GraphError;
use super::schedule::{Schedule, Step, Time};
use super::settings;
use super::standing::{Detail, Standing, attributes};
use crate::check::Check;
use crate::custom::{Brought, Ending};
use crate::findings::{Entry, FORMAT, Node, Report, Verdict};
use crate::knob::Knobs;
use crate::outcome::{Failure, Outcome, Status, Whose};
use crate::probe::{Context, PoolPing, Probe, Running};
use crate::setup::Setup;

/// What a check that has a limit of its own may take longer, to say what it saw of a child that was ended at it.
const SLACK: Duration = Duration::from_millis(500);

/// All checks of a pilot, and what came of them.
pub struct Engine {
    setup: Arc<Setup>,
    knobs: Arc<Knobs>,
    ping: Option<Arc<dyn PoolPing>>,
    probes: Vec<Arc<dyn Probe>>,
    schedule: Schedule,
    /// Of each probe.
    outcomes: Vec<Option<Outcome>>,
    /// Numbers of the probes in the order of their latest ends.
    order: Vec<usize>,
    /// What was found before anything was run, such as manifests.
    findings: Vec<(Check, Outcome)>,
    ending: Option<Arc<dyn Ending>>,
    tasks: JoinSet<Outcome>,
    numbers: HashMap<Id, (usize, Instant)>,
    begin: Instant,
    started: i64,
    settled: Option<Duration>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("probes", &self.probes.len())
            .field("schedule", &self.schedule)
            .finish_non_exhaustive()
    }
}

/// One check has ended, or was skipped.
#[derive(Debug, Clone, Copy)]
pub struct Done<'a> {
    /// The check.
    pub check: &'a Check,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// It was a repetition.
    pub again: bool,
    /// It passed, failed or was skipped otherwise than the last time.
    pub news: bool,
}

impl Engine {
    /// An engine with these checks, none of which has been run.
    ///
    /// # Errors
    /// [`GraphError`]: they do not go together.
    pub fn new(
        probes: Vec<Arc<dyn Probe>>,
        setup: Arc<Setup>,
        knobs: Arc<Knobs>,
        ping: Option<Arc<dyn PoolPing>>,
    ) -> Result<Self, GraphError> {
        let mut engine = Self {
            setup,
            knobs,
            ping,
            probes: Vec::new(),
            schedule: Schedule::default(),
            outcomes: Vec::new(),
            order: Vec::new(),
            findings: Vec::new(),
            ending: None,
            tasks: JoinSet::new(),
            numbers: HashMap::new(),
            begin: Instant::now(),
            started: jiff::Timestamp::now().as_second(),
            settled: None,
        };
        engine.add(probes)?;
        Ok(engine)
    }

    /// More checks. None is added if there is an error.
    ///
    /// # Errors
    /// [`GraphError`].
    pub fn add(&mut self, probes: Vec<Arc<dyn Probe>>) -> Result<(), GraphError> {
        let wanted: Vec<Arc<dyn Probe>> = probes
            .into_iter()
            .map(|probe| settings::adjust(probe, &self.knobs))
            .collect();
        self.schedule
            .add(wanted.iter().map(|probe| probe.check().clone()))?;
        self.outcomes.extend(wanted.iter().map(|_| None));
        self.probes.extend(wanted);
        Ok(())
    }

    /// Runs every check once, side by side as far as they do not wait for each other; checks that `later` brings are
    /// run as soon as they are there. `tell` hears of each that ends. The time it takes is that of the longest chain.
    pub async fn first(
        &mut self,
        later: Running<'static, Brought>,
        mut tell: impl FnMut(Done<'_>) + Send,
    ) {
        let mut later = Some(later);
        loop {
            self.step(&mut tell);
            if later.is_none() && self.schedule.settled() {
                break;
            }
            let brought = async {
                match &mut later {
                    Some(later) => later.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                brought = brought => {
                    later = None;
                    self.take(brought, &mut tell);
                }
                Some(ended) = self.tasks.join_next_with_id() => {
                    self.ended(ended, &mut tell);
                }
            }
        }
        self.settled = Some(self.begin.elapsed());
    }

    fn take(&mut self, brought: Brought, tell: &mut (impl FnMut(Done<'_>) + Send)) {
        let Brought {
            findings,
            probes,
            ending,
        } = brought;
        self.ending = ending;
        for (check, outcome) in findings {
            tell(Done {
                check: &check,
                outcome: &outcome,
                again: false,
                news: true,
            });
            self.findings.push((check, outcome));
        }
        if let Err(error) = self.add(probes) {
            let check = Check::new("custom-checks", "what factory and frontend brought")
                .owner(crate::check::Owner::Factory);
            let failure = Failure::new(
                Whose::Factory,
                error.to_string(),
                "correct the names in the manifests",
            );
            let outcome = Outcome::failed(failure.kind("Config"));
            tell(Done {
                check: &check,
                outcome: &outcome,
                again: false,
                news: true,
            });
            self.findings.push((check, outcome));
        }
    }

    /// Waits until a check that comes again has ended. Never comes back if there is none.
    pub async fn next(&mut self, mut tell: impl FnMut(Done<'_>) + Send) {
        let mut ended_one = false;
        loop {
            let mut skipped = false;
            self.step(&mut |done| {
                skipped = true;
                tell(done);
            });
            if ended_one || skipped {
                return;
            }
            let due = self.schedule.deadline().map(|due| self.begin + due);
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(ended) = self.tasks.join_next_with_id() => {
                    self.ended(ended, &mut tell);
                    ended_one = true;
                }
                () = wait => {}
            }
        }
    }

    /// Whether any check comes again.
    #[must_use]
    pub fn comes_again(&self) -> bool {
        !self.tasks.is_empty() || self.schedule.deadline().is_some()
    }

    /// Time of the schedule.
    fn now(&self) -> Time {
        self.begin.elapsed()
    }

    /// Starts and skips what can be.
    fn step(&mut self, tell: &mut (impl FnMut(Done<'_>) + Send)) {
        for step in self.schedule.steps(self.now()) {
            match step {
                Step::Run {
                    check,
                    again,
                    limit,
                } => self.start(check, again, limit),
                Step::Skip { check, because } => {
                    let other = self
                        .probes
                        .get(because)
                        .map_or("another", |probe| probe.check().name.as_str());
                    let outcome = Outcome::skipped(format!("{other} has not passed"));
                    self.keep(check, outcome, tell);
                }
            }
        }
    }

    fn start(&mut self, number: usize, again: bool, limit: Duration) {
        let Some(probe) = self.probes.get(number).cloned() else {
            return;
        };
        let begin = Instant::now();
        let deadline = begin + limit;
        let mut context = Context::new(Arc::clone(&self.setup), Arc::clone(&self.knobs), deadline)
            .with_ping(self.ping.clone());
        if again {
            context = context.again();
        }
        let task = self.tasks.spawn(async move {
            match timeout_at(deadline + SLACK, probe.run(&context)).await {
                Ok(outcome) => outcome,
                Err(_) => Outcome::failed(too_late(probe.check(), limit)),
            }
        });
        self.numbers.insert(task.id(), (number, begin));
    }

    fn ended(
        &mut self,
        ended: Result<(Id, Outcome), tokio::task::JoinError>,
        tell: &mut (impl FnMut(Done<'_>) + Send),
    ) {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => (error.id(), Outcome::failed(broken(&error))),
        };
        let Some((number, begin)) = self.numbers.remove(&id) else {
            return;
        };
        let mut outcome = outcome;
        outcome.elapsed = begin.elapsed();
        let now = self.now();
        self.schedule.ended(number, outcome.is_passed(), now);
        self.keep(number, outcome, tell);
    }

    fn keep(&mut self, number: usize, outcome: Outcome, tell: &mut (impl FnMut(Done<'_>) + Send)) {
        let (Some(probe), Some(place)) = (self.probes.get(number), self.outcomes.get_mut(number))
        else {
            return;
        };
        let again = place.is_some();
        let before = place.as_ref().map(|before| &before.status);
        let news = is_news(before, &outcome.status);
        self.order.retain(|&known| known != number);
        self.order.push(number);
        tell(Done {
            check: probe.check(),
            outcome: place.insert(outcome),
            again,
            news,
        });
    }

    /// Every check that has an outcome, with its latest.
    pub fn outcomes(&self) -> impl Iterator<Item = (&Check, &Outcome)> + Clone {
        let found = self
            .findings
            .iter()
            .map(|(check, outcome)| (check, outcome));
        let run = self.probes.iter().zip(&self.outcomes);
        found.chain(run.filter_map(|(probe, outcome)| Some((probe.check(), outcome.as_ref()?))))
    }

    /// Whether jobs may come.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing::of(self.outcomes())
    }

    /// What follows from everything.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        Verdict::of(self.outcomes())
    }

    /// For the slot ad, at unix time `now`.
    #[must_use]
    pub fn attributes(&self, now: i64) -> Vec<(String, Expr)> {
        let detail = Detail::of(self.knobs.text("SAILPLANE_CHECK_ATTRIBUTES"));
        // Whoever spoke last counts.
        let latest = self
            .order
            .iter()
            .filter_map(|&number| self.outcomes.get(number)?.as_ref());
        let published = self
            .findings
            .iter()
            .map(|(_, outcome)| outcome)
            .chain(latest)
            .flat_map(|outcome| &outcome.attributes);
        attributes(self.outcomes(), published, detail, now)
    }

    /// Everything that was found.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started,
            elapsed: self.settled.unwrap_or_else(|| self.begin.elapsed()),
            verdict: self.verdict(),
            node: Node::probe(),
            settings: self.knobs.settings(),
            entries: self
                .outcomes()
                .map(|(check, outcome)| Entry {
                    check: check.clone(),
                    outcome: outcome.clone(),
                })
                .collect(),
        }
    }

    /// Ends what still runs, and does what custom checks have left to be done.
    pub async fn end(mut self) {
        self.tasks.shutdown().await;
        if let Some(ending) = self.ending.take() {
            ending.end(&self.report()).await;
        }
    }
}

fn too_late(check: &Check, limit: Duration) -> Failure {
    Failure {
        why: format!(
            "the check did not end within its limit of {} s",
            limit.as_secs_f64()
        ),
        whose: match check.owner {
            crate::check::Owner::Site => Whose::Site,
            crate::check::Owner::Factory => Whose::Factory,
            crate::check::Owner::Frontend => Whose::Frontend,
        },
        hint: format!(
            "a file system or a server that it looks at does not answer: see which (`timeout 5 stat -f` of the places that the \
             pilot uses; `ps -eo pid,stat,wchan,args` for processes of state D), or give it more time \
             (SAILPLANE_CHECKS_LIMIT = {}=SECONDS)",
            check.name
        ),
        transient: true,
        kind: "Timeout".to_owned(),
    }
}

/// How libraries say, by a panic, that the limit of processes is reached (`tokio`: `runtime/blocking/pool.rs`).
const NO_THREAD: &str = "OS can't spawn worker thread";

fn broken(error: &tokio::task::JoinError) -> Failure {
    if error.to_string().contains(NO_THREAD) {
        return Failure::site(
            "the check broke off: no thread could be started for it",
            "see the check processes: raise the limit of the batch system's jobs (ulimit -u, pids.max)",
        )
        .transient()
        .kind("WN_Resource");
    }
    Failure::new(
        Whose::Pilot,
        format!("the check broke off: {error}"),
        "report it to the developers of sailplane, with the log",
    )
}

/// Nothing is brought.
#[must_use]
pub fn nothing() -> Running<'static, Brought> {
    Box::pin(std::future::ready(Brought::default()))
}

/// Whether an outcome says something new to somebody who reads the log.
#[must_use]
pub fn is_news(before: Option<&Status>, now: &Status) -> bool {
    match (before, now) {
        (None, _) => true,
        (Some(before), now) => std::mem::discriminant(before) != std::mem::discriminant(now),
    }
}
