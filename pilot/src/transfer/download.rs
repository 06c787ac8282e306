//! Fetches the input sandbox.
//!
//! The user's credential decides where the files may go, so it must be first: its bytes stay in memory and go to
//! `open`, which has them verified and a sandbox made. What comes before it, and what comes while `open` works, waits
//! in a bounded staging area; as soon as there is a sandbox it moves there, and everything else is written directly
//! into descriptors opened in the sandbox.
//!
//! A failure on this side never stops the consumption of what the shadow sends: it is reported in the acknowledgement
//! at the end, as the protocol wants it. Only when much is still to come the connection is cut.

use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use credential::DelegationError;
use thiserror::Error;
use zeroize::Zeroizing;

use super::intake::Intake;
use super::receive::{ReceiveError, Received, Receiver};
use super::{Ack, DelegationKeys, KeyError, LinkError, Sandbox, SandboxPath, Wire};

/// The longest silence while the shadow waits for its turn to send.
const QUEUE_PATIENCE: Duration = Duration::from_secs(1200);

/// What a download needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The file that must be executable.
    pub executable: Option<&'a SandboxPath>,
    /// The file that is the user's credential; without one the sandbox is opened at once.
    pub proxy: Option<&'a SandboxPath>,
    /// For a delegated credential.
    pub keys: &'a DelegationKeys,
    /// Where the staging area may spill.
    pub staging_directory: &'a Path,
    /// Bytes that may wait in memory.
    pub staging_memory: u64,
    /// Bytes that may wait on disk.
    pub staging_disk: u64,
    /// The longest silence of the shadow.
    pub patience: Duration,
}

/// What `open` makes of a credential: a sandbox, and whatever the caller needs beside it.
pub trait Opened: Send + 'static {
    /// Its sandbox.
    type Sandbox: Sandbox;
    /// The place for the files.
    fn sandbox(&mut self) -> &mut Self::Sandbox;
}

/// The input is complete.
#[derive(Debug)]
pub struct Downloaded<O> {
    /// What `open` made.
    pub opened: O,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
}

/// Why something could not be stored.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The name is not one a sandbox can have.
    #[error("the shadow sent a file with the unusable name {name:?}")]
    Name {
        /// As it came, made printable.
        name: String,
        /// What is wrong with it.
        #[source]
        source: super::NameError,
    },
    /// The sandbox refused.
    #[error("cannot create {path} in the sandbox: {message} (errno {errno})")]
    Create {
        /// Which file or directory.
        path: SandboxPath,
        /// Linux error number.
        errno: i32,
        /// The agent's sentence.
        message: String,
    },
    /// Data could not be written.
    #[error("cannot write {path} in the sandbox")]
    Write {
        /// Which file.
        path: SandboxPath,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The agent failed.
    #[error("the agent in the sandbox failed")]
    Agent(#[source] crate::broker::AgentError),
    /// Too much came before the credential.
    #[error(
        "more than {limit} bytes of input came before the proxy of the job, which is needed to decide where they go"
    )]
    TooMuchBeforeCredential {
        /// The limit.
        limit: u64,
    },
    /// The staging area failed.
    #[error("the pilot's staging area for input failed")]
    Staging(#[source] io::Error),
    /// A URL to be fetched.
    #[error("URL transfers are disabled: {name} cannot be fetched by this pilot")]
    Url {
        /// Name of the file.
        name: String,
    },
    /// The credential's file is too large to be one.
    #[error("the proxy file is {size} bytes long; at most {limit} are accepted", limit = launch_protocol::MAX_CREDENTIAL)]
    CredentialTooLarge {
        /// What was announced.
        size: u64,
    },
}

impl StorageError {
    /// Linux error number for the hold's subcode; 0 where there is none.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Name { .. } => libc::EPERM,
            Self::Create { errno, .. } => *errno,
            Self::Write { source, .. } | Self::Staging(source) => {
                source.raw_os_error().unwrap_or(0)
            }
            Self::TooMuchBeforeCredential { .. } | Self::CredentialTooLarge { .. } => libc::EFBIG,
            Self::Url { .. } => libc::EPROTONOSUPPORT,
            Self::Agent(_) => 0,
        }
    }
}

/// Why there is no input sandbox.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DownloadError<E> {
    /// The connection broke.
    #[error("the connection for the input files broke")]
    Link(#[from] LinkError),
    /// The shadow broke the protocol or refused.
    #[error(transparent)]
    Protocol(#[from] ReceiveError),
    /// The credential was not accepted, or no sandbox could be made.
    #[error("the sandbox could not be opened")]
    Open(E),
    /// A file could not be stored.
    #[error(transparent)]
    Storage(StorageError),
    /// The shadow could not send everything.
    #[error("the shadow could not send all input files")]
    Shadow(Ack),
    /// All input came, but no credential.
    #[error("the input files did not contain the proxy{}", .0.as_ref().map_or_else(String::new, |name| format!(" {name}")))]
    NoCredential(Option<SandboxPath>),
    /// No key for the delegated proxy.
    #[error(transparent)]
    Key(KeyError),
    /// The delegated proxy is not one.
    #[error(transparent)]
    Delegation(DelegationError),
}

/// Fetches the input sandbox over a connection on which the transfer key has been sent.
///
/// # Errors
/// [`DownloadError`]. Whatever `open` made has been dropped then.
pub async fn download<W, O, E, F, Fut>(
    wire: &mut W,
    request: Request<'_>,
    open: F,
) -> Result<Downloaded<O>, DownloadError<E>>
where
    W: Wire,
    O: Opened,
    E: Send + 'static,
    F: FnOnce(Zeroizing<Vec<u8>>) -> Fut,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
{
    let mut receiver = Receiver::new(wire.coding());
    let mut intake = Intake::<O, E, F, W::Body>::new(request, open);
    let mut delegation = None;
    loop {
        let patience = if receiver.may_wait_long() {
            QUEUE_PATIENCE
        } else {
            request.patience
        };
        let body = wire.recv(patience).await?;
        match receiver.handle(body.as_ref())? {
            Received::Header { .. } | Received::Nothing => {}
            Received::Reply(messages) => {
                for message in messages {
                    wire.queue(message)?;
                }
                wire.flush().await?;
            }
            Received::File(header) => intake.file(header).await,
            Received::Data { is_last } => {
                intake.data(body).await;
                if is_last {
                    intake.end_of_file().await;
                }
            }
            Received::EmptyFile => intake.end_of_file().await,
            Received::Directory { name, mode } => intake.directory(&name, mode).await,
            Received::Delegation { .. } => {
                let key = request.keys.take().await.map_err(DownloadError::Key)?;
                wire.queue(receiver.request_delegation(key.csr_der()))?;
                wire.flush().await?;
                delegation = Some(key);
            }
            Received::Certificates { chain } => {
                if let Some(key) = delegation.take() {
                    let proxy = key.accept(chain).map_err(DownloadError::Delegation)?;
                    intake.files += 1;
                    intake.credential(Zeroizing::new(proxy.as_bytes().to_vec()));
                }
            }
            Received::Url { name } => {
                intake.fail(StorageError::Url {
                    name: String::from_utf8_lossy(&name).into_owned(),
                });
            }
            Received::Finished(theirs) => {
                intake.settle().await;
                intake.set_late_modes().await;
                let ours = intake.ack(&theirs);
                wire.queue(receiver.acknowledge(&ours))?;
                wire.flush().await?;
                return intake.outcome(theirs);
            }
        }
        if intake.is_wasting_time() {
            return intake.outcome(Ack::SUCCESS);
        }
    }
}
