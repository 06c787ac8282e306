//! While the payload runs: updates, orders and wishes, the credential's end, and the payload's own.

use std::path::Path;
use std::time::Duration;

use launch_protocol::broker::SignalScope;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

use super::clock::Clock;
use super::hold::{Hold, HoldCode, notice_event};
use super::plan::StopPlan;
use super::service_credentials::{Sent, ServiceFiles};
use super::shadow::{Change, Shadow};
use super::syscalls::Call;
use super::trouble::Trouble;
use super::usage::{Ended, Figures};
use super::{JobProgress, JobServices, Renewal, StopOrder, Wish, Wishes};
use crate::blame::chain;
use crate::broker::{BrokerError, Payload, PayloadEvent, PayloadEvents, memfd};
use crate::credential_watch::{CredentialWatch, WatchAction};
use crate::transfer::SandboxPath;

/// A sleep that is never reached.
const FAR: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Pause before a report that could not be made is tried again: a change of the job's state should not wait for long.
const AGAIN: Duration = Duration::from_secs(1);

/// How a payload came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exit {
    /// As `waitpid` gives it.
    pub(super) wait_status: i32,
    /// Who ended it.
    pub(super) ended: Ended,
    /// It had to be killed, after a soft stop or at once.
    pub(super) was_killed: bool,
    /// It is to be held for what ended it: its credential, or the slot's policy.
    pub(super) hold: Option<Hold>,
}

/// A running payload and everything that has a say in it.
pub(super) struct Running<'a> {
    pub(super) services: &'a JobServices,
    pub(super) shadow: &'a mut Shadow,
    pub(super) payload: &'a Payload,
    pub(super) events: &'a mut PayloadEvents,
    pub(super) orders: &'a mut Orders,
    pub(super) wishes: &'a mut Wishes,
    pub(super) progress: &'a watch::Sender<JobProgress>,
    pub(super) clock: &'a Clock,
    pub(super) figures: &'a mut Figures,
    /// `None`: the job has no credential.
    pub(super) watch: Option<CredentialWatch>,
    pub(super) stop: StopPlan,
    /// Name of the proxy in the sandbox.
    pub(super) proxy: Option<&'a SandboxPath>,
    /// The service whose token says whose the job is, if a token does.
    pub(super) token: Option<&'a str>,
    /// Its user has stopped the job for a while.
    pub(super) suspended: bool,
    /// Credentials of services, to be renewed; `None`: the job names none.
    pub(super) service_files: Option<ServiceFiles>,
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

/// The hold of a job whose credential ends.
fn credential_ends(reason: &str) -> Hold {
    Hold::new(HoldCode::CorruptedCredential, 0, reason)
}

/// What has been done to stop the payload.
#[derive(Debug, Default)]
struct Stopping {
    by: Option<Ended>,
    kill_at: Option<Instant>,
    was_killed: bool,
    /// What came first, the credential's end or the slot's policy, wants it held.
    hold: Option<Hold>,
}

impl Running<'_> {
    /// Until the payload has ended and every process of it is gone.
    pub(super) async fn until_exit(mut self) -> Result<Exit, Trouble> {
        let mut stopping = Stopping::default();
        let ended = self.until_leader_exits(&mut stopping).await;
        self.wishes.close();
        let wait_status = ended?;
        self.until_empty().await?;
        Ok(Exit {
            wait_status,
            ended: stopping.by.unwrap_or(Ended::ItsOwnAccord),
            was_killed: stopping.was_killed,
            hold: stopping.hold,
        })
    }

    /// Until the payload's first process has ended; its wait status.
    async fn until_leader_exits(&mut self, stopping: &mut Stopping) -> Result<i32, Trouble> {
        let config = &self.services.config;
        let mut update_at = Instant::now() + config.initial_update_interval;
        let mut look_at = Instant::now();
        let mut refresh_at = Instant::now() + self.refresh();
        let figures = config.figures_interval.unwrap_or(FAR);
        let mut figures_at = Instant::now() + figures;
        loop {
            let kill_at = stopping.kill_at.unwrap_or_else(|| Instant::now() + FAR);
            tokio::select! {
                biased;
                event = self.events.next() => match event {
                    Some(PayloadEvent::Exited { wait_status }) => return Ok(wait_status),
                    Some(PayloadEvent::Empty) => {}
                    Some(PayloadEvent::Expiring) => self.expires(stopping),
                    Some(PayloadEvent::KilledForExpiry) => {
                        self.expires(stopping);
                        stopping.was_killed = true;
                    }
                    None => return Err(BrokerError::Gone.into()),
                },
                change = self.shadow.change() => match change {
                    // Nobody to report to: everything else goes on.
                    Change::Lost => {}
                    Change::Back => update_at = Instant::now(),
                    Change::Over(error) => return Err(error.into()),
                    Change::Credentials(sent) => if self.take_credentials(&sent).await? {
                        look_at = Instant::now();
                    },
                },
                order = self.orders.next() => self.obey(order, stopping).await?,
                wish = self.wishes.next() => if self.grant(wish, stopping).await? {
                    look_at = Instant::now();
                    update_at = look_at;
                },
                () = sleep_until(kill_at) => self.kill(stopping).await?,
                () = sleep_until(look_at) => look_at = self.look_at_credential(stopping).await?,
                () = sleep_until(refresh_at) => {
                    let is_asked = self.ask_for_credentials().await?;
                    refresh_at = Instant::now()
                        + if is_asked { self.refresh() } else { self.refresh().min(AGAIN) };
                }
                () = sleep_until(figures_at) => {
                    self.measure().await?;
                    figures_at = Instant::now() + figures;
                }
                () = sleep_until(update_at) => {
                    let is_told = self.update().await?;
                    update_at = Instant::now()
                        + if is_told { config.update_interval } else { config.update_interval.min(AGAIN) };
                }
            }
        }
    }

    async fn obey(&mut self, order: StopOrder, stopping: &mut Stopping) -> Result<(), Trouble> {
        if stopping.by.is_none() {
            stopping.hold = order.hold().cloned();
        }
        match order {
            StopOrder::Soft { by, how } => {
                if stopping.by.is_some() {
                    return Ok(());
                }
                tracing::info!(%by, ?how, signal = self.stop.signal, "stopping the job softly");
                stopping.by = Some(Ended::Ordered { by, softly: true });
                self.wake().await?;
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

    /// Does what the submit side wishes. True if there is something new to look at and to report.
    async fn grant(&mut self, wish: Wish, stopping: &Stopping) -> Result<bool, Trouble> {
        match wish {
            // What has been told to end must be able to.
            Wish::Suspend if stopping.by.is_some() || self.suspended => Ok(false),
            Wish::Suspend => {
                tracing::info!("suspending the job");
                self.payload.signal(libc::SIGSTOP, SignalScope::All).await?;
                self.suspended = true;
                Ok(true)
            }
            Wish::Continue => {
                let was_suspended = self.suspended;
                self.wake().await?;
                Ok(was_suspended)
            }
            Wish::Renew { credential, answer } => {
                let renewal = self.renew(&credential).await?;
                // A shadow that has not waited for it asks again.
                let _ = answer.send(renewal);
                Ok(renewal == Renewal::Taken)
            }
        }
    }

    /// Has a renewed proxy verified, and put in the place of the old one. What is refused leaves the job as it was.
    async fn renew(&mut self, credential: &[u8]) -> Result<Renewal, Trouble> {
        let Some(proxy) = self.proxy.filter(|_| self.watch.is_some()) else {
            tracing::info!("a renewed proxy was declined: the job came without one");
            return Ok(Renewal::Declined);
        };
        self.verify_anew(Some(proxy.as_path()), credential).await
    }

    /// Has a new credential verified, and its end watched from now on.
    async fn verify_anew(
        &mut self,
        file: Option<&Path>,
        credential: &[u8],
    ) -> Result<Renewal, Trouble> {
        let renewed = match memfd::sealed("credential", credential) {
            Ok(sealed) => self.payload.renew(file, &sealed).await,
            Err(error) => Err(BrokerError::Socket(error)),
        };
        match renewed {
            Ok(not_after) => {
                tracing::info!(not_after, "the job uses its renewed credential");
                if let Some(watch) = &mut self.watch {
                    watch.renew(not_after, self.clock.now());
                }
                self.progress
                    .send_modify(|progress| progress.credential_end = Some(not_after));
                Ok(Renewal::Taken)
            }
            Err(BrokerError::Gone) => Err(BrokerError::Gone.into()),
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "a renewed credential was refused; the job keeps the old one"
                );
                Ok(Renewal::Refused)
            }
        }
    }

    /// Time between two looks at the credentials of services.
    fn refresh(&self) -> Duration {
        let wanted = self.services.config.credential_refresh;
        wanted
            .filter(|_| self.service_files.is_some())
            .unwrap_or(FAR)
    }

    /// Asks the shadow for them. False: it cannot be asked now.
    async fn ask_for_credentials(&mut self) -> Result<bool, Trouble> {
        // As with reports: nothing else may have to wait for a shadow that is slow.
        if !self.shadow.is_idle() {
            return Ok(false);
        }
        match self.shadow.post(Call::GetCreds).await {
            Err(error) if error.is_loss() => Ok(false),
            other => other.map(|()| true).map_err(Trouble::from),
        }
    }

    /// Puts renewed ones into the sandbox. True: one of them moves the job's end.
    async fn take_credentials(&mut self, sent: &Sent) -> Result<bool, Trouble> {
        let mut renewal = None;
        match (&mut self.service_files, sent) {
            (Some(files), Sent::Credentials(sent)) => {
                let token = self.token.and_then(|service| files.news(sent, service));
                renewal = token.map(|token| Zeroizing::new(token.to_vec()));
                files.renew(self.payload, sent).await?;
            }
            (_, Sent::Unavailable) => {
                tracing::warn!(
                    "the submit side has no credentials for the job any more; it keeps those it has"
                );
            }
            (None, Sent::Credentials(_)) => {}
        }
        match renewal {
            Some(token) => Ok(self.verify_anew(None, &token).await? == Renewal::Taken),
            None => Ok(false),
        }
    }

    /// Lets a suspended job go on.
    async fn wake(&mut self) -> Result<(), Trouble> {
        if std::mem::take(&mut self.suspended) {
            tracing::info!("the job goes on");
            self.payload.signal(libc::SIGCONT, SignalScope::All).await?;
        }
        Ok(())
    }

    /// The helper stops the job because its credential ends (its own clock may be ahead of ours).
    fn expires(&self, stopping: &mut Stopping) {
        tracing::warn!("the helper stops the job because its credential ends");
        if stopping.by.is_none() {
            let by = self.services.address.to_string();
            stopping.by = Some(Ended::Ordered { by, softly: true });
            stopping.hold = self
                .watch
                .as_ref()
                .map(|watch| credential_ends(&watch.hold_reason()));
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
                WatchAction::Tell => {
                    // Nothing may have to wait for a shadow that is away or slow.
                    if !self.shadow.is_idle() {
                        watch.put_off_telling();
                        return Ok(Instant::now() + AGAIN);
                    }
                    let notice = watch.notice();
                    tracing::warn!("{notice}");
                    let event = notice_event(&notice, self.clock.now());
                    match self.shadow.post(Call::Ulog(&event)).await {
                        Err(error) if !error.is_loss() => return Err(error.into()),
                        _ => {}
                    }
                }
                WatchAction::StopSoftly => {
                    let reason = watch.hold_reason();
                    tracing::warn!(reason, "stopping the job softly");
                    if stopping.by.is_none() {
                        let by = self.services.address.to_string();
                        stopping.by = Some(Ended::Ordered { by, softly: true });
                        stopping.hold = Some(credential_ends(&reason));
                    }
                    if std::mem::take(&mut self.suspended) {
                        self.payload.signal(libc::SIGCONT, SignalScope::All).await?;
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

    /// Takes the job's figures, for the slot.
    async fn measure(&mut self) -> Result<(), Trouble> {
        let usage = self.payload.usage().await?;
        self.figures.record(&usage);
        let now = self.clock.now();
        self.progress
            .send_modify(|progress| self.figures.show(now, progress));
        Ok(())
    }

    /// Reports how the job does. False: the shadow could not be told now.
    async fn update(&mut self) -> Result<bool, Trouble> {
        self.measure().await?;
        let now = self.clock.now();
        // A shadow that is slow must not keep orders and the credential's end waiting: it gets the next report.
        if !self.shadow.is_idle() {
            tracing::debug!("the shadow is away, or has not answered to the last report yet");
            return Ok(false);
        }
        let ad = self.figures.running(
            now,
            &self.services.address.get(),
            self.services.config.update_interval,
            self.suspended,
        );
        match self.shadow.post(Call::RegisterJobInfo(&ad)).await {
            // What follows from it is decided where changes of the connection are waited for.
            Err(error) if error.is_loss() => Ok(false),
            other => other.map(|()| true).map_err(Trouble::from),
        }
    }

    /// Waits until no process is left.
    async fn gone(&mut self) -> Result<(), Trouble> {
        loop {
            match self.events.next().await {
                Some(PayloadEvent::Empty) => return Ok(()),
                Some(_) => {}
                None => return Err(BrokerError::Gone.into()),
            }
        }
    }

    /// What the payload's leader left behind dies with it.
    async fn until_empty(&mut self) -> Result<(), Trouble> {
        // The helper usually says both things at once; then nothing has to be killed.
        tokio::select! {
            biased;
            gone = self.gone() => return gone,
            () = tokio::task::yield_now() => {}
        }
        self.payload.kill().await?;
        let limit = self.services.config.killing_timeout;
        match tokio::time::timeout(limit, self.gone()).await {
            Ok(gone) => gone,
            Err(_) => Err(Trouble::passing(format!(
                "Processes of the job were still there {} seconds after they were killed",
                limit.as_secs()
            ))),
        }
    }
}
