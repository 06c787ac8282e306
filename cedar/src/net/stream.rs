use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use zeroize::Zeroize;

use super::error::{Error, ErrorKind, Step};
use crate::Version;
use crate::frame::{Channel, DEFAULT_LIMIT, FrameError, Opener, Sealer};
use crate::security::client::Proof;
use crate::wire::{Coding, MessageReader, MessageWriter};

/// Least and most bytes asked of the socket at a time.
const READ_MIN: usize = 16 * 1024;
const READ_MAX: usize = 256 * 1024;

/// Send buffers larger than this are given back after use.
const KEEP_BUFFER: usize = 2 * 1024 * 1024;

/// One received message; owns its bytes and wipes them when dropped.
#[derive(Clone)]
pub struct Message {
    coding: Coding,
    body: Vec<u8>,
}

impl Message {
    /// A reader at the start of the message.
    pub fn reader(&self) -> MessageReader<'_> {
        MessageReader::new(self.coding, &self.body)
    }

    pub(super) fn coding(&self) -> Coding {
        self.coding
    }

    /// The raw body, as for a block of a file.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Length of the body in bytes.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// True for a message without content, which an encrypting peer can make.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // Blocks of files are large and not ours to hide; claim ids and tokens come in small messages.
        if self.body.len() <= crate::frame::HANDSHAKE_LIMIT {
            self.body.zeroize();
        }
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({} bytes, {:?})", self.body.len(), self.coding)
    }
}

/// What is known about a connection, shared by its halves.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) peer_addr: SocketAddr,
    pub(super) local_addr: SocketAddr,
    pub(super) label: String,
    pub(super) command: Option<i32>,
    pub(super) peer_version: Option<Version>,
    pub(super) session_id: Option<String>,
    pub(super) our_user: Option<String>,
    pub(super) proof: Option<Proof>,
    pub(super) trust_domain: Option<String>,
}

impl Facts {
    fn error(&self, step: Step, kind: impl Into<ErrorKind>) -> Error {
        Error::new(&self.label, self.command, step, kind)
    }
}

/// An established connection: messages in, messages out.
#[derive(Debug)]
pub struct Stream {
    read: ReadHalf,
    write: WriteHalf,
}

impl Stream {
    pub(super) fn new(tcp: TcpStream, channel: Channel, facts: Facts, timeout: Duration) -> Self {
        let facts = Arc::new(facts);
        let (tcp_read, tcp_write) = tcp.into_split();
        let (mut sealer, mut opener) = channel.into_parts();
        sealer.stay_plain();
        opener.stay_plain();
        opener.set_limit(DEFAULT_LIMIT);
        Self {
            read: ReadHalf {
                tcp: tcp_read,
                opener,
                first: None,
                timeout: Some(timeout),
                facts: Arc::clone(&facts),
            },
            write: WriteHalf {
                tcp: tcp_write,
                sealer,
                buffer: Vec::new(),
                writing: false,
                timeout: Some(timeout),
                facts,
            },
        }
    }

    /// Makes the next [`recv`](Self::recv) return `body`, the rest of a message that began with a command.
    pub(super) fn put_first(&mut self, coding: Coding, body: Vec<u8>) {
        self.read.first = Some(Message { coding, body });
    }

    /// An empty message in the coding of this connection.
    pub fn message(&self) -> MessageWriter {
        self.write.message()
    }

    /// Sends a message, and before it what was queued. Dropping the future before it is done makes
    /// every later one fail: close the connection then.
    ///
    /// # Errors
    ///
    /// [`Error`] with step [`Step::Send`].
    pub async fn send(&mut self, message: MessageWriter) -> Result<(), Error> {
        self.write.send(message).await
    }

    /// Adds a message to those that go out with the next [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// [`Error`] with step [`Step::Send`] if the message cannot be coded.
    pub fn queue(&mut self, message: MessageWriter) -> Result<(), Error> {
        self.write.queue(message)
    }

    /// Sends a part of a message that is longer than should be in memory at once; the message ends
    /// with the next [`send`](Self::send) or [`queue`](Self::queue).
    ///
    /// # Errors
    ///
    /// [`Error`] with step [`Step::Send`]; an empty part is an error.
    pub async fn send_part(&mut self, part: MessageWriter) -> Result<(), Error> {
        self.write.send_part(part).await
    }

    /// Sends raw bytes as one message of as few frames as possible, such as a block of a file.
    /// Needs memory for one frame, whatever the length.
    ///
    /// # Errors
    ///
    /// [`Error`] with step [`Step::Send`]; an empty slice is an error, the protocol has no empty message.
    pub async fn send_bytes_message(&mut self, data: &[u8]) -> Result<(), Error> {
        self.write.send_bytes_message(data).await
    }

    /// Receives the next message. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`Error`] with step [`Step::Receive`]; [`Error::is_closed`] at the orderly end.
    pub async fn recv(&mut self) -> Result<Message, Error> {
        self.read.recv().await
    }

    /// Receives the body of the next message into `buffer`, whose memory is used again for the next
    /// one: for blocks of files. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_into(&mut self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        self.read.recv_into(buffer).await
    }

    /// Limits each wait for a whole message; `None`: wait for ever.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.read.timeout = timeout;
    }

    /// Limits each wait for the socket to take what we send; `None`: wait for ever.
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.write.timeout = timeout;
    }

    /// Limits the messages to come, in bytes; the default is 64 MiB.
    pub fn set_max_message(&mut self, limit: usize) {
        self.read.opener.set_limit(limit);
    }

    /// The version of the peer, if it is known.
    pub fn peer_version(&self) -> Option<Version> {
        self.read.facts.peer_version
    }

    /// The peer's socket address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.read.facts.peer_addr
    }

    /// Our own socket address on this connection.
    pub fn local_addr(&self) -> SocketAddr {
        self.read.facts.local_addr
    }

    /// The id of the session of this connection, if it has one.
    pub fn session_id(&self) -> Option<&str> {
        self.read.facts.session_id.as_deref()
    }

    /// Our identity as the server told it, after a handshake as client.
    pub fn our_user(&self) -> Option<&str> {
        self.read.facts.our_user.as_deref()
    }

    /// What we proved ourselves with, after a handshake as client; `None` in a resumed session.
    pub fn proof(&self) -> Option<&Proof> {
        self.read.facts.proof.as_ref()
    }

    /// The server's trust domain as it told it, after a handshake as client; `None` in a resumed session.
    pub fn trust_domain(&self) -> Option<&str> {
        self.read.facts.trust_domain.as_deref()
    }

    /// True if the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.write.sealer.coding() == Coding::Encrypted
    }

    /// Takes the directions apart, for two tasks. Their counters are independent.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        (self.read, self.write)
    }

    /// Ends our direction of the connection; the peer sees the end of the stream.
    ///
    /// # Errors
    ///
    /// [`Error`] with step [`Step::Send`].
    pub async fn shutdown(&mut self) -> Result<(), Error> {
        self.write.shutdown().await
    }
}

/// The receiving half of a [`Stream`].
#[derive(Debug)]
pub struct ReadHalf {
    tcp: OwnedReadHalf,
    opener: Opener,
    /// What is left of the first message of a raw command, before anything is read.
    first: Option<Message>,
    timeout: Option<Duration>,
    facts: Arc<Facts>,
}

impl ReadHalf {
    /// Receives the next message. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// [`Error`] with step [`Step::Receive`]; [`Error::is_closed`] at the orderly end.
    pub async fn recv(&mut self) -> Result<Message, Error> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        let mut body = Vec::new();
        self.recv_into(&mut body).await?;
        Ok(Message {
            coding: self.opener.coding(),
            body,
        })
    }

    /// Receives the body of the next message into `buffer`, whose memory is used again for the next
    /// one. Dropping the future loses nothing.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub async fn recv_into(&mut self, buffer: &mut Vec<u8>) -> Result<(), Error> {
        if let Some(mut first) = self.first.take() {
            std::mem::swap(&mut first.body, buffer);
            return Ok(());
        }
        let work = receive(&mut self.tcp, &mut self.opener, buffer);
        let result = match self.timeout {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work)
                .await
                .unwrap_or(Err(ErrorKind::Timeout)),
        };
        result.map_err(|kind| self.facts.error(Step::Receive, kind))
    }

    /// Limits each wait for a whole message; `None`: wait for ever.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// The peer's socket address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.facts.peer_addr
    }
}

/// The sending half of a [`Stream`].
#[derive(Debug)]
pub struct WriteHalf {
    tcp: OwnedWriteHalf,
    sealer: Sealer,
    buffer: Vec<u8>,
    /// True while a write is under way; still true later, the write was given up half-way.
    writing: bool,
    timeout: Option<Duration>,
    facts: Arc<Facts>,
}

impl WriteHalf {
    /// An empty message in the coding of this connection.
    pub fn message(&self) -> MessageWriter {
        MessageWriter::new(self.sealer.coding())
    }

    /// Sends a message, and before it what was queued.
    ///
    /// # Errors
    ///
    /// [`Error`] with step [`Step::Send`].
    pub async fn send(&mut self, message: MessageWriter) -> Result<(), Error> {
        self.queue(message)?;
        self.flush().await
    }

    /// Adds a message to those that go out with the next [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// [`Error`] with step [`Step::Send`] if the message cannot be coded.
    pub fn queue(&mut self, message: MessageWriter) -> Result<(), Error> {
        let fail = |kind: ErrorKind| self.facts.error(Step::Send, kind);
        let mut body = message.finish().map_err(|error| fail(error.into()))?;
        let done = self.sealer.seal_message(&body, &mut self.buffer);
        body.zeroize();
        done.map_err(|error| fail(error.into()))
    }

    /// Sends a part of a message; the message ends with the next [`send`](Self::send) or
    /// [`queue`](Self::queue).
    ///
    /// # Errors
    ///
    /// [`Error`] with step [`Step::Send`]; an empty part is an error.
    pub async fn send_part(&mut self, part: MessageWriter) -> Result<(), Error> {
        let fail = |kind: ErrorKind| self.facts.error(Step::Send, kind);
        let mut body = part.finish().map_err(|error| fail(error.into()))?;
        let done = self.sealer.seal_part(&body, &mut self.buffer);
        body.zeroize();
        done.map_err(|error| fail(error.into()))?;
        self.flush().await
    }

    /// Sends raw bytes as one message of as few frames as possible.
    ///
    /// # Errors
    ///
    /// [`Error`] with step [`Step::Send`].
    pub async fn send_bytes_message(&mut self, data: &[u8]) -> Result<(), Error> {
        let mut rest = Some(data);
        while let Some(data) = rest {
            let sealed: Result<_, FrameError> = self.sealer.seal_next(data, &mut self.buffer);
            rest = sealed.map_err(|error| self.facts.error(Step::Send, error))?;
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes out what was queued.
    ///
    /// # Errors
    ///
    /// [`Error`] with step [`Step::Send`].
    pub async fn flush(&mut self) -> Result<(), Error> {
        if self.writing {
            // Sending again would repeat bytes in the middle of a frame.
            let error = io::Error::from(io::ErrorKind::BrokenPipe);
            return Err(self.facts.error(Step::Send, ErrorKind::Io(error)));
        }
        self.writing = true;
        let work = self.tcp.write_all(&self.buffer);
        let result = match self.timeout {
            None => work.await.map_err(ErrorKind::Io),
            Some(limit) => match tokio::time::timeout(limit, work).await {
                Ok(done) => done.map_err(ErrorKind::Io),
                Err(_) => Err(ErrorKind::Timeout),
            },
        };
        self.buffer.clear();
        if self.buffer.capacity() > KEEP_BUFFER {
            self.buffer = Vec::new();
        }
        self.writing = result.is_err();
        result.map_err(|kind| self.facts.error(Step::Send, kind))
    }

    /// Limits each wait for the socket to take what we send; `None`: wait for ever.
    pub fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Ends our direction of the connection; the peer sees the end of the stream.
    ///
    /// # Errors
    ///
    /// [`Error`] with step [`Step::Send`].
    pub async fn shutdown(&mut self) -> Result<(), Error> {
        self.flush().await?;
        let done = self.tcp.shutdown().await;
        done.map_err(|error| self.facts.error(Step::Send, ErrorKind::Io(error)))
    }
}

/// Reads until `opener` has a whole message.
async fn receive(
    tcp: &mut OwnedReadHalf,
    opener: &mut Opener,
    out: &mut Vec<u8>,
) -> Result<(), ErrorKind> {
    loop {
        if opener.next_message_into(out)? {
            return Ok(());
        }
        let space = opener.wanted().clamp(READ_MIN, READ_MAX);
        opener.buffer_mut().reserve(space);
        let count = tcp
            .read_buf(opener.buffer_mut())
            .await
            .map_err(ErrorKind::Io)?;
        if count == 0 {
            return Err(end_of_stream(opener));
        }
    }
}

/// The error for an end of the stream: orderly between messages, an accident inside one.
pub(super) fn end_of_stream(opener: &Opener) -> ErrorKind {
    if opener.is_mid_message() {
        ErrorKind::Cut
    } else {
        ErrorKind::Closed
    }
}

/// One read of the handshake.
pub(super) async fn read_some(tcp: &mut TcpStream, opener: &mut Opener) -> io::Result<usize> {
    opener.buffer_mut().reserve(READ_MIN);
    tcp.read_buf(opener.buffer_mut()).await
}
