//! Client side of a command start: bytes in, bytes and events out (protocol 01 section 3).

mod offer;
mod policy_answer;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use classad::ClassAd;

use self::policy_answer::PolicyAnswer;
use super::auth::{
    Attempt, ClientMethod, ClientTurn, DirectoryReport, DirectoryTask, MethodFailure, Turn, fs,
    simple, token,
};
use super::policy::ConsistentPolicy;
use super::session::{Session, SessionSource, public_session_id};
use super::token::TokenSet;
use super::{AuthMethod, PeerIdentity};
use crate::crypto::{CryptoError, EcdhKey};
use crate::entropy::{Entropy, Purpose};
use crate::error::HandshakeError;
use crate::frame::{Channel, HANDSHAKE_LIMIT};
use crate::secret::SessionKey;
use crate::wire::{Coding, MessageReader, MessageWriter};
use crate::{Version, command};

const POLICY: &str = "the server's policy ad";
const LOOP: &str = "the server's choice of a method";
const KEY: &str = "the key exchange message";
const POST_AUTH: &str = "the server's post-authentication ad";
const RESUMED: &str = "the answer to a session resumption";

/// Length of a resumption nonce, in bytes.
const NONCE: usize = 33;

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
    /// Act on a directory (FS), report with [`ClientHandshake::directory_done`].
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
    /// The method that succeeded.
    pub method: Option<AuthMethod>,
}

/// A command start in progress.
#[derive(Debug)]
pub struct ClientHandshake {
    request: ClientRequest,
    channel: Channel,
    output: Vec<u8>,
    state: State,
    /// True as soon as the server has sent anything: a close before is a refusal.
    heard: bool,
}

#[derive(Debug)]
enum State {
    ExpectPolicy {
        ecdh: EcdhKey,
        offered: Vec<AuthMethod>,
    },
    ExpectMethod(Loop),
    ExpectAuthStep(Loop, ClientMethod),
    AwaitDirectory(Loop, ClientMethod, DirectoryTask),
    ExpectKeyExchange(Loop, AuthMethod),
    ExpectPostAuth(PolicyAnswer, Option<SessionKey>, Option<AuthMethod>),
    ExpectResumed(Box<Session>),
    Over,
}

/// The method loop: what was agreed and what is left.
#[derive(Debug)]
struct Loop {
    answer: PolicyAnswer,
    key: Option<SessionKey>,
    left: Vec<AuthMethod>,
    attempts: Vec<Attempt>,
}

enum Next {
    State(State),
    Event(State, ClientEvent),
    Established(Box<Finished>),
}

struct Finished {
    session: Option<Session>,
    session_id: Option<String>,
    valid_commands: Vec<i32>,
    peer_version: Option<Version>,
    our_user: Option<String>,
    method: Option<AuthMethod>,
}

impl ClientHandshake {
    /// Starts a command with a new session.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] if there is nothing to offer, or the crypto library fails.
    pub fn new_session(
        request: ClientRequest,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, HandshakeError> {
        let offered = offer::methods(&request)?;
        let ecdh = EcdhKey::generate(entropy)?;
        let ad = offer::new_session(&request, &offered, &STANDARD.encode(ecdh.public_point()));
        Self::begin(request, &ad, State::ExpectPolicy { ecdh, offered })
    }

    /// Starts a command in a session that exists already.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`] if the entropy source fails.
    pub fn resume(
        request: ClientRequest,
        session: Session,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, HandshakeError> {
        let mut nonce = [0u8; NONCE];
        entropy
            .fill(Purpose::ResumeNonce, &mut nonce)
            .map_err(CryptoError::from)?;
        let ad = offer::resumption(&request, &session.id, &STANDARD.encode(nonce));
        Self::begin(request, &ad, State::ExpectResumed(Box::new(session)))
    }

    fn begin(request: ClientRequest, ad: &ClassAd, state: State) -> Result<Self, HandshakeError> {
        let mut channel = Channel::new(HANDSHAKE_LIMIT, false);
        let mut output = Vec::new();
        if let Some(port) = &request.shared_port {
            let mut message = MessageWriter::new(Coding::Plain);
            message
                .int(i64::from(command::SHARED_PORT_CONNECT))
                .str(&port.id)
                .str(&port.client_name)
                .int(port.deadline)
                .int(0);
            let body = message
                .finish()
                .map_err(HandshakeError::wire("our shared port request"))?;
            channel.seal(&body, &mut output)?;
            // The endpoint never sees this frame.
            channel.restart_digests();
        }
        let mut message = MessageWriter::new(Coding::Plain);
        message.int(i64::from(command::DC_AUTHENTICATE)).ad(ad);
        let body = message
            .finish()
            .map_err(HandshakeError::wire("our security offer"))?;
        channel.seal(&body, &mut output)?;
        Ok(Self {
            request,
            channel,
            output,
            state,
            heard: false,
        })
    }

    /// Takes what is to be sent now.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Takes in bytes from the server.
    pub fn push(&mut self, bytes: &[u8]) {
        self.channel.push(bytes);
    }

    /// The connection, to read into its buffer directly.
    pub fn channel_mut(&mut self) -> &mut Channel {
        &mut self.channel
    }

    /// True once the server has answered anything.
    pub fn heard_from_server(&self) -> bool {
        self.heard
    }

    /// What failed so far; with a close by the server these are the likely reasons.
    pub fn failed_attempts(&self) -> Vec<Attempt> {
        match &self.state {
            State::ExpectMethod(progress)
            | State::ExpectAuthStep(progress, _)
            | State::AwaitDirectory(progress, ..)
            | State::ExpectKeyExchange(progress, _) => progress.attempts.clone(),
            _ => Vec::new(),
        }
    }

    /// The method whose proof we sent last, while the server's verdict is out: a server that closes
    /// or stays silent now has rejected it (protocol 01 section 5.2).
    pub fn awaiting_verdict(&self) -> Option<AuthMethod> {
        match &self.state {
            State::ExpectKeyExchange(_, method) => Some(*method),
            State::ExpectAuthStep(_, method) => Some(method.method()),
            _ => None,
        }
    }

    /// Goes on as far as possible with what was pushed.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]; the handshake is over then.
    pub fn advance(&mut self, entropy: &mut dyn Entropy) -> Result<ClientEvent, HandshakeError> {
        loop {
            if let State::AwaitDirectory(_, _, task) = &self.state {
                return Ok(ClientEvent::Directory(task.clone()));
            }
            if let State::Over = self.state {
                return Err(HandshakeError::Over);
            }
            let Some(body) = self.channel.next_message()? else {
                return Ok(ClientEvent::NeedInput);
            };
            self.heard = true;
            let state = std::mem::replace(&mut self.state, State::Over);
            match self.message(state, &body, entropy)? {
                Next::State(state) => self.state = state,
                Next::Event(state, event) => {
                    self.state = state;
                    return Ok(event);
                }
                Next::Established(finished) => {
                    let channel = std::mem::replace(&mut self.channel, Channel::new(0, true));
                    return Ok(ClientEvent::Established(Box::new(finished.with(channel))));
                }
            }
        }
    }

    /// Reports the outcome of a [`ClientEvent::Directory`]; call [`advance`](Self::advance) again.
    ///
    /// # Errors
    ///
    /// [`HandshakeError`]; the handshake is over then.
    pub fn directory_done(&mut self, report: &DirectoryReport) -> Result<(), HandshakeError> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::AwaitDirectory(progress, method, _) => {
                let name = method.method();
                let turn = method.directory(report)?;
                if let Next::State(state) | Next::Event(state, _) =
                    self.turn(progress, name, turn)?
                {
                    self.state = state;
                }
                Ok(())
            }
            _ => Err(HandshakeError::Over),
        }
    }

    fn message(
        &mut self,
        state: State,
        body: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<Next, HandshakeError> {
        match state {
            State::ExpectPolicy { ecdh, offered } => self.policy(body, &ecdh, &offered, entropy),
            State::ExpectMethod(progress) => self.choice(progress, body, entropy),
            State::ExpectAuthStep(progress, method) => {
                let name = method.method();
                let turn = method.message(body)?;
                self.turn(progress, name, turn)
            }
            State::ExpectKeyExchange(progress, method) => {
                self.key_exchange(progress, method, body, entropy)
            }
            State::ExpectPostAuth(answer, key, method) => Ok(Next::Established(Box::new(
                self.post_auth(&answer, key, method, body)?,
            ))),
            State::ExpectResumed(session) => self.resumed(*session, body, entropy),
            State::AwaitDirectory(..) => {
                Err(HandshakeError::Unexpected("a directory is being made"))
            }
            State::Over => Err(HandshakeError::Over),
        }
    }

    fn policy(
        &mut self,
        body: &[u8],
        ecdh: &EcdhKey,
        offered: &[AuthMethod],
        entropy: &mut dyn Entropy,
    ) -> Result<Next, HandshakeError> {
        let ad = read_ad(body, Coding::Plain, POLICY)?;
        let answer = PolicyAnswer::parse(&ad)?;
        answer.check(&self.request.policy)?;
        let key = match answer.agreed_point(&ad)? {
            Some(point) => Some(ecdh.agree(&point)?),
            None => None,
        };
        if answer.encryption && key.is_none() {
            return Err(HandshakeError::BadAttribute {
                message: POLICY,
                attribute: "ECDHPublicKey",
            });
        }
        if !answer.authentication {
            if let Some(key) = &key {
                self.channel.secure(key, entropy)?;
            }
            return Ok(Next::State(State::ExpectPostAuth(answer, key, None)));
        }
        let left = answer
            .methods
            .iter()
            .copied()
            .filter(|method| offered.contains(method))
            .collect();
        let mut progress = Loop {
            answer,
            key,
            left,
            attempts: Vec::new(),
        };
        self.drop_token_without_fit(&mut progress);
        if progress.left.is_empty() {
            return Err(nothing_left(&self.request, &progress));
        }
        self.send_mask(progress).map(Next::State)
    }

    /// Takes TOKEN off the list if no token fits the server, and remembers why.
    fn drop_token_without_fit(&self, progress: &mut Loop) {
        if !progress.left.contains(&AuthMethod::Token) {
            return;
        }
        if let Err(search) = self.select_token(&progress.answer) {
            progress.left.retain(|method| *method != AuthMethod::Token);
            progress.attempts.push(Attempt {
                method: AuthMethod::Token,
                why: MethodFailure::NoToken(Box::new(search)),
            });
        }
    }

    fn select_token(
        &self,
        answer: &PolicyAnswer,
    ) -> Result<&super::token::Token, super::token::TokenSearch> {
        let keys: Vec<_> = answer.issuer_keys.iter().map(String::as_str).collect();
        let domain = answer.trust_domain.as_deref();
        self.request.tokens.select(domain, &keys, self.request.now)
    }

    fn send_mask(&mut self, progress: Loop) -> Result<State, HandshakeError> {
        let mask: i64 = progress.left.iter().map(|method| method.bit()).sum();
        self.channel.seal(&mask.to_be_bytes(), &mut self.output)?;
        Ok(State::ExpectMethod(progress))
    }

    fn choice(
        &mut self,
        progress: Loop,
        body: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<Next, HandshakeError> {
        let bit = read_int(body, LOOP)?;
        let method = AuthMethod::from_bit(bit).filter(|method| progress.left.contains(method));
        let Some(method) = method else {
            let mut attempts = progress.attempts;
            if bit != 0 {
                return Err(HandshakeError::BadAttribute {
                    message: LOOP,
                    attribute: "method bit",
                });
            }
            for method in progress.left {
                attempts.push(Attempt {
                    method,
                    why: MethodFailure::NoneLeft,
                });
            }
            return Err(HandshakeError::Authentication(attempts));
        };
        let turn = match method {
            AuthMethod::Token => match self.select_token(&progress.answer) {
                Ok(token) => token::ClientToken::start(token, entropy)?,
                Err(search) => return Err(HandshakeError::NoToken(Box::new(search))),
            },
            AuthMethod::ClaimToBe => {
                let name = self.request.claim_to_be.as_deref().unwrap_or("");
                simple::ClientClaim::start(name)?
            }
            AuthMethod::Fs => fs::ClientFs::start(self.request.server.clone()),
            _ => simple::ClientAnonymous::start(),
        };
        self.turn(progress, method, turn)
    }

    fn turn(
        &mut self,
        mut progress: Loop,
        method: AuthMethod,
        turn: ClientTurn,
    ) -> Result<Next, HandshakeError> {
        match turn {
            Turn::Wait(machine, messages) => {
                self.seal_all(&messages)?;
                Ok(Next::State(State::ExpectAuthStep(progress, machine)))
            }
            Turn::Directory(machine, task) => Ok(Next::Event(
                State::AwaitDirectory(progress, machine, task.clone()),
                ClientEvent::Directory(task),
            )),
            Turn::Done((), messages) => {
                self.seal_all(&messages)?;
                Ok(Next::State(State::ExpectKeyExchange(progress, method)))
            }
            Turn::Failed(why, messages) => {
                self.seal_all(&messages)?;
                progress.left.retain(|left| *left != method);
                progress.attempts.push(Attempt { method, why });
                if progress.left.is_empty() {
                    return Err(HandshakeError::Authentication(progress.attempts));
                }
                self.send_mask(progress).map(Next::State)
            }
        }
    }

    fn seal_all(&mut self, messages: &[Vec<u8>]) -> Result<(), HandshakeError> {
        for body in messages {
            self.channel.seal(body, &mut self.output)?;
        }
        Ok(())
    }

    fn key_exchange(
        &mut self,
        progress: Loop,
        method: AuthMethod,
        body: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<Next, HandshakeError> {
        let mut reader = MessageReader::new(Coding::Plain, body);
        if reader.int().map_err(HandshakeError::wire(KEY))? != 0 {
            return Err(HandshakeError::KeyTransport);
        }
        reader.expect_end().map_err(HandshakeError::wire(KEY))?;
        if let Some(key) = &progress.key {
            self.channel.secure(key, entropy)?;
        }
        let state = State::ExpectPostAuth(progress.answer, progress.key, Some(method));
        Ok(Next::State(state))
    }

    fn post_auth(
        &self,
        answer: &PolicyAnswer,
        key: Option<SessionKey>,
        method: Option<AuthMethod>,
        body: &[u8],
    ) -> Result<Finished, HandshakeError> {
        let ad = read_ad(body, self.channel.coding(), POST_AUTH)?;
        let our_user = ad.string("User");
        match ad.string("ReturnCode").as_deref() {
            None | Some("AUTHORIZED") => {}
            Some("DENIED") => return Err(HandshakeError::Denied { user: our_user }),
            Some(other) => return Err(HandshakeError::Refused(other.chars().take(80).collect())),
        }
        let session_id = ad.string("Sid").filter(|sid| !sid.is_empty());
        let valid_commands = ad
            .string("ValidCommands")
            .map(|list| {
                list.split(',')
                    .filter_map(|item| item.trim().parse().ok())
                    .collect()
            })
            .unwrap_or_default();
        let now = self.request.now;
        let session = match (&session_id, key) {
            (Some(id), Some(key)) => Some(Session {
                id: id.clone(),
                key,
                source: SessionSource::Negotiated,
                peer: PeerIdentity::unauthenticated(),
                peer_version: answer.peer_version,
                our_user: our_user.clone(),
                expires: Some(now.saturating_add(answer.session_duration)),
                lease: answer.session_lease,
                last_used: now,
            }),
            _ => None,
        };
        Ok(Finished {
            session,
            session_id,
            valid_commands,
            peer_version: answer.peer_version,
            our_user,
            method,
        })
    }

    fn resumed(
        &mut self,
        session: Session,
        body: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<Next, HandshakeError> {
        let ad = read_ad(body, Coding::Plain, RESUMED)?;
        match ad.string("ReturnCode").as_deref() {
            Some("AUTHORIZED") => {}
            Some("SID_NOT_FOUND") => {
                return Err(HandshakeError::UnknownSession {
                    session: public_session_id(&session.id),
                });
            }
            Some(other) => return Err(HandshakeError::Refused(other.chars().take(80).collect())),
            None => {
                return Err(HandshakeError::BadAttribute {
                    message: RESUMED,
                    attribute: "ReturnCode",
                });
            }
        }
        let announced = ad.string("RemoteVersion");
        let peer_version = announced
            .and_then(|text| Version::from_banner(&text))
            .or(session.peer_version);
        self.channel.secure(&session.key, entropy)?;
        Ok(Next::Established(Box::new(Finished {
            session: None,
            session_id: Some(session.id.clone()),
            valid_commands: Vec::new(),
            peer_version,
            our_user: session.our_user.clone(),
            method: None,
        })))
    }
}

impl Finished {
    fn with(self, channel: Channel) -> ClientEstablished {
        ClientEstablished {
            channel,
            session: self.session,
            session_id: self.session_id,
            valid_commands: self.valid_commands,
            peer_version: self.peer_version,
            our_user: self.our_user,
            method: self.method,
        }
    }
}

fn nothing_left(request: &ClientRequest, progress: &Loop) -> HandshakeError {
    match progress.attempts.first() {
        Some(Attempt {
            why: MethodFailure::NoToken(search),
            ..
        }) => HandshakeError::NoToken(search.clone()),
        _ => HandshakeError::NoMethod {
            ours: super::method::join(&request.policy.methods),
            theirs: super::method::join(&progress.answer.methods),
        },
    }
}

fn read_ad(body: &[u8], coding: Coding, name: &'static str) -> Result<ClassAd, HandshakeError> {
    let mut reader = MessageReader::new(coding, body);
    let ad = reader.ad().map_err(HandshakeError::wire(name))?;
    reader.expect_end().map_err(HandshakeError::wire(name))?;
    Ok(ad)
}

fn read_int(body: &[u8], name: &'static str) -> Result<i64, HandshakeError> {
    let mut reader = MessageReader::new(Coding::Plain, body);
    let value = reader.int().map_err(HandshakeError::wire(name))?;
    reader.expect_end().map_err(HandshakeError::wire(name))?;
    Ok(value)
}
