//! The schedd: claims on slots, and which job runs on which.
//!
//! [`Schedd::matched`](crate::negotiator::MatchSink::matched) takes the negotiator's matches. A task asks each slot for
//! its claim; every claim then has a task of its own, which runs one job after the other on it and is the shadow
//! ([`crate::shadow`]) of each. A claim that nobody needs any more is given back.

pub mod claim;
mod config;
pub mod expand;
mod holder;
mod slots;
pub mod startd;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cedar::net::{Client, Incoming};
use cedar::security::server::CommandRule;
use cedar::security::{EXECUTE_SIDE, Level};
use cedar::{ClaimId, Sinful, command};
use classad::ClassAd;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use config::SchedConfig;

use self::holder::Holder;
use self::slots::Wanted;
use self::startd::Startd;
use crate::JobId;
use crate::collector::{Collector, Slot};
use crate::files::UserFiles;
use crate::negotiator::{Match, MatchSink};
use crate::queue::{InterruptKind, LeftClaim, Queue, RunRecord};
use crate::transfer::Transfers;
use crate::user_log::EventSink;

/// Answer to ALIVE for a claim that is not ours.
const UNKNOWN_CLAIM: i64 = -1;
/// How long a startd's command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// What the schedd works with.
#[derive(Clone)]
pub struct Parts {
    /// For connections to startds and starters; its session cache must be that of the server.
    pub client: Client,
    /// The jobs.
    pub queue: Queue,
    /// The slots.
    pub collector: Collector,
    /// The jobs' sandboxes.
    pub transfers: Transfers,
    /// The users' files.
    pub files: UserFiles,
    /// The jobs' logs.
    pub log: Arc<dyn EventSink>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// The schedd. Clones share everything.
#[derive(Debug, Clone)]
pub struct Schedd {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: SchedConfig,
    parts: Parts,
    /// Our claims, by session id; the token is cancelled when the startd takes one back.
    claims: Mutex<HashMap<String, (ClaimId, CancellationToken)>>,
    /// Where the wishes about running jobs go.
    runs: Mutex<HashMap<JobId, mpsc::UnboundedSender<InterruptKind>>>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl Inner {
    fn claims(&self) -> MutexGuard<'_, HashMap<String, (ClaimId, CancellationToken)>> {
        // Every statement leaves the table in order.
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs(&self) -> MutexGuard<'_, HashMap<JobId, mpsc::UnboundedSender<InterruptKind>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the claim ours; `None` if it is already, or if its session cannot be had.
    fn remember(&self, claim: &ClaimId) -> Option<CancellationToken> {
        let mut claims = self.claims();
        if claims.contains_key(claim.session_id()) {
            return None;
        }
        if claim.session_info().is_none() {
            tracing::warn!(%claim, "the claim has no security session (SEC_ENABLE_MATCH_PASSWORD_AUTHENTICATION is off at the startd)");
            return None;
        }
        let sessions = self.parts.client.sessions();
        if let Err(error) = sessions.register_claim(claim, EXECUTE_SIDE) {
            tracing::warn!(%claim, "the claim's session cannot be made: {error}");
            return None;
        }
        let released = CancellationToken::new();
        let id = claim.session_id().to_owned();
        claims.insert(id, (claim.clone(), released.clone()));
        Some(released)
    }

    /// The claim is no longer ours.
    fn forget(&self, claim: &ClaimId) {
        self.claims().remove(claim.session_id());
        self.parts.client.sessions().remove_claim(claim);
    }

    /// From now on wishes about the job are heard.
    fn listen(&self, job: JobId) -> mpsc::UnboundedReceiver<InterruptKind> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.runs().insert(job, sender);
        receiver
    }

    fn unlisten(&self, job: JobId) {
        self.runs().remove(&job);
    }

    /// Whether the peer's session is that of the claim it names, and the claim ours.
    fn known(&self, text: &str, session: Option<&str>) -> Option<CancellationToken> {
        let session = session?;
        let claims = self.claims();
        let (claim, released) = claims.get(session)?;
        claim.same_as(text).then(|| released.clone())
    }
}

impl Schedd {
    /// A schedd without claims.
    #[must_use]
    pub fn new(config: SchedConfig, parts: Parts) -> Self {
        Self {
            inner: Arc::new(Inner {
                config,
                parts,
                claims: Mutex::default(),
                runs: Mutex::default(),
                tasks: TaskTracker::new(),
                cancel: CancellationToken::new(),
            }),
        }
    }

    /// The commands served by [`Schedd::serve`]. Their level is the lowest because the session of the claim is the right.
    #[must_use]
    pub fn commands() -> Vec<(i32, CommandRule)> {
        [command::ALIVE, command::RELEASE_CLAIM]
            .into_iter()
            .map(|number| (number, CommandRule::new(Level::Allow)))
            .collect()
    }

    /// Claims that are ours now.
    #[must_use]
    pub fn claim_count(&self) -> usize {
        self.inner.claims().len()
    }

    /// Serves one command.
    pub async fn serve(&self, mut incoming: Incoming) {
        let peer = incoming.stream.peer_addr();
        let command = incoming.command;
        let served = timeout(COMMAND_LIMIT, self.command(&mut incoming)).await;
        match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::info!(%peer, command, "a startd's command failed: {error}"),
            Err(_) => tracing::info!(%peer, command, "a startd's command took too long"),
        }
    }

    async fn command(&self, incoming: &mut Incoming) -> Result<(), startd::TalkError> {
        let message = incoming.stream.recv().await?;
        let text = message.reader().str()?;
        let found = self.inner.known(&text, incoming.session_id.as_deref());
        if incoming.command == command::ALIVE {
            let interval = self.inner.config.alive_interval.as_secs();
            let answer = found.map_or(UNKNOWN_CLAIM, |_| i64::try_from(interval).unwrap_or(0));
            let mut message = incoming.stream.message();
            message.int(answer);
            incoming.stream.send(message).await?;
            return Ok(incoming.stream.shutdown().await?);
        }
        match found {
            Some(released) => {
                tracing::info!(
                    session = incoming.session_id,
                    "the startd takes a claim back"
                );
                released.cancel();
            }
            None => tracing::debug!("a claim that is not ours was released"),
        }
        Ok(())
    }

    /// Reconnects to what ran before a restart, gives back claims on which nothing runs any more, and passes on the queue's wishes about running jobs, until cancelled.
    /// Jobs that run then go on running.
    pub async fn run(&self, cancel: CancellationToken) {
        let inner = &self.inner;
        for (job, record) in inner.parts.queue.running() {
            self.resume(job, record);
        }
        for claim in inner.parts.queue.left_claims() {
            self.give_back(claim);
        }
        let mut wishes = inner.parts.queue.watch();
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                wish = wishes.recv() => {
                    let Some(wish) = wish else { break };
                    let sent = inner
                        .runs()
                        .get(&wish.job)
                        .is_some_and(|run| run.send(wish.kind).is_ok());
                    if !sent {
                        tracing::debug!(job = %wish.job, "the job that was to stop does not run any more");
                    }
                }
            }
        }
        inner.cancel.cancel();
        inner.tasks.close();
        inner.tasks.wait().await;
    }

    /// Takes up a run of before.
    fn resume(&self, job: JobId, record: RunRecord) {
        let queue = &self.inner.parts.queue;
        let holder = self.holder(
            &record.claim_id,
            &record.slot,
            &record.startd,
            record.slot_ad.clone(),
            queue.submitter(job).unwrap_or_default(),
        );
        if let Some(holder) = holder {
            tracing::info!(%job, slot = record.slot, "looking for the job that ran before the restart");
            self.inner.tasks.spawn(holder.resume(job, record));
        }
    }

    /// Ends a claim of before. Its starter may not know that the end of its job was taken, and would keep the slot for as
    /// long as the job's lease.
    fn give_back(&self, left: LeftClaim) {
        let ad = ClassAd::new();
        let holder = self.holder(&left.claim_id, &left.slot, &left.startd, ad, String::new());
        if let Some(holder) = holder {
            tracing::info!(
                slot = left.slot,
                "giving back a claim of before the restart"
            );
            self.inner.tasks.spawn(holder.give_back());
        }
    }

    fn holder(
        &self,
        claim: &ClaimId,
        slot: &str,
        startd: &str,
        ad: ClassAd,
        submitter: String,
    ) -> Option<Holder> {
        let inner = &self.inner;
        let Ok(address) = Sinful::parse(startd) else {
            tracing::warn!(slot, startd, "a job ran at an address that is none");
            return None;
        };
        let released = inner.remember(claim)?;
        Some(Holder {
            inner: Arc::clone(inner),
            startd: Startd {
                client: inner.parts.client.clone(),
                address,
                claim: claim.clone(),
            },
            slot: slot.to_owned(),
            ad: Arc::new(ad),
            submitter,
            released,
        })
    }
}

impl MatchSink for Schedd {
    fn matched(&self, matches: Vec<Match>) {
        let inner = &self.inner;
        let mut slots: Vec<(Slot, VecDeque<Wanted>)> = Vec::new();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        let mut room = inner
            .config
            .max_running
            .saturating_sub(inner.claims().len());
        for Match {
            job,
            submitter,
            slot,
        } in matches
        {
            // A job that is not idle any more leaves its slot to the next cycle.
            let reservation = inner.parts.queue.reserve(job).filter(|_| room > 0);
            let Some(job) = reservation else {
                if !by_name.contains_key(&slot.name) {
                    inner.parts.collector.unreserve(&slot.name);
                }
                continue;
            };
            room -= 1;
            let wanted = Wanted { job, submitter };
            match by_name.get(&slot.name).and_then(|at| slots.get_mut(*at)) {
                Some((_, jobs)) => jobs.push_back(wanted),
                None => {
                    by_name.insert(slot.name.clone(), slots.len());
                    slots.push((slot, VecDeque::from([wanted])));
                }
            }
        }
        for (slot, jobs) in slots {
            inner
                .tasks
                .spawn(slots::claim(Arc::clone(inner), slot, jobs));
        }
    }
}
