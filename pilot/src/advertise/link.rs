//! The link to one collector: a kept TCP connection that carries every update, and the invalidations at the end.
//!
//! Protocol page 02, sections 1.1, 1.4, 1.5. The collector never answers; reading from the connection serves only to
//! learn at once that it went away.
//!
//! When the pilot's credentials have been replaced on disk, a new connection is made with them before the old one goes:
//! claims live in sessions of their own and notice nothing of it.

use std::sync::Arc;
use std::time::Duration;

use cedar::net::{Client, Error, ReadHalf, WriteHalf};
use cedar::wire::Coding;
use cedar::{Sinful, command};
use classad::ClassAd;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::board::{BoardReader, Mark, SlotUpdate};
use super::live::{invalidation, private_ad};
use super::offer::Identity;
use crate::backoff::{BackOff, random};
use crate::blame::chain;
use crate::join::{Obtained, Proofs, Renewals, TokenRequests, wants_token};
use crate::slot::StartdHandle;

/// Changes that no match depends on are collected for this long, as HTCondor's startd does
/// (`htcondor:src/condor_startd.V6/ResMgr.cpp`).
const COLLECT: Duration = Duration::from_secs(1);

/// First and longest pause between attempts to connect.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// The same, while an older connection works and new credentials do not.
const RENEW: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Time for the invalidations; after it the collector's own ageing has to do.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a link needs.
#[derive(Debug, Clone)]
pub struct Link {
    /// The collector.
    pub collector: Sinful,
    /// Makes connections.
    pub client: Client,
    /// Who we are.
    pub identity: Arc<Identity>,
    /// `UPDATE_INTERVAL`.
    pub interval: Duration,
    /// Where the ads come from.
    pub startd: StartdHandle,
    /// Which of them changed.
    pub board: BoardReader,
    /// Ends the link; the invalidations are sent then.
    pub stop: CancellationToken,
    /// Credentials that were replaced on disk.
    pub renewals: Renewals,
    /// Where it is told what the link has proven itself with.
    pub proofs: Proofs,
    /// Asks for a token when there is none; `None`: nobody does.
    pub requests: Option<TokenRequests>,
}

/// What became of a link.
#[derive(Debug, Default)]
pub struct LinkReport {
    /// Whether a connection was ever made.
    pub connected: bool,
    /// The last failure, as one sentence with its causes.
    pub last_error: Option<String>,
}

struct Connection {
    read: ReadHalf,
    write: WriteHalf,
    /// The command of the handshake, whose number is not repeated in front of its payload.
    opened_for: Option<i32>,
}

#[derive(Default)]
struct Sent {
    marks: Vec<Mark>,
    /// Sequence numbers, one per slot and one for the startd's name: the collector counts gaps as lost updates.
    updates: Vec<i64>,
    last: Option<Instant>,
}

enum Next {
    Send(Vec<usize>),
    Wait(Instant),
}

impl Link {
    /// Runs until told to stop.
    pub async fn run(mut self) -> LinkReport {
        let mut report = LinkReport::default();
        let mut sent = Sent::default();
        let mut pause = BackOff::new(RECONNECT.0, RECONNECT.1);
        let stop = self.stop.clone();
        let mut live = None;
        while !stop.is_cancelled() {
            self.renewals.caught_up();
            let connected = tokio::select! {
                connected = self.connect(command::UPDATE_STARTD_AD) => connected,
                () = stop.cancelled() => break,
            };
            let error = match connected {
                Ok(mut connection) => {
                    report.connected = true;
                    sent.marks.clear();
                    match self.serve(&mut connection, &mut sent, &mut pause).await {
                        Ok(()) => {
                            live = Some(connection);
                            break;
                        }
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            let wait = pause.next(random());
            let text = chain(&error);
            tracing::warn!(collector = %self.collector, retry_in = ?wait, "no link to the collector: {text}");
            report.last_error = Some(text);
            let renewals = &mut self.renewals;
            let asks = wants_token(&error);
            let (collector, requests) = (&self.collector, self.requests.as_ref().filter(|_| asks));
            tokio::select! {
                () = tokio::time::sleep(wait), if requests.is_none() => {}
                () = obtain(requests, collector, wait) => {}
                () = renewals.next() => pause.reset(),
                () = stop.cancelled() => {}
            }
        }
        if report.connected {
            self.farewell(live, sent).await;
        }
        report
    }

    async fn connect(&self, command: i32) -> Result<Connection, Error> {
        let stream = self.client.start_command(&self.collector, command).await?;
        let proof = stream.proof().cloned();
        tracing::info!(
            collector = %self.collector,
            as_user = stream.our_user(),
            method = proof.as_ref().map(|proof| proof.method.name()),
            credential = proof
                .as_ref()
                .and_then(|proof| proof.origin.as_ref())
                .map(|path| path.display().to_string()),
            "connected to the collector"
        );
        if let Some(proof) = proof {
            self.proofs.tell(&self.collector.to_string(), proof);
        }
        let (mut read, write) = stream.into_split();
        read.set_read_timeout(None);
        Ok(Connection {
            read,
            write,
            opened_for: Some(command),
        })
    }

    /// Sends updates until told to stop, or until the connection breaks.
    async fn serve(
        &mut self,
        connection: &mut Connection,
        sent: &mut Sent,
        pause: &mut BackOff,
    ) -> Result<(), Error> {
        let mut renewal = BackOff::new(RENEW.0, RENEW.1);
        let mut renew_at = None;
        loop {
            let next = {
                let marks = self.board.borrow_and_update();
                sent.next(&marks, self.interval)
            };
            let until = match next {
                Next::Send(slots) => {
                    self.update(connection, sent, &slots).await?;
                    pause.reset();
                    continue;
                }
                Next::Wait(until) => until,
            };
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                heard = connection.read.recv() => match heard {
                    Ok(message) => tracing::debug!(length = message.len(), "the collector said something"),
                    Err(error) => return Err(error),
                },
                changed = self.board.changed() => if changed.is_err() {
                    // The slots' task is gone; the order to stop follows.
                    self.stop.cancelled().await;
                    return Ok(());
                },
                () = self.renewals.next() => {
                    renewal.reset();
                    renew_at = Some(Instant::now());
                }
                () = reached(renew_at) => {
                    renew_at = match self.prove_again().await {
                        Ok(new) => {
                            *connection = new;
                            sent.marks.clear();
                            None
                        }
                        Err(error) => {
                            let wait = renewal.next(random());
                            tracing::warn!(
                                collector = %self.collector,
                                retry_in = ?wait,
                                "the pilot's new credentials do not work here; the link stays as it is: {}",
                                chain(&error)
                            );
                            Some(Instant::now() + wait)
                        }
                    };
                }
                () = sleep_until(until) => {}
            }
        }
    }

    /// A second connection, with the credentials of the moment.
    async fn prove_again(&self) -> Result<Connection, Error> {
        self.client.forget(&self.collector);
        self.connect(command::UPDATE_STARTD_AD).await
    }

    async fn update(
        &self,
        connection: &mut Connection,
        sent: &mut Sent,
        slots: &[usize],
    ) -> Result<(), Error> {
        let marks = self.board.borrow().clone();
        let updates = self.startd.slot_updates(slots.to_vec()).await;
        for update in updates {
            let number = sent.number(update.slot);
            self.queue_update(connection, update, number)?;
        }
        connection.write.flush().await?;
        sent.done(&marks, slots);
        Ok(())
    }

    fn queue_update(
        &self,
        connection: &mut Connection,
        update: SlotUpdate,
        number: i64,
    ) -> Result<(), Error> {
        let SlotUpdate {
            name,
            mut public,
            claim,
            ..
        } = update;
        tracing::debug!(collector = %self.collector, slot = name, number, "update");
        public.insert("UpdateSequenceNumber", number);
        let secret = claim.as_ref().map_or("", cedar::ClaimId::as_str);
        let mut private = private_ad(&self.identity, &name, secret);
        if claim.is_none() {
            private.remove("ClaimId");
        }
        private.insert("UpdateSequenceNumber", number);
        let mut message = connection.begin(command::UPDATE_STARTD_AD);
        message.ad_without_private(&public);
        if message.coding() == Coding::Encrypted {
            message.ad(&private);
        } else {
            tracing::warn!(collector = %self.collector, "the link is not encrypted, so the claim id stays here and nobody can claim the slot");
            message.ad_without_private(&private);
        }
        connection.write.queue(message)
    }

    /// Takes the ads back, on the connection at hand or on a new one.
    async fn farewell(&self, connection: Option<Connection>, mut sent: Sent) {
        let slots = self.board.borrow().len();
        let goodbye = async {
            let mut connection = match connection {
                Some(connection) => connection,
                None => self.connect(command::INVALIDATE_STARTD_ADS).await?,
            };
            for slot in 0..slots {
                let name = self
                    .identity
                    .slot_name(u32::try_from(slot + 1).unwrap_or(u32::MAX));
                let mut ad = invalidation(&self.identity, &name, "Machine");
                ad.insert("UpdateSequenceNumber", sent.number(slot));
                connection.queue_invalidation(&ad)?;
            }
            let mut ad = invalidation(&self.identity, &self.identity.startd_name, "StartD");
            ad.insert("UpdateSequenceNumber", sent.number(slots));
            connection.queue_invalidation(&ad)?;
            connection.write.flush().await?;
            connection.write.shutdown().await?;
            // The collector closes when it has read all; what is not read by then would be lost with us.
            let _ = timeout(Duration::from_millis(500), connection.read.recv()).await;
            Ok::<(), Error>(())
        };
        match timeout(FAREWELL, goodbye).await {
            Ok(Ok(())) => tracing::info!(collector = %self.collector, "took the slot ads back"),
            Ok(Err(error)) => {
                tracing::warn!(collector = %self.collector, "could not take the slot ads back: {}", chain(&error));
            }
            Err(_) => {
                tracing::warn!(collector = %self.collector, "no time to take the slot ads back")
            }
        }
    }
}

/// Never completes without a time.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Asks the collector for a token. Completes when it is there, and a while after asking was in vain.
async fn obtain(requests: Option<&TokenRequests>, collector: &Sinful, wait: Duration) {
    let Some(requests) = requests else {
        return std::future::pending().await;
    };
    match requests.obtain(collector).await {
        Ok(Obtained::Stored(_)) => return,
        Ok(Obtained::Elsewhere) => {
            tracing::debug!(%collector, "another collector of the same trust domain is asked for a token");
        }
        Err(failure) => {
            tracing::warn!(%collector, "no token could be asked for: {}", chain(&failure));
        }
    }
    tokio::time::sleep(wait).await;
}

impl Connection {
    fn begin(&mut self, command: i32) -> cedar::MessageWriter {
        let mut message = self.write.message();
        if self.opened_for.take() != Some(command) {
            message.int(i64::from(command));
        }
        message
    }

    fn queue_invalidation(&mut self, ad: &ClassAd) -> Result<(), Error> {
        let mut message = self.begin(command::INVALIDATE_STARTD_ADS);
        message.ad(ad);
        self.write.queue(message)
    }
}

impl Sent {
    fn next(&self, marks: &[Mark], interval: Duration) -> Next {
        let now = Instant::now();
        let before = |slot: usize| self.marks.get(slot).copied().unwrap_or_default();
        let dirty: Vec<usize> = (0..marks.len())
            .filter(|&slot| marks.get(slot) != Some(&before(slot)))
            .collect();
        let urgent = dirty.iter().any(|&slot| {
            marks
                .get(slot)
                .is_some_and(|mark| mark.urgent != before(slot).urgent)
        });
        let periodic = match self.last {
            Some(last) => last + interval,
            None => now,
        };
        if marks.is_empty() {
            return Next::Wait(now + interval);
        }
        if periodic <= now {
            return Next::Send((0..marks.len()).collect());
        }
        let collected = self.last.map_or(now, |last| last + COLLECT);
        if urgent || (!dirty.is_empty() && collected <= now) {
            return Next::Send(dirty);
        }
        Next::Wait(if dirty.is_empty() {
            periodic
        } else {
            collected.min(periodic)
        })
    }

    fn number(&mut self, slot: usize) -> i64 {
        if self.updates.len() <= slot {
            self.updates.resize(slot + 1, 0);
        }
        match self.updates.get_mut(slot) {
            Some(number) => {
                *number += 1;
                *number
            }
            None => 0,
        }
    }

    fn done(&mut self, marks: &[Mark], slots: &[usize]) {
        self.marks.resize(marks.len(), Mark::default());
        for &slot in slots {
            if let (Some(old), Some(new)) = (self.marks.get_mut(slot), marks.get(slot)) {
                *old = *new;
            }
        }
        self.last = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn marks(list: &[(u64, u64)]) -> Vec<Mark> {
        list.iter()
            .map(|&(version, urgent)| Mark { version, urgent })
            .collect()
    }

    fn slots(next: Next) -> Option<Vec<usize>> {
        match next {
            Next::Send(slots) => Some(slots),
            Next::Wait(_) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_matches_depend_on_goes_out_at_once_and_the_rest_is_collected() {
        let mut sent = Sent::default();
        assert_eq!(slots(sent.next(&[], HOUR)), None);
        let first = marks(&[(1, 1), (1, 1)]);
        assert_eq!(slots(sent.next(&first, HOUR)), Some(vec![0, 1]));
        sent.done(&first, &[0, 1]);
        let busy = marks(&[(2, 1), (1, 1)]);
        assert_eq!(slots(sent.next(&busy, HOUR)), None);
        let released = marks(&[(2, 1), (2, 2)]);
        assert_eq!(slots(sent.next(&released, HOUR)), Some(vec![0, 1]));
        tokio::time::advance(COLLECT).await;
        assert_eq!(slots(sent.next(&busy, HOUR)), Some(vec![0]));
        sent.done(&busy, &[0]);
        tokio::time::advance(HOUR).await;
        assert_eq!(slots(sent.next(&busy, HOUR)), Some(vec![0, 1]));
    }

    #[test]
    fn each_name_counts_for_itself() {
        let mut sent = Sent::default();
        assert_eq!([sent.number(1), sent.number(1), sent.number(0)], [1, 2, 1]);
    }
}
