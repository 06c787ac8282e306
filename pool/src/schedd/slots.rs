//! Claims the slots that the negotiator gave to jobs.

use std::collections::VecDeque;
use std::sync::Arc;

use cedar::{ClaimId, Sinful};
use classad::ClassAd;

use super::Inner;
use super::claim::Claimed;
use super::holder::Holder;
use super::startd::Startd;
use crate::collector::Slot;
use crate::queue::Reservation;

/// A job that a slot was given to.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) job: Reservation,
    pub(super) submitter: String,
}

/// Claims `slot` for each of `jobs` in turn: the first with the slot's own claim, each further one with what is left of a
/// partitionable slot. What is left in the end goes to further jobs of the same users, and then back to the negotiator.
pub(super) async fn claim(inner: Arc<Inner>, slot: Slot, mut jobs: VecDeque<Wanted>) {
    let Some(mut claim) = slot.claim.clone() else {
        inner.parts.collector.unreserve(&slot.name);
        return;
    };
    let mut ad = Arc::clone(&slot.ad);
    let mut is_leftover = false;
    loop {
        let submitter = jobs.front().map(|wanted| wanted.submitter.clone());
        let Some(wanted) = jobs.pop_front() else {
            break;
        };
        match request(&inner, &slot.name, &claim, &ad, wanted).await {
            None => {
                inner.parts.collector.unreserve(&slot.name);
                return;
            }
            // The rest of the jobs are idle again.
            Some(None) => return,
            Some(Some(leftover)) => {
                claim = leftover.claim;
                ad = Arc::new(leftover.slot);
                is_leftover = true;
            }
        }
        if jobs.is_empty()
            && let Some(submitter) = submitter
            && let Some(job) = inner.parts.queue.next_for(&submitter, &ad)
        {
            jobs.push_back(Wanted { job, submitter });
        }
    }
    if is_leftover {
        inner
            .parts
            .collector
            .replace_claim(&slot.name, &claim, Some((*ad).clone()));
    } else {
        inner.parts.collector.unreserve(&slot.name);
    }
}

/// Asks for one claim, and lets its task run if it is given. `None`: refused; else what is left of the slot.
async fn request(
    inner: &Arc<Inner>,
    slot: &str,
    claim: &ClaimId,
    ad: &Arc<ClassAd>,
    wanted: Wanted,
) -> Option<Option<super::claim::Offer>> {
    let job = inner.parts.queue.job(wanted.job.job())?;
    let address = ad
        .string("MyAddress")
        .or_else(|| ad.string("StartdIpAddr"))
        .and_then(|address| Sinful::parse(&address).ok());
    let Some(address) = address else {
        tracing::warn!(slot, "the slot's ad has no usable address");
        return None;
    };
    let released = inner.remember(claim)?;
    let startd = Startd {
        client: inner.parts.client.clone(),
        address,
        claim: claim.clone(),
    };
    let config = &inner.config;
    let interval = i64::try_from(config.alive_interval.as_secs()).unwrap_or(300);
    let asked = startd.request(
        &job,
        &config.name,
        &config.address,
        interval,
        config.request_timeout,
    );
    let asked = tokio::select! {
        asked = asked => asked,
        () = inner.cancel.cancelled() => {
            inner.forget(claim);
            return None;
        }
    };
    let (ours, leftovers) = match asked {
        Ok(Claimed::Yes { slot, leftovers }) => (slot, leftovers),
        Ok(Claimed::Refused) => {
            tracing::info!(slot, job = %wanted.job.job(), "the slot refused the claim");
            inner.forget(claim);
            return None;
        }
        Err(error) => {
            tracing::warn!(slot, job = %wanted.job.job(), "the slot could not be claimed: {error}");
            inner.forget(claim);
            return None;
        }
    };
    let (name, ad) = match ours {
        Some(offer) => {
            let name = offer.slot.string("Name").unwrap_or_else(|| slot.to_owned());
            (name, Arc::new(offer.slot))
        }
        None => (slot.to_owned(), Arc::clone(ad)),
    };
    tracing::info!(slot = name, submitter = wanted.submitter, "claimed");
    let holder = Holder {
        inner: Arc::clone(inner),
        startd,
        slot: name,
        ad,
        submitter: wanted.submitter,
        released,
    };
    inner.tasks.spawn(holder.serve(wanted.job));
    Some(leftovers.map(|offer| *offer))
}
