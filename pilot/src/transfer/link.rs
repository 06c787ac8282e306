//! The connection of one transfer, as the two drivers need it.

use std::future::Future;
use std::time::Duration;

use cedar::net::{Message, ReadHalf, Stream, WriteHalf};
use cedar::{Coding, MessageWriter};
use thiserror::Error;

/// The connection failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// On the wire.
    #[error(transparent)]
    Wire(#[from] cedar::net::Error),
    /// The other side is gone.
    #[error("the connection is closed")]
    Closed,
}

/// Messages in and out, one direction at a time.
pub trait Wire: Send {
    /// A received message.
    type Body: AsRef<[u8]> + Send + 'static;

    /// How strings are coded on it.
    fn coding(&self) -> Coding;
    /// The next message, if it comes within this time.
    fn recv(
        &mut self,
        patience: Duration,
    ) -> impl Future<Output = Result<Self::Body, LinkError>> + Send;
    /// Adds a message to those that go out with the next flush or block.
    ///
    /// # Errors
    /// When it cannot be coded.
    fn queue(&mut self, message: MessageWriter) -> Result<(), LinkError>;
    /// Sends what was queued.
    fn flush(&mut self) -> impl Future<Output = Result<(), LinkError>> + Send;
    /// Sends what was queued, and raw bytes as one message.
    fn send_block(&mut self, data: &[u8]) -> impl Future<Output = Result<(), LinkError>> + Send;
}

/// A connection to the shadow's file transfer.
#[derive(Debug)]
pub struct Link {
    read: ReadHalf,
    write: WriteHalf,
    coding: Coding,
}

impl Link {
    /// Takes over a connection. Each wait for the socket to take data is limited by `patience`.
    #[must_use]
    pub fn new(mut stream: Stream, patience: Duration) -> Self {
        stream.set_write_timeout(Some(patience));
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

    /// Waits until the other side has closed, for this time at most.
    pub async fn until_closed(&mut self, patience: Duration) {
        self.read.set_read_timeout(Some(patience));
        while self.read.recv().await.is_ok() {}
    }
}

/// A message as bytes.
#[derive(Debug)]
pub struct Body(Message);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self.0.body()
    }
}

impl Wire for Link {
    type Body = Body;

    fn coding(&self) -> Coding {
        self.coding
    }

    async fn recv(&mut self, patience: Duration) -> Result<Body, LinkError> {
        self.read.set_read_timeout(Some(patience));
        Ok(Body(self.read.recv().await?))
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
