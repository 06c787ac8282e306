//! Where what a download brings is put: the waiting room first, the sandbox as soon as there is one.

use std::fs::File;
use std::future::Future;
use std::io::{self, Write};

use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::download::{DownloadError, Downloaded, Opened, Request, StorageError};
use super::files::FileWriter;
use super::receive::FileHeader;
use super::staging::{Content, Staged, Staging, StagingError, copy_spilled};
use super::{Ack, AckHold, Sandbox, SandboxPath, StoreError};
use crate::blame::chain;

/// Bytes consumed in vain after a failure before the connection is cut.
const PATIENCE_AFTER_FAILURE: u64 = 256 << 20;
/// HTCondor's hold code for failed input.
const TRANSFER_INPUT_ERROR: i64 = 13;

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

/// One transfer's intake.
pub(super) struct Intake<'r, O, E, F, B> {
    request: Request<'r>,
    open: Option<F>,
    phase: Phase<O, E>,
    current: Current<B>,
    failure: Option<StorageError>,
    /// Directories whose own mode would not let us put anything into them.
    late_modes: Vec<(SandboxPath, u32)>,
    bytes: u64,
    pub(super) files: u64,
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
    pub(super) fn new(request: Request<'r>, open: F) -> Self {
        let staging = Staging::new(
            request.staging_directory,
            request.staging_memory,
            request.staging_disk,
        );
        // There is nothing to wait for where no credential is to come.
        let (open, phase) = if request.proxy.is_some() {
            (Some(open), Phase::Waiting(staging))
        } else {
            let task = tokio::spawn(open(Zeroizing::default()));
            (None, Phase::Opening(staging, task))
        };
        Self {
            request,
            open,
            phase,
            current: Current::Nothing,
            failure: None,
            late_modes: Vec::new(),
            bytes: 0,
            files: 0,
            wasted: 0,
        }
    }

    pub(super) fn fail(&mut self, failure: StorageError) {
        tracing::debug!(
            error = &failure as &dyn std::error::Error,
            "an input file could not be stored"
        );
        self.failure.get_or_insert(failure);
    }

    const fn is_hopeless(&self) -> bool {
        self.failure.is_some() || matches!(self.phase, Phase::Refused(_))
    }

    pub(super) const fn is_wasting_time(&self) -> bool {
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

    pub(super) async fn file(&mut self, header: FileHeader) {
        self.files += 1;
        self.current = Current::Discard;
        let Some(path) = self.name(&header.name) else {
            return;
        };
        if header.is_unreadable || self.is_hopeless() {
            return;
        }
        if matches!(self.phase, Phase::Waiting(_)) && Some(&path) == self.request.proxy {
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
        if Some(path) == self.request.proxy {
            return OWNER_ONLY;
        }
        let mode = sent.unwrap_or(0o644);
        if self.request.executable == Some(path) {
            mode | 0o755
        } else {
            mode
        }
    }

    pub(super) async fn data(&mut self, body: B) {
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

    pub(super) async fn end_of_file(&mut self) {
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
    pub(super) fn credential(&mut self, credential: Zeroizing<Vec<u8>>) {
        let Some(path) = self.request.proxy else {
            return;
        };
        let (Phase::Waiting(_), Some(open)) = (&self.phase, self.open.take()) else {
            return;
        };
        let Phase::Waiting(mut staging) = std::mem::replace(&mut self.phase, Phase::Between) else {
            return;
        };
        staging.push_front(Staged::File {
            path: path.clone(),
            mode: 0o600,
            content: Content::Memory(credential.clone()),
        });
        self.phase = Phase::Opening(staging, tokio::spawn(open(credential)));
    }

    pub(super) async fn directory(&mut self, name: &[u8], mode: u32) {
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
    pub(super) async fn settle(&mut self) {
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

    pub(super) async fn set_late_modes(&mut self) {
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

    pub(super) fn ack(&self, theirs: &Ack) -> Ack {
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

    pub(super) fn outcome(self, theirs: Ack) -> Result<Downloaded<O>, DownloadError<E>> {
        match (self.failure, self.phase) {
            (_, Phase::Refused(error)) => Err(DownloadError::Open(error)),
            (Some(failure), _) => Err(DownloadError::Storage(failure)),
            _ if !theirs.is_success() => Err(DownloadError::Shadow(theirs)),
            (None, Phase::Ready(opened)) => Ok(Downloaded {
                opened,
                bytes: self.bytes,
                files: self.files,
            }),
            (None, _) => Err(DownloadError::NoCredential(self.request.proxy.cloned())),
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
