//! The agent in a sandbox: files of the payload's account, and the step that makes it the payload.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use launch_protocol::agent::{Reply, Request};
use launch_protocol::exec::{ExecFailure, ExecRequest, MAX_EXEC_FAILURE};
use launch_protocol::{DecodeError, EncodeError};
use nix::poll::PollFlags;

use super::client::{ClientError, deadline, sealed};
use super::socket::{Socket, is_disconnect, wait};

/// How long the agent may take for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Why the agent did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The broker did not start it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It cannot enter the sandbox.
    #[error("the sandbox cannot be entered: {message}")]
    Trouble {
        /// Linux error number.
        errno: i32,
        /// Its own sentence, which names directory, owner and mode.
        message: String,
    },
    /// One request failed.
    #[error("{}: {message}", path.display())]
    Failed {
        /// What it was about.
        path: PathBuf,
        /// Linux error number.
        errno: i32,
        /// Its own sentence.
        message: String,
    },
    /// It could not become the payload.
    #[error("{}: {}", .0.path.display(), .0.message)]
    Exec(ExecFailure),
    /// It is gone.
    #[error("the agent in the sandbox is gone")]
    Gone,
    /// It did not answer in time.
    #[error("the agent in the sandbox did not answer within {} s", ANSWER_LIMIT.as_secs())]
    Timeout,
    /// It sent something that is not a message.
    #[error("the agent in the sandbox sent a malformed message: {0}")]
    Malformed(#[from] DecodeError),
    /// It sent a message that does not answer the request.
    #[error("the agent in the sandbox answered something else")]
    Unexpected,
    /// A request cannot be put into a message.
    #[error("a request to the agent cannot be sent: {0}")]
    Encode(#[from] EncodeError),
    /// Its socket, or a descriptor for it, failed.
    #[error("the socket of the agent failed: {0}")]
    Socket(#[source] io::Error),
}

/// A process of the payload's account that works in its sandbox. Dropping it ends it.
#[derive(Debug)]
pub struct Agent {
    socket: Socket,
}

impl Agent {
    pub(super) fn greet(socket: Socket) -> Result<Self, AgentError> {
        let agent = Self { socket };
        match agent.answer()? {
            (Reply::Ready, _) => Ok(agent),
            (Reply::Trouble { errno, message }, _) => Err(AgentError::Trouble { errno, message }),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// Makes one directory.
    ///
    /// # Errors
    /// [`AgentError::Failed`], or the connection's.
    pub fn make_dir(&mut self, path: &Path, mode: u32) -> Result<(), AgentError> {
        let request = Request::MakeDir {
            path: path.to_owned(),
            mode,
        };
        match self.ask(path, &request)? {
            (Reply::Done, _) => Ok(()),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// Creates or empties a file, for writing.
    ///
    /// # Errors
    /// As [`Self::make_dir`].
    pub fn create(&mut self, path: &Path, mode: u32) -> Result<File, AgentError> {
        let request = Request::Create {
            path: path.to_owned(),
            mode,
        };
        match self.ask(path, &request)? {
            (Reply::Opened, Some(descriptor)) => Ok(descriptor.into()),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// As [`Self::make_dir`].
    pub fn open_read(&mut self, path: &Path) -> Result<File, AgentError> {
        let request = Request::OpenRead {
            path: path.to_owned(),
            follow: false,
        };
        match self.ask(path, &request)? {
            (Reply::OpenedRead { .. }, Some(descriptor)) => Ok(descriptor.into()),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// Removes a file or an empty directory.
    ///
    /// # Errors
    /// As [`Self::make_dir`].
    pub fn remove(&mut self, path: &Path) -> Result<(), AgentError> {
        let request = Request::Remove {
            path: path.to_owned(),
        };
        match self.ask(path, &request)? {
            (Reply::Done, _) => Ok(()),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// Becomes the payload. Returns when the payload's program runs: the end of a close-on-exec pipe says so, however long
    /// a helper in between lingers.
    ///
    /// # Errors
    /// [`AgentError::Exec`] says what could not be started and why.
    pub fn exec(self, request: &ExecRequest, stdio: [OwnedFd; 3]) -> Result<(), AgentError> {
        let file = sealed(&request.encode()?).map_err(AgentError::Socket)?;
        let packet = Request::Exec.encode()?;
        let [stdin, stdout, stderr] = &stdio;
        let descriptors = [file.as_fd(), stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        self.send(&packet, &descriptors)?;
        let (Reply::ExecStarting, Some(pipe)) = Self::checked(&request.path, self.answer()?)?
        else {
            return Err(AgentError::Unexpected);
        };
        // Our copies must not outlive the hand-over: a pipe's reader waits for every writer.
        drop((file, stdio));
        let said = read_to_end(pipe, MAX_EXEC_FAILURE)?;
        if said.is_empty() {
            return Ok(());
        }
        Err(AgentError::Exec(ExecFailure::decode(&said)?))
    }

    fn ask(&self, path: &Path, request: &Request) -> Result<(Reply, Option<OwnedFd>), AgentError> {
        self.send(&request.encode()?, &[])?;
        Self::checked(path, self.answer()?)
    }

    fn checked(
        path: &Path,
        reply: (Reply, Option<OwnedFd>),
    ) -> Result<(Reply, Option<OwnedFd>), AgentError> {
        match reply {
            (Reply::Failed { errno, message }, _) => Err(AgentError::Failed {
                path: path.to_owned(),
                errno,
                message,
            }),
            other => Ok(other),
        }
    }

    fn send(
        &self,
        packet: &[u8],
        descriptors: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<(), AgentError> {
        self.socket
            .send(packet, descriptors, deadline(ANSWER_LIMIT))
            .map_err(failed)
    }

    fn answer(&self) -> Result<(Reply, Option<OwnedFd>), AgentError> {
        let packet = self
            .socket
            .receive(deadline(ANSWER_LIMIT))
            .map_err(failed)?
            .ok_or(AgentError::Gone)?;
        let reply = Reply::decode(&packet.bytes)?;
        Ok((reply, packet.descriptors.into_iter().next()))
    }
}

/// Reads a pipe until its last writer has closed it.
fn read_to_end(pipe: OwnedFd, limit: usize) -> Result<Vec<u8>, AgentError> {
    let until = deadline(ANSWER_LIMIT);
    let mut pipe = File::from(pipe);
    let mut said = Vec::new();
    let mut buffer = [0; 1024];
    while said.len() < limit {
        wait(&pipe, PollFlags::POLLIN, until).map_err(failed)?;
        match pipe.read(&mut buffer).map_err(AgentError::Socket)? {
            0 => break,
            count => said.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
    Ok(said)
}

fn failed(error: io::Error) -> AgentError {
    if error.kind() == io::ErrorKind::TimedOut {
        AgentError::Timeout
    } else if is_disconnect(&error) {
        AgentError::Gone
    } else {
        AgentError::Socket(error)
    }
}
