//! File data between the event loop and the disk: small files at once, large ones on a thread of their own so that
//! decryption and disk work at the same time.

use std::fs::File;
use std::io::{self, Read, Write};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::BLOCK;

/// Blocks in flight between the event loop and the disk.
const IN_FLIGHT: usize = 8;

/// Writes one file.
#[derive(Debug)]
pub(super) enum FileWriter<B> {
    /// On the spot.
    Inline(File),
    /// On a thread.
    Threaded {
        blocks: mpsc::Sender<B>,
        thread: JoinHandle<io::Result<()>>,
    },
}

impl<B: AsRef<[u8]> + Send + 'static> FileWriter<B> {
    /// Writes to `file`, which will become `size` bytes long.
    pub(super) fn new(file: File, size: u64) -> Self {
        if size <= BLOCK as u64 {
            return Self::Inline(file);
        }
        let (blocks, mut incoming) = mpsc::channel::<B>(IN_FLIGHT);
        let thread = tokio::task::spawn_blocking(move || {
            let mut file = file;
            while let Some(block) = incoming.blocking_recv() {
                file.write_all(block.as_ref())?;
            }
            Ok(())
        });
        Self::Threaded { blocks, thread }
    }

    /// Writes a block. An error of an earlier block may show up here, or in [`FileWriter::finish`].
    pub(super) async fn write(&mut self, block: B) -> io::Result<()> {
        match self {
            Self::Inline(file) => file.write_all(block.as_ref()),
            Self::Threaded { blocks, .. } => {
                // A receiver that is gone has left its error for `finish`.
                let _ = blocks.send(block).await;
                Ok(())
            }
        }
    }

    /// Waits until everything is written and closes the file.
    pub(super) async fn finish(self) -> io::Result<()> {
        match self {
            Self::Inline(_) => Ok(()),
            Self::Threaded { blocks, thread } => {
                drop(blocks);
                joined(thread).await
            }
        }
    }
}

/// Reads one file in blocks.
#[derive(Debug)]
pub(super) enum FileReader {
    /// On the spot; it is one block.
    Inline(Option<(File, usize)>),
    /// On a thread.
    Threaded {
        blocks: mpsc::Receiver<Vec<u8>>,
        thread: Option<JoinHandle<io::Result<()>>>,
    },
}

impl FileReader {
    /// Reads the first `size` bytes of `file`.
    pub(super) fn new(file: File, size: u64) -> Self {
        if let Ok(length) = usize::try_from(size)
            && length <= BLOCK
        {
            return Self::Inline((length > 0).then_some((file, length)));
        }
        let (sender, blocks) = mpsc::channel(IN_FLIGHT);
        let thread = tokio::task::spawn_blocking(move || {
            let mut file = file;
            let mut left = size;
            while left > 0 {
                let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
                let mut block = vec![0; length];
                file.read_exact(&mut block)?;
                left -= length as u64;
                if sender.blocking_send(block).is_err() {
                    break;
                }
            }
            Ok(())
        });
        Self::Threaded {
            blocks,
            thread: Some(thread),
        }
    }

    /// The next block: as long as announced, or an error. `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Inline(rest) => {
                let Some((mut file, length)) = rest.take() else {
                    return Ok(None);
                };
                let mut block = vec![0; length];
                file.read_exact(&mut block)?;
                Ok(Some(block))
            }
            Self::Threaded { blocks, thread } => match blocks.recv().await {
                Some(block) => Ok(Some(block)),
                None => match thread.take() {
                    Some(thread) => joined(thread).await.map(|()| None),
                    None => Ok(None),
                },
            },
        }
    }
}

async fn joined(thread: JoinHandle<io::Result<()>>) -> io::Result<()> {
    thread
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the file thread did not end well")))
}
