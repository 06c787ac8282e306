//! The task that owns all slots: it takes commands, ends of jobs and the passing of time, feeds them to the machines,
//! and carries out what they say.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cedar::Sinful;
use cedar::net::{Client, SessionCache};
use classad::ClassAd;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::sleep_until;

use super::claims::{ClaimBook, ClaimError, Holder};
use super::clock::Clock;
use super::command::{Accepted, Activate, Command, Grant, Order, Request, StartdHandle};
use super::errand::Errand;
use super::event::{ClaimNumber, Event, Lease, Policy, Ticket, Time};
use super::machine::Machine;
use super::matching::{fits, plain_retirement, plain_vacate, pledge, wanted};
use super::runner::JobRunner;
use super::seat::{Common, Pending, Seat};
use crate::advertise::board::{Board, SlotUpdate};
use crate::advertise::facts::{NodeFacts, NodeUse};
use crate::advertise::live::EndOfLife;
use crate::advertise::offer::{Identity, Offer, base_ad};
use crate::blame::Exit;
use crate::job::JobEnd;
use crate::life::Promises;

/// Bounds of the keep-alive interval a schedd may ask for, seconds.
const ALIVE_INTERVAL: (i64, i64) = (10, 86_400);

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
    commands: mpsc::Receiver<Command>,
    tickets: u64,
    usage: NodeUse,
    end: Option<EndOfLife>,
    ending: Option<Ending>,
    pause: Option<String>,
    last_claimed: Time,
    next_poll: Time,
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
        let usage = NodeUse::probe(&config.execute);
        let next_poll = now.saturating_add(config.poll);
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
            tickets: 0,
            usage,
            end: None,
            ending: None,
            pause: None,
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

    fn command(&mut self, command: Command) {
        // An answer that nobody waits for any more is no loss.
        match command {
            Command::Request(request, reply) => {
                let _ = reply.send(self.request(*request));
            }
            Command::Undelivered(claim) => self.claim_event(claim, Event::Undelivered(claim)),
            Command::Activate(activate) => self.activate(*activate),
            Command::Deactivate(proof, how, reply) => {
                let now = self.clock.now();
                let grant = self.claims.resolve(&proof).and_then(|(claim, record)| {
                    let machine = &self.seats.get(record.slot)?.machine;
                    let start = machine.reusable(now, claim);
                    Some(Grant {
                        claim,
                        start,
                        how,
                        activation: machine.activations(),
                        slot: record.slot,
                    })
                });
                let _ = reply.send(grant);
            }
            Command::Deactivated(grant) => {
                let Grant {
                    claim,
                    start,
                    how,
                    activation,
                    slot,
                } = grant;
                self.event(
                    slot,
                    Event::Deactivate {
                        claim,
                        how,
                        told_reusable: start,
                        activation,
                    },
                );
            }
            Command::Release(proof, reply) => {
                let claim = self.claims.resolve(&proof).map(|(claim, _)| claim);
                let _ = reply.send(claim.is_some());
                if let Some(claim) = claim {
                    self.claim_event(claim, Event::Release(claim));
                }
            }
            Command::Alive(proof) => {
                if let Some((claim, _)) = self.claims.resolve(&proof) {
                    self.claim_event(claim, Event::Alive(claim));
                }
            }
            Command::Updates(slots, reply) => {
                let _ = reply.send(self.updates(&slots));
            }
            Command::AdsOfSession(session, reply) => {
                let slot = self
                    .claims
                    .of_session(&session)
                    .map(|(_, record)| record.slot);
                let ads = slot.and_then(|slot| self.ad(slot)).into_iter().collect();
                let _ = reply.send(ads);
            }
            Command::Order(order) => self.order(order),
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Retire { exit, why } => self.retire(exit, why, self.config.shutdown_limit),
            Order::RetireFast { why } => {
                tracing::info!("stopping at once: {why}");
                self.ending.get_or_insert(Ending {
                    exit: Exit::Retired,
                    why,
                });
                self.all(&Event::RetireFast);
            }
            Order::Pause { why } => {
                self.pause = Some(why);
                self.poll();
            }
            Order::Resume(runner) => {
                self.runner = runner;
                self.pause = None;
                self.poll();
            }
            Order::End(end) => {
                if self.end != end {
                    self.end = end;
                    for slot in 0..self.seats.len() {
                        self.board.changed(slot, false);
                    }
                }
            }
        }
    }

    /// Takes no more jobs; those that run may go on for what they were promised, but no longer than `limit`.
    pub(super) fn retire(&mut self, exit: Exit, why: String, limit: Duration) {
        match &mut self.ending {
            // The graver reason is kept: a pilot that retires because of its node must not report success.
            Some(ending) if ending.exit != Exit::Retired || exit == Exit::Retired => {}
            ending => {
                *ending = Some(Ending {
                    exit,
                    why: why.clone(),
                })
            }
        }
        tracing::info!("retiring: {why}");
        self.pause.get_or_insert(why);
        self.all(&Event::Retire { limit });
        for slot in 0..self.seats.len() {
            self.board.changed(slot, true);
        }
    }

    fn request(&mut self, request: Request) -> Option<Accepted> {
        let Request {
            proof,
            ad,
            schedd,
            alive_interval,
            extra_claims,
            from,
        } = request;
        let (claim, record) = self.claims.resolve(&proof)?;
        let (slot, id) = (record.slot, record.id.clone());
        let now = self.clock.unix(self.clock.now());
        let slot_ad = self.ad(slot)?;
        if let Some(seat) = self.seats.get_mut(slot) {
            seat.counts.claims += 1;
        }
        let carve = ad.bool("_condor_CLAIM_PARTITIONABLE_SLOT").unwrap_or(false);
        let fits = fits(&slot_ad, &ad, now) && extra_claims == 0 && !carve;
        let interval = alive_interval.clamp(ALIVE_INTERVAL.0, ALIVE_INTERVAL.1);
        let lease = Lease {
            length: Duration::from_secs(u64::try_from(interval).unwrap_or(300))
                * self.config.alives_missed.max(1),
            we_send: ad.bool("StartdSendsAlives").unwrap_or(false),
            silent_while_active: ad.bool("_condor_StartdHandlesAlives").unwrap_or(false),
        };
        let next = match self.claims.mint(slot) {
            Ok(next) => next,
            Err(error) => {
                self.retire(Exit::Pilot, format!("{error}"), Duration::ZERO);
                return None;
            }
        };
        let wants_ad = ad.bool("_condor_SEND_CLAIMED_AD").unwrap_or(false);
        let user = ad.string("User").unwrap_or_default();
        let address = Sinful::parse(&schedd).ok();
        let holder = Holder {
            request: ad,
            client_machine: address
                .as_ref()
                .and_then(Sinful::alias_name)
                .map_or_else(|| from.ip().to_string(), str::to_owned),
            schedd: address,
        };
        let accepted = self.event(
            slot,
            Event::Request {
                claim,
                fits,
                lease,
                next,
            },
        );
        if !accepted {
            self.claims.end(Time::ZERO, next);
            tracing::info!(claim = id.public(), fits, "refused a claim");
            return None;
        }
        self.claims.hold(claim, holder);
        tracing::info!(claim = id.public(), user, schedd, "claimed");
        let ad = if wants_ad { self.ad(slot) } else { None };
        Some(Accepted { claim, id, ad })
    }

    fn activate(&mut self, activate: Activate) {
        let Activate { proof, ad, stream } = activate;
        let found = self
            .claims
            .resolve(&proof)
            .map(|(claim, record)| (claim, record.slot, record.id.clone()));
        let Some((claim, slot, id)) = found else {
            self.refuse(stream);
            return;
        };
        let now = self.clock.unix(self.clock.now());
        let (fits, pledge) = match self.ad(slot) {
            Some(slot_ad) => (wanted(&slot_ad, &ad, now), pledge(&slot_ad, &ad, now)),
            None => return,
        };
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        if let Some(seat) = self.seats.get_mut(slot) {
            seat.counts.activations += 1;
            seat.pending.insert(
                ticket,
                Pending {
                    claim,
                    id,
                    ad,
                    stream,
                },
            );
        }
        self.event(
            slot,
            Event::Activate {
                claim,
                ticket,
                fits,
                pledge,
            },
        );
    }

    /// Passes an event to the slot of a claim.
    fn claim_event(&mut self, claim: ClaimNumber, event: Event) {
        if let Some(slot) = self.claims.get(claim).map(|record| record.slot) {
            self.event(slot, event);
        }
    }

    fn all(&mut self, event: &Event) {
        for slot in 0..self.seats.len() {
            self.event(slot, event.clone());
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
            self.usage = NodeUse::probe(&self.config.execute);
            self.poll();
        }
        if self.noclaim_due().is_some_and(|due| due <= now) {
            let seconds = self.config.noclaim.unwrap_or_default().as_secs();
            let why = format!("no slot was claimed for {seconds} s (STARTD_NOCLAIM_SHUTDOWN)");
            self.retire(Exit::Retired, why, self.config.shutdown_limit);
        }
        if self.end_due().is_some_and(|due| due <= now) {
            let left = self
                .end
                .map_or(0, |end| end.die.saturating_sub(self.clock.unix(now)));
            let limit = Duration::from_secs(u64::try_from(left).unwrap_or(0));
            self.retire(Exit::Retired, "the pilot's time is over".to_owned(), limit);
        }
    }

    /// Evaluates START again for every claim. By itself it never makes a slot anything but unclaimed, however false it
    /// is: it may be about jobs only, and the negotiator evaluates it anyway (`IS_OWNER` is false by default).
    fn poll(&mut self) {
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
            let willing = self.pause.is_none();
            self.event(
                slot,
                Event::Start {
                    willing,
                    fits_claim,
                },
            );
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
            reason: self.pause.as_deref(),
            worklife: self.config.policy.worklife,
        };
        Some(self.seats.get(slot)?.ad(common))
    }

    fn updates(&self, slots: &[usize]) -> Vec<SlotUpdate> {
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
pub struct StartdCommands(mpsc::Receiver<Command>);

impl StartdCommands {
    /// A handle, and what the task needs to hear it. The handle exists first so that links can be made while the
    /// slots are not there yet.
    #[must_use]
    pub fn channel() -> (StartdHandle, Self) {
        let (handle, commands) = StartdHandle::new();
        (handle, Self(commands))
    }
}
