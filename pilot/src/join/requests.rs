//! A pilot without a token asks the pool for one, and waits for an administrator to approve it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cedar::net::{
    Client, ClientConfig, Error, ErrorKind, IssuedToken, PendingToken, SessionCache, TokenAnswer,
    TokenRequestError, TokenWish,
};
use cedar::security::auth::MethodFailure;
use cedar::security::{AuthMethod, Level};
use cedar::{HandshakeError, Sinful};

use super::store::{self, StoreError};
use crate::blame::chain;

/// Time between two looks at a request, as HTCondor's daemons take; the server limits the rate.
const PAUSE: Duration = Duration::from_secs(5);

/// How often the log repeats what an administrator has to do.
const REMIND: Duration = Duration::from_secs(300);

/// Asks for tokens. Clones share what is being asked for.
#[derive(Debug, Clone)]
pub struct TokenRequests {
    client: Client,
    wish: TokenWish,
    directory: PathBuf,
    /// Trust domains that are being asked: one token serves all their collectors.
    asked: Arc<Mutex<HashSet<String>>>,
}

/// How a request ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obtained {
    /// The token is in this file.
    Stored(PathBuf),
    /// Another collector of the trust domain is being asked already.
    Elsewhere,
}

/// How it did not.
#[derive(Debug, thiserror::Error)]
pub enum RequestFailure {
    /// The pool gave none.
    #[error("no token can be had from the collector")]
    Request(#[from] TokenRequestError),
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pilot's own program.
    #[error("the task that stores the token ended")]
    Task(#[from] tokio::task::JoinError),
}

/// Whether a failed handshake would have gone well with a token.
#[must_use]
pub fn wants_token(error: &Error) -> bool {
    let ErrorKind::Handshake(error) = error.kind() else {
        return false;
    };
    lacks_token(error)
}

fn lacks_token(error: &HandshakeError) -> bool {
    match error {
        HandshakeError::NoToken(_) => true,
        HandshakeError::Unprepared(list) => list.iter().any(|method| lacks_token(&method.why)),
        HandshakeError::Authentication(attempts) => attempts.iter().any(|attempt| {
            attempt.method == AuthMethod::Token && matches!(attempt.why, MethodFailure::NoToken(_))
        }),
        // Known as nobody, by a method that proves only who the server is.
        HandshakeError::Denied { user } => user
            .as_deref()
            .is_none_or(|user| user.ends_with("@unmapped")),
        _ => false,
    }
}

/// Ends the entry of a trust domain.
struct Asking {
    asked: Arc<Mutex<HashSet<String>>>,
    domain: String,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.remove(&self.domain);
    }
}

impl TokenRequests {
    /// Requests by a client like `config`, for `identity`; tokens go into `directory`.
    #[must_use]
    pub fn new(config: &ClientConfig, identity: &str, machine: &str, directory: PathBuf) -> Self {
        let mut config = config.clone();
        // Methods that prove who the server is; on the pool's own machine FS will do.
        let local = config.policy.methods.contains(&AuthMethod::Fs);
        config.policy.methods = vec![AuthMethod::Ssl];
        config
            .policy
            .methods
            .extend(local.then_some(AuthMethod::Fs));
        let harmless = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        let machine: String = machine.chars().filter(harmless).take(200).collect();
        Self {
            client: Client::new(config, SessionCache::new()),
            wish: TokenWish {
                identity: identity.to_owned(),
                scopes: vec![Level::AdvertiseStartd],
                lifetime: None,
                client_name: format!("sailplane-{machine}"),
            },
            directory,
            asked: Arc::default(),
        }
    }

    /// Asks `collector` for a token, waits until it is approved, and stores it. Dropping the future gives the request up.
    ///
    /// # Errors
    /// [`RequestFailure`].
    pub async fn obtain(&self, collector: &Sinful) -> Result<Obtained, RequestFailure> {
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || store::prepare(&directory)).await??;
        let mut asking = None;
        let begin = |domain: Option<&str>| {
            asking = self.begin(domain.unwrap_or_default());
            asking.is_some()
        };
        let issued = match self
            .client
            .request_token(collector, &self.wish, begin)
            .await?
        {
            None => return Ok(Obtained::Elsewhere),
            Some(TokenAnswer::Issued(issued)) => issued,
            Some(TokenAnswer::Pending(pending)) => self.wait(collector, &pending).await?,
        };
        let directory = self.directory.clone();
        let subject = issued.token.claims().subject.clone();
        let stored = tokio::task::spawn_blocking(move || store::store(&directory, &issued));
        let path = stored.await??;
        tracing::info!(%collector, subject, file = %path.display(), "the pool has issued a token to this pilot");
        drop(asking);
        Ok(Obtained::Stored(path))
    }

    fn begin(&self, domain: &str) -> Option<Asking> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert(domain.to_owned()).then(|| Asking {
            asked: Arc::clone(&self.asked),
            domain: domain.to_owned(),
        })
    }

    async fn wait(
        &self,
        collector: &Sinful,
        pending: &PendingToken,
    ) -> Result<IssuedToken, TokenRequestError> {
        let mut reminded = None::<tokio::time::Instant>;
        loop {
            if reminded.is_none_or(|at| at.elapsed() >= REMIND) {
                reminded = Some(tokio::time::Instant::now());
                tracing::warn!(
                    %collector,
                    request_id = pending.request_id,
                    identity = pending.identity,
                    "this pilot has asked the pool for a token; an administrator of the pool approves it with: \
                     condor_token_request_approve -type COLLECTOR -reqid {}",
                    pending.request_id
                );
            }
            tokio::time::sleep(PAUSE).await;
            match self.client.requested_token(collector, pending).await {
                Ok(Some(issued)) => return Ok(issued),
                Ok(None) => {}
                // A collector that is away for a moment may still know the request.
                Err(TokenRequestError::Net(error)) if error.retryable() => {
                    tracing::debug!(%collector, "cannot look at the token request: {}", chain(&error));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> TokenRequests {
        let mut config = ClientConfig::new("STARTD", "test");
        config.policy.methods = vec![AuthMethod::Token, AuthMethod::Fs];
        TokenRequests::new(&config, "condor", "node 7\n.example.org", "/nowhere".into())
    }

    #[test]
    fn one_collector_of_a_trust_domain_is_asked_at_a_time() {
        let requests = requests();
        let other = requests.clone();
        let asking = requests.begin("pool.example.org").expect("the first");
        assert!(other.begin("pool.example.org").is_none());
        assert!(other.begin("other.example.org").is_some());
        drop(asking);
        assert!(other.begin("pool.example.org").is_some());
    }

    #[test]
    fn the_server_has_to_prove_itself() {
        let requests = requests();
        assert_eq!(
            requests.client.config().policy.methods,
            [AuthMethod::Ssl, AuthMethod::Fs]
        );
        assert_eq!(requests.wish.client_name, "sailplane-node7.example.org");
        assert_eq!(requests.wish.scopes, [Level::AdvertiseStartd]);
    }

    #[test]
    fn a_token_is_wanted_where_one_would_have_helped() {
        let denied = |user: &str| HandshakeError::Denied {
            user: Some(user.to_owned()),
        };
        assert!(lacks_token(&denied("unauthenticated@unmapped")));
        assert!(!lacks_token(&denied("pilot@pool.example.org")));
        assert!(!lacks_token(&HandshakeError::NoServerName));
    }
}
