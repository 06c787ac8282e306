//! Sends the input sandbox.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cedar::MessageWriter;
use nix::errno::Errno;
use thiserror::Error;

use super::BLOCK;
use super::ack::Ack;
use super::blocks::BlockReader;
use super::plan::{self, Found, Item, ItemKind, Role, Source};
use super::proxy::Signer;
use super::sender::{Heard, SendError, Sender};
use super::texts::{self, Sides};
use super::ticket::Failure;
use super::turn::Turn;
use super::wire::{LinkError, Wire};
use crate::files::{FileError, Kind, OwnerFiles};

/// Hold reason codes (protocol page 03, section 5.1).
pub(super) const TRANSFER_INPUT_ERROR: i64 = 13;
/// See [`TRANSFER_INPUT_ERROR`].
const MAX_INPUT_EXCEEDED: i64 = 32;

/// Most entries of one input directory.
const MAX_ENTRIES: u32 = 1_000_000;

/// The longest silence while the pilot makes us wait for its turn.
const QUEUE_PATIENCE: Duration = Duration::from_secs(3600);

/// Why the dialogue ended before its end.
#[derive(Debug, Error)]
pub(super) enum Broken {
    /// The connection.
    #[error("the connection broke")]
    Link(#[from] LinkError),
    /// The pilot's fault.
    #[error(transparent)]
    Protocol(#[from] SendError),
}

/// What was sent, and how both sides fared.
#[derive(Debug)]
pub(super) struct Uploaded {
    pub(super) ours: Ack,
    pub(super) theirs: Ack,
}

/// What an upload needs.
pub(super) struct Upload<'a, W, T> {
    pub(super) wire: &'a mut W,
    pub(super) files: &'a OwnerFiles,
    pub(super) items: &'a [Item],
    pub(super) signer: &'a Signer,
    pub(super) sides: &'a Sides,
    /// Why nothing can be sent.
    pub(super) failure: Option<Failure>,
    /// Most bytes, from the job or the pool.
    pub(super) limit: Option<u64>,
    pub(super) patience: Duration,
    pub(super) turn: T,
    /// Bytes and files sent so far; also what was sent when the connection breaks.
    pub(super) bytes: &'a mut u64,
    pub(super) count: &'a mut u64,
}

/// Looks at everything the job needs.
pub(super) async fn look(
    files: &OwnerFiles,
    sources: Vec<Source>,
) -> Result<Vec<(Source, Found)>, FileError> {
    let mut found = Vec::with_capacity(sources.len());
    for source in sources {
        let what = if source.role == Role::Url {
            Found::Unknown
        } else {
            match look_at(files, &source).await {
                Ok(what) => what,
                Err(FileError::Refused { errno, .. }) => Found::Failed(errno),
                Err(FileError::Path { .. }) => Found::Failed(Errno::EINVAL),
                Err(other) => return Err(other),
            }
        };
        found.push((source, what));
    }
    Ok(found)
}

async fn look_at(files: &OwnerFiles, source: &Source) -> Result<Found, FileError> {
    let facts = files.stat(&source.path).await?;
    if facts.kind != Kind::Directory || source.role == Role::Proxy {
        return Ok(Found::One(facts));
    }
    if !source.given.ends_with('/') && files.is_link(&source.path).await? {
        return Ok(Found::LinkToDirectory);
    }
    Ok(Found::Tree(
        facts,
        files.list(&source.path, MAX_ENTRIES).await?,
    ))
}

impl<W: Wire, T: Turn> Upload<'_, W, T> {
    /// Sends everything and hears how the pilot fared.
    pub(super) async fn run(mut self) -> Result<Uploaded, Broken> {
        let mut sender = Sender::new(self.wire.coding());
        let mut failure = self.failure.take();
        let total = plan::total(self.items);
        self.wire.queue(sender.header(total))?;
        // A job that is too large is told before anything of it is sent.
        let items = match self.limit.filter(|limit| total > *limit) {
            Some(limit) => {
                failure = Some(self.too_large(total, limit));
                &[]
            }
            None => self.items,
        };
        for item in items {
            self.item(&mut sender, item, &mut failure).await?;
        }
        let ours = failure.map_or(Ack::Success, Ack::Hold);
        self.queue(sender.finish(&ours))?;
        self.wire.flush().await?;
        let mut body = Vec::new();
        loop {
            self.wire.recv(&mut body, self.patience).await?;
            if let Heard::Finished(theirs) = sender.handle(&body)? {
                return Ok(Uploaded { ours, theirs });
            }
        }
    }

    async fn item(
        &mut self,
        sender: &mut Sender,
        item: &Item,
        failure: &mut Option<Failure>,
    ) -> Result<(), Broken> {
        let name = &item.name;
        match &item.kind {
            ItemKind::Directory { mode } => {
                let begin = sender.directory(name);
                self.begin(sender, begin).await?;
                self.queue([sender.directory_mode(*mode)])?;
            }
            ItemKind::File { path, crypto, .. } => {
                let begin = sender.file(name, *crypto);
                self.begin(sender, begin).await?;
                self.file(sender, path, failure).await?;
            }
            ItemKind::Proxy { path, .. } if self.signer.is_enabled() => {
                let begin = sender.proxy(name);
                self.begin(sender, begin).await?;
                self.delegate(sender, path, failure).await?;
            }
            ItemKind::Proxy { path, .. } => {
                let begin = sender.file(name, plan::Crypto::AsIs);
                self.begin(sender, begin).await?;
                self.file(sender, path, failure).await?;
            }
            ItemKind::Url(url) => {
                let begin = sender.url(name);
                self.begin(sender, begin).await?;
                self.queue([sender.url_body(url)])?;
            }
            ItemKind::Impossible { path, errno, why } => {
                let begin = sender.file(name, plan::Crypto::AsIs);
                self.begin(sender, begin).await?;
                failure.get_or_insert_with(|| self.unreadable(path, *errno as i32, why));
                self.queue(sender.unreadable_file())?;
            }
        }
        Ok(())
    }

    /// Sends the beginning of an item and, once per transfer, waits until both sides may go ahead.
    async fn begin(
        &mut self,
        sender: &mut Sender,
        messages: Vec<MessageWriter>,
    ) -> Result<(), Broken> {
        self.queue(messages)?;
        if !sender.must_wait() {
            return Ok(());
        }
        self.wire.flush().await?;
        let mut body = Vec::new();
        while sender.must_wait() {
            self.wire.recv(&mut body, QUEUE_PATIENCE).await?;
            let Heard::Ready { interval } = sender.handle(&body)? else {
                continue;
            };
            while !self
                .turn
                .come(Duration::from_secs(interval.saturating_sub(20).min(100)))
                .await
            {
                self.wire.queue(sender.wait())?;
                self.wire.flush().await?;
            }
            self.wire.queue(sender.go_ahead())?;
        }
        Ok(())
    }

    async fn file(
        &mut self,
        sender: &Sender,
        path: &Path,
        failure: &mut Option<Failure>,
    ) -> Result<(), Broken> {
        let (file, facts) = match self.files.open_read(path).await {
            Ok(opened) => opened,
            Err(error) => {
                let why = texts::why(&error);
                failure.get_or_insert_with(|| self.unreadable(path, error.errno(), &why));
                return Ok(self.queue(sender.unreadable_file())?);
            }
        };
        // The file may have grown since it was looked at.
        let over = |limit: &u64| self.bytes.saturating_add(facts.size) > *limit;
        if let Some(limit) = self.limit.into_iter().chain(sender.limit()).find(over) {
            failure.get_or_insert_with(|| {
                self.too_large(self.bytes.saturating_add(facts.size), limit)
            });
            return Ok(self.queue(sender.unreadable_file())?);
        }
        self.queue(sender.file_header(facts.mode, facts.size))?;
        let mut left = facts.size;
        let mut reader = BlockReader::new(file, facts.size);
        while left > 0 {
            match reader.next().await {
                Ok(block) => {
                    left = left.saturating_sub(block.len() as u64);
                    *self.bytes = self.bytes.saturating_add(block.len() as u64);
                    self.wire.send_block(&block).await?;
                }
                Err(error) => {
                    let text = match error.kind() {
                        io::ErrorKind::UnexpectedEof => {
                            "the file became shorter while it was sent".to_owned()
                        }
                        _ => error.to_string(),
                    };
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    failure.get_or_insert_with(|| self.unreadable(path, errno, &text));
                    self.fill(left).await?;
                    break;
                }
            }
        }
        *self.count += 1;
        Ok(())
    }

    /// The size has been announced, so something must be sent; the report says that it is worthless.
    async fn fill(&mut self, mut left: u64) -> Result<(), Broken> {
        let zeros = vec![0; BLOCK];
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
            self.wire
                .send_block(zeros.get(..length).unwrap_or(&zeros))
                .await?;
            left -= length as u64;
        }
        Ok(())
    }

    /// The pilot made a key and asks for a proxy of it.
    async fn delegate(
        &mut self,
        sender: &mut Sender,
        path: &Path,
        failure: &mut Option<Failure>,
    ) -> Result<(), Broken> {
        self.wire.flush().await?;
        sender.await_request();
        let mut body = Vec::new();
        self.wire.recv(&mut body, self.patience).await?;
        let Heard::Request(request) = sender.handle(&body)? else {
            return Err(SendError::Unexpected.into());
        };
        let chain = if request.is_empty() {
            Err((
                "the pilot could not make a key for the delegated proxy".to_owned(),
                0,
            ))
        } else {
            self.signer
                .sign(self.files, path, request)
                .await
                .map(|signed| signed.chain)
        };
        match chain {
            Ok(chain) => {
                *self.bytes = self.bytes.saturating_add(chain.len() as u64);
                *self.count += 1;
                self.wire.queue(sender.certificates(&chain))?;
            }
            Err((why, errno)) => {
                let text = format!("delegating the proxy {}: {why}", path.display());
                failure.get_or_insert_with(|| Failure {
                    code: TRANSFER_INPUT_ERROR,
                    subcode: i64::from(errno),
                    reason: self.sides.failed_to_send(&text),
                });
                self.wire.queue(sender.certificates(&[]))?;
            }
        }
        Ok(self.wire.flush().await?)
    }

    fn unreadable(&self, path: &Path, errno: i32, why: &str) -> Failure {
        let text = format!(
            "reading from file {}: (errno {errno}) {why}",
            path.display()
        );
        Failure {
            code: TRANSFER_INPUT_ERROR,
            subcode: i64::from(errno),
            reason: self.sides.failed_to_send(&text),
        }
    }

    fn too_large(&self, bytes: u64, limit: u64) -> Failure {
        let text = format!(
            "max total upload bytes exceeded (max={} MB, input={} MB)",
            limit >> 20,
            bytes.div_ceil(1 << 20)
        );
        Failure {
            code: MAX_INPUT_EXCEEDED,
            subcode: 0,
            reason: self.sides.failed_to_send(&text),
        }
    }

    fn queue(
        &mut self,
        messages: impl IntoIterator<Item = MessageWriter>,
    ) -> Result<(), LinkError> {
        messages
            .into_iter()
            .try_for_each(|message| self.wire.queue(message))
    }
}

/// The names in a folder of the spool.
pub(super) async fn spooled_names(files: &OwnerFiles, folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = files.list(folder, MAX_ENTRIES).await else {
        return Vec::new();
    };
    entries
        .into_iter()
        .map(|entry| entry.path)
        .filter(|path| path.components().count() == 1)
        .collect()
}
