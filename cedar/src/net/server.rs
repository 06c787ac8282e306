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
use tokio::sync::Semaphore;

use super::client::within;
use super::config::ServerConfig;
use super::error::{Error, ErrorKind, Step};
use super::session_cache::{SessionCache, unix_now};
use super::stream::{Facts, Stream, end_of_stream, read_some};
use crate::command;
use crate::entropy::SystemEntropy;
use crate::error::HandshakeError;
use crate::security::auth::{DirectoryFacts, DirectoryReport, DirectoryTask};
use crate::security::server::{
    LevelPolicyError, ServerContext, ServerEstablished, ServerEvent, ServerHandshake, ServerRules,
    UserLookup, is_builtin,
};
use crate::security::{AuthMethod, PeerIdentity};

/// How long the last word to a client that is turned away may take.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Accepts commands. Clones share everything.
#[derive(Debug, Clone)]
pub struct Server {
    rules: Arc<ServerRules>,
    sessions: SessionCache,
    deadline: Duration,
    places: Arc<Semaphore>,
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
    sessions: SessionCache,
}

impl Server {
    /// A server.
    ///
    /// # Errors
    ///
    /// [`LevelPolicyError`] if a policy contradicts itself.
    pub fn new(config: ServerConfig) -> Result<Self, LevelPolicyError> {
        let policies = config.policies.tightened()?;
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
            places: Arc::new(Semaphore::new(config.max_handshakes)),
        })
    }

    /// Runs the handshake on an accepted connection.
    ///
    /// # Errors
    ///
    /// [`Error`]; the connection is closed then.
    pub async fn accept(&self, tcp: TcpStream, peer: SocketAddr) -> Result<Incoming, Error> {
        let fail = |command, kind| Error::new(client_label(peer), command, Step::Handshake, kind);
        let Ok(_place) = self.places.try_acquire() else {
            return Err(fail(None, ErrorKind::Busy));
        };
        match tokio::time::timeout(self.deadline, self.handshake(tcp, peer)).await {
            Ok(done) => done.map_err(|kind| fail(None, kind)),
            Err(_) => Err(fail(None, ErrorKind::Timeout)),
        }
    }

    async fn handshake(&self, mut tcp: TcpStream, peer: SocketAddr) -> Result<Incoming, ErrorKind> {
        tcp.set_nodelay(true).map_err(ErrorKind::Io)?;
        let local_addr = tcp.local_addr().map_err(ErrorKind::Io)?;
        let mut handshake = ServerHandshake::new(Arc::clone(&self.rules), Some(peer.ip()));
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
        };
        let mut stream = Stream::new(tcp, done.channel, facts, self.deadline);
        if let Some(first) = done.first {
            stream.put_first(first);
        }
        Incoming {
            command: done.command,
            auth_command: done.auth_command,
            stream,
            peer: done.peer,
            session_id: done.session_id,
            resumed: done.resumed,
            sessions: self.sessions.clone(),
        }
    }
}

impl Incoming {
    /// The method that proved the peer; `None` in claim sessions and without authentication.
    pub fn method(&self) -> Option<AuthMethod> {
        self.peer.method
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
                    self.sessions.lock().invalidate(id);
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
