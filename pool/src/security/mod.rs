//! Who may do what: access lists, map file, policies per level, tokens.
//!
//! [`Security::load`] reads everything from the configuration, in HTCondor's knobs. What is not allowed is refused.

mod error;
mod place;

use std::sync::Arc;
use std::time::Duration;

use cedar::net::{ClientConfig, Incoming, ServerConfig, SessionCache};
use cedar::security::Level;
use cedar::security::server::CommandRule;
use condorconf::Config;

pub use self::error::{KeyError, MintError, Problem, SecurityError, SecurityErrors};
pub use self::place::Place;

/// Everything the configuration says about security. Clones share it.
#[derive(Debug, Clone)]
pub struct Security {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    trust_domain: String,
    uid_domain: String,
    warnings: Vec<String>,
}

impl Security {
    /// Reads the configuration.
    ///
    /// # Errors
    /// Every mistake: knob, file, line, and what to do.
    pub fn load(_config: &Config, _place: &Place) -> Result<Self, SecurityErrors> {
        todo!()
    }

    /// What is legal but probably not meant, for the log.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// `TRUST_DOMAIN`: the issuer of our tokens.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.inner.trust_domain
    }

    /// `UID_DOMAIN`: the domain of users whom this machine knows.
    #[must_use]
    pub fn uid_domain(&self) -> &str {
        &self.inner.uid_domain
    }

    /// What a server that serves `commands` needs: policies, authenticators, who may do what. Call
    /// [`ensure_signing_key`](Self::ensure_signing_key) before.
    #[must_use]
    pub fn server_config(
        &self,
        _sessions: SessionCache,
        _commands: Vec<(i32, CommandRule)>,
    ) -> ServerConfig {
        todo!()
    }

    /// How tools, and the pool itself, connect to others.
    #[must_use]
    pub fn client_config(&self, _subsystem: &str) -> ClientConfig {
        todo!()
    }

    /// Makes the pool's signing key if there is none, readable by the owner only, and checks the keys that exist.
    ///
    /// # Errors
    /// [`KeyError`] with the file and what to do.
    pub fn ensure_signing_key(&self) -> Result<(), KeyError> {
        todo!()
    }

    /// An id token for `identity`, signed with the key `key_id`. Without scopes it is limited by the access lists only;
    /// without a lifetime it does not end.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn mint(
        &self,
        _key_id: &str,
        _identity: &str,
        _scopes: &[Level],
        _lifetime: Option<Duration>,
    ) -> Result<String, MintError> {
        todo!()
    }

    /// The commands of [`serve`](Self::serve), with the levels they need.
    #[must_use]
    pub fn commands() -> Vec<(i32, CommandRule)> {
        todo!()
    }

    /// Serves token requests and session tokens. Errors are logged.
    pub async fn serve(&self, _incoming: Incoming) {
        todo!()
    }
}
