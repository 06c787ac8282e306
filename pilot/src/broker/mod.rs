//! The client side of the launch socket: one resident helper per pilot, one payload per job.
//!
//! [`Broker::start`] runs `sailplane-switch --broker` and says hello. [`Broker::open`] has a credential verified and
//! mapped and gives a [`Payload`]: an account, a sandbox and a process group. [`Payload::spawn_agent`] gives an
//! [`Agent`], which works in the sandbox as the payload's account and can become the payload.
//!
//! Requests may be made from many tasks at once; each gets the reply that carries its id. Events go to the payload
//! they name. When the helper is gone, everything that waits fails with [`BrokerError::Gone`] and
//! [`Broker::closed`] completes.

mod agent;
mod channel;
pub mod memfd;
pub mod own;
mod payload;
#[allow(
    unsafe_code,
    reason = "descriptors out of control messages, and one dup2 between fork and exec"
)]
mod sys;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use launch_protocol::broker::{
    Answer, Command, Hello, OpenLimits, Opened, Purpose, Refusal, RefusalClass, Reply, Request,
};
use launch_protocol::{DecodeError, EncodeError, VERSION};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use agent::{Agent, AgentError, ExecError};
pub use payload::{Payload, PayloadEvent, PayloadEvents};

use channel::Channel;
use own::OwnAccount;

/// What the helper told about itself.
pub type BrokerHello = Hello;

/// Why the helper did not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The program could not be started.
    #[error("cannot start the identity-switch helper {}", path.display())]
    Spawn {
        /// `SAILPLANE_SWITCH`.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It answered, with a typed no.
    #[error("the identity-switch helper refused ({}): {}", .0.code, .0.message)]
    Refused(Refusal),
    /// The pilot's own credential cannot be read.
    #[error("the pilot's own credential {} cannot be read", path.display())]
    Pilot {
        /// `SAILPLANE_PILOT_PROXY`.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is gone: exited, killed, or its socket broke.
    #[error("the identity-switch helper is gone")]
    Gone,
    /// It did not answer in time.
    #[error("the identity-switch helper did not answer to {request} within {} seconds", within.as_secs())]
    Timeout {
        /// What was asked.
        request: &'static str,
        /// How long was waited.
        within: Duration,
    },
    /// It sent something that is not a message.
    #[error("the identity-switch helper sent a malformed message")]
    Malformed(#[source] DecodeError),
    /// It sent a well-formed message that does not answer the request.
    #[error("the identity-switch helper answered to {request} with something else")]
    Unexpected {
        /// What was asked.
        request: &'static str,
    },
    /// It speaks another version of the launch protocol.
    #[error(
        "the identity-switch helper speaks version {theirs} of the launch protocol, this pilot version {VERSION}"
    )]
    Version {
        /// What it said.
        theirs: u32,
    },
    /// A request could not be put into a message.
    #[error("a request to the identity-switch helper cannot be sent")]
    Encode(#[source] EncodeError),
    /// The launch socket failed.
    #[error("the launch socket failed")]
    Socket(#[source] std::io::Error),
}

impl BrokerError {
    /// Whose fault it is and what may help; errors of the connection count as the site's, for the moment.
    #[must_use]
    pub fn class(&self) -> RefusalClass {
        match self {
            Self::Refused(refusal) => refusal.class,
            Self::Spawn { .. } | Self::Version { .. } => RefusalClass::SitePermanent,
            _ => RefusalClass::SiteTransient,
        }
    }
}

/// What a payload is opened with, besides its credential.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Names the job in the site's log.
    pub label: &'a str,
    /// Where its sandbox is made.
    pub execute_dir: &'a Path,
    /// The account of the slot, if it has one.
    pub slot_account: Option<&'a str>,
    /// What it may use, where the node can limit it.
    pub limits: OpenLimits,
}

impl<'a> Wanted<'a> {
    /// No account in particular, and no limits.
    #[must_use]
    pub const fn new(label: &'a str, execute_dir: &'a Path) -> Self {
        Self {
            label,
            execute_dir,
            slot_account: None,
            limits: OpenLimits {
                memory_bytes: None,
                pids: None,
                cpu_millis: None,
            },
        }
    }
}

/// How long the helper may take for one request. Opening includes the verifier's own limit of ten seconds.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// Closing waits for processes to die and removes a tree.
const CLOSE_LIMIT: Duration = Duration::from_secs(120);

/// A handle on the helper; clones share it. When the last one is dropped the helper cleans up and exits.
#[derive(Debug, Clone)]
pub struct Broker {
    shared: Arc<Shared>,
    _alive: Arc<DropGuard>,
}

#[derive(Debug)]
struct Shared {
    channel: Channel,
    next_id: AtomicU32,
    routes: Mutex<Routes>,
    /// Why the helper will not start, if it said so.
    last_word: OnceLock<Refusal>,
    /// Which file of the pilot's own credential was shown last.
    shown: tokio::sync::Mutex<Option<(u64, i64, i64)>>,
    gone: CancellationToken,
}

#[derive(Debug, Default)]
struct Routes {
    waiting: HashMap<u32, oneshot::Sender<Delivery>>,
    payloads: HashMap<u32, mpsc::UnboundedSender<PayloadEvent>>,
}

#[derive(Debug)]
struct Delivery {
    answer: Answer,
    descriptor: Option<OwnedFd>,
    /// Only with `Opened`.
    events: Option<mpsc::UnboundedReceiver<PayloadEvent>>,
}

impl Broker {
    /// Starts the helper and says hello.
    ///
    /// # Errors
    /// When it cannot be started, refuses its caller or its configuration, or speaks another version.
    pub async fn start(path: &Path) -> Result<(Self, BrokerHello), BrokerError> {
        let mut command = tokio::process::Command::new(path);
        command.arg("--broker");
        Self::launch(path, command).await
    }

    /// Starts a broker that runs payloads under this process's own account, and says hello. `program` is a file of this
    /// program: normally [`own::THIS_PROGRAM`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_own(
        program: &Path,
        own: &OwnAccount,
    ) -> Result<(Self, BrokerHello), BrokerError> {
        let mut command = tokio::process::Command::new(program);
        command.arg0("sailplane").args(own.arguments());
        Self::launch(program, command).await
    }

    async fn launch(
        path: &Path,
        mut command: tokio::process::Command,
    ) -> Result<(Self, BrokerHello), BrokerError> {
        let (ours, theirs) = channel::pair().map_err(BrokerError::Socket)?;
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        sys::pass_control_descriptor(&mut command, theirs);
        let mut child = command.spawn().map_err(|source| BrokerError::Spawn {
            path: path.to_owned(),
            source,
        })?;
        // The command holds the other end of the socket until here; without this the end of the helper goes unseen.
        drop(command);
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(async move {
                let mut lines = BufReader::new(stderr).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    tracing::warn!(target: "sailplane::switch", "{line}");
                }
            });
        }
        tokio::spawn(async move {
            match child.wait().await {
                Ok(status) if status.success() => {
                    tracing::debug!("the identity-switch helper ended")
                }
                Ok(status) => tracing::error!(%status, "the identity-switch helper ended"),
                Err(error) => tracing::error!(%error, "cannot wait for the identity-switch helper"),
            }
        });
        Self::over(Channel::new(ours).map_err(BrokerError::Socket)?).await
    }

    /// Says hello over a connected launch socket.
    async fn over(channel: Channel) -> Result<(Self, BrokerHello), BrokerError> {
        let gone = CancellationToken::new();
        let dropped = CancellationToken::new();
        let shared = Arc::new(Shared {
            channel,
            next_id: AtomicU32::new(1),
            routes: Mutex::default(),
            last_word: OnceLock::new(),
            shown: tokio::sync::Mutex::default(),
            gone,
        });
        let broker = Self {
            shared: Arc::clone(&shared),
            _alive: Arc::new(dropped.clone().drop_guard()),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = dropped.cancelled() => {}
                error = shared.read() => tracing::debug!(%error, "the launch socket ended"),
            }
            shared.gone.cancel();
            // Whoever waits sees its sender dropped.
            let mut routes = shared.routes.lock().unwrap_or_else(PoisonError::into_inner);
            routes.waiting.clear();
            routes.payloads.clear();
        });
        match broker
            .call(
                "hello",
                Command::Hello { version: VERSION },
                None,
                REQUEST_LIMIT,
            )
            .await?
            .answer
        {
            Answer::Hello(hello) if hello.version == VERSION => Ok((broker, hello)),
            Answer::Hello(hello) => Err(BrokerError::Version {
                theirs: hello.version,
            }),
            _ => Err(BrokerError::Unexpected { request: "hello" }),
        }
    }

    /// Has the credential verified and mapped, and an account, a sandbox and a process group made ready.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] with the helper's own class, code and sentence; else the connection's errors.
    pub async fn open(
        &self,
        wanted: Wanted<'_>,
        credential: &OwnedFd,
    ) -> Result<(Payload, PayloadEvents), BrokerError> {
        let command = Command::Open {
            job_label: printable(wanted.label),
            execute_dir: Some(wanted.execute_dir.to_owned()),
            slot_account: wanted.slot_account.map(str::to_owned),
            purpose: Purpose::Run,
            limits: wanted.limits,
            agent: true,
        };
        let delivery = self
            .call("open", command, Some(credential.as_fd()), REQUEST_LIMIT)
            .await?;
        match (delivery.answer, delivery.events) {
            (Answer::Opened(opened), Some(events)) => Ok((
                Payload::new(self.clone(), opened, delivery.descriptor),
                PayloadEvents::new(events),
            )),
            _ => Err(BrokerError::Unexpected { request: "open" }),
        }
    }

    /// Says that a job is coming, so that the helper has ready what it can make before it knows for whom. Sent by a
    /// task of its own, and nothing depends on it: without it [`Self::open`] takes a little longer.
    pub fn prepare(&self) {
        let broker = self.clone();
        tokio::spawn(async move {
            if let Err(error) = broker
                .call(
                    "prepare",
                    Command::Prepare { sandbox: true },
                    None,
                    REQUEST_LIMIT,
                )
                .await
            {
                tracing::debug!(%error, "the identity-switch helper does not prepare for a job");
            }
        });
    }

    /// Shows the pilot's own credential to a helper that wants one. Gives whose it is, and its end in Unix seconds.
    ///
    /// # Errors
    /// [`BrokerError::Refused`]: one that was shown earlier stays in force. Else the connection's.
    pub async fn present(&self, credential: &OwnedFd) -> Result<(String, i64), BrokerError> {
        match self
            .call(
                "present",
                Command::Present,
                Some(credential.as_fd()),
                REQUEST_LIMIT,
            )
            .await?
            .answer
        {
            Answer::Presented {
                identity,
                not_after,
            } => Ok((identity, not_after)),
            _ => Err(BrokerError::Unexpected { request: "present" }),
        }
    }

    /// Shows the pilot's own credential, a file, unless this very file was shown already.
    ///
    /// # Errors
    /// As [`Self::present`]; a file that cannot be read is [`BrokerError::Pilot`].
    pub async fn show(&self, path: &Path) -> Result<(), BrokerError> {
        let unreadable = |source| BrokerError::Pilot {
            path: path.to_owned(),
            source,
        };
        let mut shown = self.shared.shown.lock().await;
        let facts = std::fs::metadata(path).map_err(unreadable)?;
        let version = (facts.ino(), facts.mtime(), facts.mtime_nsec());
        if *shown == Some(version) {
            return Ok(());
        }
        let content = zeroize::Zeroizing::new(std::fs::read(path).map_err(unreadable)?);
        let file = memfd::sealed("credential", &content).map_err(BrokerError::Socket)?;
        let (identity, not_after) = self.present(&file).await?;
        tracing::info!(identity, not_after, "the pilot's own credential was taken");
        *shown = Some(version);
        Ok(())
    }

    /// Completes when the helper is gone. Payloads of a helper that is gone have been killed by it, or nothing can be
    /// said about them.
    pub async fn closed(&self) {
        self.shared.gone.cancelled().await;
    }

    async fn call(
        &self,
        request: &'static str,
        command: Command,
        descriptor: Option<BorrowedFd<'_>>,
        within: Duration,
    ) -> Result<Delivery, BrokerError> {
        tokio::time::timeout(within, self.exchange(command, descriptor))
            .await
            .unwrap_or(Err(BrokerError::Timeout { request, within }))
    }

    async fn exchange(
        &self,
        command: Command,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<Delivery, BrokerError> {
        let id = match self.shared.next_id.fetch_add(1, Ordering::Relaxed) {
            0 => self.shared.next_id.fetch_add(1, Ordering::Relaxed),
            id => id,
        };
        let packet = Request { id, command }
            .encode()
            .map_err(BrokerError::Encode)?;
        let (sender, receiver) = oneshot::channel();
        self.shared.routes().waiting.insert(id, sender);
        // Cancelled here by a dropped future, the entry stays until the reply comes: that reply may carry a payload
        // that must then be closed.
        if self.shared.gone.is_cancelled() {
            return Err(self.shared.farewell());
        }
        if let Err(error) = self
            .shared
            .channel
            .send(&packet, descriptor.as_slice())
            .await
        {
            self.shared.routes().waiting.remove(&id);
            if !channel::is_disconnect(&error) {
                return Err(BrokerError::Socket(error));
            }
            // What the helper said before it went may still have to be read.
            self.shared.gone.cancelled().await;
            return Err(self.shared.farewell());
        }
        let delivery = receiver.await.map_err(|_| self.shared.farewell())?;
        match delivery.answer {
            Answer::Refused(refusal) => Err(BrokerError::Refused(refusal)),
            _ => Ok(delivery),
        }
    }

    async fn close_payload(&self, payload: u32) -> Result<(), BrokerError> {
        match self
            .call("close", Command::Close { payload }, None, CLOSE_LIMIT)
            .await?
            .answer
        {
            Answer::Closed => Ok(()),
            _ => Err(BrokerError::Unexpected { request: "close" }),
        }
    }
}

impl Shared {
    fn routes(&self) -> std::sync::MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delivers packets until the socket ends.
    async fn read(&self) -> BrokerError {
        loop {
            let packet = match self.channel.receive().await {
                Ok(Some(packet)) => packet,
                Ok(None) => return BrokerError::Gone,
                Err(error) => return BrokerError::Socket(error),
            };
            match Reply::decode(&packet.bytes) {
                Ok(reply) => {
                    self.deliver(reply, packet.descriptors.into_iter().next())
                        .await
                }
                Err(error) => return BrokerError::Malformed(error),
            }
        }
    }

    async fn deliver(&self, reply: Reply, descriptor: Option<OwnedFd>) {
        if reply.id == 0 {
            return self.deliver_event(reply.answer);
        }
        let mut events = None;
        let mut opened = None;
        let waiting = {
            let mut routes = self.routes();
            if let Answer::Opened(Opened { payload, .. }) = reply.answer {
                let (sender, receiver) = mpsc::unbounded_channel();
                routes.payloads.insert(payload, sender);
                events = Some(receiver);
                opened = Some(payload);
            }
            routes.waiting.remove(&reply.id)
        };
        let delivery = Delivery {
            answer: reply.answer,
            descriptor,
            events,
        };
        let delivered = waiting.is_some_and(|sender| sender.send(delivery).is_ok());
        if let (false, Some(payload)) = (delivered, opened) {
            // Nobody waits for it any more: the job was stopped while the helper worked.
            self.forget(payload);
            let id = self.next_id.fetch_add(1, Ordering::Relaxed).max(1);
            if let Ok(packet) = (Request {
                id,
                command: Command::Close { payload },
            })
            .encode()
                && let Err(error) = self.channel.send(&packet, &[]).await
            {
                tracing::debug!(%error, payload, "cannot close a payload nobody waits for");
            }
        }
    }

    fn deliver_event(&self, answer: Answer) {
        let (payload, event) = match answer {
            Answer::Exited {
                payload,
                wait_status,
            } => (payload, PayloadEvent::Exited { wait_status }),
            Answer::Empty { payload } => (payload, PayloadEvent::Empty),
            Answer::Expiring { payload } => (payload, PayloadEvent::Expiring),
            Answer::KilledForExpiry { payload } => (payload, PayloadEvent::KilledForExpiry),
            Answer::Refused(refusal) => {
                tracing::error!(
                    code = refusal.code,
                    "the identity-switch helper: {}",
                    refusal.message
                );
                // It goes now, and whoever waits learns why.
                let _ = self.last_word.set(refusal);
                return;
            }
            _ => return,
        };
        if let Some(sender) = self.routes().payloads.get(&payload) {
            // A job that no longer listens is being closed.
            let _ = sender.send(event);
        }
    }

    /// What a request ends with when the helper is gone.
    fn farewell(&self) -> BrokerError {
        self.last_word
            .get()
            .cloned()
            .map_or(BrokerError::Gone, BrokerError::Refused)
    }

    fn forget(&self, payload: u32) {
        self.routes().payloads.remove(&payload);
    }
}

/// A label the launch protocol accepts: printable ASCII, cut to its limit.
fn printable(label: &str) -> String {
    label
        .chars()
        .map(|c| {
            if c.is_ascii_graphic() || c == ' ' {
                c
            } else {
                '?'
            }
        })
        .take(launch_protocol::MAX_LABEL)
        .collect()
}
