//! The task that owns all slots: it takes commands, ends of jobs and the passing of time, feeds them to the machines,
//! and carries out what they say.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cedar::net::{Client, SessionCache};
use classad::{ClassAd, Expr, Value};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::sleep_until;
use validation::engine::black_hole::{BlackHole, Limits};

use super::claims::{ClaimBook, ClaimError};
use super::clock::Clock;
use super::command::{Command, StartdHandle};
use super::errand::Errand;
use super::event::{ClaimNumber, Event, Policy, Time};
use super::eviction::{Answer, Eviction};
use super::machine::Machine;
use super::matching::{plain_retirement, plain_vacate, wanted};
use super::runner::JobRunner;
use super::seat::{Common, Seat};
use crate::advertise::board::{Board, SlotUpdate};
use crate::advertise::facts::{NodeFacts, NodeUse, NodeWatch};
use crate::advertise::live::EndOfLife;
use crate::advertise::offer::{Identity, Offer, base_ad};
use crate::blame::Exit;
use crate::job::{JobEnd, LineState};
use crate::life::Promises;

/// What the slots' task is told at its start.
#[derive(Debug, Clone)]
pub struct StartdConfig {
    /// The times that rule a slot.
    pub policy: Policy,
    /// `POLLING_INTERVAL`: between evaluations of START, and of the node's figures.
    pub poll: Duration,
    /// `STARTD_NOCLAIM_SHUTDOWN`: retire when nothing was claimed for so long.
    pub noclaim: Option<Duration>,
    /// `SHUTDOWN_GRACEFUL_TIMEOUT`: bound on the retirement time of running jobs.
    pub shutdown_limit: Duration,
    /// `MAX_CLAIM_ALIVES_MISSED`: keep-alives that may be missing before a claim ends.
    pub alives_missed: u32,
    /// `EXECUTE`.
    pub execute: PathBuf,
    /// `SAILPLANE_BLACK_HOLE_*`.
    pub black_hole: Limits,
    /// `PREEMPT`, and `WANT_HOLD` and its like.
    pub eviction: Eviction,
}

/// What the slots' task is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its rules.
    pub config: StartdConfig,
    /// Who we are.
    pub identity: Arc<Identity>,
    /// What is offered.
    pub offer: Offer,
    /// For what is said to schedds.
    pub client: Client,
    /// Runs the jobs.
    pub runner: JobRunner,
    /// Where claims are registered.
    pub sessions: SessionCache,
    /// Where changes are announced.
    pub board: Board,
    /// The time.
    pub clock: Clock,
    /// Where commands come in.
    pub commands: StartdCommands,
}

/// How the slots' task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The exit status that says whose doing it was.
    pub exit: Exit,
    /// One sentence.
    pub why: String,
}

/// What keeps jobs away from all slots for now; of several the first is named in the ads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bar {
    /// The pilot ends.
    Retirement,
    /// Nobody is there to start them.
    Helper,
    /// The node made too many of them fail.
    BlackHole,
    /// A check fails.
    Checks,
}

/// A change of a job's connection: slot, claim, which activation of it, and what it is now.
pub(super) type LineNote = (usize, ClaimNumber, u64, LineState);
type LineSender = mpsc::UnboundedSender<LineNote>;

/// The slots' task.
#[derive(Debug)]
pub struct Startd {
    pub(super) config: StartdConfig,
    pub(super) identity: Arc<Identity>,
    pub(super) offer: Offer,
    pub(super) clock: Clock,
    pub(super) client: Client,
    pub(super) runner: JobRunner,
    pub(super) board: Board,
    pub(super) claims: ClaimBook,
    pub(super) seats: Vec<Seat>,
    pub(super) jobs: JoinSet<JobEnd>,
    pub(super) job_of_task: HashMap<Id, (usize, ClaimNumber)>,
    pub(super) errands: JoinSet<Errand>,
    pub(super) commands: mpsc::Receiver<Command>,
    /// What jobs say about their connections: kept at both ends.
    pub(super) lines: (LineSender, mpsc::UnboundedReceiver<LineNote>),
    pub(super) tickets: u64,
    pub(super) watch: NodeWatch,
    pub(super) usage: NodeUse,
    pub(super) end: Option<EndOfLife>,
    pub(super) ending: Option<Ending>,
    /// Why no jobs are taken.
    pub(super) bars: BTreeMap<Bar, String>,
    pub(super) hole: BlackHole,
    pub(super) node: NodeFacts,
    pub(super) last_claimed: Time,
    pub(super) next_poll: Time,
}

impl Startd {
    /// Makes the slots; [`run`](Self::run) offers them.
    ///
    /// # Errors
    /// [`ClaimError`] if no claim ids can be made.
    pub fn new(parts: Parts, node: &NodeFacts) -> Result<Self, ClaimError> {
        let Parts {
            config,
            identity,
            offer,
            client,
            runner,
            sessions,
            board,
            clock,
            commands,
        } = parts;
        let mut claims = ClaimBook::new(identity.address.clone(), clock.started(), sessions);
        let now = clock.now();
        let mut seats = Vec::new();
        for number in 1..=offer.slots {
            let base = base_ad(node, &identity, &offer, number);
            let first = claims.mint(seats.len())?;
            let machine = Machine::new(now, config.policy.clone(), first);
            seats.push(Seat::new(number, base, machine));
        }
        let mut watch = NodeWatch::new(&config.execute);
        let usage = watch.look();
        let next_poll = now.saturating_add(config.poll);
        let hole = BlackHole::new(config.black_hole);
        Ok(Self {
            config,
            identity,
            offer,
            clock,
            client,
            runner,
            board,
            claims,
            seats,
            jobs: JoinSet::new(),
            job_of_task: HashMap::new(),
            errands: JoinSet::new(),
            commands: commands.0,
            lines: mpsc::unbounded_channel(),
            tickets: 0,
            watch,
            usage,
            end: None,
            ending: None,
            bars: BTreeMap::new(),
            hole,
            node: node.clone(),
            last_claimed: now,
            next_poll,
        })
    }

    /// What is promised to a job without looking at it.
    #[must_use]
    pub fn promises(&self) -> Promises {
        let now = self.clock.unix(self.clock.now());
        let base = self.seats.first().map(|seat| &*seat.base);
        Promises {
            retirement: base.map_or(Duration::ZERO, |base| plain_retirement(base, now)),
            vacate: base.map_or(Duration::ZERO, |base| plain_vacate(base, now)),
        }
    }

    /// Runs until every slot has retired.
    pub async fn run(mut self) -> Ending {
        self.board.open(self.seats.len());
        loop {
            if self.seats.iter().all(|seat| seat.machine.ended()) {
                break;
            }
            let due = self.clock.instant(self.deadline());
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                Some(ended) = self.jobs.join_next_with_id() => self.job_done(ended),
                Some(errand) = self.errands.join_next() => if let Ok(errand) = errand { self.errand_done(errand) },
                Some(note) = self.lines.1.recv() => self.line_changed(note),
                () = sleep_until(due) => self.tick(),
            }
        }
        self.last_errands().await;
        self.ending.unwrap_or_else(|| Ending {
            exit: Exit::Retired,
            why: "every slot has retired".to_owned(),
        })
    }

    /// What the schedds are still to be told, within reason.
    async fn last_errands(&mut self) {
        let all = async { while self.errands.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(5), all)
            .await
            .is_err()
        {
            tracing::info!("some schedds could not be told that their claims are over");
        }
    }

    fn errand_done(&mut self, errand: Errand) {
        if let Errand::Alive { claim, known } = errand {
            let event = match known {
                Some(known) => Event::AliveAnswered { claim, known },
                None => Event::AliveFailed(claim),
            };
            if known == Some(false) {
                tracing::info!("the schedd no longer knows a claim; dropping it");
            }
            self.claim_event(claim, event);
        }
    }

    fn deadline(&self) -> Time {
        let machines = self.seats.iter().filter_map(|seat| seat.machine.deadline());
        let own = [
            Some(self.next_poll),
            self.claims.deadline(),
            self.noclaim_due(),
            self.end_due(),
        ];
        machines
            .chain(own.into_iter().flatten())
            .min()
            .unwrap_or(self.next_poll)
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        self.claims.sweep(now);
        for slot in 0..self.seats.len() {
            if self
                .seats
                .get(slot)
                .and_then(|seat| seat.machine.deadline())
                .is_some_and(|due| due <= now)
            {
                self.event(slot, Event::Tick);
            }
        }
        if self.next_poll <= now {
            self.next_poll = now.saturating_add(self.config.poll);
            self.usage = self.watch.look();
            self.look_into_the_hole();
            self.poll();
            self.evict();
        }
        if self.noclaim_due().is_some_and(|due| due <= now) {
            let seconds = self.config.noclaim.unwrap_or_default().as_secs();
            let why = format!("no slot was claimed for {seconds} s (STARTD_NOCLAIM_SHUTDOWN)");
            self.retire(Exit::Retired, why, self.config.shutdown_limit);
        }
        if let Some(end) = self.end
            && self.end_due().is_some_and(|due| due <= now)
        {
            let left = end.die.saturating_sub(self.clock.unix(now));
            let limit = Duration::from_secs(u64::try_from(left).unwrap_or(0));
            self.retire(Exit::Retired, end.limit.to_string(), limit);
        }
    }

    /// Evaluates START again for every claim. By itself it never makes a slot anything but unclaimed, however false it
    /// is: it may be about jobs only, and the negotiator evaluates it anyway (`IS_OWNER` is false by default).
    pub(super) fn poll(&mut self) {
        let now = self.clock.unix(self.clock.now());
        for slot in 0..self.seats.len() {
            let Some(seat) = self.seats.get(slot) else {
                continue;
            };
            let mut fits_claim = true;
            if let Some(holder) = seat
                .machine
                .claim()
                .and_then(|(claim, _)| self.claims.get(claim)?.holder.as_ref())
                && let Some(ad) = self.ad(slot)
            {
                fits_claim = wanted(&ad, &holder.request, now);
            }
            let willing = self.bars.is_empty();
            self.event(
                slot,
                Event::Start {
                    willing,
                    fits_claim,
                },
            );
        }
    }

    /// Evaluates `PREEMPT` for every job that runs.
    fn evict(&mut self) {
        if !self.config.eviction.is_needed() {
            return;
        }
        let now = self.clock.unix(self.clock.now());
        for slot in 0..self.seats.len() {
            let Some(ad) = self.ad(slot) else { continue };
            let Some(seat) = self.seats.get_mut(slot) else {
                continue;
            };
            let Some(job) = seat.job.as_mut().filter(|_| seat.machine.preemptible()) else {
                continue;
            };
            let progress = job.progress.borrow().clone();
            match self.config.eviction.answer(&ad, &job.ad, &progress, now) {
                Answer::Stays => {}
                Answer::Leaves => {
                    tracing::warn!(
                        slot = seat.number,
                        job = progress.job_id,
                        "PREEMPT is true for a job: {}",
                        self.config.eviction.preempt.to_old()
                    );
                    self.event(slot, Event::Preempt);
                }
                // Before its figures are known it often is.
                Answer::Unclear(Value::Undefined) => {}
                Answer::Unclear(value) if !job.unclear => {
                    job.unclear = true;
                    tracing::warn!(
                        slot = seat.number,
                        job = progress.job_id,
                        "PREEMPT is neither true nor false but {}, so the job stays: {}",
                        Expr::literal(value).to_old(),
                        self.config.eviction.preempt.to_old()
                    );
                }
                Answer::Unclear(_) => {}
            }
        }
    }

    fn noclaim_due(&self) -> Option<Time> {
        let claimed = self.seats.iter().any(|seat| seat.machine.claim().is_some());
        let idle = !claimed && self.ending.is_none();
        self.config
            .noclaim
            .filter(|_| idle)
            .map(|limit| self.last_claimed.saturating_add(limit))
    }

    fn end_due(&self) -> Option<Time> {
        let end = self.end.filter(|_| self.ending.is_none())?;
        let left = end.retire.saturating_sub(self.clock.started());
        Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
    }

    /// Remembers when something was last claimed, for `STARTD_NOCLAIM_SHUTDOWN`.
    pub(super) fn note_claimed(&mut self) {
        self.last_claimed = self.clock.now();
    }

    /// The public ad of a slot at this moment.
    pub(super) fn ad(&self, slot: usize) -> Option<ClassAd> {
        let common = Common {
            clock: &self.clock,
            offer: &self.offer,
            claims: &self.claims,
            usage: self.usage,
            end: self.end,
            reason: self.bars.values().next().map(String::as_str),
            worklife: self.config.policy.worklife,
        };
        Some(self.seats.get(slot)?.ad(common))
    }

    pub(super) fn updates(&self, slots: &[usize]) -> Vec<SlotUpdate> {
        let update = |&slot: &usize| {
            let seat = self.seats.get(slot)?;
            let offered = self
                .claims
                .get(seat.machine.offered())
                .map(|record| record.id.clone());
            Some(SlotUpdate {
                slot,
                name: self.identity.slot_name(seat.number),
                public: self.ad(slot)?,
                claim: offered.filter(|_| !seat.machine.ended()),
            })
        };
        slots.iter().filter_map(update).collect()
    }
}

/// The receiving end of a [`StartdHandle`], for [`Startd::new`].
#[derive(Debug)]
pub struct StartdCommands(pub(super) mpsc::Receiver<Command>);

impl StartdCommands {
    /// A handle, and what the task needs to hear it. The handle exists first so that links can be made while the
    /// slots are not there yet.
    #[must_use]
    pub fn channel() -> (StartdHandle, Self) {
        let (handle, commands) = StartdHandle::new();
        (handle, Self(commands))
    }
}
