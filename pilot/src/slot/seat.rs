//! One slot as its task sees it: the machine, the claim's holder, the job, and what is shown of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cedar::ClaimId;
use cedar::net::Stream;
use classad::ClassAd;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::claims::ClaimBook;
use super::clock::Clock;
use super::event::{ClaimNumber, Ticket};
use super::machine::Machine;
use crate::advertise::facts::NodeUse;
use crate::advertise::live::{ClaimView, Counts, EndOfLife, JobView, Live, slot_ad};
use crate::advertise::offer::Offer;
use crate::backoff::BackOff;
use crate::job::{JobProgress, Reconnect, StopOrder, WishSender};

/// Pause after the node failed a job: first and longest.
const NODE_PAUSE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// A running job.
#[derive(Debug)]
pub(super) struct RunningJob {
    pub(super) ad: ClassAd,
    pub(super) orders: mpsc::Sender<StopOrder>,
    pub(super) progress: watch::Receiver<JobProgress>,
    /// Where a shadow that has come back is handed over.
    pub(super) reconnects: mpsc::Sender<Reconnect>,
    /// Where wishes of the submit side go.
    pub(super) wishes: WishSender,
    pub(super) task: AbortHandle,
    /// It has been said that `PREEMPT` has no truth value for it.
    pub(super) unclear: bool,
}

/// An activation without an answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) claim: ClaimNumber,
    pub(super) id: ClaimId,
    pub(super) ad: ClassAd,
    pub(super) stream: Stream,
}

/// One slot.
#[derive(Debug)]
pub(super) struct Seat {
    /// From 1, as in `slot1`.
    pub(super) number: u32,
    pub(super) base: Arc<ClassAd>,
    pub(super) machine: Machine,
    pub(super) job: Option<RunningJob>,
    pub(super) pending: HashMap<Ticket, Pending>,
    pub(super) counts: Counts,
    pub(super) pause: BackOff,
    /// Why the slot itself takes nothing for now.
    pub(super) trouble: Option<String>,
}

/// What all slots have in common at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common<'a> {
    pub(super) clock: &'a Clock,
    pub(super) offer: &'a Offer,
    pub(super) claims: &'a ClaimBook,
    pub(super) usage: NodeUse,
    pub(super) end: Option<EndOfLife>,
    pub(super) reason: Option<&'a str>,
    pub(super) worklife: Option<Duration>,
}

impl Seat {
    pub(super) fn new(number: u32, base: ClassAd, machine: Machine) -> Self {
        Self {
            number,
            base: Arc::new(base),
            machine,
            job: None,
            pending: HashMap::new(),
            counts: Counts::default(),
            pause: BackOff::new(NODE_PAUSE.0, NODE_PAUSE.1),
            trouble: None,
        }
    }

    /// The public ad at this moment.
    pub(super) fn ad(&self, common: Common<'_>) -> ClassAd {
        let clock = common.clock;
        let now = clock.unix(clock.now());
        let (state, activity) = self.machine.shown();
        let (state_since, activity_since) = self.machine.since();
        let accepting = self.machine.accepting();
        let live = Live {
            now,
            state: (state, clock.unix(state_since)),
            activity: (activity, clock.unix(activity_since)),
            accepting,
            reason: common
                .reason
                .or(self.trouble.as_deref())
                .filter(|_| !accepting)
                .map(str::to_owned),
            end: common.end,
            claim: self.claim_view(common),
            job: self.job_view(clock),
            usage: common.usage,
            counts: self.counts,
        };
        slot_ad(&self.base, common.offer, &live)
    }

    fn claim_view(&self, common: Common<'_>) -> Option<ClaimView> {
        let (number, since) = self.machine.claim()?;
        let record = common.claims.get(number)?;
        let holder = record.holder.as_ref()?;
        Some(ClaimView {
            public_id: record.id.public(),
            since: common.clock.unix(since),
            request: holder.request.clone(),
            client_machine: holder.client_machine.clone(),
            worn_at: common
                .worklife
                .map(|life| common.clock.unix(since.saturating_add(life))),
        })
    }

    fn job_view(&self, clock: &Clock) -> Option<JobView> {
        let job = self.job.as_ref()?;
        let activated = self.machine.job_since()?;
        Some(JobView {
            activated: clock.unix(activated),
            progress: job.progress.borrow().clone(),
            ad: job.ad.clone(),
        })
    }
}
