//! Authentication methods, one file each, as small machines without I/O (protocol 01 section 5).
//!
//! Each side of a method takes the body of a message and answers with a `Turn`. All messages of
//! this phase are unencrypted.

pub(crate) mod akep2;
pub(crate) mod fs;
mod seeds;
pub(crate) mod simple;
pub(crate) mod ssl;

use std::fmt;
use std::path::PathBuf;

use super::token::TokenError;
use super::{AuthMethod, PeerIdentity};
use crate::crypto::CryptoError;
use crate::error::HandshakeError;
use crate::wire::WireError;

/// What a method does next.
#[derive(Debug)]
pub(crate) enum Turn<M, R> {
    /// Send these messages and wait for the peer's next one with the machine given.
    Wait(M, Vec<Vec<u8>>),
    /// Have the shell act on a directory, then go on.
    Directory(M, DirectoryTask),
    /// Send these messages; the method has succeeded.
    Done(R, Vec<Vec<u8>>),
    /// Send these messages; the method has failed and the loop goes on, both sides in step.
    Failed(MethodFailure, Vec<Vec<u8>>),
}

/// What the shell shall do with the rendezvous directory of FS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryTask {
    /// Create it with mode 0700.
    Make(PathBuf),
    /// Remove it.
    Remove(PathBuf),
    /// Look at it without following a link and report what is there.
    Inspect(PathBuf),
}

/// What the shell found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryReport {
    /// The task was done.
    Done,
    /// The task failed.
    Failed(std::io::ErrorKind),
    /// What stands at the path.
    Found(DirectoryFacts),
}

/// Facts about the rendezvous directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryFacts {
    /// True for a directory, false for anything else, links included.
    pub is_directory: bool,
    /// Number of hard links.
    pub links: u64,
    /// Permission bits.
    pub mode: u32,
    /// Login name of the owner, if there is one.
    pub owner: Option<String>,
}

/// One failed try of a method.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The method.
    pub method: AuthMethod,
    /// Why it failed.
    pub why: MethodFailure,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.method, self.why)
    }
}

/// Why a method failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum MethodFailure {
    /// The peer reported a failure without a reason.
    #[error(
        "the peer reported a failure (for a token: expired, revoked, or its signing key is unknown there)"
    )]
    Peer,
    /// As a server: the client broke the method off.
    #[error("the client gave up: {0}")]
    ClientGaveUp(&'static str),
    /// The peer's proof is wrong.
    #[error("the peer's proof is wrong: {0}")]
    BadProof(&'static str),
    /// The peer's token cannot be read.
    #[error("the peer's token is unusable: {0}")]
    BadToken(#[from] TokenError),
    /// The peer's token is signed with a key we do not have.
    #[error("the peer's token is signed with key {0}, which is unknown here")]
    UnknownKey(String),
    /// The peer's token has expired.
    #[error("the peer's token expired at unix time {0}")]
    Expired(i64),
    /// The peer's token is not valid yet.
    #[error("the peer's token is not valid before unix time {0}")]
    NotYet(i64),
    /// The peer's token comes from another trust domain.
    #[error("the peer's token was issued by {0}")]
    OtherDomain(String),
    /// The server's own rule about tokens refuses this one.
    #[error("the peer's token is refused: {0}")]
    TokenRefused(String),
    /// No token of ours fits.
    #[error("no usable token: {0}")]
    NoToken(Box<super::token::TokenSearch>),
    /// The server does not take our SciToken.
    #[error(
        "the server does not accept our SciToken: its issuer is not trusted there, it is over or for another audience, \
         or it is mapped to nobody"
    )]
    SciTokenRefused,
    /// TLS did not come about, or a certificate is not acceptable.
    #[error("TLS: {0}")]
    Tls(String),
    /// The rendezvous directory could not be made or is not as it must be.
    #[error("the rendezvous directory {0}")]
    Directory(&'static str),
    /// The path the server wants created is not acceptable.
    #[error("the server asked for a directory in a place that is not allowed")]
    BadPath,
    /// The proof was sent, and no verdict came: the connection was closed, or nothing followed.
    #[error("no verdict came, which is how a server rejects a proof")]
    NoVerdict,
    /// The peer did not agree to the method.
    #[error("the server found no method in common with those left")]
    NoneLeft,
}

/// Client side of a method in progress.
#[derive(Debug)]
pub(crate) enum ClientMethod {
    Akep2(akep2::ClientAkep2),
    Fs(fs::ClientFs),
    ClaimToBe(simple::ClientClaim),
    Anonymous(simple::ClientAnonymous),
    Ssl(Box<ssl::ClientSsl>),
}

/// Server side of a method in progress.
#[derive(Debug)]
pub(crate) enum ServerMethod {
    Akep2(akep2::ServerAkep2),
    Fs(fs::ServerFs),
    ClaimToBe(simple::ServerClaim),
    Ssl(Box<ssl::ServerSsl>),
}

pub(crate) type ClientTurn = Turn<ClientMethod, ()>;
pub(crate) type ServerTurn = Turn<ServerMethod, PeerIdentity>;

impl ClientMethod {
    pub(crate) fn method(&self) -> AuthMethod {
        match self {
            Self::Akep2(machine) => machine.method(),
            Self::Ssl(machine) => machine.method(),
            Self::Fs(_) => AuthMethod::Fs,
            Self::ClaimToBe(_) => AuthMethod::ClaimToBe,
            Self::Anonymous(_) => AuthMethod::Anonymous,
        }
    }

    pub(crate) fn message(self, body: &[u8]) -> Result<ClientTurn, HandshakeError> {
        match self {
            Self::Akep2(machine) => machine.message(body),
            Self::Ssl(machine) => machine.message(body),
            Self::Fs(machine) => machine.message(body),
            Self::ClaimToBe(machine) => machine.message(body),
            Self::Anonymous(machine) => machine.message(body),
        }
    }

    pub(crate) fn directory(self, report: &DirectoryReport) -> Result<ClientTurn, HandshakeError> {
        match self {
            Self::Fs(machine) => Ok(machine.directory(report)),
            _ => Err(HandshakeError::Over),
        }
    }
}

impl ServerMethod {
    pub(crate) fn method(&self) -> AuthMethod {
        match self {
            Self::Akep2(machine) => machine.method(),
            Self::Ssl(_) => AuthMethod::Ssl,
            Self::Fs(_) => AuthMethod::Fs,
            Self::ClaimToBe(_) => AuthMethod::ClaimToBe,
        }
    }
}

/// An error that cannot come from the peer's content: our own coding or the crypto library.
pub(crate) fn internal(error: WireError) -> HandshakeError {
    HandshakeError::wire("a message of ours")(error)
}

impl From<CryptoError> for MethodFailure {
    fn from(_: CryptoError) -> Self {
        Self::BadProof("the crypto library failed")
    }
}
