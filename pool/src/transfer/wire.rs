//! The connection of one transfer, as the two drivers need it.

use std::future::Future;
use std::time::Duration;

use cedar::net::{ReadHalf, Stream, WriteHalf};
use cedar::{Coding, MessageWriter};
use thiserror::Error;

/// Largest message that a pilot may send: a block of four times the size that everybody uses.
const MAX_MESSAGE: usize = (1 << 20) + 64 * 1024;

/// The connection failed.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    /// On the wire.
    #[error(transparent)]
    Wire(#[from] cedar::net::Error),
    /// The other side is gone.
    #[cfg(test)]
    #[error("the connection is closed")]
    Closed,
}

/// Messages in and out, one direction at a time.
pub(super) trait Wire: Send {
    /// How strings are coded on it.
    fn coding(&self) -> Coding;
    /// The next message, if it comes within this time. Dropping the future loses nothing.
    fn recv(
        &mut self,
        body: &mut Vec<u8>,
        patience: Duration,
    ) -> impl Future<Output = Result<(), LinkError>> + Send;
    /// Adds a message to those that go out with the next flush or block.
    fn queue(&mut self, message: MessageWriter) -> Result<(), LinkError>;
    /// Sends what was queued.
    fn flush(&mut self) -> impl Future<Output = Result<(), LinkError>> + Send;
    /// Sends what was queued, and raw bytes as one message.
    fn send_block(&mut self, data: &[u8]) -> impl Future<Output = Result<(), LinkError>> + Send;
}

/// A connection of a pilot.
#[derive(Debug)]
pub(super) struct Link {
    read: ReadHalf,
    write: WriteHalf,
    coding: Coding,
}

impl Link {
    /// Takes over a connection. Each wait for the socket to take data is limited by `patience`.
    pub(super) fn new(mut stream: Stream, patience: Duration) -> Self {
        stream.set_write_timeout(Some(patience));
        stream.set_max_message(MAX_MESSAGE);
        let coding = if stream.is_encrypted() {
            Coding::Encrypted
        } else {
            Coding::Plain
        };
        let (read, write) = stream.into_split();
        Self {
            read,
            write,
            coding,
        }
    }

    /// Ends our direction and waits until the pilot has closed, for this time at most, so that the last words arrive.
    pub(super) async fn close(mut self, patience: Duration) {
        if self.write.shutdown().await.is_ok() {
            self.read.set_read_timeout(Some(patience));
            let _ = self.read.recv().await;
        }
    }
}

impl Wire for Link {
    fn coding(&self) -> Coding {
        self.coding
    }

    async fn recv(&mut self, body: &mut Vec<u8>, patience: Duration) -> Result<(), LinkError> {
        self.read.set_read_timeout(Some(patience));
        Ok(self.read.recv_into(body).await?)
    }

    fn queue(&mut self, message: MessageWriter) -> Result<(), LinkError> {
        Ok(self.write.queue(message)?)
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        Ok(self.write.flush().await?)
    }

    async fn send_block(&mut self, data: &[u8]) -> Result<(), LinkError> {
        Ok(self.write.send_bytes_message(data).await?)
    }
}
