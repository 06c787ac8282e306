//! Errors of the security layer and of connections: what failed, whose fault it is, what to do.

use crate::command::Named;
use crate::crypto::CryptoError;
use crate::frame::FrameError;
use crate::security::auth::Attempt;
use crate::security::policy::PolicyError;
use crate::security::token::TokenSearch;
use crate::security::{AuthMethod, Level, SciTokenError, SslError};
use crate::wire::WireError;

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The peer broke the protocol.
    Peer,
    /// The pool's configuration refuses us.
    Pool,
    /// Our own program or machine.
    Us,
    /// Our configuration: policy, tokens, addresses.
    Config,
    /// The way between: unreachable, interrupted, too slow.
    Network,
}

/// A method that could not be offered, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{method}: {why}")]
pub struct Unprepared {
    /// The method.
    pub method: AuthMethod,
    /// What is missing.
    pub why: Box<HandshakeError>,
}

/// A handshake did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer broke the framing, or encryption failed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message of the peer could not be decoded.
    #[error("{message} could not be read")]
    Wire {
        /// The message being read.
        message: &'static str,
        /// What was wrong with it.
        #[source]
        source: WireError,
    },
    /// A cryptographic operation failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The policies of the two sides, or our own alone, cannot be met.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The server would take a token, but we have none that fits.
    #[error("no usable token: {0}")]
    NoToken(Box<TokenSearch>),
    /// There is no SciToken that could be shown, or no way to show it.
    #[error(transparent)]
    SciToken(#[from] SciTokenError),
    /// Our certificate has expired.
    #[error("our certificate {} expired at unix time {end}; renew it", path.display())]
    CertificateExpired {
        /// Its file.
        path: std::path::PathBuf,
        /// The end of the first certificate of its chain to end.
        end: i64,
    },
    /// Of several methods none can be used, each for its own reason.
    #[error("nothing to prove ourselves with: {}", unprepared_text(.0))]
    Unprepared(Vec<Unprepared>),
    /// Our certificate or authorities for SSL cannot be used.
    #[error(transparent)]
    Ssl(#[from] SslError),
    /// SSL has nothing to compare the server's certificate with.
    #[error(
        "the server's address has no host name (nor an alias) that its certificate could be checked against"
    )]
    NoServerName,
    /// The two sides have no method in common that we can run.
    #[error("no common authentication method (ours: {ours}; theirs: {theirs})")]
    NoMethod {
        /// Our list.
        ours: String,
        /// The list of the peer.
        theirs: String,
    },
    /// Encryption was agreed, but not with AES.
    #[error("the peer offers no AES encryption (it offers: {offered})")]
    NoCipher {
        /// The peer's list.
        offered: String,
    },
    /// The peer decided against a feature we require.
    #[error("the peer decided against {0}, which our policy requires")]
    Weakened(crate::security::policy::Feature),
    /// The peer wants to send a key instead of agreeing on one.
    #[error("the peer transports a session key instead of using ECDH, which is not supported")]
    KeyTransport,
    /// An ad of the handshake lacks an attribute or has it with a wrong value.
    #[error("{message} has no valid {attribute}")]
    BadAttribute {
        /// The message.
        message: &'static str,
        /// The attribute.
        attribute: &'static str,
    },
    /// Every method failed.
    #[error("authentication failed: {}", attempts_text(.0))]
    Authentication(Vec<Attempt>),
    /// The server knows us but does not let us run the command.
    #[error("not authorized{}", user_text(.user.as_deref()))]
    Denied {
        /// Our identity as the server sees it.
        user: Option<String>,
    },
    /// The server answered with a code we do not know how to continue from.
    #[error("the server answered {0}")]
    Refused(String),
    /// The peer does not know the session to be resumed.
    #[error("the peer does not know session {session}")]
    UnknownSession {
        /// The session id, fit for logs.
        session: String,
    },
    /// As a server: the client began with another command than a handshake.
    #[error("raw command {0} without a security handshake")]
    RawCommand(Named),
    /// As a server: the client asks for a command nobody serves here.
    #[error("unknown command {0}")]
    UnknownCommand(Named),
    /// As a server: the client may not run the command.
    #[error("{user} may not run command {command}{}: {why}", level_text(*.level))]
    Unauthorized {
        /// Who the client is.
        user: String,
        /// What it wanted.
        command: Named,
        /// The level of the command; `None` if it is unknown.
        level: Option<Level>,
        /// Which list decided, and why.
        why: String,
    },
    /// As a server: the session was made with a method, or without, as the level of the command does not take.
    #[error(
        "its session was made by {}, which level {level} of command {command} does not take",
        .method.map_or("no method", AuthMethod::name)
    )]
    WeakSession {
        /// What the client wanted.
        command: Named,
        /// The level of the command.
        level: Level,
        /// The method the session was made with; `None`: without any.
        method: Option<AuthMethod>,
    },
    /// As a server: there is no policy for the level of the command.
    #[error("no security policy for level {level}, which command {command} needs")]
    NoPolicy {
        /// What the client wanted.
        command: Named,
        /// The level of the command.
        level: Level,
    },
    /// As a server that takes part in claim sessions only: the client wanted a new session.
    #[error("a new session was asked for command {0}, only sessions of claims are accepted here")]
    NewSessionRefused(Named),
    /// A message arrived where none may.
    #[error("the peer sent a message while {0}")]
    Unexpected(&'static str),
    /// The handshake object was used after it had failed or ended.
    #[error("the handshake is over")]
    Over,
}

impl HandshakeError {
    /// Wraps a decoding error with the message it is about.
    pub(crate) fn wire(message: &'static str) -> impl Fn(WireError) -> Self {
        move |source| Self::Wire { message, source }
    }

    /// Whose fault it is.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Frame(_)
            | Self::Wire { .. }
            | Self::KeyTransport
            | Self::BadAttribute { .. }
            | Self::RawCommand(_)
            | Self::UnknownCommand(_)
            | Self::Unauthorized { .. }
            | Self::NoPolicy { .. }
            | Self::WeakSession { .. }
            | Self::NewSessionRefused(_)
            | Self::UnknownSession { .. }
            | Self::Unexpected(_) => Blame::Peer,
            Self::Crypto(CryptoError::BadTag | CryptoError::BadPoint) => Blame::Peer,
            Self::Crypto(_) | Self::Over => Blame::Us,
            Self::Policy(PolicyError::Contradiction { .. })
            | Self::NoToken(_)
            | Self::Ssl(_)
            | Self::SciToken(_)
            | Self::CertificateExpired { .. }
            | Self::Unprepared(_)
            | Self::NoServerName => Blame::Config,
            Self::Policy(_)
            | Self::NoMethod { .. }
            | Self::NoCipher { .. }
            | Self::Weakened(_)
            | Self::Authentication(_)
            | Self::Denied { .. }
            | Self::Refused(_) => Blame::Pool,
        }
    }

    /// True if the same attempt may succeed later without anybody changing a configuration.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Frame(_) | Self::Wire { .. } | Self::Unexpected(_) => true,
            Self::UnknownSession { .. }
            | Self::Ssl(_)
            | Self::SciToken(_)
            | Self::CertificateExpired { .. }
            | Self::NoToken(_)
            | Self::Authentication(_) => true,
            Self::Crypto(error) => matches!(error, CryptoError::BadTag),
            Self::Unprepared(list) => list.iter().any(|method| method.why.retryable()),
            _ => false,
        }
    }
}

fn attempts_text(attempts: &[Attempt]) -> String {
    if attempts.is_empty() {
        return "no method was tried".to_owned();
    }
    let texts: Vec<_> = attempts.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

fn unprepared_text(list: &[Unprepared]) -> String {
    let texts: Vec<_> = list.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

fn user_text(user: Option<&str>) -> String {
    user.map(|user| format!(" (the server knows us as {user})"))
        .unwrap_or_default()
}

fn level_text(level: Option<Level>) -> String {
    level
        .map(|level| format!(" (level {level})"))
        .unwrap_or_default()
}
