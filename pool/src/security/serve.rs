//! The commands about tokens (protocol page 01, sections 9.1 and 9.2).

use std::net::IpAddr;
use std::time::Duration;

use cedar::command::{
    self, DC_APPROVE_TOKEN_REQUEST, DC_AUTO_APPROVE_TOKEN_REQUEST, DC_FINISH_TOKEN_REQUEST,
    DC_GET_SESSION_TOKEN, DC_LIST_TOKEN_REQUEST, DC_START_TOKEN_REQUEST,
    SAILPLANE_DENY_TOKEN_REQUEST,
};
use cedar::net::{Error, Incoming, Stream};
use cedar::security::server::CommandRule;
use cedar::security::{AuthMethod, Level, PeerIdentity};
use classad::ClassAd;

use super::Security;
use super::requests::{Ask, Grant, Refusal, Request, shorter};

/// Largest request, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// One client of ours.
struct Caller<'p> {
    peer: &'p PeerIdentity,
    from: IpAddr,
    encrypted: bool,
}

impl Security {
    /// The commands of [`serve`](Self::serve), with the levels they need. Who may decide about which request is looked
    /// at for each.
    #[must_use]
    pub fn commands() -> Vec<(i32, CommandRule)> {
        let anybody = || CommandRule::new(Level::Daemon).or(Level::Allow);
        vec![
            (DC_GET_SESSION_TOKEN, anybody()),
            (DC_START_TOKEN_REQUEST, anybody()),
            (DC_FINISH_TOKEN_REQUEST, anybody()),
            (DC_LIST_TOKEN_REQUEST, anybody()),
            (DC_APPROVE_TOKEN_REQUEST, anybody()),
            (SAILPLANE_DENY_TOKEN_REQUEST, anybody()),
            (
                DC_AUTO_APPROVE_TOKEN_REQUEST,
                CommandRule::new(Level::Administrator),
            ),
        ]
    }

    /// Serves token requests and session tokens. Errors are logged.
    pub async fn serve(&self, mut incoming: Incoming) {
        incoming.stream.set_max_message(MAX_MESSAGE);
        let command = incoming.command;
        let caller = Caller {
            peer: &incoming.peer,
            from: incoming.stream.peer_addr().ip().to_canonical(),
            encrypted: incoming.stream.is_encrypted(),
        };
        if let Err(error) = self.answer(command, &caller, &mut incoming.stream).await {
            tracing::info!(%error, command = %command::Named(command), "a command about tokens was not finished");
        }
    }

    async fn answer(
        &self,
        command: i32,
        caller: &Caller<'_>,
        stream: &mut Stream,
    ) -> Result<(), Error> {
        let message = stream.recv().await?;
        let Ok(ad) = message.reader().ad() else {
            tracing::info!(from = %caller.from, command = %command::Named(command), "the request is not an ad");
            return Ok(());
        };
        if command == DC_LIST_TOKEN_REQUEST {
            for ad in self.list(caller, &ad) {
                let mut message = stream.message();
                message.ad(&ad);
                stream.queue(message)?;
            }
            // The end of the list.
            let mut last = ClassAd::new();
            last.insert("Owner", 0_i64);
            last.insert("ErrorCode", 0_i64);
            return send(stream, &last).await;
        }
        let answer = match command {
            DC_START_TOKEN_REQUEST => self.start(caller, &ad),
            DC_FINISH_TOKEN_REQUEST => self.finish(caller, &ad),
            DC_APPROVE_TOKEN_REQUEST => self.approve(caller, &ad),
            SAILPLANE_DENY_TOKEN_REQUEST => self.deny(caller, &ad),
            DC_AUTO_APPROVE_TOKEN_REQUEST => self.auto_approve(caller, &ad),
            _ => self.session_token(caller, &ad),
        };
        let answer = answer.unwrap_or_else(|refusal| {
            tracing::info!(
                user = caller.peer.user, from = %caller.from, command = %command::Named(command),
                "refused: {}", refusal.text
            );
            let mut ad = ClassAd::new();
            ad.insert("ErrorCode", refusal.code);
            ad.insert("ErrorString", refusal.text.as_str());
            ad
        });
        send(stream, &answer).await
    }

    fn start(&self, caller: &Caller<'_>, ad: &ClassAd) -> Result<ClassAd, Refusal> {
        let ask = Ask {
            client_id: ad.string("ClientId").unwrap_or_default(),
            identity: ad
                .string("User")
                .filter(|user| !user.is_empty())
                .ok_or_else(|| Refusal::new(2, "No identity request."))?,
            bounds: ad
                .string("LimitAuthorization")
                .filter(|text| !text.trim().is_empty()),
            lifetime: ad.int("TokenLifetime").filter(|life| *life >= 0),
            requester: caller.peer.user.clone(),
            from: caller.from,
        };
        let identity = ask.identity.clone();
        let mut requests = self.requests();
        let now = (self.inner.now)();
        let started = requests.start(ask, now, random, |grant| self.issue(grant))?;
        // A token that others could read, or that anybody could have asked for, is worth nothing.
        let unfit = if !caller.encrypted {
            Some("Request to server was not encrypted.")
        } else if caller.peer.method == Some(AuthMethod::Anonymous) && started.rule.is_none() {
            Some("Request to server was made using ANONYMOUS authentication.")
        } else {
            None
        };
        let id = started.id;
        if let Some(why) = unfit {
            requests.forget(&id);
            return Err(Refusal::new(7, why));
        }
        match started.rule {
            Some(rule) => tracing::info!(
                id, identity, from = %caller.from,
                "a token is requested, and approved by the auto-approval rule for {rule}"
            ),
            None => tracing::info!(
                id, identity, requester = caller.peer.user, from = %caller.from,
                "a token is requested; approve it with: sailplane pool token approve {id}"
            ),
        }
        let mut answer = ClassAd::new();
        answer.insert("RequestId", id.as_str());
        Ok(answer)
    }

    fn finish(&self, caller: &Caller<'_>, ad: &ClassAd) -> Result<ClassAd, Refusal> {
        let client_id = ad
            .string("ClientId")
            .ok_or_else(|| Refusal::new(2, "No client ID provided."))?;
        let id = ad
            .string("RequestId")
            .ok_or_else(|| Refusal::new(2, "No request ID provided."))?;
        let now = (self.inner.now)();
        let token = self.requests().finish(&id, &client_id, caller.from, now)?;
        if token.is_some() {
            tracing::info!(id, from = %caller.from, "the token of the request was collected");
        }
        let mut answer = ClassAd::new();
        // Always there: an empty token means that nobody has decided yet.
        answer.insert("Token", token.unwrap_or_default().as_str());
        Ok(answer)
    }

    fn list(&self, caller: &Caller<'_>, ad: &ClassAd) -> Vec<ClassAd> {
        let filter = ad.string("RequestId").filter(|id| !id.is_empty());
        let admin = self.is_administrator(caller);
        let requests = self.requests();
        requests
            .pending((self.inner.now)())
            .filter(|request| filter.as_ref().is_none_or(|id| *id == request.id))
            .filter(|request| admin || is_own(caller, request))
            .map(as_ad)
            .collect()
    }

    fn approve(&self, caller: &Caller<'_>, ad: &ClassAd) -> Result<ClassAd, Refusal> {
        let id = ad
            .string("RequestId")
            .ok_or_else(|| Refusal::new(1, "Request ID not provided."))?;
        let client_id = ad
            .string("ClientId")
            .ok_or_else(|| Refusal::new(1, "Client ID not provided."))?;
        let now = (self.inner.now)();
        let request = self.requests().approve(
            &id,
            &client_id,
            now,
            |request| self.may_decide(caller, request),
            |grant| self.issue(grant),
        )?;
        tracing::info!(
            id, identity = request.grant.identity, by = caller.peer.user, from = %request.from,
            "the token request was approved"
        );
        Ok(done())
    }

    fn deny(&self, caller: &Caller<'_>, ad: &ClassAd) -> Result<ClassAd, Refusal> {
        let id = ad
            .string("RequestId")
            .ok_or_else(|| Refusal::new(1, "Request ID not provided."))?;
        let now = (self.inner.now)();
        let request = self.requests().deny(&id, now, |request| {
            if self.is_administrator(caller) || is_own(caller, request) {
                Ok(())
            } else {
                Err(Refusal::new(6, "Insufficient privilege to deny request."))
            }
        })?;
        tracing::info!(
            id,
            identity = request.grant.identity,
            by = caller.peer.user,
            "the token request was denied"
        );
        Ok(done())
    }

    fn auto_approve(&self, caller: &Caller<'_>, ad: &ClassAd) -> Result<ClassAd, Refusal> {
        let network = ad.string("Subnet").unwrap_or_default();
        let lifetime = ad.int("Lifetime").unwrap_or(-1);
        let now = (self.inner.now)();
        let mut requests = self.requests();
        requests.add_rule(&network, lifetime, now)?;
        tracing::info!(
            network,
            lifetime,
            by = caller.peer.user,
            "token requests of daemons are approved without asking"
        );
        for request in requests.apply_rules(now, |grant| self.issue(grant)) {
            tracing::info!(id = request.id, from = %request.from, "the token request was approved by the new rule");
        }
        Ok(done())
    }

    /// A token for who the caller is already, with no more rights and no longer life than this session has.
    fn session_token(&self, caller: &Caller<'_>, ad: &ClassAd) -> Result<ClassAd, Refusal> {
        if !caller.peer.is_authenticated() || caller.peer.method.is_none() {
            return Err(Refusal::new(
                2,
                "Server did not successfully authenticate session.",
            ));
        }
        let key = match ad.string("RequestedKey").filter(|key| !key.is_empty()) {
            None => self.issuer_key().to_owned(),
            Some(key) if self.inner.key_files.for_users.contains(&key) => key,
            Some(_) => return Err(Refusal::new(3, "Server will not sign with requested key.")),
        };
        let now = (self.inner.now)();
        let wanted = ad.int("TokenLifetime").filter(|life| *life >= 0);
        let left = caller.peer.token.as_ref().and_then(|token| token.expires);
        let left = left.map(|end| end - now);
        if left.is_some_and(|left| left <= 0) {
            return Err(Refusal::new(
                3,
                "Cannot create new session as original one expired.",
            ));
        }
        let life = shorter(shorter(wanted, self.inner.max_token_life), left);
        let scopes = self.scopes_within(caller, ad.string("LimitAuthorization").as_deref())?;
        let grant = Grant {
            identity: caller.peer.user.clone(),
            scopes,
            lifetime: life,
        };
        let token = self.issue_with(&key, &grant)?;
        tracing::info!(identity = grant.identity, from = %caller.from, "a session token was given out");
        let mut answer = ClassAd::new();
        answer.insert("Token", token.as_str());
        Ok(answer)
    }

    /// The levels of a token for the caller: those wanted, each of which the caller must have; without a wish, the
    /// caller's own limit.
    fn scopes_within(
        &self,
        caller: &Caller<'_>,
        wanted: Option<&str>,
    ) -> Result<Vec<Level>, Refusal> {
        let words = wanted.unwrap_or_default();
        let mut words = words
            .split(|c: char| c == ',' || c.is_ascii_whitespace())
            .filter(|word| !word.is_empty())
            .peekable();
        if words.peek().is_none() {
            return match &caller.peer.limit {
                Some(limit) if limit.is_empty() => {
                    Err(Refusal::new(3, "Your own session may not do anything."))
                }
                limit => Ok(limit.clone().unwrap_or_default()),
            };
        }
        words
            .map(|word| {
                let level = Level::from_name(word).ok_or_else(|| {
                    Refusal::new(2, format!("{word} is not an authorization level."))
                })?;
                if self.has(caller, level) {
                    Ok(level)
                } else {
                    Err(Refusal::new(
                        3,
                        format!("Your own session does not have {level}."),
                    ))
                }
            })
            .collect()
    }

    /// Administrators decide about all requests, others about those for themselves, and only as far as their own
    /// rights go.
    fn may_decide(&self, caller: &Caller<'_>, request: &Request) -> Result<(), Refusal> {
        if self.is_administrator(caller) {
            return Ok(());
        }
        let scopes = &request.grant.scopes;
        let within = if scopes.is_empty() {
            caller.peer.limit.is_none()
        } else {
            scopes.iter().all(|scope| self.has(caller, *scope))
        };
        if is_own(caller, request) && within {
            Ok(())
        } else {
            Err(Refusal::new(
                6,
                "Insufficient privilege to approve request.",
            ))
        }
    }

    fn is_administrator(&self, caller: &Caller<'_>) -> bool {
        caller.peer.is_authenticated() && self.has(caller, Level::Administrator)
    }

    /// True if the caller has the level, by the lists and by its own limit.
    fn has(&self, caller: &Caller<'_>, level: Level) -> bool {
        caller.peer.limit_allows(level, &[])
            && self
                .inner
                .access
                .decide(caller.peer, Some(caller.from), level)
                .is_ok()
    }

    fn issue(&self, grant: &Grant) -> Result<String, Refusal> {
        self.issue_with(self.issuer_key(), grant)
    }

    fn issue_with(&self, key: &str, grant: &Grant) -> Result<String, Refusal> {
        let lifetime = grant
            .lifetime
            .map(|life| Duration::from_secs(life.unsigned_abs()));
        self.mint(key, &grant.identity, &grant.scopes, lifetime)
            .map_err(|error| {
                tracing::error!(%error, "no token was made");
                Refusal::new(1, "Server does not have access to configured key.")
            })
    }
}

fn is_own(caller: &Caller<'_>, request: &Request) -> bool {
    caller.peer.is_authenticated() && request.grant.identity == caller.peer.user
}

fn as_ad(request: &Request) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("RequestId", request.id.as_str());
    ad.insert("ClientId", request.client_id.as_str());
    ad.insert("AuthenticatedIdentity", request.requester.as_str());
    ad.insert("RequestedIdentity", request.grant.identity.as_str());
    ad.insert("PeerLocation", request.from.to_string());
    if !request.grant.scopes.is_empty() {
        let names: Vec<_> = request
            .grant
            .scopes
            .iter()
            .map(|scope| scope.name())
            .collect();
        ad.insert("LimitAuthorization", names.join(","));
    }
    if let Some(lifetime) = request.grant.lifetime {
        ad.insert("TokenLifetime", lifetime);
    }
    ad
}

fn done() -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("ErrorCode", 0_i64);
    ad
}

async fn send(stream: &mut Stream, ad: &ClassAd) -> Result<(), Error> {
    let mut message = stream.message();
    message.ad(ad);
    stream.send(message).await
}

fn random() -> u32 {
    let mut bytes = [0u8; 4];
    // Without random bytes the ids would be guessable; a fixed one is taken at once and then refused as taken.
    if openssl::rand::rand_bytes(&mut bytes).is_err() {
        return 0;
    }
    u32::from_be_bytes(bytes)
}
