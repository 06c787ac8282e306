//! One syscall socket: one request at a time, and a steady watch for its end.

use std::time::Duration;

use cedar::Coding;
use cedar::net::{Message, Stream, WriteHalf};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::syscalls::{Answer, Call, SyscallError};

/// How long the shadow may take to close its end by itself after the last word. It has to get round its event loop
/// once in this time: see [`Line::farewell`].
const NUDGE: Duration = Duration::from_millis(3);
/// How long to wait for the shadow to close its end after ours is closed.
const FAREWELL: Duration = Duration::from_secs(10);

/// The dialogue with the shadow cannot go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(super) enum ShadowError {
    /// There is no connection at present.
    #[error("there is no connection to the shadow")]
    Disconnected,
    /// No shadow came back in time.
    #[error("no shadow has come back within the job's lease of {} seconds", lease.as_secs())]
    LeaseOver {
        /// `JobLeaseDuration`.
        lease: Duration,
    },
    /// It lost its connection and opened a new one.
    #[error("the shadow opened a new connection")]
    Replaced,
    /// The connection broke or was closed.
    #[error("the connection to the shadow broke")]
    Wire(#[from] cedar::net::Error),
    /// It was closed in good order.
    #[error("the shadow closed the connection")]
    Closed,
    /// No answer came in time.
    #[error("the shadow did not answer to {call} within {} seconds", within.as_secs())]
    Timeout {
        /// Which call.
        call: &'static str,
        /// How long was waited.
        within: Duration,
    },
    /// It answered with an error or with nonsense.
    #[error(transparent)]
    Syscall(#[from] SyscallError),
    /// It spoke without being asked.
    #[error("the shadow sent a message nobody asked for")]
    Unasked,
}

impl ShadowError {
    /// Whether the connection cannot be used any more; otherwise only this call failed.
    pub(super) const fn is_loss(&self) -> bool {
        !matches!(self, Self::Syscall(_))
    }
}

/// A shadow, seen through one syscall socket.
#[derive(Debug)]
pub(super) struct Line {
    write: WriteHalf,
    coding: Coding,
    incoming: mpsc::Receiver<Result<Message, cedar::net::Error>>,
    reader: JoinHandle<()>,
    /// A request whose answer has not come yet, and which nobody waits for.
    outstanding: Option<&'static str>,
    /// Credentials that have come and that nobody has taken yet.
    credentials: Option<Result<Answer, SyscallError>>,
    patience: Duration,
}

/// What came without being waited for.
#[derive(Debug)]
pub(super) enum LineEvent {
    /// The connection is over.
    Lost(ShadowError),
    /// The answer to [`Call::GetCreds`] that was posted.
    Credentials(Result<Answer, SyscallError>),
}

impl Line {
    /// Takes over a connection.
    pub(super) fn new(mut stream: Stream, patience: Duration) -> Self {
        stream.set_write_timeout(Some(patience));
        // Silence is normal between two requests; the command port's keepalive probes find a dead peer.
        stream.set_read_timeout(None);
        let coding = if stream.is_encrypted() {
            Coding::Encrypted
        } else {
            Coding::Plain
        };
        let (mut read, write) = stream.into_split();
        let (sender, incoming) = mpsc::channel(1);
        let reader = tokio::spawn(async move {
            loop {
                let message = read.recv().await;
                let is_last = message.is_err();
                if sender.send(message).await.is_err() || is_last {
                    return;
                }
            }
        });
        Self {
            write,
            coding,
            incoming,
            reader,
            outstanding: None,
            credentials: None,
            patience,
        }
    }

    /// Asks, and waits for the answer.
    pub(super) async fn call(&mut self, call: Call<'_>) -> Result<Answer, ShadowError> {
        self.settle().await?;
        self.write.send(call.message(self.coding)).await?;
        if !call.is_answered() {
            return Ok(Answer::Done);
        }
        let message = self.answer(call.name()).await?;
        Ok(call.answer(self.coding, message.body())?)
    }

    /// Asks without waiting: the answer only says that it arrived. It is awaited before the next request.
    pub(super) async fn post(&mut self, call: Call<'_>) -> Result<(), ShadowError> {
        self.settle().await?;
        self.write.send(call.message(self.coding)).await?;
        self.outstanding = call.is_answered().then(|| call.name());
        Ok(())
    }

    /// Whether nobody else can read it.
    pub(super) fn is_encrypted(&self) -> bool {
        self.coding == Coding::Encrypted
    }

    /// Whether the answer to what was posted is here, so that the next request will not have to wait.
    pub(super) const fn is_idle(&self) -> bool {
        self.outstanding.is_none()
    }

    /// Waits for the answer to what was posted.
    pub(super) async fn settle(&mut self) -> Result<(), ShadowError> {
        if let Some(call) = self.outstanding {
            let message = self.answer(call).await?;
            self.take_posted(call, &message);
        }
        Ok(())
    }

    /// Completes when the connection is over, or credentials have come; answers to what else was posted are taken in
    /// meanwhile. Nothing is lost when the future is dropped.
    pub(super) async fn event(&mut self) -> LineEvent {
        loop {
            if let Some(answer) = self.credentials.take() {
                return LineEvent::Credentials(answer);
            }
            match self.next().await {
                Err(error) => return LineEvent::Lost(error),
                Ok(message) => match self.outstanding {
                    Some(call) => self.take_posted(call, &message),
                    None => return LineEvent::Lost(ShadowError::Unasked),
                },
            }
        }
    }

    /// Lets the last word reach the shadow before the connection goes.
    ///
    /// A shadow that is done closes it. One that takes `job_exit` before it has noticed the end of its own transfer
    /// process looks again only a second later, or when our end closes
    /// (`htcondor:src/condor_shadow.V6.1/remoteresource.cpp`, `attemptShutdown`). By then that process must have been
    /// noticed, which happens at the start of each round of the shadow's event loop; so our end closes soon, but not
    /// at once.
    pub(super) async fn farewell(mut self) {
        if self.is_closed_within(NUDGE).await {
            return;
        }
        if let Err(error) = self.write.shutdown().await {
            tracing::debug!(%error, "the connection to the shadow was gone already");
            return;
        }
        if !self.is_closed_within(FAREWELL).await {
            tracing::debug!("the shadow keeps its end of the connection open");
        }
    }

    async fn is_closed_within(&mut self, time: Duration) -> bool {
        let until_closed = async { while self.next().await.is_ok() {} };
        tokio::time::timeout(time, until_closed).await.is_ok()
    }

    async fn answer(&mut self, call: &'static str) -> Result<Message, ShadowError> {
        let within = self.patience;
        tokio::time::timeout(within, self.next())
            .await
            .unwrap_or(Err(ShadowError::Timeout { call, within }))
    }

    async fn next(&mut self) -> Result<Message, ShadowError> {
        match self.incoming.recv().await {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) if error.is_closed() => Err(ShadowError::Closed),
            Some(Err(error)) => Err(error.into()),
            None => Err(ShadowError::Closed),
        }
    }

    fn take_posted(&mut self, call: &'static str, message: &Message) {
        self.outstanding = None;
        if call == Call::GetCreds.name() {
            self.credentials = Some(Call::GetCreds.answer(self.coding, message.body()));
            return;
        }
        if message.reader().int().is_ok_and(|value| value >= 0) {
            return;
        }
        tracing::warn!(call, "the shadow did not accept a report");
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
