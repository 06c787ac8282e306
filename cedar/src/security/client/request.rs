//! What a client asks for, and what it gets.

use std::path::PathBuf;

use crate::Version;
use crate::frame::Channel;
use crate::security::auth::DirectoryTask;
use crate::security::policy::ConsistentPolicy;
use crate::security::token::TokenSet;
use crate::security::{
    AuthMethod, PoolPassword, SciToken, SciTokenError, Session, SslClient, SslError,
};

/// What a client asks for, and everything needed to get it.
#[derive(Debug, Clone)]
pub struct ClientRequest {
    /// The command.
    pub command: i32,
    /// The command whose level counts, with `DC_SEC_QUERY` or `DC_AUTHENTICATE` as `command`.
    pub auth_command: Option<i32>,
    /// The address dialled, as text.
    pub address: String,
    /// `ip:port` dialled.
    pub server: String,
    /// The endpoint to select first if the server sits behind a shared port daemon.
    pub shared_port: Option<SharedPort>,
    /// Our wishes.
    pub policy: ConsistentPolicy,
    /// Our tokens.
    pub tokens: TokenSet,
    /// The pool password.
    pub password: Option<PoolPassword>,
    /// Authorities and certificate for SSL, or why they cannot be used; `None`: no SSL.
    pub ssl: Option<Result<SslClient, SslError>>,
    /// A SciToken, or why there is none to show; `None`: no SCITOKENS.
    pub scitoken: Option<Result<SciTokenProof, SciTokenError>>,
    /// The name of the server, which its certificate must be for; without it no SSL.
    pub host: Option<String>,
    /// The name to claim with CLAIMTOBE.
    pub claim_to_be: Option<String>,
    /// Whether FS can be tried: the caller can make directories, and the server is local.
    pub fs: bool,
    /// Our version banner; never empty.
    pub version: String,
    /// Informational name of our kind of program.
    pub subsystem: String,
    /// Our own address if we have a command port.
    pub command_sock: Option<String>,
    /// Our trust domain.
    pub trust_domain: Option<String>,
    /// Our process id, informational.
    pub pid: i64,
    /// Unix time now.
    pub now: i64,
}

impl ClientRequest {
    /// What SSL needs, if it can be used.
    pub(super) fn ssl_client(&self) -> Option<&SslClient> {
        self.ssl.as_ref().and_then(|loaded| loaded.as_ref().ok())
    }

    /// What SCITOKENS needs, if it can be used.
    pub(super) fn scitoken_proof(&self) -> Option<&SciTokenProof> {
        self.scitoken.as_ref().and_then(|read| read.as_ref().ok())
    }
}

/// What SCITOKENS needs: the token, and TLS without a certificate of ours.
#[derive(Debug, Clone)]
pub struct SciTokenProof {
    /// The token.
    pub token: SciToken,
    /// Authorities that the server's certificate is checked against.
    pub tls: SslClient,
}

/// What we proved ourselves with in a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The method.
    pub method: AuthMethod,
    /// The file the credential came from, if it came from one.
    pub origin: Option<PathBuf>,
    /// Unix time at which the credential ends, if it does.
    pub ends: Option<i64>,
}

/// Selection of an endpoint behind a shared port daemon (protocol 01 section 7.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedPort {
    /// The endpoint.
    pub id: String,
    /// Who we are, free text.
    pub client_name: String,
    /// Seconds we are going to wait, -1 for no limit.
    pub deadline: i64,
}

/// What the caller has to do.
#[derive(Debug)]
pub enum ClientEvent {
    /// Send the output, read more, push it.
    NeedInput,
    /// Act on a directory (FS), report with [`directory_done`](super::ClientHandshake::directory_done).
    Directory(DirectoryTask),
    /// The command is started; what follows is its payload.
    Established(Box<ClientEstablished>),
}

/// A started command.
#[derive(Debug)]
pub struct ClientEstablished {
    /// The connection.
    pub channel: Channel,
    /// The session to remember, if there is a key; `None` too if one was resumed.
    pub session: Option<Session>,
    /// The id of the session in use.
    pub session_id: Option<String>,
    /// The commands the session serves, of a new session.
    pub valid_commands: Vec<i32>,
    /// The server's version.
    pub peer_version: Option<Version>,
    /// Our identity as the server sees it.
    pub our_user: Option<String>,
    /// The method that succeeded, and the credential; `None` without authentication, and in a resumed session.
    pub proof: Option<Proof>,
    /// The server's trust domain, if it told.
    pub trust_domain: Option<String>,
}

impl ClientEstablished {
    /// The method that succeeded.
    #[must_use]
    pub fn method(&self) -> Option<AuthMethod> {
        self.proof.as_ref().map(|proof| proof.method)
    }
}
