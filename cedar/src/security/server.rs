//! Server side of a command start: bytes in, bytes and events out (protocol 01 section 3).

mod answer;
mod authorize;
mod offer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub use self::authorize::{Authorizer, CommandRule, CommandTable};
use self::offer::{ClientOffer, Opening};
use super::auth::{
    Attempt, DirectoryReport, DirectoryTask, ServerMethod, ServerTurn, Turn, fs, simple, token,
};
use super::policy::{ConsistentPolicy, common_methods};
use super::session::{Session, SessionSource, public_session_id};
use super::token::SigningKeys;
use super::{AuthMethod, PeerIdentity, SessionStore};
use crate::Version;
use crate::command::{self, Named};
use crate::crypto::{CryptoError, EcdhKey};
use crate::entropy::{Entropy, Purpose};
use crate::error::HandshakeError;
use crate::frame::{Channel, HANDSHAKE_LIMIT};
use crate::secret::SessionKey;
use crate::wire::{Coding, MessageReader};

const MASK: &str = "the client's method mask";

/// Finds the login name of a uid.
pub type UserLookup = Arc<dyn Fn(u32) -> Option<String> + Send + Sync>;

/// What a server has to check the proofs of clients. The default has nothing, so no method works.
#[derive(Clone, Default)]
pub struct Authenticators {
    /// Keys of tokens, for TOKEN.
    pub signing_keys: SigningKeys,
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
    fn can(&self, method: AuthMethod) -> bool {
        match method {
            AuthMethod::Token => !self.signing_keys.is_empty(),
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
            .field("fs_directory", &self.fs_directory)
            .field("claim_to_be", &self.claim_to_be)
            .field("anonymous", &self.anonymous)
            .finish_non_exhaustive()
    }
}

/// How a server answers.
#[derive(Clone)]
pub struct ServerRules {
    /// Policy for new sessions; `None`: only known sessions are accepted.
    pub policy: Option<ConsistentPolicy>,
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
            .field("policy", &self.policy)
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

/// What the caller has to do.
#[derive(Debug)]
pub enum ServerEvent {
    /// Send the output, read more, push it.
    NeedInput,
    /// Look at a directory (FS), report with [`ServerHandshake::directory_done`].
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

/// A command start in progress.
#[derive(Debug)]
pub struct ServerHandshake {
    rules: Arc<ServerRules>,
    channel: Channel,
    output: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    ExpectCommand,
    ExpectMask(Box<Progress>),
    ExpectAuthStep(Box<Progress>, ServerMethod),
    AwaitDirectory(Box<Progress>, ServerMethod, DirectoryTask),
    Over,
}

/// A negotiation that has not ended.
#[derive(Debug)]
struct Progress {
    offer: ClientOffer,
    methods: Vec<AuthMethod>,
    key: Option<SessionKey>,
    duration: i64,
    lease: Option<i64>,
    attempts: Vec<Attempt>,
}

enum Next {
    State(State),
    Established(Box<Finished>),
}

struct Finished {
    command: i32,
    auth_command: Option<i32>,
    peer: PeerIdentity,
    session_id: Option<String>,
    resumed: bool,
    peer_version: Option<Version>,
    first: Option<Vec<u8>>,
}

impl ServerHandshake {
    /// A handshake on a fresh connection.
    pub fn new(rules: Arc<ServerRules>) -> Self {
        Self {
            rules,
            channel: Channel::new(HANDSHAKE_LIMIT, true),
            output: Vec::new(),
            state: State::ExpectCommand,
        }
    }

    /// Takes what is to be sent now; also after an error, as the last word to the client.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Takes in bytes from the client.
    pub fn push(&mut self, bytes: &[u8]) {
        self.channel.push(bytes);
    }

    /// The connection, to read into its buffer directly.
    pub fn channel_mut(&mut self) -> &mut Channel {
        &mut self.channel
    }

    /// Goes on as far as possible with what was pushed.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]; the handshake is over then: send the output, close.
    pub fn advance(&mut self, ctx: &mut ServerContext<'_>) -> Result<ServerEvent, HandshakeError> {
        loop {
            if let State::AwaitDirectory(_, _, task) = &self.state {
                return Ok(ServerEvent::Directory(task.clone()));
            }
            if let State::Over = self.state {
                return Err(HandshakeError::Over);
            }
            let Some(body) = self.channel.next_message()? else {
                return Ok(ServerEvent::NeedInput);
            };
            let state = std::mem::replace(&mut self.state, State::Over);
            let next = match state {
                State::ExpectCommand => self.command(&body, ctx)?,
                State::ExpectMask(progress) => self.mask(progress, &body, ctx)?,
                State::ExpectAuthStep(progress, method) => {
                    let name = method.method();
                    let turn = self.auth_step(method, &body, ctx)?;
                    self.turn(progress, name, turn, ctx)?
                }
                State::AwaitDirectory(..) | State::Over => return Err(HandshakeError::Over),
            };
            if let Some(event) = self.apply(next) {
                return Ok(event);
            }
        }
    }

    /// Reports the outcome of a [`ServerEvent::Directory`]. `Some` if the handshake ended with it;
    /// otherwise call [`advance`](Self::advance) again.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]; the handshake is over then.
    pub fn directory_done(
        &mut self,
        report: &DirectoryReport,
        ctx: &mut ServerContext<'_>,
    ) -> Result<Option<ServerEvent>, HandshakeError> {
        let State::AwaitDirectory(progress, ServerMethod::Fs(machine), _) =
            std::mem::replace(&mut self.state, State::Over)
        else {
            return Err(HandshakeError::Over);
        };
        let turn = machine.directory(report)?;
        let next = self.turn(progress, AuthMethod::Fs, turn, ctx)?;
        Ok(self.apply(next))
    }

    fn apply(&mut self, next: Next) -> Option<ServerEvent> {
        match next {
            Next::State(state) => {
                self.state = state;
                None
            }
            Next::Established(finished) => {
                let channel = std::mem::replace(&mut self.channel, Channel::new(0, true));
                Some(ServerEvent::Established(Box::new(finished.with(channel))))
            }
        }
    }

    fn command(
        &mut self,
        body: &[u8],
        ctx: &mut ServerContext<'_>,
    ) -> Result<Next, HandshakeError> {
        match Opening::parse(body)? {
            Opening::Raw { command, rest } => {
                if !self.rules.raw_commands.contains(&command) {
                    return Err(HandshakeError::RawCommand(Named(command)));
                }
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
            Opening::Resume(offer) => self.resume(offer, ctx),
            Opening::New(offer) => self.negotiate(offer, ctx),
        }
    }

    fn resume(
        &mut self,
        offer: ClientOffer,
        ctx: &mut ServerContext<'_>,
    ) -> Result<Next, HandshakeError> {
        let Some(session) = ctx.sessions.for_peer(&offer.session_id, ctx.now) else {
            if offer.wants_resume_answer {
                let ad = answer::unknown_session();
                answer::send(&ad, &mut self.channel, &mut self.output)?;
            }
            return Err(HandshakeError::UnknownSession {
                session: public_session_id(&offer.session_id),
            });
        };
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
        self.authorize(&offer, &session.peer)?;
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

    fn negotiate(
        &mut self,
        offer: ClientOffer,
        ctx: &mut ServerContext<'_>,
    ) -> Result<Next, HandshakeError> {
        let rules = Arc::clone(&self.rules);
        let Some(policy) = &rules.policy else {
            return Err(HandshakeError::NewSessionRefused(Named(offer.command)));
        };
        let wanted = offer.auth_command.unwrap_or(offer.command);
        if rules.authorizer.rule(wanted).is_none() {
            return Err(HandshakeError::UnknownCommand(Named(wanted)));
        }
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
                ours: super::method::join(&able),
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
        let progress = Box::new(Progress {
            offer,
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

    fn mask(
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
        let turn = match (method, &authenticators.fs_directory) {
            (AuthMethod::Token, _) => token::ServerToken::start(progress.offer.version),
            (AuthMethod::ClaimToBe, _) => simple::ServerClaim::start(),
            (AuthMethod::Fs, Some(directory)) => {
                fs::ServerFs::start(directory, &authenticators.uid_domain, ctx.entropy)?
            }
            _ => simple::serve_anonymous(),
        };
        self.turn(progress, method, turn, ctx)
    }

    fn auth_step(
        &self,
        method: ServerMethod,
        body: &[u8],
        ctx: &mut ServerContext<'_>,
    ) -> Result<ServerTurn, HandshakeError> {
        match method {
            ServerMethod::Token(machine) => {
                let rules = token::TokenRules {
                    keys: &self.rules.authenticators.signing_keys,
                    trust_domain: self.rules.trust_domain.as_deref(),
                    now: ctx.now,
                };
                machine.message(body, rules, ctx.entropy)
            }
            ServerMethod::Fs(machine) => machine.message(body),
            ServerMethod::ClaimToBe(machine) => machine.message(body),
        }
    }

    fn turn(
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
                // "No key follows": ECDH has made one.
                self.channel.seal(&0i64.to_be_bytes(), &mut self.output)?;
                self.finish(*progress, peer, ctx)
            }
        }
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
        if let Err(error) = self.authorize(&progress.offer, &peer) {
            let ad = answer::denied(&peer, tried);
            answer::send(&ad, &mut self.channel, &mut self.output)?;
            return Err(error);
        }
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
        let ad = answer::authorized(&session_id, &peer, &valid, tried);
        answer::send(&ad, &mut self.channel, &mut self.output)?;
        if let Some(key) = progress.key {
            ctx.sessions.insert(Session {
                id: session_id.clone(),
                key,
                source: SessionSource::Negotiated,
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

    /// Checks the right to a command; for `DC_SEC_QUERY` that of the command asked about.
    fn authorize(&self, offer: &ClientOffer, peer: &PeerIdentity) -> Result<(), HandshakeError> {
        let wanted = offer.auth_command.unwrap_or(offer.command);
        if authorize::permitted(&*self.rules.authorizer, wanted, peer) {
            return Ok(());
        }
        Err(HandshakeError::Unauthorized {
            user: peer.user.clone(),
            command: Named(wanted),
        })
    }

    fn valid_commands(&self, offer: &ClientOffer, peer: &PeerIdentity) -> String {
        let authorizer = &*self.rules.authorizer;
        let mut valid: Vec<_> = authorizer
            .commands()
            .into_iter()
            .filter(|command| authorize::permitted(authorizer, *command, peer))
            .map(|command| command.to_string())
            .collect();
        if valid.is_empty() {
            // HTCondor clients abort on an empty list.
            valid.push(offer.command.to_string());
        }
        valid.join(",")
    }
}

impl Finished {
    fn with(self, channel: Channel) -> ServerEstablished {
        ServerEstablished {
            channel,
            command: self.command,
            auth_command: self.auth_command,
            peer: self.peer,
            session_id: self.session_id,
            resumed: self.resumed,
            peer_version: self.peer_version,
            first: self.first,
        }
    }
}

/// True for commands this layer answers itself: tests of access, queries about security.
pub fn is_builtin(number: i32) -> bool {
    matches!(
        number,
        command::DC_SEC_QUERY
            | command::DC_AUTHENTICATE
            | command::DC_NOP
            | command::DC_INVALIDATE_KEY
            | command::DC_NOP_READ..=command::DC_NOP_ADVERTISE_MASTER
    )
}
