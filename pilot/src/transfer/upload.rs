//! Sends the output sandbox.
//!
//! A file that cannot be sent does not stop the others: it travels as "unreadable", the report at the end says so, and
//! the caller holds the job with the same words (protocol page 04, section 9).

use std::io;
use std::time::Duration;

use nix::errno::Errno;
use thiserror::Error;

use super::files::FileReader;
use super::select::{Item, ItemKind};
use super::send::{Heard, SendError, Sender};
use super::{Ack, AckHold, BLOCK, LinkError, Sandbox, StoreError, Wire};

/// The longest silence while the shadow waits for its turn to receive.
const QUEUE_PATIENCE: Duration = Duration::from_secs(1200);
/// What an uploading side reports for a file it cannot read; the shadow turns it into its code for output.
const TRANSFER_ERROR: i64 = 13;

/// What an upload needs to know.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is sent, in order.
    pub items: &'a [Item],
    /// Bytes announced.
    pub bytes: u64,
    /// To the user's directory; otherwise to the spool, for the next run.
    pub is_final: bool,
    /// The longest silence of the shadow.
    pub patience: Duration,
    /// This side and the other, for the report.
    pub from: &'a str,
    /// The address of the shadow.
    pub to: &'a str,
}

/// One file could not be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    /// Linux error number.
    pub errno: i32,
    /// One sentence that names the file.
    pub message: String,
    /// The receiver's limit is the reason, not the file.
    pub is_over_limit: bool,
}

/// The dialogue was completed.
#[derive(Debug)]
pub struct Uploaded {
    /// What could not be sent, first one first.
    pub unsent: Option<Unsent>,
    /// This side's report, as it was sent.
    pub ours: Ack,
    /// The shadow's report.
    pub theirs: Ack,
}

/// Why the dialogue was not completed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UploadError {
    /// The connection broke.
    #[error("the connection for the output files broke")]
    Link(#[from] LinkError),
    /// The shadow broke the protocol or refused.
    #[error(transparent)]
    Protocol(#[from] SendError),
    /// The agent failed.
    #[error("the agent in the sandbox failed")]
    Agent(#[source] crate::broker::AgentError),
}

/// Sends over a connection on which the transfer key has been sent.
///
/// # Errors
/// [`UploadError`]
pub async fn upload<W: Wire, S: Sandbox>(
    wire: &mut W,
    sandbox: &mut S,
    request: Request<'_>,
) -> Result<Uploaded, UploadError> {
    let mut upload = Upload {
        sender: Sender::new(wire.coding()),
        wire,
        sandbox,
        request,
        unsent: None,
        sent_bytes: 0,
    };
    upload.run().await
}

struct Upload<'w, W, S> {
    sender: Sender,
    wire: &'w mut W,
    sandbox: &'w mut S,
    request: Request<'w>,
    unsent: Option<Unsent>,
    sent_bytes: u64,
}

impl<W: Wire, S: Sandbox> Upload<'_, W, S> {
    async fn run(&mut self) -> Result<Uploaded, UploadError> {
        self.wire.queue(
            self.sender
                .header(self.request.is_final, self.request.bytes),
        )?;
        for item in self.request.items {
            match &item.kind {
                ItemKind::Directory { mode } => {
                    let begin = self.sender.directory(&item.name);
                    self.begin(begin).await?;
                    self.wire.queue(self.sender.directory_mode(*mode))?;
                }
                ItemKind::File { path, .. } => {
                    let begin = self.sender.file(&item.name);
                    self.begin(begin).await?;
                    self.file(path).await?;
                }
                ItemKind::Impossible {
                    path,
                    errno,
                    message,
                } => {
                    let begin = self.sender.file(&item.name);
                    self.begin(begin).await?;
                    self.unreadable(path, *errno, message)?;
                }
            }
        }
        let ours = self.report();
        for message in self.sender.finish(&ours) {
            self.wire.queue(message)?;
        }
        self.wire.flush().await?;
        loop {
            let body = self.wire.recv(self.request.patience).await?;
            if let Heard::Finished(theirs) = self.sender.handle(body.as_ref())? {
                return Ok(Uploaded {
                    unsent: self.unsent.take(),
                    ours,
                    theirs,
                });
            }
        }
    }

    /// Sends the beginning of an item and, once per transfer, waits for the go-ahead.
    async fn begin(&mut self, messages: Vec<cedar::MessageWriter>) -> Result<(), UploadError> {
        for message in messages {
            self.wire.queue(message)?;
        }
        if !self.sender.must_wait() {
            return Ok(());
        }
        self.wire.flush().await?;
        while self.sender.must_wait() {
            let body = self
                .wire
                .recv(QUEUE_PATIENCE.max(self.request.patience))
                .await?;
            if let Heard::GoAhead(message) = self.sender.handle(body.as_ref())? {
                self.wire.queue(message)?;
            }
        }
        Ok(())
    }

    async fn file(&mut self, path: &std::path::Path) -> Result<(), UploadError> {
        let (file, size, mode) = match self.sandbox.open_read(path).await {
            Ok(opened) => opened,
            Err(StoreError::File { errno, .. }) => {
                return self.unreadable(path, errno, Errno::from_raw(errno).desc());
            }
            Err(StoreError::Agent(error)) => return Err(UploadError::Agent(error)),
        };
        if self
            .sender
            .limit()
            .is_some_and(|limit| self.sent_bytes.saturating_add(size) > limit)
        {
            self.unsent.get_or_insert_with(|| Unsent {
                errno: libc::EFBIG,
                message: format!(
                    "the submit side takes no more output, and {} would exceed its limit",
                    path.display()
                ),
                is_over_limit: true,
            });
            return self.queue_all(self.sender.unreadable_file());
        }
        self.queue_all(self.sender.file_header(mode, size))?;
        self.sent_bytes = self.sent_bytes.saturating_add(size);
        let mut left = size;
        let mut reader = FileReader::new(file, size);
        while left > 0 {
            let block = match reader.next().await {
                Ok(Some(block)) => block,
                Ok(None) => {
                    return self
                        .fill(path, left, &io::ErrorKind::UnexpectedEof.into())
                        .await;
                }
                Err(error) => return self.fill(path, left, &error).await,
            };
            left = left.saturating_sub(block.len() as u64);
            self.wire.send_block(&block).await?;
        }
        Ok(())
    }

    /// The size has been announced, so something must be sent; the report will say that it is worthless.
    async fn fill(
        &mut self,
        path: &std::path::Path,
        left: u64,
        error: &io::Error,
    ) -> Result<(), UploadError> {
        self.failed(
            path,
            error.raw_os_error().unwrap_or(libc::EIO),
            &error.to_string(),
        );
        let zeros = vec![0; BLOCK];
        let mut left = left;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            self.wire
                .send_block(zeros.get(..length).unwrap_or(&zeros))
                .await?;
            left -= length as u64;
        }
        Ok(())
    }

    fn unreadable(
        &mut self,
        path: &std::path::Path,
        errno: i32,
        message: &str,
    ) -> Result<(), UploadError> {
        self.failed(path, errno, message);
        self.queue_all(self.sender.unreadable_file())
    }

    fn failed(&mut self, path: &std::path::Path, errno: i32, message: &str) {
        self.unsent.get_or_insert_with(|| Unsent {
            errno,
            message: format!(
                "reading from file {}: (errno {errno}) {message}",
                path.display()
            ),
            is_over_limit: false,
        });
    }

    fn queue_all(&mut self, messages: Vec<cedar::MessageWriter>) -> Result<(), UploadError> {
        for message in messages {
            self.wire.queue(message)?;
        }
        Ok(())
    }

    fn report(&self) -> Ack {
        const OVER_LIMIT: i64 = 33;
        let Some(unsent) = &self.unsent else {
            return Ack::SUCCESS;
        };
        let reason = format!(
            "STARTER at {} failed to send file(s) to {}: |Error: {}",
            self.request.from, self.request.to, unsent.message
        );
        Ack::failure(AckHold {
            code: if unsent.is_over_limit {
                OVER_LIMIT
            } else {
                TRANSFER_ERROR
            },
            subcode: i64::from(unsent.errno),
            reason: crate::job::hold::one_line(&reason),
        })
    }
}
