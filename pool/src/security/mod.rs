//! Who may do what: access lists, map file, policies per level, tokens.
//!
//! [`Security::load`] reads everything from the configuration, in HTCondor's knobs. What is not allowed is refused:
//! `docs/pool-security.md` says what is allowed where nothing is configured.

mod access;
mod authorizer;
mod error;
#[doc(hidden)]
pub use self::mapfile::fuzzing;
mod keys;
mod knobs;
mod levels;
mod mapfile;
mod place;
mod policy;
mod requests;
mod rule;
mod serve;
mod setup;
mod sys;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use cedar::net::Credentials;
use cedar::net::{ClientConfig, ServerConfig, SessionCache};
use cedar::security::server::{Authenticators, CommandRule};
use cedar::security::token::SigningKeys;
use cedar::security::{IdentityMap, Level, PoolPassword, SecurityPolicy, SslServer};
use condorconf::Config;

use self::access::AccessLists;
pub use self::access::{EntryError, NetworkError};
use self::authorizer::ListAuthorizer;
pub use self::error::{KeyError, MintError, Problem, SecurityError, SecurityErrors};
use self::keys::KeyFiles;
use self::mapfile::MapFile;
pub use self::mapfile::{MapError, MapErrors, MapProblem};
pub use self::place::Place;
use self::requests::Requests;
use self::rule::Revocation;

/// What we call ourselves within version banners.
const PROGRAM: &str = concat!("sailplane-", env!("CARGO_PKG_VERSION"));

/// Everything the configuration says about security. Clones share it, and the token requests.
#[derive(Debug, Clone)]
pub struct Security {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    trust_domain: String,
    uid_domain: String,
    policies: BTreeMap<Level, SecurityPolicy>,
    access: Arc<AccessLists>,
    map: Option<Arc<MapFile>>,
    key_files: KeyFiles,
    /// The keys as last read.
    keys: RwLock<SigningKeys>,
    revocation: Arc<Revocation>,
    password: Option<PoolPassword>,
    ssl: Option<Arc<SslServer>>,
    fs_directory: std::path::PathBuf,
    credentials: Credentials,
    /// `SEC_ISSUED_TOKEN_EXPIRATION`: most seconds that a token of the pool lasts.
    max_token_life: Option<i64>,
    requests: Mutex<Requests>,
    now: fn() -> i64,
    warnings: Vec<String>,
}

impl Security {
    /// Reads the configuration, and the files it names except the signing keys.
    ///
    /// # Errors
    /// Every mistake: knob, file, line, and what to do.
    pub fn load(config: &Config, place: &Place) -> Result<Self, SecurityErrors> {
        setup::load(config, place).map(|inner| Self {
            inner: Arc::new(inner),
        })
    }

    /// What a tool needs to reach a pool: only the knobs of `SEC_CLIENT_*`, `AUTH_SSL_CLIENT_*` and of tokens are read.
    ///
    /// # Errors
    /// Every mistake in them.
    pub fn client(
        config: &Config,
        place: &Place,
        subsystem: &str,
    ) -> Result<ClientConfig, SecurityErrors> {
        let (policy, credentials, trust_domain) = setup::client(config, place)?;
        let mut client = ClientConfig::new(subsystem, PROGRAM);
        client.policy = policy;
        client.credentials = credentials;
        client.trust_domain = Some(trust_domain);
        Ok(client)
    }

    /// `UID_DOMAIN` of a tool, which is added to names of users without a domain.
    ///
    /// # Errors
    /// The value is wrong.
    pub fn uid_domain_of(config: &Config, place: &Place) -> Result<String, SecurityErrors> {
        setup::uid_domain(config, place)
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
    /// [`ensure_signing_key`](Self::ensure_signing_key) before: the keys of that moment are those that tokens are
    /// checked with.
    #[must_use]
    pub fn server_config(
        &self,
        sessions: SessionCache,
        commands: Vec<(i32, CommandRule)>,
    ) -> ServerConfig {
        let inner = &self.inner;
        let lists = |method| {
            let mut policies = inner.policies.values();
            policies.any(|policy: &SecurityPolicy| policy.methods.contains(&method))
        };
        let authorizer = ListAuthorizer::new(Arc::clone(&inner.access), commands);
        let mut config = ServerConfig::for_sessions(sessions, Arc::new(authorizer), PROGRAM);
        config.policies = cedar::net::Policies::ByLevel(inner.policies.clone());
        config.trust_domain = Some(inner.trust_domain.clone());
        config.authenticators = Authenticators {
            signing_keys: self.keys().clone(),
            token_rule: Some(Arc::clone(&inner.revocation) as _),
            password: inner.password.clone(),
            ssl: inner.ssl.clone(),
            identity_map: inner.map.clone().map(|map| map as Arc<dyn IdentityMap>),
            fs_directory: Some(inner.fs_directory.clone()),
            user_lookup: Some(Arc::new(login_name)),
            uid_domain: inner.uid_domain.clone(),
            claim_to_be: lists(cedar::security::AuthMethod::ClaimToBe),
            anonymous: lists(cedar::security::AuthMethod::Anonymous),
        };
        config
    }

    /// How tools, and the pool itself, connect to others.
    #[must_use]
    pub fn client_config(&self, subsystem: &str) -> ClientConfig {
        let mut config = ClientConfig::new(subsystem, PROGRAM);
        if let Some(policy) = self.inner.policies.get(&Level::Client) {
            config.policy = policy.clone();
        }
        config.credentials = self.inner.credentials.clone();
        config.trust_domain = Some(self.inner.trust_domain.clone());
        config
    }

    /// Makes the pool's signing key if there is none, readable by the owner only, checks the keys that exist and reads
    /// them.
    ///
    /// # Errors
    /// [`KeyError`] with the file and what to do.
    pub fn ensure_signing_key(&self) -> Result<(), KeyError> {
        self.inner.key_files.ensure_pool_key()?;
        self.read_keys()
    }

    /// Reads the keys that exist.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn read_keys(&self) -> Result<(), KeyError> {
        let (keys, trouble) = self.inner.key_files.read()?;
        for sentence in trouble {
            tracing::warn!("{sentence}");
        }
        let mut known = self
            .inner
            .keys
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *known = keys;
        Ok(())
    }

    /// An id token for `identity`, signed with the key `key_id`. Without scopes it is limited by the access lists only;
    /// without a lifetime it does not end.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn mint(
        &self,
        key_id: &str,
        identity: &str,
        scopes: &[Level],
        lifetime: Option<Duration>,
    ) -> Result<String, MintError> {
        if self.keys().is_empty() {
            self.read_keys()?;
        }
        keys::mint(
            &self.keys(),
            key_id,
            &self.inner.trust_domain,
            identity,
            scopes,
            lifetime,
            (self.inner.now)(),
        )
    }

    /// `SEC_TOKEN_ISSUER_KEY`: the key that signs tokens if none is named.
    #[must_use]
    pub fn issuer_key(&self) -> &str {
        &self.inner.key_files.issuer
    }

    fn keys(&self) -> std::sync::RwLockReadGuard<'_, SigningKeys> {
        self.inner
            .keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.inner
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn login_name(uid: u32) -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    user.ok().flatten().map(|user| user.name)
}

#[cfg(test)]
mod tests;
