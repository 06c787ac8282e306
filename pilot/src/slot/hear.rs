//! What the slots' task does with what it is told: by schedds and shadows through the command port, by the links, and
//! by the pilot itself.

use std::sync::Arc;
use std::time::Duration;

use cedar::Sinful;

use super::claims::Holder;
use super::command::{Accepted, Activate, Berth, Command, Grant, Locate, Order, Request};
use super::event::{ClaimNumber, Event, Lease, Ticket, Time};
use super::matching::{fits, pledge, wanted};
use super::seat::Pending;
use super::startd::{Bar, Ending, Startd};
use crate::advertise::offer::base_ad;
use crate::blame::Exit;

/// Bounds of the keep-alive interval a schedd may ask for, seconds.
const ALIVE_INTERVAL: (i64, i64) = (10, 86_400);

impl Startd {
    pub(super) fn command(&mut self, command: Command) {
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
            Command::Suspend(proof, suspended) => {
                if let Some((claim, _)) = self.claims.resolve(&proof) {
                    self.claim_event(claim, Event::Suspend { claim, suspended });
                }
            }
            Command::Wish(session, wish) => {
                let slot = self
                    .claims
                    .of_session(&session)
                    .map(|(_, record)| record.slot);
                if let Some(slot) = slot {
                    self.wish(slot, *wish);
                }
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
            Command::Locate(locate, reply) => {
                let _ = reply.send(self.locate(*locate));
            }
            Command::Berth(session, reply) => {
                let slot = self
                    .claims
                    .of_session(&session)
                    .map(|(_, record)| record.slot);
                let _ = reply.send(slot.and_then(|slot| self.berth(slot)));
            }
            Command::AdsOfSession(session, reply) => {
                let slot = self
                    .claims
                    .of_session(&session)
                    .map(|(_, record)| record.slot);
                let ads = slot.and_then(|slot| self.ad(slot)).into_iter().collect();
                let _ = reply.send(ads);
            }
            Command::Ads(reply) => {
                let ads = (0..self.seats.len()).filter_map(|slot| self.ad(slot));
                let _ = reply.send(ads.collect());
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
            Order::Pause { why } => self.bar(Bar::Helper, Some(why)),
            Order::Resume(runner) => {
                self.runner = runner;
                self.bar(Bar::Helper, None);
            }
            Order::Checks {
                why,
                attributes,
                announce,
            } => {
                self.offer.checks = attributes;
                self.base_ads();
                for slot in (0..self.seats.len()).filter(|_| announce) {
                    self.board.changed(slot, false);
                }
                self.bar(Bar::Checks, why);
            }
            Order::Moved => self.moved(),
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

    fn base_ads(&mut self) {
        for seat in &mut self.seats {
            let base = base_ad(&self.node, &self.identity, &self.offer, seat.number);
            seat.base = Arc::new(base);
        }
    }

    /// The pilot has another address. Jobs that run go on, they have their connections. A claim whose id names an address
    /// that leads nowhere any more takes no other job; and what is offered is offered anew.
    fn moved(&mut self) {
        self.base_ads();
        let address = self.identity.address.get();
        for slot in 0..self.seats.len() {
            let Some(seat) = self.seats.get_mut(slot) else {
                continue;
            };
            if seat.machine.ended() {
                continue;
            }
            let stranded = seat
                .machine
                .claim()
                .and_then(|(claim, _)| self.claims.get(claim)?.id.address())
                .is_some_and(|old| !old.leads_where(&address));
            match self.claims.mint(slot) {
                Ok(next) => {
                    let old = seat.machine.offer_instead(next);
                    self.claims.end(self.clock.now(), old);
                }
                Err(error) => {
                    self.retire(Exit::Pilot, format!("{error}"), Duration::ZERO);
                    return;
                }
            }
            if stranded {
                self.event(slot, Event::Stranded);
            }
            self.board.changed(slot, true);
        }
    }

    /// Takes no jobs for now, or does again as far as `bar` is concerned. Jobs that run go on.
    pub(super) fn bar(&mut self, bar: Bar, why: Option<String>) {
        let before = self.bars.clone();
        match why {
            Some(why) => self.bars.insert(bar, why),
            None => self.bars.remove(&bar),
        };
        if before == self.bars {
            return;
        }
        self.poll();
        // Matches depend on it.
        for slot in 0..self.seats.len() {
            self.board.changed(slot, true);
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
        self.bars.entry(Bar::Retirement).or_insert(why);
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

    fn locate(&mut self, locate: Locate) -> Option<Berth> {
        let Locate {
            proof,
            global_job_id,
            schedd,
        } = locate;
        let (claim, record) = self.claims.resolve(&proof)?;
        let berth = self.berth(record.slot)?;
        if berth.global_job_id != global_job_id {
            return None;
        }
        self.claims.moved(claim, schedd);
        Some(berth)
    }

    /// The job of a slot, if it outlives its shadow.
    fn berth(&self, slot: usize) -> Option<Berth> {
        let job = self.seats.get(slot)?.job.as_ref()?;
        let progress = job.progress.borrow();
        Some(Berth {
            starter: progress.starter.clone()?,
            global_job_id: progress.global_job_id.clone(),
            job_id: progress.job_id.clone(),
            reconnects: job.reconnects.clone(),
        })
    }

    /// Passes an event to the slot of a claim.
    pub(super) fn claim_event(&mut self, claim: ClaimNumber, event: Event) {
        if let Some(slot) = self.claims.get(claim).map(|record| record.slot) {
            self.event(slot, event);
        }
    }

    fn all(&mut self, event: &Event) {
        for slot in 0..self.seats.len() {
            self.event(slot, event.clone());
        }
    }
}
