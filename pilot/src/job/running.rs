//! While the payload runs: updates, orders, the credential's end, and the payload's own.

use std::time::Duration;

use launch_protocol::broker::SignalScope;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::clock::Clock;
use super::plan::StopPlan;
use super::shadow::{Change, Shadow};
use super::syscalls::Call;
use super::trouble::Trouble;
use super::usage::{Ended, Figures};
use super::{JobProgress, JobServices, StopOrder};
use crate::broker::{Payload, PayloadEvent, PayloadEvents};
use crate::credential_watch::{CredentialWatch, WatchAction};

/// A sleep that is never reached.
const FAR: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How a payload came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exit {
    /// As `waitpid` gives it.
    pub(super) wait_status: i32,
    /// Who ended it.
    pub(super) ended: Ended,
    /// It had to be killed, after a soft stop or at once.
    pub(super) was_killed: bool,
    /// Its credential ended: the reason for the hold.
    pub(super) credential: Option<String>,
}

/// A running payload and everything that has a say in it.
pub(super) struct Running<'a> {
    pub(super) services: &'a JobServices,
    pub(super) shadow: &'a mut Shadow,
    pub(super) payload: &'a Payload,
    pub(super) events: &'a mut PayloadEvents,
    pub(super) orders: &'a mut Orders,
    pub(super) progress: &'a watch::Sender<JobProgress>,
    pub(super) clock: &'a Clock,
    pub(super) figures: &'a mut Figures,
    /// `None`: the job has no credential.
    pub(super) watch: Option<CredentialWatch>,
    pub(super) stop: StopPlan,
}

/// The slot's orders. An end of the channel is no order.
#[derive(Debug)]
pub(super) struct Orders {
    receiver: mpsc::Receiver<StopOrder>,
}

impl Orders {
    pub(super) const fn new(receiver: mpsc::Receiver<StopOrder>) -> Self {
        Self { receiver }
    }

    /// The next order; never completes when the slot has no more to say. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> StopOrder {
        match self.receiver.recv().await {
            Some(order) => order,
            None => std::future::pending().await,
        }
    }
}

/// What has been done to stop the payload.
#[derive(Debug, Default)]
struct Stopping {
    by: Option<Ended>,
    kill_at: Option<Instant>,
    was_killed: bool,
    /// The credential's end came before any order: the reason for the hold.
    credential: Option<String>,
}

impl Running<'_> {
    /// Until the payload has ended and every process of it is gone.
    pub(super) async fn until_exit(mut self) -> Result<Exit, Trouble> {
        let config = &self.services.config;
        let mut update_at = Instant::now() + config.initial_update_interval;
        let mut look_at = Instant::now();
        let mut stopping = Stopping::default();
        let wait_status = loop {
            let kill_at = stopping.kill_at.unwrap_or_else(|| Instant::now() + FAR);
            tokio::select! {
                biased;
                event = self.events.next() => match event {
                    Some(PayloadEvent::Exited { wait_status }) => break wait_status,
                    Some(PayloadEvent::Empty) => {}
                    None => return Err(crate::broker::BrokerError::Gone.into()),
                },
                change = self.shadow.change() => match change {
                    // Nobody to report to: everything else goes on.
                    Change::Lost => {}
                    Change::Back => update_at = Instant::now(),
                    Change::Over(error) => return Err(error.into()),
                },
                order = self.orders.next() => self.obey(order, &mut stopping).await?,
                () = sleep_until(kill_at) => self.kill(&mut stopping).await?,
                () = sleep_until(look_at) => look_at = self.look_at_credential(&mut stopping).await?,
                () = sleep_until(update_at) => {
                    self.update().await?;
                    update_at = Instant::now() + config.update_interval;
                }
            }
        };
        self.until_empty().await?;
        Ok(Exit {
            wait_status,
            ended: stopping.by.unwrap_or(Ended::ItsOwnAccord),
            was_killed: stopping.was_killed,
            credential: stopping.credential,
        })
    }

    async fn obey(&self, order: StopOrder, stopping: &mut Stopping) -> Result<(), Trouble> {
        match order {
            StopOrder::Soft { by, how } => {
                if stopping.by.is_some() {
                    return Ok(());
                }
                tracing::info!(%by, ?how, signal = self.stop.signal, "stopping the job softly");
                stopping.by = Some(Ended::Ordered { by, softly: true });
                self.payload
                    .signal(self.stop.signal, SignalScope::Leader)
                    .await?;
                let vacate = self.stop.vacate(self.services.config.max_vacate_time);
                let kill_at = Instant::now() + vacate;
                stopping.kill_at =
                    Some(stopping.kill_at.map_or(kill_at, |other| other.min(kill_at)));
                Ok(())
            }
            StopOrder::Hard { by, how } => {
                tracing::info!(%by, ?how, "killing the job");
                stopping.by = Some(Ended::Ordered { by, softly: false });
                self.kill(stopping).await
            }
        }
    }

    async fn kill(&self, stopping: &mut Stopping) -> Result<(), Trouble> {
        stopping.was_killed = true;
        stopping.kill_at = None;
        Ok(self.payload.kill().await?)
    }

    async fn look_at_credential(&mut self, stopping: &mut Stopping) -> Result<Instant, Trouble> {
        let Some(watch) = &mut self.watch else {
            return Ok(Instant::now() + FAR);
        };
        loop {
            match watch.poll(self.clock.now()) {
                WatchAction::Wait(time) => return Ok(Instant::now() + time),
                WatchAction::StopSoftly => {
                    let reason = watch.hold_reason();
                    tracing::warn!(reason, "stopping the job softly");
                    if stopping.by.is_none() {
                        let by = self.services.address.to_string();
                        stopping.by = Some(Ended::Ordered { by, softly: true });
                        stopping.credential = Some(reason);
                    }
                    self.payload
                        .signal(self.stop.signal, SignalScope::Leader)
                        .await?;
                }
                WatchAction::Kill => {
                    stopping.was_killed = true;
                    stopping.kill_at = None;
                    self.payload.kill().await?;
                    return Ok(Instant::now() + FAR);
                }
            }
        }
    }

    async fn update(&mut self) -> Result<(), Trouble> {
        let usage = self.payload.usage().await?;
        self.figures.record(&usage);
        let now = self.clock.now();
        self.progress
            .send_modify(|progress| self.figures.show(now, progress));
        // A shadow that is slow must not keep orders and the credential's end waiting: it gets the next report.
        if !self.shadow.is_idle() {
            tracing::debug!("the shadow is away, or has not answered to the last report yet");
            return Ok(());
        }
        let ad = self.figures.running(
            now,
            &self.services.address,
            self.services.config.update_interval,
        );
        match self.shadow.post(Call::RegisterJobInfo(&ad)).await {
            // What follows from it is decided where changes of the connection are waited for.
            Err(error) if error.is_loss() => Ok(()),
            other => Ok(other?),
        }
    }

    /// What the payload's leader left behind dies with it.
    async fn until_empty(&mut self) -> Result<(), Trouble> {
        // The helper usually says both things at once; then nothing has to be killed.
        tokio::select! {
            biased;
            event = self.events.next() => return emptied(event),
            () = tokio::task::yield_now() => {}
        }
        self.payload.kill().await?;
        let limit = self.services.config.killing_timeout;
        match tokio::time::timeout(limit, self.events.next()).await {
            Ok(event) => emptied(event),
            Err(_) => Err(Trouble::passing(format!(
                "Processes of the job were still there {} seconds after they were killed",
                limit.as_secs()
            ))),
        }
    }
}

/// After the exit only one thing can happen to a payload.
fn emptied(event: Option<PayloadEvent>) -> Result<(), Trouble> {
    event
        .map(drop)
        .ok_or_else(|| crate::broker::BrokerError::Gone.into())
}
