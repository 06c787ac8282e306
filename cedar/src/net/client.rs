use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::config::{ClientConfig, FsAuthentication};
use super::error::{Error, ErrorKind, Step};
use super::keepalive::keep_alive;
use super::session_cache::{SessionCache, unix_now};
use super::stream::{Facts, Stream, end_of_stream, read_some};
use crate::Sinful;
use crate::command;
use crate::entropy::SystemEntropy;
use crate::error::HandshakeError;
use crate::security::auth::{Attempt, DirectoryReport, DirectoryTask, MethodFailure};
use crate::security::client::{
    ClientEstablished, ClientEvent, ClientHandshake, ClientRequest, SciTokenProof, SharedPort,
};
use crate::security::policy::ConsistentPolicy;
use crate::security::public_session_id;
use crate::security::token::{TokenSet, read_directory};
use crate::security::{
    AuthMethod, Authorities, SciTokenError, Session, SslClient, SslClientFiles, SslError,
};

/// Starts commands at daemons. Clones share configuration and sessions.
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    sessions: SessionCache,
    command_sock: Arc<Mutex<Option<Sinful>>>,
}

/// A command to be started, and where.
struct Target<'a> {
    address: &'a Sinful,
    command: i32,
    auth_command: Option<i32>,
}

/// What was read from files for one handshake.
#[derive(Default)]
struct Proofs {
    tokens: TokenSet,
    ssl: Option<Result<SslClient, SslError>>,
    scitoken: Option<Result<SciTokenProof, SciTokenError>>,
}

/// A TCP connection and the address it goes to.
struct Dialled {
    tcp: TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
}

impl Client {
    /// A client with its own view of the shared `sessions`.
    pub fn new(config: ClientConfig, sessions: SessionCache) -> Self {
        Self {
            command_sock: Arc::new(Mutex::new(config.command_sock.clone())),
            config: Arc::new(config),
            sessions,
        }
    }

    /// Our own address has changed; clones of this client tell it to servers from now on, too.
    pub fn set_command_sock(&self, address: Sinful) {
        *self.command_sock() = Some(address);
    }

    fn command_sock(&self) -> MutexGuard<'_, Option<Sinful>> {
        // One assignment cannot be half done.
        self.command_sock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// The sessions.
    pub fn sessions(&self) -> &SessionCache {
        &self.sessions
    }

    /// Starts `command` at the daemon `address`: in a session of the cache if there is one, and with
    /// a full handshake otherwise or if the session turns out to be gone.
    ///
    /// # Errors
    ///
    /// [`Error`] with the address, the command and the step that failed.
    pub async fn start_command(&self, address: &Sinful, command: i32) -> Result<Stream, Error> {
        self.start(&Target {
            address,
            command,
            auth_command: None,
        })
        .await
    }

    /// Starts `command` with a handshake of its own, whatever sessions there are, and keeps its session for this
    /// connection only.
    ///
    /// # Errors
    ///
    /// [`Error`] with the address, the command and the step that failed.
    pub async fn start_command_afresh(
        &self,
        address: &Sinful,
        command: i32,
    ) -> Result<Stream, Error> {
        let target = Target {
            address,
            command,
            auth_command: None,
        };
        let (dialled, done) = self.negotiate(&target).await?;
        Ok(self.stream(&target, dialled, done))
    }

    /// Starts `command` in the session `session_id`, such as that of a claim. There is no way back to
    /// a handshake: it would make us somebody else.
    ///
    /// # Errors
    ///
    /// [`Error`]; [`ErrorKind::NoSession`] if the session is not in our cache.
    pub async fn start_command_in_session(
        &self,
        address: &Sinful,
        command: i32,
        session_id: &str,
    ) -> Result<Stream, Error> {
        let target = Target {
            address,
            command,
            auth_command: None,
        };
        let found = self.sessions.lock().by_id(session_id, unix_now());
        let Some(session) = found else {
            let kind = ErrorKind::NoSession(public_session_id(session_id));
            return Err(target.error(Step::Resumption, kind));
        };
        self.resume(&target, session).await
    }

    /// Asks the daemon whether we may run `command` there (`DC_SEC_QUERY`). The answer is our
    /// identity as the daemon sees it, or an error that says why not.
    ///
    /// # Errors
    ///
    /// [`Error`]; [`HandshakeError::Denied`] inside if the daemon knows us but refuses.
    pub async fn query_authorization(
        &self,
        address: &Sinful,
        command: i32,
    ) -> Result<Option<String>, Error> {
        let target = Target {
            address,
            command: command::DC_SEC_QUERY,
            auth_command: Some(command),
        };
        let mut stream = self.full_handshake(&target).await?;
        let answer = stream.recv().await?;
        let ad = answer.reader().ad();
        let allowed = ad.ok().and_then(|ad| ad.bool("AuthorizationSucceeded"));
        match allowed {
            Some(true) => Ok(stream.our_user().map(str::to_owned)),
            _ => {
                let user = stream.our_user().map(str::to_owned);
                Err(target.error(Step::Handshake, HandshakeError::Denied { user }))
            }
        }
    }

    async fn start(&self, target: &Target<'_>) -> Result<Stream, Error> {
        let key = target.address.to_string();
        let known = self
            .sessions
            .lock()
            .for_target(&key, target.command, unix_now());
        let Some(session) = known else {
            return self.full_handshake(target).await;
        };
        let id = session.id.clone();
        match self.resume(target, session).await {
            Ok(stream) => Ok(stream),
            // Without a connection nothing is known about the session.
            Err(error) if matches!(error.step(), Step::Resolve | Step::Connect) => Err(error),
            Err(error) => {
                tracing::debug!(%error, "session dropped, trying a full handshake");
                self.sessions.remove(&id);
                self.full_handshake(target).await
            }
        }
    }

    async fn resume(&self, target: &Target<'_>, session: Session) -> Result<Stream, Error> {
        let dialled = self.dial(target).await?;
        let request = self
            .request(target, &dialled, Proofs::default())
            .map_err(|error| target.error(Step::Resumption, error))?;
        let handshake = ClientHandshake::resume(request, session, &mut SystemEntropy)
            .map_err(|error| target.error(Step::Resumption, error))?;
        let (dialled, done) = self
            .run(target, dialled, handshake, Step::Resumption)
            .await?;
        Ok(self.stream(target, dialled, done))
    }

    async fn full_handshake(&self, target: &Target<'_>) -> Result<Stream, Error> {
        let (dialled, mut done) = self.negotiate(target).await?;
        if let Some(session) = done.session.take() {
            let mut commands = std::mem::take(&mut done.valid_commands);
            if !commands.contains(&target.command) && target.auth_command.is_none() {
                commands.push(target.command);
            }
            let key = target.address.to_string();
            let mut sessions = self.sessions.lock();
            sessions.bind(&key, &commands, &session.id);
            sessions.insert(session);
        }
        Ok(self.stream(target, dialled, done))
    }

    /// A handshake, with the credentials of the moment.
    async fn negotiate(
        &self,
        target: &Target<'_>,
    ) -> Result<(Dialled, Box<ClientEstablished>), Error> {
        let proofs = Proofs {
            tokens: self.tokens().await,
            ssl: self.ssl().await,
            scitoken: self.scitoken().await,
        };
        let policy = self.config.policy.tightened();
        policy.map_err(|error| target.error(Step::Prepare, HandshakeError::Policy(error)))?;
        let dialled = self.dial(target).await?;
        let start = self
            .request(target, &dialled, proofs)
            .and_then(|request| ClientHandshake::new_session(request, &mut SystemEntropy));
        let handshake = start.map_err(|error| target.error(Step::Prepare, error))?;
        self.run(target, dialled, handshake, Step::Handshake).await
    }

    /// The tokens of the moment: files may have been renewed since the last handshake.
    async fn tokens(&self) -> TokenSet {
        let credentials = &self.config.credentials;
        let mut set = TokenSet::of(credentials.tokens.clone());
        if credentials.token_directories.is_empty()
            || !self.config.policy.methods.contains(&AuthMethod::Token)
        {
            return set;
        }
        let directories = credentials.token_directories.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut found = TokenSet::default();
            for directory in &directories {
                found.append(read_directory(directory));
            }
            found
        });
        if let Ok(found) = read.await {
            set.append(found);
        }
        set
    }

    /// Authorities and certificate of the moment: a proxy is renewed many times a day.
    async fn ssl(&self) -> Option<Result<SslClient, SslError>> {
        if !self.config.policy.methods.contains(&AuthMethod::Ssl) {
            return None;
        }
        let files = self.config.credentials.ssl.clone()?;
        let load = tokio::task::spawn_blocking(move || SslClient::load(files));
        load.await.ok()
    }

    /// The SciToken of the moment, and TLS without a certificate to show it through.
    async fn scitoken(&self) -> Option<Result<SciTokenProof, SciTokenError>> {
        if !self.config.policy.methods.contains(&AuthMethod::SciTokens) {
            return None;
        }
        let credentials = &self.config.credentials;
        let source = credentials.scitoken.clone()?;
        let system = || Authorities {
            system: true,
            ..Authorities::default()
        };
        let files = match &credentials.ssl {
            Some(files) => SslClientFiles {
                certificate: None,
                key: None,
                ..files.clone()
            },
            None => SslClientFiles {
                authorities: system(),
                ..SslClientFiles::default()
            },
        };
        let read = tokio::task::spawn_blocking(move || {
            let token = source.read(unix_now())?;
            let tls = SslClient::load(files)?;
            Ok(SciTokenProof { token, tls })
        });
        read.await.ok()
    }

    /// Forgets the sessions that were negotiated with a server: the next command there begins with a handshake, and
    /// shows the credentials of that moment. Sessions of claims are not touched.
    pub fn forget(&self, address: &Sinful) {
        self.sessions.lock().forget_target(&address.to_string());
    }

    fn request(
        &self,
        target: &Target<'_>,
        dialled: &Dialled,
        proofs: Proofs,
    ) -> Result<ClientRequest, HandshakeError> {
        let config = &self.config;
        let policy: ConsistentPolicy = config.policy.tightened()?;
        let is_local = dialled.peer.ip().is_loopback() || dialled.peer.ip() == dialled.local.ip();
        Ok(ClientRequest {
            command: target.command,
            auth_command: target.auth_command,
            address: target.dialled_address(dialled.peer).to_string(),
            server: dialled.peer.to_string(),
            shared_port: target.address.sock().map(|id| SharedPort {
                id: id.to_owned(),
                client_name: config.subsystem.clone(),
                deadline: i64::try_from(config.timeout.as_secs()).unwrap_or(-1),
            }),
            policy,
            tokens: proofs.tokens,
            password: config.credentials.password.clone(),
            ssl: proofs.ssl,
            scitoken: proofs.scitoken,
            host: target.host_name(),
            claim_to_be: config.credentials.claim_to_be.clone(),
            fs: config.credentials.fs == FsAuthentication::On && is_local,
            version: config.version.clone(),
            subsystem: config.subsystem.clone(),
            command_sock: self.command_sock().as_ref().map(ToString::to_string),
            trust_domain: config.trust_domain.clone(),
            pid: config.pid,
            now: unix_now(),
        })
    }

    async fn dial(&self, target: &Target<'_>) -> Result<Dialled, Error> {
        let address = target.address;
        if address.ccb_contacts().is_some() {
            return Err(target.error(Step::Connect, ErrorKind::BehindCcb));
        }
        let candidates = match address.socket_addr() {
            Some(addr) => vec![addr],
            None => self.resolve(target).await?,
        };
        let mut last = target.error(Step::Resolve, ErrorKind::NoAddress);
        for addr in candidates {
            match within(self.config.timeout, TcpStream::connect(addr)).await {
                Ok(tcp) => {
                    let io = |error| target.error(Step::Connect, ErrorKind::Io(error));
                    tcp.set_nodelay(true).map_err(io)?;
                    keep_alive(&tcp).map_err(io)?;
                    let local = tcp.local_addr().map_err(io)?;
                    return Ok(Dialled {
                        tcp,
                        peer: addr,
                        local,
                    });
                }
                Err(kind) => last = target.error(Step::Connect, kind),
            }
        }
        Err(last)
    }

    async fn resolve(&self, target: &Target<'_>) -> Result<Vec<SocketAddr>, Error> {
        let place = (target.address.host().to_owned(), target.address.port());
        let found = within(self.config.timeout, tokio::net::lookup_host(place)).await;
        let mut found: Vec<_> = match found {
            Ok(addrs) => addrs.collect(),
            Err(kind) => return Err(target.error(Step::Resolve, kind)),
        };
        // The pools this serves are reached over IPv4 first, as `addrs` is.
        found.sort_by_key(|addr| matches!(addr.ip(), IpAddr::V6(_)));
        Ok(found)
    }

    /// Drives a handshake to its end.
    async fn run(
        &self,
        target: &Target<'_>,
        mut dialled: Dialled,
        mut handshake: ClientHandshake,
        step: Step,
    ) -> Result<(Dialled, Box<ClientEstablished>), Error> {
        let fail = |kind: ErrorKind| target.error(step, kind);
        loop {
            let output = handshake.take_output();
            if !output.is_empty() {
                let write = within(self.config.timeout, dialled.tcp.write_all(&output));
                write.await.map_err(fail)?;
            }
            let event = handshake.advance(&mut SystemEntropy);
            match event.map_err(|error| fail(error.into()))? {
                ClientEvent::Established(done) => {
                    // The last message of a method may still wait to be sent.
                    let output = handshake.take_output();
                    if !output.is_empty() {
                        let write = within(self.config.timeout, dialled.tcp.write_all(&output));
                        write.await.map_err(fail)?;
                    }
                    return Ok((dialled, done));
                }
                ClientEvent::Directory(task) => {
                    let report = perform(task).await;
                    let done = handshake.directory_done(&report);
                    done.map_err(|error| fail(error.into()))?;
                }
                ClientEvent::NeedInput => {
                    let output = handshake.take_output();
                    if !output.is_empty() {
                        let write = within(self.config.timeout, dialled.tcp.write_all(&output));
                        write.await.map_err(fail)?;
                    }
                    let opener = handshake.channel_mut().opener_mut();
                    let read = within(self.config.timeout, read_some(&mut dialled.tcp, opener));
                    match read.await {
                        Ok(0) => {
                            let kind = end_of_stream(handshake.channel_mut().opener_mut());
                            return Err(explain(target, step, &handshake, kind));
                        }
                        Ok(_) => {}
                        Err(kind) => return Err(explain(target, step, &handshake, kind)),
                    }
                }
            }
        }
    }

    fn stream(
        &self,
        target: &Target<'_>,
        dialled: Dialled,
        done: Box<ClientEstablished>,
    ) -> Stream {
        let facts = Facts {
            peer_addr: dialled.peer,
            local_addr: dialled.local,
            label: target.address.to_string(),
            command: Some(target.command),
            peer_version: done.peer_version,
            session_id: done.session_id,
            our_user: done.our_user,
            proof: done.proof,
            trust_domain: done.trust_domain,
        };
        Stream::new(dialled.tcp, done.channel, facts, self.config.timeout)
    }
}

impl Target<'_> {
    fn error(&self, step: Step, kind: impl Into<ErrorKind>) -> Error {
        let command = self.auth_command.unwrap_or(self.command);
        Error::new(self.address, Some(command), step, kind)
    }

    /// The name the server's certificate must be for: its alias, or the host if that is a name.
    fn host_name(&self) -> Option<String> {
        if let Some(alias) = self.address.alias_name() {
            return Some(alias.to_owned());
        }
        let host = self.address.host();
        let is_name = host.parse::<IpAddr>().is_err() && !host.starts_with('[');
        is_name.then(|| host.to_owned())
    }

    /// The address as actually dialled: a name is replaced by the IP address found for it.
    fn dialled_address(&self, peer: SocketAddr) -> Sinful {
        if self.address.host().parse::<IpAddr>().is_ok() {
            return self.address.clone();
        }
        let mut dialled = Sinful::from(peer);
        for (key, value) in self.address.params() {
            dialled = dialled.with(key, value);
        }
        dialled
    }
}

/// Says what an end or a silence of the server means at this point of the handshake.
fn explain(target: &Target<'_>, step: Step, handshake: &ClientHandshake, kind: ErrorKind) -> Error {
    let ended = match &kind {
        ErrorKind::Closed | ErrorKind::Cut => true,
        ErrorKind::Io(error) => error.kind() == io::ErrorKind::ConnectionReset,
        _ => false,
    };
    if !handshake.heard_from_server() {
        return match (step, ended) {
            (Step::Handshake, true) => {
                let endpoint = target.address.sock().map(str::to_owned);
                let kind = endpoint.map_or(ErrorKind::OfferRefused, ErrorKind::EndpointRefused);
                target.error(Step::SecurityOffer, kind)
            }
            (Step::Handshake, false) => target.error(Step::SecurityOffer, kind),
            _ => target.error(step, kind),
        };
    }
    let mut attempts = handshake.failed_attempts();
    if let Some(method) = handshake.awaiting_verdict() {
        attempts.push(Attempt {
            method,
            why: MethodFailure::NoVerdict,
        });
    }
    if attempts.is_empty() || step == Step::Resumption {
        return target.error(step, kind);
    }
    target.error(step, HandshakeError::Authentication(attempts))
}

/// Runs a socket operation with a limit.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, ErrorKind> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(ErrorKind::Io),
        Err(_) => Err(ErrorKind::Timeout),
    }
}

/// Acts on the rendezvous directory of FS.
async fn perform(task: DirectoryTask) -> DirectoryReport {
    let work = tokio::task::spawn_blocking(move || {
        let done = match &task {
            DirectoryTask::Make(path) => fs::DirBuilder::new().mode(0o700).create(path),
            DirectoryTask::Remove(path) => fs::remove_dir(path),
            DirectoryTask::Inspect(path) => unexpected(path),
        };
        match done {
            Ok(()) => DirectoryReport::Done,
            Err(error) => DirectoryReport::Failed(error.kind()),
        }
    });
    work.await
        .unwrap_or(DirectoryReport::Failed(io::ErrorKind::Other))
}

/// A client never inspects.
fn unexpected(_path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
