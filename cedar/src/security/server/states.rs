//! What each message of the client leads to.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::offer::{ClientOffer, Opening};
use super::{Finished, Next, Progress, ServerContext, ServerHandshake, State, answer, authorize};
use crate::command::Named;
use crate::crypto::{CryptoError, EcdhKey};
use crate::entropy::Purpose;
use crate::error::HandshakeError;
use crate::frame::HANDSHAKE_LIMIT;
use crate::security::auth::{Attempt, ServerMethod, ServerTurn, Turn, akep2, fs, simple, ssl};
use crate::security::policy::common_methods;
use crate::security::session::{Session, SessionSource, public_session_id};
use crate::security::{AuthMethod, Level, PeerIdentity, method as methods};
use crate::wire::{Coding, MessageReader};

const MASK: &str = "the client's method mask";

impl ServerHandshake {
    pub(super) fn command(
        &mut self,
        body: &[u8],
        ctx: &mut ServerContext<'_>,
    ) -> Result<Next, HandshakeError> {
        match Opening::parse(body)? {
            Opening::Raw { command, rest } => {
                self.remember(command);
                self.rules.check_raw(command, self.from)?;
                Ok(Next::Established(Box::new(Finished {
                    command,
                    auth_command: None,
                    peer: PeerIdentity::unauthenticated(),
                    session_id: None,
                    resumed: false,
                    peer_version: None,
                    first: Some(rest),
                })))
            }
            Opening::Resume(offer) => {
                self.remember(offer.wanted());
                self.resume(offer, ctx)
            }
            Opening::New(offer) => {
                self.remember(offer.wanted());
                self.negotiate(offer, ctx)
            }
        }
    }

    fn remember(&mut self, command: i32) {
        self.asked.command = Some(command);
        self.asked.level = self.rules.rule(command).map(|rule| rule.level);
    }

    fn resume(
        &mut self,
        offer: ClientOffer,
        ctx: &mut ServerContext<'_>,
    ) -> Result<Next, HandshakeError> {
        let Some(session) = ctx.sessions.for_peer(&offer.session_id, ctx.now) else {
            let error = HandshakeError::UnknownSession {
                session: public_session_id(&offer.session_id),
            };
            return self.refuse_session(&offer, error);
        };
        self.asked.peer = Some(session.peer.clone());
        self.asked.method = session.peer.method;
        if let Some(level) = self.asked.level {
            let wanted = Named(offer.wanted());
            if let Err(error) = self.rules.check_method(wanted, level, &session.peer) {
                return self.refuse_session(&offer, error);
            }
        }
        if !offer.offers_aes {
            return Err(HandshakeError::NoCipher {
                offered: offer.ciphers,
            });
        }
        if offer.wants_resume_answer {
            let mut nonce = [0u8; 33];
            ctx.entropy
                .fill(Purpose::ResumeNonce, &mut nonce)
                .map_err(CryptoError::from)?;
            let ad = answer::resumed(&self.rules.version, &STANDARD.encode(nonce));
            answer::send(&ad, &mut self.channel, &mut self.output)?;
        }
        // "Session known" is all the answer says; without the right to the command we just close.
        self.channel.secure(&session.key, ctx.entropy)?;
        self.channel.set_limit(HANDSHAKE_LIMIT);
        let peer_version = offer.version.or(session.peer_version);
        self.rules.check(offer.wanted(), &session.peer, self.from)?;
        Ok(Next::Established(Box::new(Finished {
            command: offer.command,
            auth_command: offer.auth_command,
            peer: session.peer,
            session_id: Some(session.id),
            resumed: true,
            peer_version,
            first: None,
        })))
    }

    /// Has the client forget the session and try a full handshake, in which it can do better.
    fn refuse_session(
        &mut self,
        offer: &ClientOffer,
        error: HandshakeError,
    ) -> Result<Next, HandshakeError> {
        if offer.wants_resume_answer {
            let ad = answer::unknown_session();
            answer::send(&ad, &mut self.channel, &mut self.output)?;
        }
        Err(error)
    }

    fn negotiate(
        &mut self,
        offer: ClientOffer,
        ctx: &mut ServerContext<'_>,
    ) -> Result<Next, HandshakeError> {
        let rules = Arc::clone(&self.rules);
        if rules.policies.sessions_only() {
            return Err(HandshakeError::NewSessionRefused(Named(offer.command)));
        }
        let wanted = offer.wanted();
        let Some(rule) = rules.rule(wanted) else {
            return Err(HandshakeError::UnknownCommand(Named(wanted)));
        };
        let Some(policy) = rules.policies.of(rule.level) else {
            return Err(HandshakeError::NoPolicy {
                command: Named(wanted),
                level: rule.level,
            });
        };
        let able: Vec<_> = policy
            .methods
            .iter()
            .copied()
            .filter(|method| rules.authenticators.can(*method))
            .collect();
        let decision = answer::decide(policy, &offer)?;
        let methods = common_methods(&offer.methods, &able);
        if decision.authentication && methods.is_empty() {
            // The last word tells the client what was missing, instead of a bare close.
            let ad = answer::no_method(&rules);
            answer::send(&ad, &mut self.channel, &mut self.output)?;
            return Err(HandshakeError::NoMethod {
                ours: methods::join(&able),
                theirs: offer.method_text,
            });
        }
        let ecdh = match (&offer.public_point, decision.authentication) {
            (Some(point), true) => Some((EcdhKey::generate(ctx.entropy)?, point)),
            _ => None,
        };
        let key = match &ecdh {
            Some((own, point)) => Some(own.agree(point)?),
            None => None,
        };
        if (decision.encryption || decision.integrity) && key.is_none() {
            return Err(HandshakeError::NoCipher {
                offered: offer.ciphers,
            });
        }
        let duration = policy
            .session_duration
            .min(offer.duration.unwrap_or(i64::MAX));
        let lease = answer::common_lease(policy.session_lease, offer.lease);
        let public = ecdh.map(|(own, _)| STANDARD.encode(own.public_point()));
        let ad = answer::policy(
            &rules,
            &decision,
            &methods,
            public.as_deref(),
            duration,
            lease,
        );
        answer::send(&ad, &mut self.channel, &mut self.output)?;
        // Certificates and tokens need more room than the one frame of a stranger's first message.
        self.channel.set_limit(HANDSHAKE_LIMIT);
        let progress = Box::new(Progress {
            offer,
            level: rule.level,
            methods,
            key,
            duration,
            lease,
            attempts: Vec::new(),
        });
        if decision.authentication {
            Ok(Next::State(State::ExpectMask(progress)))
        } else {
            self.finish(*progress, PeerIdentity::unauthenticated(), ctx)
        }
    }

    pub(super) fn mask(
        &mut self,
        mut progress: Box<Progress>,
        body: &[u8],
        ctx: &mut ServerContext<'_>,
    ) -> Result<Next, HandshakeError> {
        let mut reader = MessageReader::new(Coding::Plain, body);
        let mask = reader.int().map_err(HandshakeError::wire(MASK))?;
        reader.expect_end().map_err(HandshakeError::wire(MASK))?;
        let chosen = progress
            .methods
            .iter()
            .copied()
            .find(|method| mask & method.bit() != 0);
        // A client may fail with each method once; more rounds than methods are a game.
        let chosen = chosen.filter(|_| progress.attempts.len() <= progress.methods.len());
        let bit = chosen.map_or(0, AuthMethod::bit);
        self.channel.seal(&bit.to_be_bytes(), &mut self.output)?;
        let Some(method) = chosen else {
            let attempts = std::mem::take(&mut progress.attempts);
            return Err(HandshakeError::Authentication(attempts));
        };
        let authenticators = &self.rules.authenticators;
        let unable = || {
            // The list was made of what we can do.
            HandshakeError::Unexpected("a method is chosen that cannot be run here")
        };
        let turn = match method {
            AuthMethod::Token | AuthMethod::Password => {
                akep2::ServerAkep2::start(method, progress.offer.version)
            }
            AuthMethod::Ssl => {
                let server = authenticators.ssl.as_deref().ok_or_else(unable)?;
                ssl::ServerSsl::start(server)
            }
            AuthMethod::Fs => {
                let directory = authenticators.fs_directory.as_deref();
                let directory = directory.ok_or_else(unable)?;
                let domain = &authenticators.uid_domain;
                fs::ServerFs::start(directory, self.local, domain, ctx.entropy)?
            }
            AuthMethod::ClaimToBe => simple::ServerClaim::start(),
            AuthMethod::Anonymous => simple::serve_anonymous(),
            _ => return Err(unable()),
        };
        self.turn(progress, method, turn, ctx)
    }

    pub(super) fn auth_step(
        &self,
        method: ServerMethod,
        body: &[u8],
        ctx: &mut ServerContext<'_>,
    ) -> Result<ServerTurn, HandshakeError> {
        match method {
            ServerMethod::Ssl(machine) => machine.message(body, ctx.entropy),
            ServerMethod::Akep2(machine) => {
                let rules = akep2::Akep2Rules {
                    password: self.rules.authenticators.password.as_ref(),
                    keys: &self.rules.authenticators.signing_keys,
                    rule: self.rules.authenticators.token_rule.as_deref(),
                    trust_domain: self.rules.trust_domain.as_deref(),
                    now: ctx.now,
                };
                machine.message(body, rules, ctx.entropy)
            }
            ServerMethod::Fs(machine) => machine.message(body),
            ServerMethod::ClaimToBe(machine) => machine.message(body),
        }
    }

    pub(super) fn turn(
        &mut self,
        mut progress: Box<Progress>,
        method: AuthMethod,
        turn: ServerTurn,
        ctx: &mut ServerContext<'_>,
    ) -> Result<Next, HandshakeError> {
        match turn {
            Turn::Wait(machine, messages) => {
                self.seal_all(&messages)?;
                Ok(Next::State(State::ExpectAuthStep(progress, machine)))
            }
            Turn::Directory(machine, task) => {
                Ok(Next::State(State::AwaitDirectory(progress, machine, task)))
            }
            Turn::Failed(why, messages) => {
                self.seal_all(&messages)?;
                progress.attempts.push(Attempt { method, why });
                Ok(Next::State(State::ExpectMask(progress)))
            }
            Turn::Done(peer, messages) => {
                self.seal_all(&messages)?;
                let peer = self.identity(peer, progress.level);
                // "No key follows": ECDH has made one.
                self.channel.seal(&0i64.to_be_bytes(), &mut self.output)?;
                self.finish(*progress, peer, ctx)
            }
        }
    }

    /// What the map file makes of the name a method proved, and the limit of a claimed one.
    fn identity(&mut self, mut peer: PeerIdentity, level: Level) -> PeerIdentity {
        let map = self.rules.authenticators.identity_map.as_deref();
        let mapped = match (map, peer.method, &peer.authenticated_name) {
            (Some(map), Some(method), Some(name)) => map.map(method, name),
            _ => None,
        };
        if let Some(user) = mapped {
            peer.user = user;
        }
        if peer.method == Some(AuthMethod::ClaimToBe) {
            peer.limit = Some(vec![level]);
        }
        self.asked.method = peer.method;
        self.asked.peer = Some(peer.clone());
        peer
    }

    fn seal_all(&mut self, messages: &[Vec<u8>]) -> Result<(), HandshakeError> {
        for body in messages {
            self.channel.seal(body, &mut self.output)?;
        }
        Ok(())
    }

    fn finish(
        &mut self,
        progress: Progress,
        peer: PeerIdentity,
        ctx: &mut ServerContext<'_>,
    ) -> Result<Next, HandshakeError> {
        if let Some(key) = &progress.key {
            self.channel.secure(key, ctx.entropy)?;
        }
        self.channel.set_limit(HANDSHAKE_LIMIT);
        let tried = peer.method.is_some();
        let permit = self.rules.check(progress.offer.wanted(), &peer, self.from);
        let mut random = [0u8; 8];
        ctx.entropy
            .fill(Purpose::Name, &mut random)
            .map_err(CryptoError::from)?;
        let session_id = format!(
            "{}:{}:{:016x}",
            self.rules.session_prefix,
            ctx.now,
            u64::from_be_bytes(random)
        );
        let valid = self.valid_commands(&progress.offer, &peer);
        let code = if permit.is_ok() {
            "AUTHORIZED"
        } else {
            "DENIED"
        };
        let ad = answer::post_auth(code, &session_id, &peer, &valid, tried);
        answer::send(&ad, &mut self.channel, &mut self.output)?;
        // The session of a refused command is not kept.
        permit?;
        if let Some(key) = progress.key {
            ctx.sessions.insert(Session {
                id: session_id.clone(),
                key,
                source: SessionSource::Accepted,
                peer: peer.clone(),
                peer_version: progress.offer.version,
                our_user: None,
                expires: Some(ctx.now.saturating_add(progress.duration)),
                lease: progress.lease.filter(|lease| *lease > 0),
                last_used: ctx.now,
            });
        }
        Ok(Next::Established(Box::new(Finished {
            command: progress.offer.command,
            auth_command: progress.offer.auth_command,
            peer,
            session_id: Some(session_id),
            resumed: false,
            peer_version: progress.offer.version,
            first: None,
        })))
    }

    fn valid_commands(&self, offer: &ClientOffer, peer: &PeerIdentity) -> String {
        let mut valid: Vec<_> = self
            .rules
            .authorizer
            .commands()
            .into_iter()
            .chain(authorize::access_tests())
            .filter(|command| self.rules.check(*command, peer, self.from).is_ok())
            .map(|command| command.to_string())
            .collect();
        if valid.is_empty() {
            // HTCondor clients abort on an empty list.
            valid.push(offer.command.to_string());
        }
        valid.join(",")
    }
}
