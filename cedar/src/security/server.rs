//! Server side of a command start: bytes in, bytes and events out (protocol 01 section 3).

mod answer;
mod authorize;
mod offer;
mod policies;
mod rules;
mod states;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use self::authorize::{Authorizer, CommandRule, CommandTable, Decision};
use self::offer::ClientOffer;
pub use self::policies::{ConsistentPolicies, LevelPolicyError, Policies};
pub use self::rules::{
    Asked, Authenticators, ServerContext, ServerEstablished, ServerEvent, ServerRules, UserLookup,
};
use super::auth::{Attempt, DirectoryReport, DirectoryTask, ServerMethod};
use super::{AuthMethod, Level, PeerIdentity};
use crate::Version;
use crate::command;
use crate::error::HandshakeError;
use crate::frame::{Channel, HANDSHAKE_LIMIT};
use crate::secret::SessionKey;

/// A command start in progress.
#[derive(Debug)]
pub struct ServerHandshake {
    rules: Arc<ServerRules>,
    from: Option<IpAddr>,
    local: Option<SocketAddr>,
    asked: Asked,
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
    /// The level of the command, whose policy is followed.
    level: Level,
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
    /// A handshake on a fresh connection from the address `from`, if that is known.
    pub fn new(rules: Arc<ServerRules>, from: Option<IpAddr>) -> Self {
        Self {
            rules,
            from,
            local: None,
            asked: Asked::default(),
            channel: Channel::new(HANDSHAKE_LIMIT, true),
            output: Vec::new(),
            state: State::ExpectCommand,
        }
    }

    /// The same, at our own address `local`, which some proofs are bound to.
    #[must_use]
    pub fn at(mut self, local: SocketAddr) -> Self {
        self.local = Some(local);
        self
    }

    /// What the client wanted, and who it is, as far as that is known now; also after an error.
    pub fn asked(&self) -> &Asked {
        &self.asked
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
                    self.asked.method = Some(name);
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
