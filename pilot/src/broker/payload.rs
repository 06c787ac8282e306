//! One payload: its account, its sandbox, its processes.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use launch_protocol::broker::{Answer, Command, Opened, SignalScope, Usage};
use tokio::sync::mpsc;

use super::{Agent, AgentError, Broker, BrokerError, REQUEST_LIMIT};

/// What the helper reports about a payload's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadEvent {
    /// The spawned process, agent or payload, has ended.
    Exited {
        /// As `waitpid` gives it.
        wait_status: i32,
    },
    /// No process of the payload is left.
    Empty,
    /// Its credential is about to end; its leader was told to stop.
    Expiring,
    /// Its credential was not renewed in time; every process of it was killed.
    KilledForExpiry,
}

/// The events of one payload, in order.
#[derive(Debug)]
pub struct PayloadEvents {
    receiver: mpsc::UnboundedReceiver<PayloadEvent>,
}

impl PayloadEvents {
    pub(super) const fn new(receiver: mpsc::UnboundedReceiver<PayloadEvent>) -> Self {
        Self { receiver }
    }

    /// The next event; `None` when the helper is gone. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<PayloadEvent> {
        self.receiver.recv().await
    }
}

/// An account, a sandbox and a process group, ours until [`Payload::close`]. Dropping it closes it in the background.
#[derive(Debug)]
pub struct Payload {
    broker: Broker,
    opened: Opened,
    /// The socket of the agent that came with it, until somebody wants one.
    first_agent: Mutex<Option<OwnedFd>>,
    is_closed: bool,
}

impl Payload {
    pub(super) const fn new(broker: Broker, opened: Opened, first_agent: Option<OwnedFd>) -> Self {
        Self {
            broker,
            opened,
            first_agent: Mutex::new(first_agent),
            is_closed: false,
        }
    }

    /// What the helper verified and prepared.
    #[must_use]
    pub const fn facts(&self) -> &Opened {
        &self.opened
    }

    /// The sandbox, an absolute path.
    #[must_use]
    pub fn sandbox(&self) -> &Path {
        // Each payload of a pilot is opened with one.
        self.opened.sandbox_path()
    }

    /// Starts the agent in the sandbox, as the payload's account. The process number is for display only.
    ///
    /// # Errors
    /// The helper's refusal, or the agent's own when it cannot enter the sandbox.
    pub async fn spawn_agent(&self) -> Result<(Agent, u32), AgentError> {
        let first = self.first_agent.lock();
        let first = first.unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(socket), Some(pid)) = (first, self.opened.agent) {
            return Ok((Agent::greet(socket).await?, pid));
        }
        let command = Command::SpawnAgent {
            payload: self.opened.payload,
        };
        let delivery = self
            .broker
            .call("spawn-agent", command, None, REQUEST_LIMIT)
            .await?;
        match (delivery.answer, delivery.descriptor) {
            (Answer::Spawned { pid, .. }, Some(socket)) => Ok((Agent::greet(socket).await?, pid)),
            _ => Err(BrokerError::Unexpected {
                request: "spawn-agent",
            }
            .into()),
        }
    }

    /// Sends a signal; nothing happens if nobody is left to receive it.
    ///
    /// # Errors
    /// The connection's.
    pub async fn signal(&self, signal: i32, scope: SignalScope) -> Result<(), BrokerError> {
        self.done(
            "signal",
            Command::Signal {
                payload: self.opened.payload,
                signal,
                scope,
            },
        )
        .await
    }

    /// Has a new credential verified and judged, and put in the place of the old one: the file `proxy` below the
    /// sandbox, if there is to be one. Gives the new end, Unix seconds.
    ///
    /// # Errors
    /// [`BrokerError::Refused`]: the old one stays. Else the connection's.
    pub async fn renew(
        &self,
        proxy: Option<&Path>,
        credential: &OwnedFd,
    ) -> Result<i64, BrokerError> {
        let command = Command::Renew {
            payload: self.opened.payload,
            proxy: proxy.map(Path::to_owned),
        };
        match self
            .broker
            .call("renew", command, Some(credential.as_fd()), REQUEST_LIMIT)
            .await?
            .answer
        {
            Answer::Renewed { not_after } => Ok(not_after),
            _ => Err(BrokerError::Unexpected { request: "renew" }),
        }
    }

    /// Puts a file into the sandbox in the place of the one of that name, while the payload runs; the payload's account
    /// writes it, mode 0600. Whoever reads has the old content or the new. Needs nothing of the payload, so that several
    /// can be under way at once.
    ///
    /// # Errors
    /// [`BrokerError::Refused`]: the old one stays. Else the connection's.
    pub fn replace(
        &self,
        file: &Path,
        content: OwnedFd,
    ) -> impl Future<Output = Result<(), BrokerError>> + Send + use<> {
        let broker = self.broker.clone();
        let command = Command::Replace {
            payload: self.opened.payload,
            file: file.to_owned(),
        };
        async move {
            let request = "replace";
            let beside = Some(content.as_fd());
            match broker
                .call(request, command, beside, REQUEST_LIMIT)
                .await?
                .answer
            {
                Answer::Done => Ok(()),
                _ => Err(BrokerError::Unexpected { request }),
            }
        }
    }

    /// Kills every process; [`PayloadEvent::Empty`] follows.
    ///
    /// # Errors
    /// The connection's.
    pub async fn kill(&self) -> Result<(), BrokerError> {
        self.done(
            "kill",
            Command::Kill {
                payload: self.opened.payload,
            },
        )
        .await
    }

    /// What its processes have used so far.
    ///
    /// # Errors
    /// The connection's.
    pub async fn usage(&self) -> Result<Usage, BrokerError> {
        let command = Command::Usage {
            payload: self.opened.payload,
        };
        match self
            .broker
            .call("usage", command, None, REQUEST_LIMIT)
            .await?
            .answer
        {
            Answer::Usage(usage) => Ok(usage),
            _ => Err(BrokerError::Unexpected { request: "usage" }),
        }
    }

    /// Kills what is left, removes the sandbox, frees the account.
    ///
    /// # Errors
    /// What the helper could not remove, or the connection's.
    pub async fn close(mut self) -> Result<(), BrokerError> {
        self.is_closed = true;
        self.broker.shared.forget(self.opened.payload);
        self.broker.close_payload(self.opened.payload).await
    }

    async fn done(&self, request: &'static str, command: Command) -> Result<(), BrokerError> {
        match self
            .broker
            .call(request, command, None, REQUEST_LIMIT)
            .await?
            .answer
        {
            Answer::Done => Ok(()),
            _ => Err(BrokerError::Unexpected { request }),
        }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        self.broker.shared.forget(self.opened.payload);
        // Outside a runtime the process is ending, and the helper cleans up at the end of its socket.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (broker, payload) = (self.broker.clone(), self.opened.payload);
            runtime.spawn(async move {
                if let Err(error) = broker.close_payload(payload).await {
                    tracing::warn!(
                        payload,
                        error = &error as &dyn std::error::Error,
                        "cannot close a payload"
                    );
                }
            });
        }
    }
}
