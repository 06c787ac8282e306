use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};

use super::SessionCache;
use crate::Sinful;
use crate::security::server::{Authenticators, Authorizer, Policies};
use crate::security::token::Token;
use crate::security::{PoolPassword, SciTokenSource, SecurityPolicy, SslClientFiles};
use crate::version::COMPATIBLE;

/// Default limit of one wait for the peer, in seconds (protocol 01 section 1.7).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);

/// What a client can prove itself with.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Directories of token files, searched in this order at every handshake.
    pub token_directories: Vec<PathBuf>,
    /// Tokens given directly; tried before those of the directories.
    pub tokens: Vec<Token>,
    /// The name to claim with CLAIMTOBE; `None`: the method is not offered.
    pub claim_to_be: Option<String>,
    /// Whether FS may be tried.
    pub fs: FsAuthentication,
    /// The pool password, for PASSWORD; `None`: the method is not offered.
    pub password: Option<PoolPassword>,
    /// Authorities and, if there is one, our certificate, for SSL; `None`: the method is not offered.
    /// The files are read at every handshake that offers SSL.
    pub ssl: Option<SslClientFiles>,
    /// Where a SciToken is, for SCITOKENS; `None`: the method is not offered. It is read at every handshake that
    /// offers SCITOKENS. The server is checked against the authorities of `ssl`, or those of the system.
    pub scitoken: Option<SciTokenSource>,
}

/// Whether a client tries FS authentication, which creates a directory where the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FsAuthentication {
    /// Never: the peer is not on this machine.
    #[default]
    Off,
    /// If the policy lists FS.
    On,
}

/// How a [`Client`](super::Client) behaves.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// What the client asks for in negotiations.
    pub policy: SecurityPolicy,
    /// What it can prove itself with.
    pub credentials: Credentials,
    /// Our version banner, `$CondorVersion: ... $`. Must not be empty: a 23.9.6 collector crashes
    /// without it (protocol 01 section 3.3).
    pub version: String,
    /// `TOOL`, `STARTD`, `STARTER`; informational.
    pub subsystem: String,
    /// Our own address if we have a command port; [`Client::set_command_sock`](super::Client::set_command_sock) changes it later.
    pub command_sock: Option<Sinful>,
    /// Our trust domain if known; the server's own answer decides which token is used.
    pub trust_domain: Option<String>,
    /// Limit of every single wait for the peer.
    pub timeout: Duration,
    /// Our process id, informational.
    pub pid: i64,
}

impl ClientConfig {
    /// A client of subsystem `subsystem` with the default policy: tokens, everything required.
    /// `program` is named in the version banner, such as `sailplane-0.1.0`.
    pub fn new(subsystem: &str, program: &str) -> Self {
        Self {
            policy: SecurityPolicy::default(),
            credentials: Credentials::default(),
            version: COMPATIBLE.banner(program),
            subsystem: subsystem.to_owned(),
            command_sock: None,
            trust_domain: None,
            timeout: DEFAULT_TIMEOUT,
            pid: i64::from(std::process::id()),
        }
    }
}

/// How a [`Server`](super::Server) behaves.
#[derive(Clone)]
pub struct ServerConfig {
    /// Policies for new sessions.
    pub policies: Policies,
    /// Sessions that may be resumed, and where new ones go.
    pub sessions: SessionCache,
    /// Commands served here, and who may run them.
    pub authorizer: Arc<dyn Authorizer>,
    /// What is needed to check the proofs of clients.
    pub authenticators: Authenticators,
    /// Our version banner.
    pub version: String,
    /// Our trust domain, announced to clients and compared with the issuer of tokens.
    pub trust_domain: Option<String>,
    /// Limit of a whole handshake.
    pub deadline: Duration,
    /// Most handshakes in progress at a time. Up to 100 KiB of memory each.
    pub max_handshakes: usize,
    /// Most handshakes in progress with one address (IPv6: one /64).
    pub max_handshakes_per_address: usize,
    /// Most connections that wait for a handshake; more are closed at once. One address may have half
    /// of them. The default leaves half of the process's descriptors to what is in progress.
    pub max_waiting: usize,
    /// How long a handshake may last when others wait for its place; the oldest goes first.
    pub patience: Duration,
    /// Raw commands (without any handshake) that may be served, such as `DC_INVALIDATE_KEY`.
    pub raw_commands: Vec<i32>,
}

/// Handshakes in progress at a time, unless the caller says otherwise.
const MAX_HANDSHAKES: usize = 128;

/// Most connections that wait, however many descriptors there are.
const MAX_WAITING: usize = 2048;

/// How many connections may wait with the descriptors this process may have.
fn waiting_by_descriptors() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    let half = usize::try_from(limit / 2).unwrap_or(MAX_WAITING);
    half.saturating_sub(MAX_HANDSHAKES).clamp(64, MAX_WAITING)
}

impl ServerConfig {
    /// A server that takes part in known sessions only, as a startd does.
    pub fn for_sessions(
        sessions: SessionCache,
        authorizer: Arc<dyn Authorizer>,
        program: &str,
    ) -> Self {
        Self {
            policies: Policies::SessionsOnly,
            sessions,
            authorizer,
            authenticators: Authenticators::default(),
            version: COMPATIBLE.banner(program),
            trust_domain: None,
            deadline: Duration::from_secs(20),
            max_handshakes: MAX_HANDSHAKES,
            max_handshakes_per_address: 32,
            max_waiting: waiting_by_descriptors(),
            patience: Duration::from_secs(2),
            raw_commands: Vec::new(),
        }
    }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("policies", &self.policies)
            .field("authenticators", &self.authenticators)
            .field("version", &self.version)
            .field("trust_domain", &self.trust_domain)
            .field("deadline", &self.deadline)
            .field("max_handshakes", &self.max_handshakes)
            .finish_non_exhaustive()
    }
}
