//! File content in blocks, read and written away from the runtime's own threads.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use super::BLOCK;

/// Blocks read ahead.
const AHEAD: usize = 2;

/// Blocks that wait to be written.
const BEHIND: usize = 4;

/// Reads a file from its beginning.
pub(super) struct BlockReader {
    blocks: mpsc::Receiver<io::Result<Vec<u8>>>,
}

impl BlockReader {
    /// Reads `size` bytes of it, in blocks of [`BLOCK`] and a shorter one.
    pub(super) fn new(file: OwnedFd, size: u64) -> Self {
        let (sender, blocks) = mpsc::channel(AHEAD);
        spawn_blocking(move || {
            let mut file = File::from(file);
            let mut left = size;
            while left > 0 {
                let length = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
                let mut block = vec![0; length];
                let read = file.read_exact(&mut block).map(|()| block);
                let is_over = read.is_err();
                // Nobody waits for the rest when the transfer has been given up.
                if sender.blocking_send(read).is_err() || is_over {
                    return;
                }
                left -= length as u64;
            }
        });
        Self { blocks }
    }

    /// The next block.
    ///
    /// # Errors
    /// The file cannot be read, or has become shorter.
    pub(super) async fn next(&mut self) -> io::Result<Vec<u8>> {
        self.blocks
            .recv()
            .await
            .unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
    }
}

/// Writes a file from where its descriptor stands.
pub(super) struct BlockWriter {
    blocks: Option<mpsc::Sender<Vec<u8>>>,
    /// Gives the buffers back, so that a large file needs a few only.
    used: mpsc::Receiver<Vec<u8>>,
    done: JoinHandle<io::Result<()>>,
}

impl BlockWriter {
    pub(super) fn new(file: OwnedFd) -> Self {
        let (blocks, mut incoming) = mpsc::channel::<Vec<u8>>(BEHIND);
        let (give_back, used) = mpsc::channel(BEHIND);
        let done = spawn_blocking(move || {
            let mut file = File::from(file);
            while let Some(block) = incoming.blocking_recv() {
                file.write_all(&block)?;
                // If there is no room the buffer is simply freed.
                let _ = give_back.try_send(block);
            }
            // Some file systems say only now that there was no room.
            nix::unistd::close(file).map_err(Into::into)
        });
        Self {
            blocks: Some(blocks),
            used,
            done,
        }
    }

    /// Hands over a block and leaves another buffer in its place. `false`: writing has failed, [`finish`](Self::finish)
    /// tells why.
    pub(super) async fn write(&mut self, block: &mut Vec<u8>) -> bool {
        let next = self.used.try_recv().unwrap_or_default();
        let full = std::mem::replace(block, next);
        match &self.blocks {
            Some(blocks) => blocks.send(full).await.is_ok(),
            None => false,
        }
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// What the system said.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        self.blocks = None;
        match self.done.await {
            Ok(written) => written,
            Err(_) => Err(io::ErrorKind::Other.into()),
        }
    }
}
