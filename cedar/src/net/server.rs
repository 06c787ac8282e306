use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use classad::ClassAd;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::admission::{Admission, Bounds};
use super::client::within;
use super::config::ServerConfig;
use super::error::{Error, ErrorKind, Step};
use super::keepalive::keep_alive;
use super::refusals::Refusals;
use super::session_cache::{SessionCache, unix_now};
use super::stream::{Facts, Stream, end_of_stream, read_some};
use crate::command;
use crate::entropy::SystemEntropy;
use crate::error::HandshakeError;
use crate::security::auth::{DirectoryFacts, DirectoryReport, DirectoryTask};
use crate::security::server::{
    Asked, LevelPolicyError, ServerContext, ServerEstablished, ServerEvent, ServerHandshake,
    ServerRules, UserLookup, is_builtin,
};
use crate::security::{AuthMethod, PeerIdentity};
use crate::wire::Coding;

/// How long the last word to a client that is turned away may take.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Accepts commands. Clones share everything.
///
/// Every client that is refused gets one line in the log, with its address, identity, method,
/// command and level and the reason: callers need not write another.
#[derive(Debug, Clone)]
pub struct Server {
    rules: Arc<ServerRules>,
    sessions: SessionCache,
    deadline: Duration,
    admission: Admission,
    refusals: Arc<Refusals>,
}

/// A command that may be served: authenticated, authorized, payload not read yet.
#[derive(Debug)]
pub struct Incoming {
    /// The command.
    pub command: i32,
    /// With `DC_SEC_QUERY` the command asked about.
    pub auth_command: Option<i32>,
    /// The connection; the next message is the command's payload.
    pub stream: Stream,
    /// Who asks.
    pub peer: PeerIdentity,
    /// The session in use; for a claim session the claim's session id.
    pub session_id: Option<String>,
    /// True if the session existed before this connection.
    pub resumed: bool,
    server: Server,
}

impl Server {
    /// A server.
    ///
    /// # Errors
    ///
    /// [`LevelPolicyError`] if a policy contradicts itself.
    pub fn new(config: ServerConfig) -> Result<Self, LevelPolicyError> {
        let policies = config.policies.tightened()?;
        let refusals = Refusals::new(policies.sessions_only());
        Ok(Self {
            rules: Arc::new(ServerRules {
                policies,
                authenticators: config.authenticators,
                authorizer: config.authorizer,
                version: config.version,
                trust_domain: config.trust_domain,
                raw_commands: config.raw_commands,
                session_prefix: format!("sailplane:{}", std::process::id()),
            }),
            sessions: config.sessions,
            deadline: config.deadline,
            admission: Admission::new(Bounds {
                total: config.max_handshakes,
                per_address: config.max_handshakes_per_address,
                waiting: config.max_waiting,
                patience: config.patience,
            }),
            refusals: Arc::new(refusals),
        })
    }

    /// Runs the handshake on an accepted connection, as soon as there is a place for it.
    ///
    /// # Errors
    ///
    /// [`Error`]; the connection is closed then.
    pub async fn accept(&self, tcp: TcpStream, peer: SocketAddr) -> Result<Incoming, Error> {
        let admit = tokio::time::timeout(self.deadline, self.admission.admit(peer.ip()));
        let Ok(Ok(mut place)) = admit.await else {
            return Err(self.refuse(peer, &Asked::default(), ErrorKind::Busy));
        };
        let mut handshake = ServerHandshake::new(Arc::clone(&self.rules), Some(peer.ip()));
        if let Ok(local) = tcp.local_addr() {
            handshake = handshake.at(local);
        }
        let outcome = {
            let work = self.handshake(&mut handshake, tcp, peer);
            tokio::select! {
                done = tokio::time::timeout(self.deadline, work) => {
                    done.unwrap_or(Err(ErrorKind::Timeout))
                }
                () = place.ended() => Err(ErrorKind::Displaced),
            }
        };
        outcome.map_err(|kind| self.refuse(peer, handshake.asked(), kind))
    }

    /// Logs a refusal and makes the error that says the same.
    fn refuse(&self, peer: SocketAddr, asked: &Asked, kind: ErrorKind) -> Error {
        self.refusals.log(peer, asked, &kind);
        Error::new(client_label(peer), asked.command, Step::Handshake, kind)
    }

    async fn handshake(
        &self,
        handshake: &mut ServerHandshake,
        mut tcp: TcpStream,
        peer: SocketAddr,
    ) -> Result<Incoming, ErrorKind> {
        tcp.set_nodelay(true).map_err(ErrorKind::Io)?;
        keep_alive(&tcp).map_err(ErrorKind::Io)?;
        let local_addr = tcp.local_addr().map_err(ErrorKind::Io)?;
        loop {
            let event = self.with_context(|ctx| handshake.advance(ctx));
            let output = handshake.take_output();
            if !output.is_empty() {
                let limit = if event.is_ok() {
                    self.deadline
                } else {
                    LAST_WORD
                };
                let sent = within(limit, tcp.write_all(&output)).await;
                if event.is_ok() {
                    sent?;
                }
            }
            let mut event = event?;
            if let ServerEvent::Directory(task) = event {
                let report = inspect(task, self.rules.authenticators.user_lookup.clone()).await;
                let after = self.with_context(|ctx| handshake.directory_done(&report, ctx));
                let output = handshake.take_output();
                if !output.is_empty() {
                    within(self.deadline, tcp.write_all(&output)).await?;
                }
                match after? {
                    Some(next) => event = next,
                    None => continue,
                }
            }
            match event {
                ServerEvent::Established(done) => {
                    return Ok(self.incoming(tcp, peer, local_addr, *done));
                }
                ServerEvent::Directory(_) => return Err(HandshakeError::Over.into()),
                ServerEvent::NeedInput => {
                    let opener = handshake.channel_mut().opener_mut();
                    let count = read_some(&mut tcp, opener).await.map_err(ErrorKind::Io)?;
                    if count == 0 {
                        return Err(end_of_stream(handshake.channel_mut().opener_mut()));
                    }
                }
            }
        }
    }

    fn with_context<T>(&self, work: impl FnOnce(&mut ServerContext<'_>) -> T) -> T {
        let mut sessions = self.sessions.lock();
        let mut entropy = SystemEntropy;
        work(&mut ServerContext {
            sessions: &mut sessions,
            entropy: &mut entropy,
            now: unix_now(),
        })
    }

    fn incoming(
        &self,
        tcp: TcpStream,
        peer_addr: SocketAddr,
        local_addr: SocketAddr,
        done: ServerEstablished,
    ) -> Incoming {
        let facts = Facts {
            peer_addr,
            local_addr,
            label: client_label(peer_addr),
            command: Some(done.command),
            peer_version: done.peer_version,
            session_id: done.session_id.clone(),
            our_user: None,
            proof: None,
            trust_domain: None,
        };
        let mut stream = Stream::new(tcp, done.channel, facts, self.deadline);
        if let Some(first) = done.first {
            stream.put_first(Coding::Plain, first);
        }
        Incoming {
            command: done.command,
            auth_command: done.auth_command,
            stream,
            peer: done.peer,
            session_id: done.session_id,
            resumed: done.resumed,
            server: self.clone(),
        }
    }
}

impl Incoming {
    /// The method that proved the peer; `None` in claim sessions and without authentication.
    pub fn method(&self) -> Option<AuthMethod> {
        self.peer.method
    }

    /// Waits for the next command on the same connection, which needs no handshake and runs with the
    /// rights of this one (protocol 01 section 3.7); checks them, and makes the rest of its message
    /// the next that [`stream`](Self::stream) gives. `None` if the client is done.
    ///
    /// # Errors
    ///
    /// [`Error`]; the connection is of no use then.
    pub async fn next_command(&mut self) -> Result<Option<i32>, Error> {
        let message = match self.stream.recv().await {
            Ok(message) => message,
            Err(error) if error.is_closed() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut reader = message.reader();
        let from = self.stream.peer_addr();
        let mut asked = Asked {
            peer: Some(self.peer.clone()),
            method: self.peer.method,
            ..Asked::default()
        };
        let command = reader.int32().map_err(|source| {
            let error = HandshakeError::wire("the number of the next command")(source);
            self.server.refuse(from, &asked, error.into())
        })?;
        let rules = &self.server.rules;
        asked.command = Some(command);
        asked.level = rules.rule(command).map(|rule| rule.level);
        let permit = match self.session_id {
            Some(_) => rules.check(command, &self.peer, Some(from.ip())),
            None => rules.check_raw(command, Some(from.ip())),
        };
        permit.map_err(|error| self.server.refuse(from, &asked, error.into()))?;
        let rest = reader.remaining().to_vec();
        self.stream.put_first(message.coding(), rest);
        self.command = command;
        self.auth_command = None;
        Ok(Some(command))
    }

    /// Answers the commands of the security layer itself: questions about access (`condor_ping`),
    /// `DC_NOP`, `DC_INVALIDATE_KEY`. Any other command is handed back.
    ///
    /// # Errors
    ///
    /// [`Error`] if the answer cannot be sent.
    pub async fn serve_builtin(mut self) -> Result<Option<Self>, Error> {
        if !is_builtin(self.command) {
            return Ok(Some(self));
        }
        match self.command {
            command::DC_SEC_QUERY => {
                let mut ad = ClassAd::new();
                ad.insert("AuthorizationSucceeded", true);
                let mut message = self.stream.message();
                message.ad(&ad);
                self.stream.send(message).await?;
                self.stream.shutdown().await?;
            }
            command::DC_INVALIDATE_KEY => {
                let message = self.stream.recv().await?;
                if let Ok(text) = message.reader().str() {
                    let id = text.lines().next().unwrap_or_default();
                    // Only negotiated sessions go on the word of a stranger.
                    self.server.sessions.lock().invalidate(id);
                }
            }
            _ => {}
        }
        Ok(None)
    }
}

fn client_label(peer: SocketAddr) -> String {
    format!("client {peer}")
}

/// Looks at the rendezvous directory of FS.
async fn inspect(task: DirectoryTask, lookup: Option<UserLookup>) -> DirectoryReport {
    let DirectoryTask::Inspect(path) = task else {
        return DirectoryReport::Failed(io::ErrorKind::Unsupported);
    };
    let work = tokio::task::spawn_blocking(move || match facts(&path, lookup.as_ref()) {
        Ok(facts) => DirectoryReport::Found(facts),
        Err(error) => DirectoryReport::Failed(error.kind()),
    });
    work.await
        .unwrap_or(DirectoryReport::Failed(io::ErrorKind::Other))
}

fn facts(path: &Path, lookup: Option<&UserLookup>) -> io::Result<DirectoryFacts> {
    let metadata = fs::symlink_metadata(path)?;
    Ok(DirectoryFacts {
        is_directory: metadata.file_type().is_dir(),
        links: metadata.nlink(),
        mode: metadata.mode() & 0o7777,
        owner: lookup.and_then(|lookup| lookup(metadata.uid())),
    })
}
