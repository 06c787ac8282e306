//! The shadow of a job: the syscall socket that is there, the ones that come after it, and the times between them.

use cedar::Sinful;
use cedar::net::Stream;
use classad::ClassAd;
use tokio::time::{Instant, sleep_until};
use zeroize::Zeroizing;

use super::clock::Clock;
use super::contact::Contact;
pub(super) use super::line::ShadowError;
use super::line::{Line, LineEvent};
use super::plan::TransferPlan;
use super::service_credentials::Sent;
use super::syscalls::{Answer, Call};
use super::{LineEnds, LineState, Reconnect};
use crate::blame::chain;

/// What happened to the connection.
#[derive(Debug)]
pub(super) enum Change {
    /// It is gone, and a shadow may come back.
    Lost,
    /// A shadow has come back.
    Back,
    /// It is gone for good.
    Over(ShadowError),
    /// Not the connection: the credentials that were asked for have come.
    Credentials(Sent),
}

/// The shadow of a job.
#[derive(Debug)]
pub(super) struct Shadow {
    line: Option<Line>,
    contact: Contact,
    ends: LineEnds,
    clock: Clock,
    patience: std::time::Duration,
    /// Where the sandbox goes, as the shadow that came back last has it.
    transfer: Option<TransferPlan>,
    /// What ended the last connection.
    broken: Option<ShadowError>,
}

impl Shadow {
    /// Takes over the activation's connection.
    pub(super) fn new(
        stream: Stream,
        ends: LineEnds,
        clock: Clock,
        patience: std::time::Duration,
    ) -> Self {
        Self {
            line: Some(Line::new(stream, patience)),
            contact: Contact::new(clock.now().monotonic),
            ends,
            clock,
            patience,
            transfer: None,
            broken: None,
        }
    }

    /// From now on the job outlives the connection, if there is a lease.
    pub(super) fn outlive(&mut self, lease: Option<std::time::Duration>) {
        self.contact.outlive(lease);
    }

    /// Asks, and waits for the answer.
    pub(super) async fn call(&mut self, call: Call<'_>) -> Result<Answer, ShadowError> {
        let line = self.line.as_mut().ok_or(ShadowError::Disconnected)?;
        let outcome = line.call(call).await;
        self.judge(outcome)
    }

    /// The complete job ad.
    pub(super) async fn job_info(&mut self) -> Result<ClassAd, ShadowError> {
        match self.call(Call::GetJobInfo).await? {
            Answer::JobInfo(ad) => Ok(*ad),
            Answer::Done | Answer::Credentials(_) => Err(ShadowError::Unasked),
        }
    }

    /// Asks without waiting: the answer only says that it arrived. It is awaited before the next request.
    pub(super) async fn post(&mut self, call: Call<'_>) -> Result<(), ShadowError> {
        let line = self.line.as_mut().ok_or(ShadowError::Disconnected)?;
        let outcome = line.post(call).await;
        self.judge(outcome)
    }

    /// Waits for the answer to what was posted.
    pub(super) async fn settle(&mut self) -> Result<(), ShadowError> {
        let line = self.line.as_mut().ok_or(ShadowError::Disconnected)?;
        let outcome = line.settle().await;
        self.judge(outcome)
    }

    /// Whether a request can be sent that will not have to wait for the answer to another.
    pub(super) fn is_idle(&self) -> bool {
        self.line.as_ref().is_some_and(Line::is_idle)
    }

    /// Whether there is a connection, as far as it is known.
    pub(super) const fn is_connected(&self) -> bool {
        self.line.is_some()
    }

    /// Where the sandbox goes, if a shadow that came back said so.
    pub(super) const fn transfer(&self) -> Option<&TransferPlan> {
        self.transfer.as_ref()
    }

    /// Completes when the connection changes; answers to what was posted are taken in meanwhile. Nothing is lost when
    /// the future is dropped.
    pub(super) async fn change(&mut self) -> Change {
        loop {
            if self.contact.is_over() {
                return Change::Over(self.last_error());
            }
            let deadline = self.contact.deadline();
            let wait = deadline
                .unwrap_or_default()
                .saturating_sub(self.clock.now().monotonic);
            tokio::select! {
                biased;
                new = self.ends.next() => {
                    if self.take(new) {
                        return Change::Back;
                    }
                }
                event = event(&mut self.line) => match event {
                    LineEvent::Lost(error) => if self.lose(error) {
                        return Change::Lost;
                    },
                    LineEvent::Credentials(Ok(Answer::Credentials(sent))) => {
                        self.contact.heard(self.clock.now().monotonic);
                        return Change::Credentials(sent);
                    }
                    LineEvent::Credentials(Ok(_)) => {}
                    LineEvent::Credentials(Err(error)) => {
                        tracing::warn!(error = chain(&error), "the job's credentials did not come");
                    }
                },
                () = sleep_until(Instant::now() + wait), if deadline.is_some() => {
                    self.contact.tick(self.clock.now().monotonic);
                }
            }
        }
    }

    /// Completes when the connection is gone for good.
    pub(super) async fn ended(&mut self) -> ShadowError {
        loop {
            if let Change::Over(error) = self.change().await {
                return error;
            }
        }
    }

    /// Waits until there is a connection.
    pub(super) async fn connected(&mut self) -> Result<(), ShadowError> {
        while !self.is_connected() {
            if let Change::Over(error) = self.change().await {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Completes when the present connection is gone, or another has taken its place.
    pub(super) async fn disturbed(&mut self) -> ShadowError {
        loop {
            return match self.change().await {
                Change::Lost => ShadowError::Disconnected,
                Change::Back => ShadowError::Replaced,
                Change::Over(error) => error,
                // The job they were for has ended.
                Change::Credentials(_) => continue,
            };
        }
    }

    /// The credentials of the services that the job names.
    pub(super) async fn credentials(&mut self) -> Result<Sent, ShadowError> {
        if !self.line.as_ref().is_some_and(Line::is_encrypted) {
            tracing::warn!(
                "the connection to the shadow is not encrypted: no credentials are asked for"
            );
            return Ok(Sent::Unavailable);
        }
        match self.call(Call::GetCreds).await? {
            Answer::Credentials(sent) => Ok(sent),
            Answer::Done | Answer::JobInfo(_) => Err(ShadowError::Unasked),
        }
    }

    /// An output transfer was lost though the connection is there: it goes too, for the shadow to come back with a new
    /// key. False if the transfer is not to be begun again.
    pub(super) fn output_lost(&mut self) -> bool {
        if !self.contact.output_lost() {
            return false;
        }
        if self.is_connected() {
            self.lose(ShadowError::Disconnected);
        }
        true
    }

    /// Lets the last word reach the shadow before the connection goes.
    pub(super) async fn farewell(self) {
        if let Some(line) = self.line {
            line.farewell().await;
        }
    }

    fn judge<T>(&mut self, outcome: Result<T, ShadowError>) -> Result<T, ShadowError> {
        match outcome {
            Ok(value) => {
                self.contact.heard(self.clock.now().monotonic);
                Ok(value)
            }
            Err(error) if error.is_loss() => {
                self.lose(ShadowError::Disconnected);
                Err(error)
            }
            Err(error) => {
                self.contact.heard(self.clock.now().monotonic);
                Err(error)
            }
        }
    }

    /// The connection is gone. True if a shadow may come back.
    fn lose(&mut self, error: ShadowError) -> bool {
        self.line = None;
        let waits = self.contact.broke(self.clock.now().monotonic);
        if waits {
            tracing::warn!(
                error = chain(&error),
                "the shadow is lost; the job goes on and waits for it to come back"
            );
            self.ends.tell(LineState::Disconnected);
        }
        self.broken = Some(error);
        waits
    }

    fn take(&mut self, new: Reconnect) -> bool {
        if !self.contact.back(self.clock.now().monotonic) {
            return false;
        }
        let Reconnect { stream, ad } = new;
        tracing::info!(shadow = %stream.peer_addr(), "a shadow has come back to the job");
        self.line = Some(Line::new(stream, self.patience));
        if let Some(transfer) = transfer_of(&ad) {
            self.transfer = Some(transfer);
        }
        self.ends.tell(LineState::Connected);
        true
    }

    fn last_error(&mut self) -> ShadowError {
        match self.contact.lease() {
            Some(lease) => ShadowError::LeaseOver { lease },
            None => self.broken.take().unwrap_or(ShadowError::Disconnected),
        }
    }
}

/// Never completes while there is no connection.
async fn event(line: &mut Option<Line>) -> LineEvent {
    match line {
        Some(line) => line.event().await,
        None => std::future::pending().await,
    }
}

/// `TransferSocket` and `TransferKey` of a CA_RECONNECT_JOB. A key is good for one shadow only.
fn transfer_of(ad: &ClassAd) -> Option<TransferPlan> {
    let address = ad
        .string("TransferSocket")
        .and_then(|text| Sinful::parse(&text).ok())?;
    let key = ad.string("TransferKey").filter(|key| !key.is_empty())?;
    Some(TransferPlan {
        address,
        key: Zeroizing::new(key),
    })
}
