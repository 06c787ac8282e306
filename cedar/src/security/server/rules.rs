//! How a server decides, and what comes out of a handshake.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Authorizer, ConsistentPolicies};
use crate::Version;
use crate::entropy::Entropy;
use crate::frame::Channel;
use crate::security::auth::DirectoryTask;
use crate::security::token::{SigningKeys, TokenRule};
use crate::security::{
    AuthMethod, IdentityMap, Level, PeerIdentity, PoolPassword, SessionStore, SslServer,
};

/// Finds the login name of a uid.
pub type UserLookup = Arc<dyn Fn(u32) -> Option<String> + Send + Sync>;

/// What a server has to check the proofs of clients. The default has nothing, so no method works.
#[derive(Clone, Default)]
pub struct Authenticators {
    /// Keys of tokens, for TOKEN.
    pub signing_keys: SigningKeys,
    /// Further checks of tokens; `None`: none.
    pub token_rule: Option<Arc<dyn TokenRule>>,
    /// The pool password, for PASSWORD; `None`: the method is off.
    pub password: Option<PoolPassword>,
    /// Certificate and authorities, for SSL; `None`: the method is off.
    pub ssl: Option<Arc<SslServer>>,
    /// Turns the names that methods prove into identities; `None`: they stay as they are.
    pub identity_map: Option<Arc<dyn IdentityMap>>,
    /// Directory in which FS clients show themselves; `None`: no FS.
    pub fs_directory: Option<PathBuf>,
    /// Finds login names for FS; without it no owner is known.
    pub user_lookup: Option<UserLookup>,
    /// Domain of users proven by FS.
    pub uid_domain: String,
    /// Whether CLAIMTOBE may be used.
    pub claim_to_be: bool,
    /// Whether ANONYMOUS may be used.
    pub anonymous: bool,
}

impl Authenticators {
    pub(super) fn can(&self, method: AuthMethod) -> bool {
        match method {
            AuthMethod::Token => !self.signing_keys.is_empty(),
            AuthMethod::Password => self.password.is_some(),
            AuthMethod::Ssl => self.ssl.is_some(),
            AuthMethod::Fs => self.fs_directory.is_some(),
            AuthMethod::ClaimToBe => self.claim_to_be,
            AuthMethod::Anonymous => self.anonymous,
            _ => false,
        }
    }
}

impl fmt::Debug for Authenticators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticators")
            .field("signing_keys", &self.signing_keys)
            .field("password", &self.password)
            .field("ssl", &self.ssl)
            .field("fs_directory", &self.fs_directory)
            .field("claim_to_be", &self.claim_to_be)
            .field("anonymous", &self.anonymous)
            .finish_non_exhaustive()
    }
}

/// How a server answers.
#[derive(Clone)]
pub struct ServerRules {
    /// Policies for new sessions.
    pub policies: ConsistentPolicies,
    /// What checks the clients' proofs.
    pub authenticators: Authenticators,
    /// What may be done by whom.
    pub authorizer: Arc<dyn Authorizer>,
    /// Our version banner.
    pub version: String,
    /// Our trust domain.
    pub trust_domain: Option<String>,
    /// Raw commands that may be served.
    pub raw_commands: Vec<i32>,
    /// First part of the ids of new sessions, such as the host name and pid.
    pub session_prefix: String,
}

impl fmt::Debug for ServerRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerRules")
            .field("policies", &self.policies)
            .field("authenticators", &self.authenticators)
            .field("version", &self.version)
            .field("trust_domain", &self.trust_domain)
            .field("raw_commands", &self.raw_commands)
            .finish_non_exhaustive()
    }
}

/// What a server looks at and changes while a handshake goes on.
pub struct ServerContext<'a> {
    /// The sessions.
    pub sessions: &'a mut SessionStore,
    /// Random bytes.
    pub entropy: &'a mut dyn Entropy,
    /// Unix time.
    pub now: i64,
}

impl fmt::Debug for ServerContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerContext")
            .field("sessions", &self.sessions.len())
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// What a client wanted and who it is, for the line in the log if it is refused.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The command, or with `DC_SEC_QUERY` the command asked about; `None`: it did not say.
    pub command: Option<i32>,
    /// The level of the command; `None`: it is not served here.
    pub level: Option<Level>,
    /// Who the client is; `None`: it has not proven anything.
    pub peer: Option<PeerIdentity>,
    /// The method that proved it, or that was tried last.
    pub method: Option<AuthMethod>,
}

/// What the caller has to do.
#[derive(Debug)]
pub enum ServerEvent {
    /// Send the output, read more, push it.
    NeedInput,
    /// Look at a directory (FS), report with [`directory_done`](super::ServerHandshake::directory_done).
    Directory(DirectoryTask),
    /// A command may be served.
    Established(Box<ServerEstablished>),
}

/// A command accepted.
#[derive(Debug)]
pub struct ServerEstablished {
    /// The connection.
    pub channel: Channel,
    /// The command.
    pub command: i32,
    /// The command asked about, with `DC_SEC_QUERY`.
    pub auth_command: Option<i32>,
    /// Who asks.
    pub peer: PeerIdentity,
    /// The session in use, if there is one.
    pub session_id: Option<String>,
    /// True if the session existed before.
    pub resumed: bool,
    /// The peer's version.
    pub peer_version: Option<Version>,
    /// The rest of the first message of a raw command.
    pub first: Option<Vec<u8>>,
}
