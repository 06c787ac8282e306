//! Talks to a startd, and to its starters, in the session of a claim.

use std::time::Duration;

use cedar::net::{Client, Error, ErrorKind, Stream};
use cedar::sinful::SinfulError;
use cedar::{ClaimId, HandshakeError, Sinful, WireError, command};
use classad::ClassAd;
use thiserror::Error;

use super::claim::{
    self, Activated, BadReply, CaFailure, Claimed, Deactivate, Request, ShadowFacts,
};

/// Pauses between attempts to activate a claim on which the job before is still being cleared away. The first are
/// short because a pilot is quick; together they are as long as the real shadow's patience.
const TRY_AGAIN: [Duration; 16] = {
    let pause = Duration::from_millis;
    [
        pause(20),
        pause(50),
        pause(100),
        pause(200),
        pause(400),
        pause(1000),
        pause(1000),
        pause(1000),
        pause(2000),
        pause(2000),
        pause(3000),
        pause(3000),
        pause(5000),
        pause(5000),
        pause(5000),
        pause(5000),
    ]
};
/// Attempts to deliver a DEACTIVATE, and the pause between them.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(5);

/// Why a talk came to nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TalkError {
    /// The connection, or the session of the claim.
    #[error(transparent)]
    Net(#[from] Error),
    /// The answer is none.
    #[error(transparent)]
    Reply(#[from] BadReply),
    /// The answer is no.
    #[error(transparent)]
    Refused(#[from] CaFailure),
    /// The answer names no usable address.
    #[error("the startd named no usable address of the starter")]
    NoAddress(#[source] Option<SinfulError>),
}

impl From<WireError> for TalkError {
    fn from(error: WireError) -> Self {
        Self::Reply(error.into())
    }
}

impl TalkError {
    /// Whether the other side is there and does not know the claim or the job: nothing is left to be found.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Refused(_) => true,
            Self::Net(error) => matches!(
                error.kind(),
                ErrorKind::Handshake(
                    HandshakeError::UnknownSession { .. }
                        | HandshakeError::Denied { .. }
                        | HandshakeError::Refused(_)
                ) | ErrorKind::NoSession(_)
            ),
            Self::Reply(_) | Self::NoAddress(_) => false,
        }
    }
}

/// The startd of one claim.
#[derive(Debug, Clone)]
pub struct Startd {
    /// Starts commands.
    pub client: Client,
    /// Where it is.
    pub address: Sinful,
    /// The claim.
    pub claim: ClaimId,
}

impl Startd {
    async fn open(&self, at: &Sinful, command: i32) -> Result<Stream, Error> {
        self.client
            .start_command_in_session(at, command, self.claim.session_id())
            .await
    }

    /// Asks for the claim, for `job`. The startd may take its time, up to `limit`.
    ///
    /// # Errors
    /// [`TalkError`]
    pub async fn request(
        &self,
        job: &ClassAd,
        schedd_name: &str,
        our_address: &Sinful,
        alive_interval: i64,
        limit: Duration,
    ) -> Result<Claimed, TalkError> {
        let mut stream = self.open(&self.address, command::REQUEST_CLAIM).await?;
        let mut message = stream.message();
        let request = Request {
            claim: &self.claim,
            job,
            schedd_name,
            address: our_address,
            alive_interval,
        };
        request.write(&mut message);
        stream.send(message).await?;
        stream.set_read_timeout(Some(limit));
        let answer = stream.recv().await?;
        Ok(Claimed::read(answer.reader(), &self.claim)?)
    }

    /// Starts a job: the syscall socket, or `None` if the slot refuses.
    ///
    /// # Errors
    /// [`TalkError`]
    pub async fn activate(&self, ad: &ClassAd) -> Result<Option<Stream>, TalkError> {
        for pause in TRY_AGAIN {
            let mut stream = self.open(&self.address, command::ACTIVATE_CLAIM).await?;
            let mut message = stream.message();
            claim::activate(&mut message, &self.claim, ad);
            stream.send(message).await?;
            let answer = stream.recv().await?;
            match Activated::read(answer.reader())? {
                Activated::Yes => return Ok(Some(stream)),
                Activated::Refused => return Ok(None),
                Activated::TryAgain => tokio::time::sleep(pause).await,
            }
        }
        Ok(None)
    }

    /// Ends the job on the claim. Whether another may be started.
    ///
    /// # Errors
    /// [`TalkError`]; a startd that has left the claim already closes without an answer.
    pub async fn deactivate(&self, how: Deactivate) -> Result<bool, TalkError> {
        let mut stream = self.open(&self.address, how.command()).await?;
        let mut message = stream.message();
        message.str(self.claim.as_str());
        stream.send(message).await?;
        let answer = stream.recv().await?;
        Ok(claim::may_go_on(answer.reader())?)
    }

    /// As [`Startd::deactivate`], tried some times; for a job that must stop.
    pub async fn stop(&self, how: Deactivate) -> Option<bool> {
        for attempt in 1..=ATTEMPTS {
            match self.deactivate(how).await {
                Ok(may_go_on) => return Some(may_go_on),
                Err(error) => {
                    tracing::info!(claim = %self.claim, attempt, "could not tell the startd to stop the job: {error}");
                    if error.is_final() {
                        return None;
                    }
                }
            }
            if attempt < ATTEMPTS {
                tokio::time::sleep(PAUSE).await;
            }
        }
        None
    }

    /// Gives the claim back.
    ///
    /// # Errors
    /// [`struct@Error`]; the claim ends with its lease then.
    pub async fn release(&self) -> Result<(), Error> {
        let mut stream = self.open(&self.address, command::RELEASE_CLAIM).await?;
        let mut message = stream.message();
        message.str(self.claim.as_str());
        stream.send(message).await?;
        stream.shutdown().await
    }

    /// Asks where the starter of the job is.
    ///
    /// # Errors
    /// [`TalkError`]
    pub async fn locate(
        &self,
        global_job_id: &str,
        our_address: &Sinful,
    ) -> Result<Sinful, TalkError> {
        let mut stream = self.open(&self.address, command::CA_CMD).await?;
        let mut message = stream.message();
        message.ad(&claim::locate_starter(
            &self.claim,
            global_job_id,
            our_address,
        ));
        stream.send(message).await?;
        let answer = stream.recv().await?;
        let ad = claim::ca_reply(answer.reader().ad()?)?;
        let address = ad
            .string("StarterIpAddr")
            .ok_or(TalkError::NoAddress(None))?;
        Sinful::parse(&address).map_err(|error| TalkError::NoAddress(Some(error)))
    }

    /// Asks the starter to go on with us. The new syscall socket, and what the starter says about itself.
    ///
    /// # Errors
    /// [`TalkError`]
    pub async fn reconnect(
        &self,
        starter: &Sinful,
        shadow: ShadowFacts<'_>,
    ) -> Result<(Stream, ClassAd), TalkError> {
        let mut stream = self.open(starter, command::CA_CMD).await?;
        let mut message = stream.message();
        message.ad(&claim::reconnect_job(shadow));
        stream.send(message).await?;
        let answer = stream.recv().await?;
        let ad = claim::ca_reply(answer.reader().ad()?)?;
        Ok((stream, ad))
    }

    /// Starts a command at the starter, in the claim's session.
    ///
    /// # Errors
    /// [`struct@Error`]
    pub async fn command(&self, starter: &Sinful, command: i32) -> Result<Stream, Error> {
        self.open(starter, command).await
    }
}
