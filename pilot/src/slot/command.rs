//! How other tasks speak to the slots' task.

use std::net::SocketAddr;
use std::sync::Arc;

use cedar::net::Stream;
use cedar::{ClaimId, Sinful};
use classad::ClassAd;
use tokio::sync::{mpsc, oneshot};

use super::claims::Proof;
use super::event::{ClaimNumber, Deactivation};
use super::runner::JobRunner;
use crate::advertise::board::SlotUpdate;
use crate::advertise::live::EndOfLife;
use crate::blame::Exit;
use crate::job::{Reconnect, Wish};
use crate::knobs::Attribute;

/// Most messages waiting for the slots' task.
const QUEUE: usize = 256;

/// REQUEST_CLAIM as it came.
#[derive(Debug)]
pub struct Request {
    /// Session and claim id.
    pub proof: Proof,
    /// The request ad.
    pub ad: ClassAd,
    /// The schedd's address, as text.
    pub schedd: String,
    /// Seconds between keep-alives.
    pub alive_interval: i64,
    /// Claims of other slots that the schedd wants to give up for this one; not supported, so more than none refuses.
    pub extra_claims: i64,
    /// Where it came from.
    pub from: SocketAddr,
}

/// What an accepted schedd is told.
#[derive(Debug)]
pub struct Accepted {
    /// The claim.
    pub claim: ClaimNumber,
    /// Its id.
    pub id: ClaimId,
    /// The claimed slot's ad, if it was asked for.
    pub ad: Option<ClassAd>,
}

/// Permission to go on with a deactivation once the answer is out.
#[derive(Debug, Clone, Copy)]
pub struct Grant {
    /// The claim.
    pub claim: ClaimNumber,
    /// The answer: may the claim be activated again?
    pub start: bool,
    pub(super) how: Deactivation,
    pub(super) activation: u64,
    pub(super) slot: usize,
}

/// ACTIVATE_CLAIM as it came, with its connection.
#[derive(Debug)]
pub struct Activate {
    /// Session and claim id.
    pub proof: Proof,
    /// The job ad.
    pub ad: ClassAd,
    /// The connection; it becomes the job's.
    pub stream: Stream,
}

/// CA_LOCATE_STARTER: a shadow looks for its job.
#[derive(Debug)]
pub struct Locate {
    /// Session and claim id.
    pub proof: Proof,
    /// `GlobalJobId`.
    pub global_job_id: String,
    /// `ScheddIpAddr`, where ALIVE and RELEASE_CLAIM go from now on.
    pub schedd: Sinful,
}

/// Where a shadow can come back to its job.
#[derive(Debug)]
pub struct Berth {
    /// The starter info ad: what the shadow is told.
    pub starter: Arc<ClassAd>,
    /// `GlobalJobId`.
    pub global_job_id: String,
    /// `cluster.proc`.
    pub job_id: String,
    /// Where its connection is handed over.
    pub reconnects: mpsc::Sender<Reconnect>,
}

/// Orders of the pilot to all its slots.
#[derive(Debug)]
pub enum Order {
    /// Retire with `exit`; running jobs may use their retirement time.
    Retire {
        /// Exit status of the pilot.
        exit: Exit,
        /// Why, for log and ad.
        why: String,
    },
    /// Retire and kill what runs.
    RetireFast {
        /// Why, for log and ad.
        why: String,
    },
    /// Take no work for now.
    Pause {
        /// Why, for log and ad.
        why: String,
    },
    /// Take work again, with this runner.
    Resume(JobRunner),
    /// What follows from the checks now.
    Checks {
        /// Why no work is taken as long as this is so; `None`: it is.
        why: Option<String>,
        /// What the slot ads say about them.
        attributes: Vec<Attribute>,
        /// The ads are to go out soon, not only when their time comes: something else than figures has changed.
        announce: bool,
    },
    /// The pilot is found under another address.
    Moved,
    /// The end of the pilot's time moved.
    End(Option<EndOfLife>),
}

#[derive(Debug)]
pub(super) enum Command {
    Request(Box<Request>, oneshot::Sender<Option<Accepted>>),
    Undelivered(ClaimNumber),
    Activate(Box<Activate>),
    Deactivate(Proof, Deactivation, oneshot::Sender<Option<Grant>>),
    Deactivated(Grant),
    Suspend(Proof, bool),
    /// A wish for the job of the claim whose session this is.
    Wish(String, Box<Wish>),
    Release(Proof, oneshot::Sender<bool>),
    Alive(Proof),
    Updates(Vec<usize>, oneshot::Sender<Vec<SlotUpdate>>),
    Locate(Box<Locate>, oneshot::Sender<Option<Berth>>),
    Berth(String, oneshot::Sender<Option<Berth>>),
    AdsOfSession(String, oneshot::Sender<Vec<ClassAd>>),
    Ads(oneshot::Sender<Vec<ClassAd>>),
    Order(Order),
}

/// Speaks to the slots' task. When that task is gone, everything is refused.
#[derive(Debug, Clone)]
pub struct StartdHandle {
    commands: mpsc::Sender<Command>,
}

impl StartdHandle {
    pub(super) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(QUEUE);
        (Self { commands }, receiver)
    }

    /// A schedd asks for a slot; `None` refuses.
    pub async fn request(&self, request: Request) -> Option<Accepted> {
        self.ask(|reply| Command::Request(Box::new(request), reply))
            .await
            .flatten()
    }

    /// The acceptance could not be delivered.
    pub async fn undelivered(&self, claim: ClaimNumber) {
        self.tell(Command::Undelivered(claim)).await;
    }

    /// A shadow brings a job; the answer goes out on its connection.
    pub async fn activate(&self, activate: Activate) {
        self.tell(Command::Activate(Box::new(activate))).await;
    }

    /// What to answer to a deactivation; `None`: the claim is not known.
    pub async fn deactivate(&self, proof: Proof, how: Deactivation) -> Option<Grant> {
        self.ask(|reply| Command::Deactivate(proof, how, reply))
            .await
            .flatten()
    }

    /// The answer is out: stop the job.
    pub async fn deactivated(&self, grant: Grant) {
        self.tell(Command::Deactivated(grant)).await;
    }

    /// A shadow has its job suspended, or lets it go on.
    pub async fn suspend(&self, proof: Proof, suspended: bool) {
        self.tell(Command::Suspend(proof, suspended)).await;
    }

    /// A shadow wishes something of the job of the claim whose session this is. Without a job it comes to nothing, and
    /// an answer that is waited for to its end.
    pub async fn wish(&self, session: String, wish: Wish) {
        self.tell(Command::Wish(session, Box::new(wish))).await;
    }

    /// A schedd gives its claim up; false: the claim is not known.
    pub async fn release(&self, proof: Proof) -> bool {
        self.ask(|reply| Command::Release(proof, reply))
            .await
            .unwrap_or(false)
    }

    /// A schedd says that it is there.
    pub async fn alive(&self, proof: Proof) {
        self.tell(Command::Alive(proof)).await;
    }

    /// The present ads of these slots.
    pub async fn slot_updates(&self, slots: Vec<usize>) -> Vec<SlotUpdate> {
        self.ask(|reply| Command::Updates(slots, reply))
            .await
            .unwrap_or_default()
    }

    /// A shadow looks for its job; `None`: it is not there, or does not outlive its shadow.
    pub async fn locate(&self, locate: Locate) -> Option<Berth> {
        self.ask(|reply| Command::Locate(Box::new(locate), reply))
            .await
            .flatten()
    }

    /// A shadow comes back to the job of the claim whose session this is; `None`: there is none to come back to.
    pub async fn berth(&self, session: String) -> Option<Berth> {
        self.ask(|reply| Command::Berth(session, reply))
            .await
            .flatten()
    }

    /// The public ads a claim's session may see: its own slot's.
    pub async fn ads_of_session(&self, session: String) -> Vec<ClassAd> {
        self.ask(|reply| Command::AdsOfSession(session, reply))
            .await
            .unwrap_or_default()
    }

    /// The public ads of all slots.
    pub async fn ads(&self) -> Vec<ClassAd> {
        self.ask(Command::Ads).await.unwrap_or_default()
    }

    /// Passes an order on.
    pub async fn order(&self, order: Order) {
        self.tell(Command::Order(order)).await;
    }

    async fn tell(&self, command: Command) {
        // Refused by silence: the task ends only when the pilot does.
        let _ = self.commands.send(command).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}
