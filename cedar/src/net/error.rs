use std::fmt;
use std::io;

use crate::command::Named;
use crate::error::{Blame, HandshakeError};
use crate::frame::FrameError;
use crate::wire::WireError;

/// The step of a connection at which something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Finding the address of a host name.
    Resolve,
    /// The TCP connection.
    Connect,
    /// Putting together what we can prove ourselves with.
    Prepare,
    /// Waiting for the server's answer to our security offer.
    SecurityOffer,
    /// Resuming a session.
    Resumption,
    /// The rest of the handshake.
    Handshake,
    /// Reading a message.
    Receive,
    /// Writing a message.
    Send,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "looking up the host name",
            Self::Connect => "connecting",
            Self::Prepare => "preparing our security offer",
            Self::SecurityOffer => "waiting for the answer to our security offer",
            Self::Resumption => "resuming a session",
            Self::Handshake => "the security handshake",
            Self::Receive => "receiving",
            Self::Send => "sending",
        })
    }
}

/// What failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system reported an error.
    #[error("input or output failed")]
    Io(#[source] io::Error),
    /// Nothing happened in time.
    #[error("no answer in time")]
    Timeout,
    /// The peer closed the connection at a message boundary.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer closed the connection in the middle of a message.
    #[error("the peer closed the connection inside a message")]
    Cut,
    /// The peer closed the connection instead of answering our security offer.
    #[error(
        "the peer closed the connection after our security offer: refused (policy mismatch or unknown command)"
    )]
    OfferRefused,
    /// The connection was closed after the choice of an endpoint behind a shared port.
    #[error(
        "the peer closed the connection after our security offer: nothing answers as {0} behind its shared port, or it refused us (policy mismatch or unknown command)"
    )]
    EndpointRefused(String),
    /// The host name has no address.
    #[error("the host name has no usable address")]
    NoAddress,
    /// The daemon can only be reached through a CCB server.
    #[error("the address can only be reached through a CCB server, which is not supported")]
    BehindCcb,
    /// The session named by the caller is not known here.
    #[error("session {0} is not known here")]
    NoSession(String),
    /// The server is busy with as many handshakes as it allows.
    #[error("too many handshakes are in progress")]
    Busy,
    /// The handshake took so long that its place was given to another client.
    #[error("the handshake took too long while other clients were waiting")]
    Displaced,
    /// The framing was broken.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message could not be coded.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

/// A failure on a connection: with whom, doing what, and why.
#[derive(Debug)]
pub struct Error {
    peer: String,
    command: Option<Named>,
    step: Step,
    kind: Box<ErrorKind>,
}

impl Error {
    pub(crate) fn new(
        peer: impl fmt::Display,
        command: Option<i32>,
        step: Step,
        kind: impl Into<ErrorKind>,
    ) -> Self {
        Self {
            peer: peer.to_string(),
            command: command.map(Named),
            step,
            kind: Box::new(kind.into()),
        }
    }

    /// The address of the peer.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The command being started or served, if known.
    pub fn command(&self) -> Option<i32> {
        self.command.map(|command| command.0)
    }

    /// The step that failed.
    pub fn step(&self) -> Step {
        self.step
    }

    /// What failed.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// True if the peer closed the connection in an orderly way between two messages.
    pub fn is_closed(&self) -> bool {
        matches!(*self.kind, ErrorKind::Closed)
    }

    /// True if a wait ran out of time.
    pub fn is_timeout(&self) -> bool {
        matches!(*self.kind, ErrorKind::Timeout)
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match &*self.kind {
            ErrorKind::Io(_) | ErrorKind::Timeout | ErrorKind::Closed | ErrorKind::Cut => {
                Blame::Network
            }
            ErrorKind::OfferRefused | ErrorKind::EndpointRefused(_) => Blame::Pool,
            ErrorKind::NoAddress | ErrorKind::BehindCcb => Blame::Config,
            ErrorKind::NoSession(_) | ErrorKind::Busy => Blame::Us,
            ErrorKind::Displaced => Blame::Network,
            ErrorKind::Frame(_) | ErrorKind::Wire(_) => Blame::Peer,
            ErrorKind::Handshake(error) => error.blame(),
        }
    }

    /// True if the same attempt may succeed later without anybody changing a configuration.
    pub fn retryable(&self) -> bool {
        match &*self.kind {
            ErrorKind::Io(_)
            | ErrorKind::Timeout
            | ErrorKind::Closed
            | ErrorKind::Cut
            | ErrorKind::NoAddress
            | ErrorKind::Busy
            | ErrorKind::Displaced
            | ErrorKind::Frame(_)
            | ErrorKind::Wire(_) => true,
            // A restarting collector also closes at this point.
            ErrorKind::OfferRefused | ErrorKind::EndpointRefused(_) => true,
            ErrorKind::BehindCcb | ErrorKind::NoSession(_) => false,
            ErrorKind::Handshake(error) => error.retryable(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.peer)?;
        if let Some(command) = self.command {
            write!(f, ", command {command}")?;
        }
        write!(f, ", {}: {}", self.step, self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.kind.source()
    }
}

/// An error and its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
