//! Receives the output sandbox.
//!
//! A failure on this side never stops the consumption of what the pilot sends: it is reported in the acknowledgement at
//! the end, as the protocol wants it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use thiserror::Error;

use super::ack::Ack;
use super::blocks::BlockWriter;
use super::place::{Place, Places};
use super::receiver::{FileHeader, ReceiveError, Received, Receiver};
use super::spool::SpoolFolder;
use super::texts::{self, Sides};
use super::ticket::Failure;
use super::turn::Turn;
use super::wire::{LinkError, Wire};
use crate::files::{FileError, OpenWrite, OwnerFiles};
use crate::transfer::job::TransferJob;

/// Hold reason codes (protocol page 03, section 5.1).
pub(super) const TRANSFER_OUTPUT_ERROR: i64 = 12;
/// See [`TRANSFER_OUTPUT_ERROR`].
const MAX_OUTPUT_EXCEEDED: i64 = 33;

/// The longest silence while the pilot waits for its own turn to send.
const QUEUE_PATIENCE: Duration = Duration::from_secs(3600);

/// Permission bits of a file for which the pilot gave none.
const DEFAULT_MODE: u32 = 0o644;

/// Why the dialogue ended before its end.
#[derive(Debug, Error)]
pub(super) enum Broken {
    /// The connection.
    #[error("the connection broke")]
    Link(#[from] LinkError),
    /// The pilot's fault.
    #[error(transparent)]
    Protocol(#[from] ReceiveError),
}

/// What was received, and how both sides fared.
#[derive(Debug)]
pub(super) struct Downloaded {
    /// Our own failure.
    pub(super) failure: Option<Failure>,
    pub(super) theirs: Ack,
}

/// What a download needs.
pub(super) struct Download<'a, W, T> {
    pub(super) wire: &'a mut W,
    pub(super) files: &'a OwnerFiles,
    pub(super) job: &'a TransferJob,
    pub(super) spool: &'a SpoolFolder,
    pub(super) sides: &'a Sides,
    /// Most bytes, from the job or the pool.
    pub(super) limit: Option<u64>,
    pub(super) patience: Duration,
    pub(super) turn: T,
    pub(super) is_spooled: &'a mut bool,
    /// Bytes and files received so far.
    pub(super) bytes: &'a mut u64,
    pub(super) count: &'a mut u64,
}

/// A file on its way.
struct Current {
    /// `None`: its bytes are thrown away.
    writer: Option<BlockWriter>,
    path: PathBuf,
}

/// What is known while a transfer goes on.
#[derive(Default)]
struct State {
    current: Option<Current>,
    failure: Option<Failure>,
}

impl<W: Wire, T: Turn> Download<'_, W, T> {
    /// Receives everything and tells the pilot how we fared.
    pub(super) async fn run(mut self) -> Result<Downloaded, Broken> {
        let mut receiver = Receiver::new(self.wire.coding());
        let mut state = State::default();
        let mut body = Vec::new();
        loop {
            let patience = if receiver.may_wait_long() {
                QUEUE_PATIENCE
            } else {
                self.patience
            };
            self.wire.recv(&mut body, patience).await?;
            match receiver.handle(&body)? {
                Received::Nothing => {}
                Received::Header { is_final, .. } => {
                    *self.is_spooled = !is_final;
                    if !is_final && let Err(error) = self.spool.begin(self.files).await {
                        self.fail_file(&mut state, &error);
                    }
                }
                Received::Asks { interval } => {
                    while !self
                        .turn
                        .come(Duration::from_secs(interval.saturating_sub(20).min(100)))
                        .await
                    {
                        self.wire.queue(receiver.wait())?;
                        self.wire.flush().await?;
                    }
                    for message in receiver.go_ahead(self.limit) {
                        self.wire.queue(message)?;
                    }
                    self.wire.flush().await?;
                }
                Received::Reply(message) => {
                    self.wire.queue(message)?;
                    self.wire.flush().await?;
                }
                Received::File(header) => self.open(&mut state, header).await,
                Received::Data { is_last } => {
                    *self.bytes = self.bytes.saturating_add(body.len() as u64);
                    if let Some(Current {
                        writer: Some(writer),
                        ..
                    }) = &mut state.current
                        && !writer.write(&mut body).await
                    {
                        self.close(&mut state).await;
                        state.current = Some(Current {
                            writer: None,
                            path: PathBuf::new(),
                        });
                    }
                    if is_last {
                        self.close(&mut state).await;
                        *self.count += 1;
                    }
                }
                Received::EmptyFile => {
                    self.close(&mut state).await;
                    *self.count += 1;
                }
                Received::Directory { name, mode } => self.directory(&mut state, &name, mode).await,
                Received::Elsewhere { url, problem } => {
                    *self.count += 1;
                    if let Some(problem) = problem {
                        self.fail(
                            &mut state,
                            0,
                            &format!("sending a file to {url}: {problem}"),
                        );
                    }
                }
                Received::Finished(theirs) => {
                    if *self.is_spooled
                        && state.failure.is_none()
                        && theirs == Ack::Success
                        && let Err(error) = self.spool.commit(self.files).await
                    {
                        self.fail_file(&mut state, &error);
                    }
                    let ours = self.ack(&state, &theirs);
                    self.wire.queue(receiver.acknowledge(&ours))?;
                    self.wire.flush().await?;
                    return Ok(Downloaded {
                        failure: state.failure,
                        theirs,
                    });
                }
            }
        }
    }

    /// Ours, given theirs: without a failure of our own it says what theirs says.
    fn ack(&self, state: &State, theirs: &Ack) -> Ack {
        match (&state.failure, theirs) {
            (Some(failure), _) => Ack::Hold(failure.clone()),
            (None, Ack::Success) => Ack::Success,
            (None, Ack::TryAgain(_)) => Ack::TryAgain(self.sides.failed_to_receive(None)),
            (None, Ack::Hold(failure)) => Ack::Hold(Failure {
                reason: self.sides.failed_to_receive(None),
                ..failure.clone()
            }),
        }
    }

    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "a shared reference held while waiting would have to be Sync"
    )]
    async fn open(&mut self, state: &mut State, header: FileHeader) {
        let discard = |path: PathBuf| Some(Current { writer: None, path });
        let place = match self.place(&header.name) {
            // Its sender says at the end that it is missing.
            _ if header.is_unreadable => return state.current = discard(PathBuf::new()),
            Ok(place) => place,
            Err(why) => {
                self.fail(state, libc::EPERM, &why);
                return state.current = discard(PathBuf::new());
            }
        };
        let path = place.path();
        if let Some(limit) = self
            .limit
            .filter(|limit| self.bytes.saturating_add(header.size) > *limit)
        {
            let text = format!(
                "receiving file {}: max total download bytes exceeded (max={} MB)",
                path.display(),
                limit >> 20
            );
            state.failure.get_or_insert_with(|| Failure {
                code: MAX_OUTPUT_EXCEEDED,
                subcode: 0,
                reason: self.sides.failed_to_receive(Some(&text)),
            });
            return state.current = discard(path);
        }
        // After a failure the rest is for nobody: the job is held and its output sent again.
        if state.failure.is_some() {
            return state.current = discard(path);
        }
        let mode = header.mode.unwrap_or(DEFAULT_MODE);
        let how = OpenWrite {
            mode,
            create: true,
            truncate: true,
            set_mode: header.mode.is_some(),
            ..OpenWrite::default()
        };
        let opened = match place {
            Place::Named(path) => self.files.open_write(&path, how).await,
            Place::Beneath { base, path } => {
                let how = OpenWrite {
                    beneath: Some(base),
                    ..how
                };
                self.files.open_write(&path, how).await
            }
        };
        state.current = match opened {
            Ok((file, _)) => Some(Current {
                writer: Some(BlockWriter::new(file)),
                path,
            }),
            Err(error) => {
                let text = format!(
                    "receiving file {}: (errno {}) {}",
                    path.display(),
                    error.errno(),
                    outside(&error)
                );
                self.fail(state, error.errno(), &text);
                discard(path)
            }
        };
    }

    /// The current file has ended, or cannot be written any more.
    #[expect(
        clippy::needless_pass_by_ref_mut,
        reason = "a shared reference held while waiting would have to be Sync"
    )]
    async fn close(&mut self, state: &mut State) {
        let Some(Current {
            writer: Some(writer),
            path,
        }) = state.current.take()
        else {
            return;
        };
        if let Err(error) = writer.finish().await {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            let text = format!(
                "receiving file {}: (errno {errno}) {}",
                path.display(),
                described(&error)
            );
            self.fail(state, errno, &text);
        }
    }

    async fn directory(&mut self, state: &mut State, name: &[u8], mode: u32) {
        let place = match self.place(name) {
            Ok(place) => place,
            Err(why) => return self.fail(state, libc::EPERM, &why),
        };
        if state.failure.is_some() {
            return;
        }
        // Whatever the pilot says, the owner must be able to put files into it.
        let mode = if mode == 0 { 0o700 } else { mode | 0o700 };
        let made = match &place {
            Place::Named(path) => self.files.make_dir(path, mode).await,
            Place::Beneath { base, path } => self.files.make_dir_beneath(base, path, mode).await,
        };
        match made {
            Ok(()) => *self.count += 1,
            Err(FileError::Refused {
                errno: Errno::EEXIST,
                ..
            }) => {}
            Err(error) => {
                let path = place.path();
                let text = format!(
                    "creating directory {}: (errno {}) {}",
                    path.display(),
                    error.errno(),
                    outside(&error)
                );
                self.fail(state, error.errno(), &text);
            }
        }
    }

    fn place(&self, name: &[u8]) -> Result<Place, String> {
        let places = if *self.is_spooled {
            Places::of_spool(self.job, self.spool.incoming())
        } else {
            Places::of_user(self.job)
        };
        places.of(name).map_err(|why| why.to_string())
    }

    fn fail_file(&self, state: &mut State, error: &FileError) {
        self.fail(state, error.errno(), &texts::with_causes(error));
    }

    fn fail(&self, state: &mut State, errno: i32, text: &str) {
        state.failure.get_or_insert_with(|| Failure {
            code: TRANSFER_OUTPUT_ERROR,
            subcode: i64::from(errno),
            reason: self.sides.failed_to_receive(Some(text)),
        });
    }
}

/// Says "outside" where the kernel says "cross-device link".
fn outside(error: &FileError) -> String {
    match error {
        FileError::Refused {
            errno: Errno::EXDEV,
            ..
        } => "it leads out of the job's directory, and the submit file does not name it".to_owned(),
        other => texts::why(other),
    }
}

fn described(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(
        || error.to_string(),
        |errno| Errno::from_raw(errno).desc().to_owned(),
    )
}
