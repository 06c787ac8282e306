//! Fetches the input sandbox.
//!
//! The user's credential decides where the files may go, so it must be first: its bytes stay in memory and go to
//! `open`, which has them verified and a sandbox made. What comes before it, and what comes while `open` works, waits
//! in a bounded staging area; as soon as there is a sandbox it moves there, and everything else is written directly
//! into descriptors opened in the sandbox.
//!
//! A failure on this side never stops the consumption of what the shadow sends: it is reported in the acknowledgement
//! at the end, as the protocol wants it. Only when much is still to come the connection is cut.

use std::fs::File;
use std::future::Future;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use credential::DelegationError;
use thiserror::Error;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::files::FileWriter;
use super::receive::{FileHeader, ReceiveError, Received, Receiver};
use super::staging::{Content, Staged, Staging, StagingError, copy_spilled};
use super::{
    Ack, AckHold, DelegationKeys, KeyError, LinkError, Sandbox, SandboxPath, StoreError, Wire,
};

/// Bytes consumed in vain after a failure before the connection is cut.
const PATIENCE_AFTER_FAILURE: u64 = 256 << 20;
/// The longest silence while the shadow waits for its turn to send.
const QUEUE_PATIENCE: Duration = Duration::from_secs(1200);
/// HTCondor's hold code for failed input.
const TRANSFER_INPUT_ERROR: i64 = 13;

/// What a download needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The file that must be executable.
    pub executable: Option<&'a SandboxPath>,
    /// The file that is the user's credential.
    pub proxy: &'a SandboxPath,
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
    #[error("the input files did not contain the proxy {0}")]
    NoCredential(SandboxPath),
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

enum Phase<O, E> {
    /// No credential yet.
    Waiting(Staging),
    /// `open` works.
    Opening(Staging, JoinHandle<Result<O, E>>),
    /// There is a sandbox.
    Ready(O),
    /// There will be none.
    Refused(E),
    /// Only while one of the others is being replaced.
    Between,
}

enum Current<B> {
    Nothing,
    Discard,
    Credential(Zeroizing<Vec<u8>>),
    Staged,
    Open {
        path: SandboxPath,
        writer: FileWriter<B>,
    },
}

struct Intake<'r, O, E, F, B> {
    request: Request<'r>,
    open: Option<F>,
    phase: Phase<O, E>,
    current: Current<B>,
    failure: Option<StorageError>,
    /// Directories whose own mode would not let us put anything into them.
    late_modes: Vec<(SandboxPath, u32)>,
    bytes: u64,
    files: u64,
    wasted: u64,
}

impl<'r, O, E, F, Fut, B> Intake<'r, O, E, F, B>
where
    O: Opened,
    E: Send + 'static,
    F: FnOnce(Zeroizing<Vec<u8>>) -> Fut,
    Fut: Future<Output = Result<O, E>> + Send + 'static,
    B: AsRef<[u8]> + Send + 'static,
{
    fn new(request: Request<'r>, open: F) -> Self {
        let staging = Staging::new(
            request.staging_directory,
            request.staging_memory,
            request.staging_disk,
        );
        Self {
            request,
            open: Some(open),
            phase: Phase::Waiting(staging),
            current: Current::Nothing,
            failure: None,
            late_modes: Vec::new(),
            bytes: 0,
            files: 0,
            wasted: 0,
        }
    }

    fn fail(&mut self, failure: StorageError) {
        tracing::debug!(
            error = &failure as &dyn std::error::Error,
            "an input file could not be stored"
        );
        self.failure.get_or_insert(failure);
    }

    const fn is_hopeless(&self) -> bool {
        self.failure.is_some() || matches!(self.phase, Phase::Refused(_))
    }

    const fn is_wasting_time(&self) -> bool {
        self.is_hopeless() && self.wasted > PATIENCE_AFTER_FAILURE
    }

    fn name(&mut self, name: &[u8]) -> Option<SandboxPath> {
        match SandboxPath::from_bytes(name) {
            Ok(path) => Some(path),
            Err(source) => {
                self.fail(StorageError::Name {
                    name: String::from_utf8_lossy(name).into_owned(),
                    source,
                });
                None
            }
        }
    }

    async fn file(&mut self, header: FileHeader) {
        self.files += 1;
        self.current = Current::Discard;
        let Some(path) = self.name(&header.name) else {
            return;
        };
        if header.is_unreadable || self.is_hopeless() {
            return;
        }
        if matches!(self.phase, Phase::Waiting(_)) && path == *self.request.proxy {
            if header.size > launch_protocol::MAX_CREDENTIAL as u64 {
                return self.fail(StorageError::CredentialTooLarge { size: header.size });
            }
            // At its final size at once: a growing buffer would leave copies of the key behind.
            let room = usize::try_from(header.size).unwrap_or(0);
            self.current = Current::Credential(Zeroizing::new(Vec::with_capacity(room)));
            return;
        }
        let mode = self.mode(&path, header.mode);
        self.settle_if_due(header.size).await;
        match &mut self.phase {
            Phase::Waiting(staging) | Phase::Opening(staging, _) => {
                match staging.file(path, mode, header.size) {
                    Ok(()) => self.current = Current::Staged,
                    Err(error) => self.staging_failed(error),
                }
            }
            Phase::Ready(opened) => match opened.sandbox().create(path.as_path(), mode).await {
                Ok(file) => {
                    self.current = Current::Open {
                        path,
                        writer: FileWriter::new(file, header.size),
                    };
                }
                Err(error) => self.fail(refused(path, error)),
            },
            Phase::Refused(_) | Phase::Between => {}
        }
    }

    fn mode(&self, path: &SandboxPath, sent: Option<u32>) -> u32 {
        const OWNER_ONLY: u32 = 0o600;
        if path == self.request.proxy {
            return OWNER_ONLY;
        }
        let mode = sent.unwrap_or(0o644);
        if self.request.executable == Some(path) {
            mode | 0o755
        } else {
            mode
        }
    }

    async fn data(&mut self, body: B) {
        let length = body.as_ref().len() as u64;
        self.bytes += length;
        match &mut self.current {
            Current::Nothing | Current::Discard => self.wasted += length,
            Current::Credential(credential) => credential.extend_from_slice(body.as_ref()),
            Current::Staged => {
                if let Phase::Waiting(staging) | Phase::Opening(staging, _) = &mut self.phase
                    && let Err(error) = staging.append(body.as_ref())
                {
                    self.current = Current::Discard;
                    self.staging_failed(error);
                }
            }
            Current::Open { path, writer } => {
                if let Err(source) = writer.write(body).await {
                    let path = path.clone();
                    self.current = Current::Discard;
                    self.fail(StorageError::Write { path, source });
                }
            }
        }
    }

    async fn end_of_file(&mut self) {
        match std::mem::replace(&mut self.current, Current::Nothing) {
            Current::Nothing | Current::Discard | Current::Staged => {}
            Current::Credential(credential) => self.credential(credential),
            Current::Open { path, writer } => {
                if let Err(source) = writer.finish().await {
                    self.fail(StorageError::Write { path, source });
                }
            }
        }
    }

    /// The credential is complete: `open` begins, and the file will be the first in the sandbox.
    fn credential(&mut self, credential: Zeroizing<Vec<u8>>) {
        let (Phase::Waiting(_), Some(open)) = (&self.phase, self.open.take()) else {
            return;
        };
        let Phase::Waiting(mut staging) = std::mem::replace(&mut self.phase, Phase::Between) else {
            return;
        };
        let path = self.request.proxy.clone();
        staging.push_front(Staged::File {
            path,
            mode: 0o600,
            content: Content::Memory(credential.clone()),
        });
        self.phase = Phase::Opening(staging, tokio::spawn(open(credential)));
    }

    async fn directory(&mut self, name: &[u8], mode: u32) {
        const WRITABLE: u32 = 0o300;
        let Some(path) = self.name(name) else {
            return;
        };
        if self.is_hopeless() {
            return;
        }
        if mode & WRITABLE != WRITABLE {
            self.late_modes.push((path.clone(), mode));
        }
        let mode = mode | WRITABLE;
        self.settle_if_due(0).await;
        match &mut self.phase {
            Phase::Waiting(staging) | Phase::Opening(staging, _) => {
                if let Err(error) = staging.directory(path, mode) {
                    self.staging_failed(error);
                }
            }
            Phase::Ready(opened) => {
                if let Err(error) = make_dir(opened.sandbox(), path, mode).await {
                    self.fail(error);
                }
            }
            Phase::Refused(_) | Phase::Between => {}
        }
    }

    fn staging_failed(&mut self, error: StagingError) {
        let limit = self
            .request
            .staging_memory
            .saturating_add(self.request.staging_disk);
        self.fail(match error {
            StagingError::Full => StorageError::TooMuchBeforeCredential { limit },
            StagingError::Io(source) => StorageError::Staging(source),
        });
    }

    /// Waits for `open` when it is done anyway, or when what comes next must not wait in memory.
    async fn settle_if_due(&mut self, size: u64) {
        if let Phase::Opening(staging, task) = &self.phase
            && (task.is_finished() || !staging.has_memory_for(size))
        {
            self.settle().await;
        }
    }

    /// Waits for `open` and moves what waits into the sandbox.
    async fn settle(&mut self) {
        let (staging, task) = match std::mem::replace(&mut self.phase, Phase::Between) {
            Phase::Opening(staging, task) => (staging, task),
            other => {
                self.phase = other;
                return;
            }
        };
        let mut opened = match task.await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                self.phase = Phase::Refused(error);
                return;
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        if let Err(error) = move_in(staging, opened.sandbox()).await {
            self.fail(error);
        }
        self.phase = Phase::Ready(opened);
    }

    async fn set_late_modes(&mut self) {
        let Phase::Ready(opened) = &mut self.phase else {
            return;
        };
        let mut failure = None;
        // Innermost first: an outer directory may become unsearchable.
        for (path, mode) in self.late_modes.drain(..).rev() {
            if let Err(error) = opened.sandbox().set_mode(path.as_path(), mode).await {
                failure.get_or_insert_with(|| refused(path, error));
            }
        }
        if let Some(failure) = failure {
            self.fail(failure);
        }
    }

    fn ack(&self, theirs: &Ack) -> Ack {
        match (&self.failure, &self.phase) {
            (Some(failure), _) => Ack::failure(AckHold {
                code: TRANSFER_INPUT_ERROR,
                subcode: i64::from(failure.errno()),
                reason: crate::job::hold::one_line(&chain(failure)),
            }),
            (None, Phase::Refused(_) | Phase::Waiting(_)) => Ack::try_again(),
            (None, _) if !theirs.is_success() => theirs.clone(),
            (None, _) => Ack::SUCCESS,
        }
    }

    fn outcome(self, theirs: Ack) -> Result<Downloaded<O>, DownloadError<E>> {
        match (self.failure, self.phase) {
            (_, Phase::Refused(error)) => Err(DownloadError::Open(error)),
            (Some(failure), _) => Err(DownloadError::Storage(failure)),
            _ if !theirs.is_success() => Err(DownloadError::Shadow(theirs)),
            (None, Phase::Ready(opened)) => Ok(Downloaded {
                opened,
                bytes: self.bytes,
                files: self.files,
            }),
            (None, _) => Err(DownloadError::NoCredential(self.request.proxy.clone())),
        }
    }
}

fn refused(path: SandboxPath, error: StoreError) -> StorageError {
    match error {
        StoreError::File { errno, message } => StorageError::Create {
            path,
            errno,
            message,
        },
        StoreError::Agent(error) => StorageError::Agent(error),
    }
}

async fn make_dir<S: Sandbox>(
    sandbox: &mut S,
    path: SandboxPath,
    mode: u32,
) -> Result<(), StorageError> {
    match sandbox.make_dir(path.as_path(), mode).await {
        Ok(())
        | Err(StoreError::File {
            errno: libc::EEXIST,
            ..
        }) => Ok(()),
        Err(error) => Err(refused(path, error)),
    }
}

async fn move_in<S: Sandbox>(staging: Staging, sandbox: &mut S) -> Result<(), StorageError> {
    let (items, mut spill) = staging.into_items();
    for item in items {
        match item {
            Staged::Directory { path, mode } => make_dir(sandbox, path, mode).await?,
            Staged::File {
                path,
                mode,
                content,
            } => {
                let file = match sandbox.create(path.as_path(), mode).await {
                    Ok(file) => file,
                    Err(error) => return Err(refused(path, error)),
                };
                let written = match (content, spill.take()) {
                    (Content::Memory(bytes), kept) => {
                        spill = kept;
                        write_whole(file, &bytes)
                    }
                    (Content::Spilled { offset, length }, Some(from)) => {
                        let (from, done) = copy_on_a_thread(from, offset, length, file).await;
                        spill = from;
                        done
                    }
                    (Content::Spilled { .. }, None) => Err(io::ErrorKind::NotFound.into()),
                };
                written.map_err(|source| StorageError::Write { path, source })?;
            }
        }
    }
    Ok(())
}

fn write_whole(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)
}

async fn copy_on_a_thread(
    mut spill: File,
    offset: u64,
    length: u64,
    mut target: File,
) -> (Option<File>, io::Result<()>) {
    let work = move || {
        let done = copy_spilled(&mut spill, offset, length, &mut target);
        (Some(spill), done)
    };
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| (None, Err(io::Error::other(error))))
}

/// An error and its causes, in one sentence.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
