//! A small client of the launch protocol, for those who try the identity switch out: it starts a broker, and does with it
//! one thing after the other. Every wait has a deadline. The pilot has a client of its own, which serves many jobs at once.
//!
//! Several requests may be on their way ([`Client::submit`], [`Client::receive`]); whoever needs only one at a time asks
//! ([`Client::ask`], [`Client::open`], ...). Events that come in between are kept for [`Client::event`].

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command as Program, Stdio};
use std::time::{Duration, Instant};

use launch_protocol::broker::{
    Answer, Command, Hello, Opened, Refusal, RefusalClass, Reply, Request, SignalScope, Usage,
};
use launch_protocol::{DecodeError, EncodeError, VERSION};
use nix::poll::PollFlags;

use super::agent::{Agent, AgentError};
use super::socket::{Socket, is_disconnect, pair, wait};
use super::sys;

/// How long a broker may take for one request. Verifying and mapping have limits of their own, which are shorter.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// How much of what a broker says on its standard error is kept, bytes.
const MAX_SAID: u64 = 16 * 1024;

pub use crate::setup::Launcher;

impl Launcher {
    /// Our helper, `sailplane-switch`.
    #[must_use]
    pub fn switch(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: vec!["--broker".into()],
            account: None,
        }
    }

    /// Started by root as somebody else.
    #[must_use]
    pub const fn by(mut self, uid: u32, gid: u32) -> Self {
        self.account = Some((uid, gid));
        self
    }
}

/// Why the broker did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The program could not be started.
    #[error("cannot start {}: {source}", path.display())]
    Spawn {
        /// It.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It answered, with a typed no.
    #[error("refused ({}): {}", .0.code, .0.message)]
    Refused(Refusal),
    /// It ended, or broke the connection.
    #[error("the helper is gone{}", if said.is_empty() { String::new() } else { format!("; it said: {said}") })]
    Gone {
        /// Its standard error, one line.
        said: String,
    },
    /// It did not answer in time.
    #[error("the helper did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// It speaks another version of the protocol.
    #[error(
        "the helper speaks version {0} of the launch protocol, and this program version {VERSION}"
    )]
    Version(u32),
    /// It sent something that is not a message.
    #[error("the helper sent a malformed message: {0}")]
    Malformed(#[from] DecodeError),
    /// It sent a message that does not answer the request.
    #[error("the helper answered to {0} with something else")]
    Unexpected(&'static str),
    /// A request cannot be put into a message.
    #[error("a request to the helper cannot be sent: {0}")]
    Encode(#[from] EncodeError),
    /// The socket failed.
    #[error("the launch socket failed: {0}")]
    Socket(#[source] io::Error),
}

impl ClientError {
    /// Whose fault it is and what may help; errors of the connection count as the site's, for the moment.
    #[must_use]
    pub const fn class(&self) -> RefusalClass {
        match self {
            Self::Refused(refusal) => refusal.class,
            Self::Spawn { .. } | Self::Version(_) => RefusalClass::SitePermanent,
            _ => RefusalClass::SiteTransient,
        }
    }

    /// The stable code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            _ => None,
        }
    }
}

/// What came from the broker.
#[derive(Debug)]
pub struct Heard {
    /// Which request it answers.
    pub id: u32,
    /// The answer.
    pub answer: Answer,
    /// What came beside it: with [`Answer::Spawned`] the agent's socket.
    pub descriptor: Option<OwnedFd>,
}

/// A broker that runs. When this is dropped it kills every payload, cleans up and ends.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    /// Taken away first when it ends.
    socket: Option<Socket>,
    child: Child,
    stderr: Option<ChildStderr>,
    next_id: u32,
    events: VecDeque<Answer>,
    replies: VecDeque<Heard>,
    /// What it said before it went.
    last_word: Option<Refusal>,
}

impl Client {
    /// Starts a broker and says hello.
    ///
    /// # Errors
    /// When it cannot be started, refuses its caller or its configuration, or speaks another version.
    pub fn start(launcher: &Launcher) -> Result<(Self, Hello), ClientError> {
        let (socket, theirs) = pair().map_err(ClientError::Socket)?;
        let mut program = Program::new(&launcher.program);
        program
            .args(&launcher.arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some((uid, gid)) = launcher.account {
            // Root's other groups go with it.
            program.uid(uid).gid(gid);
        }
        sys::pass_control_descriptor(&mut program, theirs);
        let spawned = program.spawn();
        // It holds the other end of the socket until here; without this the end of the broker goes unseen.
        drop(program);
        let mut child = spawned.map_err(|source| ClientError::Spawn {
            path: launcher.program.clone(),
            source,
        })?;
        let mut client = Self {
            path: launcher.program.clone(),
            socket: Some(socket),
            stderr: child.stderr.take(),
            child,
            next_id: 0,
            events: VecDeque::new(),
            replies: VecDeque::new(),
            last_word: None,
        };
        match client.ask(Command::Hello { version: VERSION }, None)? {
            (Answer::Hello(hello), _) if hello.version == VERSION => Ok((client, hello)),
            (Answer::Hello(hello), _) => Err(ClientError::Version(hello.version)),
            _ => Err(ClientError::Unexpected("hello")),
        }
    }

    /// Which program it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its process number, for those who look at it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a request and does not wait for its answer; gives its number.
    ///
    /// # Errors
    /// The connection's.
    pub fn submit(
        &mut self,
        command: Command,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<u32, ClientError> {
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let id = self.next_id;
        let packet = Request { id, command }.encode()?;
        let Some(socket) = &self.socket else {
            return Err(self.farewell());
        };
        match socket.send(&packet, descriptor.as_slice(), deadline(REQUEST_LIMIT)) {
            Ok(()) => Ok(id),
            Err(error) if is_disconnect(&error) => Err(self.drain()),
            Err(error) => Err(broken(error, REQUEST_LIMIT)),
        }
    }

    /// The next answer to whatever was submitted; a refusal is one.
    ///
    /// # Errors
    /// The connection's, and [`ClientError::Timeout`].
    pub fn receive(&mut self, within: Duration) -> Result<Heard, ClientError> {
        let until = deadline(within);
        loop {
            if let Some(heard) = self.replies.pop_front() {
                return Ok(heard);
            }
            self.read(until, within)?;
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`], else the connection's.
    pub fn ask(
        &mut self,
        command: Command,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(Answer, Option<OwnedFd>), ClientError> {
        let id = self.submit(command, descriptor)?;
        let until = deadline(REQUEST_LIMIT);
        loop {
            if let Some(index) = self.replies.iter().position(|heard| heard.id == id)
                && let Some(heard) = self.replies.remove(index)
            {
                return match heard.answer {
                    Answer::Refused(refusal) => Err(ClientError::Refused(refusal)),
                    answer => Ok((answer, heard.descriptor)),
                };
            }
            self.read(until, REQUEST_LIMIT)?;
        }
    }

    /// Has a credential verified and mapped: an account, a sandbox and a process group.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn open(
        &mut self,
        command: Command,
        credential: BorrowedFd<'_>,
    ) -> Result<Opened, ClientError> {
        match self.ask(command, Some(credential))? {
            (Answer::Opened(opened), _) => Ok(opened),
            _ => Err(ClientError::Unexpected("open")),
        }
    }

    /// Shows the pilot's own credential, for sites that want to see one.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn present(&mut self, credential: BorrowedFd<'_>) -> Result<(), ClientError> {
        match self.ask(Command::Present, Some(credential))? {
            (Answer::Presented { .. }, _) => Ok(()),
            _ => Err(ClientError::Unexpected("present")),
        }
    }

    /// Starts the agent in a payload's sandbox, as its account.
    ///
    /// # Errors
    /// The broker's refusal, or what the agent says when it cannot enter the sandbox.
    pub fn agent(&mut self, payload: u32) -> Result<Agent, AgentError> {
        match self.ask(Command::SpawnAgent { payload }, None)? {
            (Answer::Spawned { .. }, Some(socket)) => Agent::greet(Socket::new(socket)),
            _ => Err(ClientError::Unexpected("spawn-agent").into()),
        }
    }

    /// Sends a signal; nothing happens if nobody is left to receive it.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn signal(
        &mut self,
        payload: u32,
        signal: i32,
        scope: SignalScope,
    ) -> Result<(), ClientError> {
        let command = Command::Signal {
            payload,
            signal,
            scope,
        };
        self.done("signal", command)
    }

    /// Kills every process of a payload; [`Answer::Empty`] follows.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn kill(&mut self, payload: u32) -> Result<(), ClientError> {
        self.done("kill", Command::Kill { payload })
    }

    /// What a payload has used so far.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn usage(&mut self, payload: u32) -> Result<Usage, ClientError> {
        match self.ask(Command::Usage { payload }, None)? {
            (Answer::Usage(usage), _) => Ok(usage),
            _ => Err(ClientError::Unexpected("usage")),
        }
    }

    /// Kills what is left of a payload, removes its sandbox, frees its account.
    ///
    /// # Errors
    /// What could not be removed, else the connection's.
    pub fn close(&mut self, payload: u32) -> Result<(), ClientError> {
        match self.ask(Command::Close { payload }, None)? {
            (Answer::Closed, _) => Ok(()),
            _ => Err(ClientError::Unexpected("close")),
        }
    }

    /// The next event; `None` when none comes within the time.
    ///
    /// # Errors
    /// The connection's.
    pub fn event(&mut self, within: Duration) -> Result<Option<Answer>, ClientError> {
        let until = deadline(within);
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.read(until, within) {
                Ok(()) => {}
                Err(ClientError::Timeout(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until no process of a payload is left. Gives the wait status of the process that was spawned last.
    ///
    /// # Errors
    /// [`ClientError::Timeout`], else the connection's.
    pub fn empty(&mut self, payload: u32, within: Duration) -> Result<Option<i32>, ClientError> {
        let until = deadline(within);
        let mut status = None;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.event(left)? {
                Some(Answer::Exited {
                    payload: whose,
                    wait_status,
                }) if whose == payload => status = Some(wait_status),
                Some(Answer::Empty { payload: whose }) if whose == payload => return Ok(status),
                Some(_) => {}
                None => return Err(ClientError::Timeout(within)),
            }
        }
    }

    /// Ends the broker and waits for its end; `false` if it does not end in time, and is left to itself.
    #[must_use = "a broker that does not end leaves something behind"]
    pub fn end(mut self, within: Duration) -> bool {
        self.socket = None;
        self.wait_for_end(within)
    }

    fn done(&mut self, what: &'static str, command: Command) -> Result<(), ClientError> {
        match self.ask(command, None)? {
            (Answer::Done, _) => Ok(()),
            _ => Err(ClientError::Unexpected(what)),
        }
    }

    /// Reads one packet and puts it where it belongs.
    fn read(&mut self, until: Instant, within: Duration) -> Result<(), ClientError> {
        let Some(socket) = &self.socket else {
            return Err(self.farewell());
        };
        let packet = match socket.receive(until) {
            Ok(Some(packet)) => packet,
            Ok(None) => return Err(self.farewell()),
            Err(error) => return Err(broken(error, within)),
        };
        let Reply { id, answer } = Reply::decode(&packet.bytes)?;
        match answer {
            Answer::Refused(refusal) if id == 0 => self.last_word = Some(refusal),
            answer if id == 0 => self.events.push_back(answer),
            answer => self.replies.push_back(Heard {
                id,
                answer,
                descriptor: packet.descriptors.into_iter().next(),
            }),
        }
        Ok(())
    }

    /// After a broken connection: what was said before.
    fn drain(&mut self) -> ClientError {
        let until = deadline(Duration::from_secs(1));
        loop {
            if let Err(error) = self.read(until, Duration::from_secs(1)) {
                return match error {
                    ClientError::Gone { .. } | ClientError::Refused(_) => error,
                    _ => self.farewell(),
                };
            }
        }
    }

    /// What a request ends with when the broker is gone.
    fn farewell(&mut self) -> ClientError {
        if let Some(refusal) = self.last_word.clone() {
            return ClientError::Refused(refusal);
        }
        let said = self.said();
        if said.is_empty()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            return ClientError::Gone {
                said: format!("nothing, and ended with {status}"),
            };
        }
        ClientError::Gone { said }
    }

    /// What the broker has said on its standard error, if it has ended: one line. Once only.
    pub fn said(&mut self) -> String {
        let mut said = Vec::new();
        if self.wait_for_end(Duration::from_secs(1))
            && let Some(stderr) = self.stderr.take()
        {
            // The helper's own helpers may hold the other end for as long as they like.
            let until = deadline(Duration::from_millis(200));
            let mut stderr = stderr.take(MAX_SAID);
            let mut buffer = [0; 1024];
            while wait(stderr.get_ref(), PollFlags::POLLIN, until).is_ok() {
                match stderr.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => said.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                }
            }
        }
        let said = String::from_utf8_lossy(&said);
        let words: Vec<&str> = said.split_whitespace().collect();
        words.join(" ")
    }

    fn wait_for_end(&mut self, within: Duration) -> bool {
        let until = deadline(within);
        loop {
            match self.child.try_wait() {
                Ok(Some(_)) | Err(_) => return true,
                Ok(None) if Instant::now() >= until => return false,
                // There is no descriptor that tells of its end on old kernels.
                Ok(None) => {
                    let _ = nix::poll::poll(&mut [], 2_u8);
                }
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.socket = None;
        // Clean-up kills and removes; whoever wants to know how it went calls `end`.
        self.wait_for_end(Duration::from_secs(5));
    }
}

/// An anonymous file with this content, to be handed over.
///
/// # Errors
/// When the system has no memory or descriptors left.
pub fn sealed(content: &[u8]) -> io::Result<OwnedFd> {
    use std::io::{Seek, Write};

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};

    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = std::fs::File::from(memfd_create("validation", flags)?);
    file.write_all(content)?;
    file.rewind()?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// The moment so far ahead.
pub(super) fn deadline(within: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(within).unwrap_or(now)
}

fn broken(error: io::Error, within: Duration) -> ClientError {
    if error.kind() == io::ErrorKind::TimedOut {
        ClientError::Timeout(within)
    } else {
        ClientError::Socket(error)
    }
}
