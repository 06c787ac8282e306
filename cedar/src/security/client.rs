//! Client side of a command start: bytes in, bytes and events out (protocol 01 section 3).

mod offer;
mod policy_answer;
mod request;
mod states;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use classad::ClassAd;

use self::policy_answer::PolicyAnswer;
pub use self::request::{
    ClientEstablished, ClientEvent, ClientRequest, Proof, SciTokenProof, SharedPort,
};
use super::auth::{Attempt, ClientMethod, DirectoryReport, DirectoryTask};
use super::{AuthMethod, Session};
use crate::crypto::{CryptoError, EcdhKey};
use crate::entropy::{Entropy, Purpose};
use crate::error::{HandshakeError, Unprepared};
use crate::frame::{Channel, HANDSHAKE_LIMIT};
use crate::secret::SessionKey;
use crate::wire::{Coding, MessageWriter};
use crate::{Version, command};

const POLICY: &str = "the server's policy ad";

/// Length of a resumption nonce, in bytes.
const NONCE: usize = 33;

/// A command start in progress.
#[derive(Debug)]
pub struct ClientHandshake {
    request: ClientRequest,
    channel: Channel,
    output: Vec<u8>,
    state: State,
    /// True as soon as the server has sent anything: a close before is a refusal.
    heard: bool,
    /// Methods of our policy that were not offered, and why.
    unprepared: Vec<Unprepared>,
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
    proof: Option<Proof>,
    trust_domain: Option<String>,
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
        let offer::Offer {
            methods: offered,
            unprepared,
        } = offer::methods(&request)?;
        let ecdh = EcdhKey::generate(entropy)?;
        let ad = offer::new_session(&request, &offered, &STANDARD.encode(ecdh.public_point()));
        let mut handshake = Self::begin(request, &ad, State::ExpectPolicy { ecdh, offered })?;
        handshake.unprepared = unprepared;
        Ok(handshake)
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
            unprepared: Vec::new(),
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
            proof: self.proof,
            trust_domain: self.trust_domain,
        }
    }
}
