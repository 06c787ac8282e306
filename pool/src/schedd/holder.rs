//! One claim: job after job, until there is none or the claim ends.

use std::sync::Arc;

use classad::ClassAd;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::claim::Deactivate;
use super::expand::expand;
use super::startd::Startd;
use crate::JobId;
use crate::queue::{InterruptKind, NotStartable, Reservation, RunOutcome, RunRecord};
use crate::shadow::answer::Sessions;
use crate::shadow::driver::{RunEnd, Shadow, Start, unix_now};
use crate::shadow::exit::vacate;
use crate::shadow::job_ad;
use crate::shadow::machine::{Machine, Place};
use crate::shadow::proxy::ProxyWatch;
use crate::transfer::TransferTicket;

/// What a startd lets a job vacate at the most, seconds, if its ad does not say (`MachineMaxVacateTime`).
const MAX_VACATE: i64 = 600;

/// A claim that is ours.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) inner: Arc<Inner>,
    pub(super) startd: Startd,
    /// The slot's name.
    pub(super) slot: String,
    /// Its ad.
    pub(super) ad: Arc<ClassAd>,
    /// Whose jobs may run on it.
    pub(super) submitter: String,
    /// Cancelled when the startd takes the claim back.
    pub(super) released: CancellationToken,
}

/// What a job on the claim came to.
enum Next {
    /// The claim may serve another job.
    Again,
    /// End of it, with this farewell.
    End(Farewell),
}

/// How a claim ends.
enum Farewell {
    /// RELEASE_CLAIM, after the job, if one was active, was stopped.
    Release,
    /// The startd ends it, or has ended it.
    None,
    /// Not at all: the pool stops, and its next life takes it up again.
    Keep,
}

/// What is prepared for a run.
struct Prepared {
    record: RunRecord,
    filled_in: ClassAd,
    ticket: TransferTicket,
    orders: mpsc::UnboundedReceiver<InterruptKind>,
}

impl Holder {
    /// Runs `first` and then whatever of the same submitter fits.
    pub(super) async fn serve(self, first: Reservation) {
        let mut next = Some(first);
        let farewell = loop {
            let reservation = match next.take() {
                Some(reservation) => reservation,
                None if self.inner.cancel.is_cancelled() || self.released.is_cancelled() => {
                    break Farewell::Release;
                }
                None => match self.inner.parts.queue.next_for(&self.submitter, &self.ad) {
                    Some(reservation) => reservation,
                    None => break Farewell::Release,
                },
            };
            match self.run_job(reservation).await {
                Next::Again => {}
                Next::End(farewell) => break farewell,
            }
        };
        self.end(farewell).await;
    }

    /// Goes on with a job that ran before the pool was restarted, and then as [`Holder::serve`].
    pub(super) async fn resume(self, job: JobId, record: RunRecord) {
        let end = self.resume_job(job, record).await;
        match self.after(end).await {
            Next::Again => match self.inner.parts.queue.next_for(&self.submitter, &self.ad) {
                Some(reservation) => Box::pin(self.serve(reservation)).await,
                None => self.end(Farewell::Release).await,
            },
            Next::End(farewell) => self.end(farewell).await,
        }
    }

    /// Ends a claim of before the pool was restarted, and whatever still waits there.
    pub(super) async fn give_back(self) {
        self.goodbye(Deactivate::Forcibly).await;
        self.end(Farewell::Release).await;
    }

    async fn end(self, farewell: Farewell) {
        match farewell {
            Farewell::Keep => return,
            Farewell::Release if !self.released.is_cancelled() => {
                if let Err(error) = self.startd.release().await {
                    tracing::info!(
                        slot = self.slot,
                        "the claim could not be given back: {error}"
                    );
                }
            }
            Farewell::Release | Farewell::None => {}
        }
        self.inner.forget(&self.startd.claim);
        self.inner.parts.queue.claim_over(&self.startd.claim);
        tracing::debug!(slot = self.slot, claim = %self.startd.claim, "the claim is over");
    }

    fn record(&self) -> RunRecord {
        RunRecord {
            claim_id: self.startd.claim.clone(),
            slot: self.slot.clone(),
            startd: self.startd.address.to_string(),
            slot_ad: (*self.ad).clone(),
        }
    }

    fn place(&self) -> Place {
        Place {
            slot: self.slot.clone(),
            startd: self.startd.address.to_string(),
            max_vacate: self.ad.int("MachineMaxVacateTime").unwrap_or(MAX_VACATE),
            weight: self.ad.real("SlotWeight").unwrap_or(1.0),
            reconnects: self.ad.bool("HasReconnect").unwrap_or(false),
            our_host: self.inner.config.host.clone(),
        }
    }

    /// What is filled in, and the right to transfer files; or why the job cannot run at all.
    fn prepare(&self, job: &ClassAd) -> Result<(ClassAd, ClassAd, TransferTicket), String> {
        let expansion = expand(job, &self.ad, unix_now()).map_err(|error| error.to_string())?;
        let mut expanded = job.clone();
        expanded.update(&expansion.job);
        let ticket = self
            .inner
            .parts
            .transfers
            .register(&expanded, &self.startd.claim, &self.slot)
            .map_err(|error| error.to_string())?;
        Ok((expansion.job, expansion.remembered, ticket))
    }

    async fn run_job(&self, reservation: Reservation) -> Next {
        let job = reservation.job();
        let queue = &self.inner.parts.queue;
        let Some(ad) = queue.job(job) else {
            return Next::Again;
        };
        let prepared = self.prepare(&ad);
        let orders = self.inner.listen(job);
        let record = self.record();
        match queue.start(job, record.clone()).await {
            Ok(()) => {}
            Err(NotStartable::Disk { why, .. }) => {
                self.inner.unlisten(job);
                tracing::warn!(%job, "not started: {why}");
                return Next::End(Farewell::Release);
            }
            Err(error) => {
                self.inner.unlisten(job);
                tracing::debug!("{error}");
                return Next::Again;
            }
        }
        drop(reservation);
        let (filled_in, remembered, ticket) = match prepared {
            Ok(prepared) => prepared,
            Err(reason) => {
                let outcome = RunOutcome::Hold {
                    code: 0,
                    subcode: 0,
                    reason,
                    ad: ClassAd::new(),
                };
                self.finish(job, outcome).await;
                return Next::Again;
            }
        };
        let mut changes = job_ad::provisioned(&self.ad);
        changes.update(&remembered);
        queue.update(job, changes).await;
        let prepared = Prepared {
            record,
            filled_in,
            ticket,
            orders,
        };
        self.activate(job, prepared).await
    }

    async fn activate(&self, job: JobId, prepared: Prepared) -> Next {
        let Some(ad) = self.inner.parts.queue.job(job) else {
            self.inner.unlisten(job);
            return Next::Again;
        };
        let mut shadow = self.shadow(job, prepared, |sessions| {
            Machine::new(&ad, self.place(), sessions, unix_now())
        });
        shadow.proxy = ProxyWatch::new(&self.inner.parts, &ad, self.inner.config.proxy_interval);
        let activation =
            job_ad::for_activation(&ad, &shadow.filled_in, &shadow.record, shadow.facts());
        let refusal = match self.startd.activate(&activation).await {
            Ok(Some(stream)) => {
                tracing::info!(%job, slot = self.slot, "the job starts");
                let end = shadow.run(Start::Activated(Box::new(stream))).await;
                self.inner.unlisten(job);
                return self.after(end).await;
            }
            Ok(None) => format!("{} refused to run the job", self.slot),
            Err(error) => format!("{} could not be told to run the job: {error}", self.slot),
        };
        tracing::info!(%job, slot = self.slot, "{refusal}");
        drop(shadow);
        self.finish(job, RunOutcome::NotStarted { reason: refusal })
            .await;
        // The job may have been started all the same, if only the answer was lost.
        self.goodbye(Deactivate::Forcibly).await;
        Next::End(Farewell::Release)
    }

    async fn resume_job(&self, job: JobId, record: RunRecord) -> RunEnd {
        let orders = self.inner.listen(job);
        let Some(ad) = self.inner.parts.queue.job(job) else {
            self.inner.unlisten(job);
            return RunEnd::Over;
        };
        let (filled_in, ticket) = match self.prepare(&ad) {
            Ok((filled_in, _, ticket)) => (filled_in, ticket),
            Err(reason) => {
                // It ran, so its ad was in order when it started.
                let code = vacate::RECONNECT_FAILED;
                let ad = ClassAd::new();
                self.finish(job, RunOutcome::Evicted { reason, code, ad })
                    .await;
                return RunEnd::Over;
            }
        };
        let prepared = Prepared {
            record,
            filled_in,
            ticket,
            orders,
        };
        let mut shadow = self.shadow(job, prepared, |sessions| {
            Machine::resumed(&ad, self.place(), sessions, unix_now())
        });
        shadow.proxy = ProxyWatch::new(&self.inner.parts, &ad, self.inner.config.proxy_interval);
        let end = shadow.run(Start::Reconnect).await;
        self.inner.unlisten(job);
        end
    }

    fn shadow(
        &self,
        job: JobId,
        prepared: Prepared,
        machine: impl FnOnce(Sessions) -> Machine,
    ) -> Shadow<'_> {
        Shadow {
            parts: &self.inner.parts,
            config: &self.inner.config,
            startd: self.startd.clone(),
            record: prepared.record,
            job,
            filled_in: prepared.filled_in,
            machine: machine(Sessions::of(&self.startd.claim)),
            ticket: prepared.ticket,
            orders: prepared.orders,
            released: self.released.clone(),
            cancel: self.inner.cancel.clone(),
            files: None,
            proxy: ProxyWatch::none(),
        }
    }

    async fn finish(&self, job: JobId, outcome: RunOutcome) {
        self.inner.unlisten(job);
        if let Err(error) = self.inner.parts.queue.finish(job, outcome).await {
            tracing::warn!(%job, "the end of a run was not taken: {error}");
        }
    }

    /// Says goodbye to the starter; whether the claim may go on.
    async fn goodbye(&self, how: Deactivate) -> bool {
        match self.startd.deactivate(how).await {
            Ok(may_go_on) => may_go_on,
            Err(error) => {
                tracing::info!(slot = self.slot, "no answer to the farewell: {error}");
                false
            }
        }
    }

    async fn after(&self, end: RunEnd) -> Next {
        match end {
            RunEnd::Stopped => Next::End(Farewell::Keep),
            RunEnd::ClaimGone => Next::End(Farewell::None),
            RunEnd::Exited => {
                if self.released.is_cancelled() {
                    return Next::End(Farewell::None);
                }
                match self.startd.deactivate(Deactivate::Forcibly).await {
                    Ok(true) => Next::Again,
                    // The startd acts as if it had been given the claim back.
                    Ok(false) => Next::End(Farewell::None),
                    Err(error) => {
                        tracing::info!(slot = self.slot, "no answer to the farewell: {error}");
                        Next::End(Farewell::Release)
                    }
                }
            }
            RunEnd::Over => {
                if !self.released.is_cancelled() {
                    self.goodbye(Deactivate::Forcibly).await;
                }
                Next::End(Farewell::Release)
            }
        }
    }
}
