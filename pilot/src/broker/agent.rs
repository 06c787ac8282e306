//! The agent in the sandbox: opens files as the payload's account and hands over the descriptors.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use launch_protocol::agent::{Entry, Reply, Request};
use launch_protocol::exec::{ExecFailure, ExecRequest, MAX_EXEC_FAILURE};
use launch_protocol::{DecodeError, EncodeError};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::channel::{Channel, is_disconnect};
use super::{BrokerError, memfd};

/// How long the agent may take for one answer. It works on local disks; a hung file system is the site's failure.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Most entries of one directory that are listed; beyond it the job gets an error instead of the pilot all memory.
const MAX_ENTRIES: usize = 1_000_000;

/// Why the agent did not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The helper did not start it.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// It cannot enter the sandbox.
    #[error("the sandbox cannot be entered: {message}")]
    Trouble {
        /// Linux error number.
        errno: i32,
        /// Its own sentence.
        message: String,
    },
    /// One request failed.
    #[error("{}: {message} (errno {errno})", path.display())]
    Failed {
        /// What the request was about.
        path: PathBuf,
        /// Linux error number.
        errno: i32,
        /// Its own sentence.
        message: String,
    },
    /// It is gone.
    #[error("the agent in the sandbox is gone")]
    Gone,
    /// It did not answer in time.
    #[error("the agent in the sandbox did not answer within {} seconds", ANSWER_LIMIT.as_secs())]
    Timeout,
    /// It sent something that is not a message.
    #[error("the agent in the sandbox sent a malformed message")]
    Malformed(#[source] DecodeError),
    /// It sent a well-formed message that does not answer the request.
    #[error("the agent in the sandbox sent an answer to something else")]
    Unexpected,
    /// A directory has too many entries.
    #[error("{} has more than {MAX_ENTRIES} entries", path.display())]
    TooManyEntries {
        /// Which directory.
        path: PathBuf,
    },
    /// A request could not be put into a message.
    #[error("a request to the agent cannot be sent")]
    Encode(#[source] EncodeError),
    /// Its socket, or a descriptor for it, failed.
    #[error("the socket of the agent failed")]
    Socket(#[source] std::io::Error),
}

impl AgentError {
    /// The error number of a failed request, if that is what it is.
    #[must_use]
    pub const fn errno(&self) -> Option<i32> {
        match self {
            Self::Failed { errno, .. } | Self::Trouble { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// Why the payload does not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The agent could not become the payload and said why.
    #[error("{}", .0.message)]
    Failed(ExecFailure),
    /// The agent did not take the order.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// A live agent. Dropping it makes it exit. A request whose future is dropped is carried out all the same; its answer
/// is passed over by the next one.
#[derive(Debug)]
pub struct Agent {
    channel: Channel,
    /// Answers that have not come yet.
    owed: usize,
}

impl Agent {
    /// Waits for the agent's first word.
    pub(super) async fn greet(socket: OwnedFd) -> Result<Self, AgentError> {
        let mut agent = Self {
            channel: Channel::new(socket).map_err(AgentError::Socket)?,
            owed: 1,
        };
        match agent.answer().await? {
            (Reply::Ready, _) => Ok(agent),
            (Reply::Trouble { errno, message }, _) => Err(AgentError::Trouble { errno, message }),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// Makes one directory.
    ///
    /// # Errors
    /// [`AgentError::Failed`] with the system's error number, or the connection's.
    pub async fn make_dir(&mut self, path: &Path, mode: u32) -> Result<(), AgentError> {
        match self
            .ask(
                path,
                Request::MakeDir {
                    path: path.to_owned(),
                    mode,
                },
            )
            .await?
        {
            (Reply::Done, _) => Ok(()),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// Creates or empties a file, for writing.
    ///
    /// # Errors
    /// As [`Agent::make_dir`].
    pub async fn create(&mut self, path: &Path, mode: u32) -> Result<File, AgentError> {
        match self
            .ask(
                path,
                Request::Create {
                    path: path.to_owned(),
                    mode,
                },
            )
            .await?
        {
            (Reply::Opened, Some(descriptor)) => Ok(descriptor.into()),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// Sets the permission bits of a file or directory, not through a link.
    ///
    /// # Errors
    /// As [`Agent::make_dir`].
    pub async fn set_mode(&mut self, path: &Path, mode: u32) -> Result<(), AgentError> {
        match self
            .ask(
                path,
                Request::SetMode {
                    path: path.to_owned(),
                    mode,
                },
            )
            .await?
        {
            (Reply::Done, _) => Ok(()),
            _ => Err(AgentError::Unexpected),
        }
    }

    /// Opens a regular file for reading; gives its size and permission bits with it.
    ///
    /// # Errors
    /// As [`Agent::make_dir`].
    pub async fn open_read(&mut self, path: &Path) -> Result<(File, u64, u32), AgentError> {
        match self
            .ask(
                path,
                Request::OpenRead {
                    path: path.to_owned(),
                    follow: true,
                },
            )
            .await?
        {
            (Reply::OpenedRead { size, mode }, Some(descriptor)) => {
                Ok((descriptor.into(), size, mode))
            }
            _ => Err(AgentError::Unexpected),
        }
    }

    /// Lists a directory, in its own order.
    ///
    /// # Errors
    /// As [`Agent::make_dir`], and [`AgentError::TooManyEntries`].
    pub async fn list(&mut self, path: &Path) -> Result<Vec<Entry>, AgentError> {
        let mut all = Vec::new();
        let mut reply = self
            .ask(
                path,
                Request::List {
                    path: path.to_owned(),
                },
            )
            .await?;
        loop {
            let (Reply::Entries { entries, more }, _) = reply else {
                return Err(AgentError::Unexpected);
            };
            all.extend(entries);
            if all.len() > MAX_ENTRIES {
                return Err(AgentError::TooManyEntries {
                    path: path.to_owned(),
                });
            }
            if !more {
                return Ok(all);
            }
            reply = Self::checked(path, self.answer().await?)?;
        }
    }

    /// Makes the agent become the payload. Returns when the payload's program runs.
    ///
    /// # Errors
    /// [`ExecError::Failed`] names the file and the cause.
    pub async fn exec(
        mut self,
        request: &ExecRequest,
        stdio: [OwnedFd; 3],
    ) -> Result<(), ExecError> {
        let encoded = request.encode().map_err(AgentError::Encode)?;
        let request_file = memfd::sealed("exec-request", &encoded).map_err(AgentError::Socket)?;
        let packet = Request::Exec.encode().map_err(AgentError::Encode)?;
        let [stdin, stdout, stderr] = &stdio;
        let descriptors = [
            request_file.as_fd(),
            stdin.as_fd(),
            stdout.as_fd(),
            stderr.as_fd(),
        ];
        self.send(&packet, &descriptors).await?;
        let (Reply::ExecStarting, Some(pipe)) = Self::checked(&request.path, self.answer().await?)?
        else {
            return Err(AgentError::Unexpected.into());
        };
        // Our copies of the descriptors must not outlive the hand-over: a pipe's reader waits for every writer.
        drop((request_file, stdio));
        let pipe = pipe::Receiver::from_owned_fd(pipe).map_err(AgentError::Socket)?;
        let mut said = Vec::new();
        let limit = u64::try_from(MAX_EXEC_FAILURE).unwrap_or(u64::MAX);
        tokio::time::timeout(ANSWER_LIMIT, pipe.take(limit).read_to_end(&mut said))
            .await
            .map_err(|_| AgentError::Timeout)?
            .map_err(AgentError::Socket)?;
        if said.is_empty() {
            return Ok(());
        }
        Err(ExecError::Failed(
            ExecFailure::decode(&said).map_err(AgentError::Malformed)?,
        ))
    }

    async fn ask(
        &mut self,
        path: &Path,
        request: Request,
    ) -> Result<(Reply, Option<OwnedFd>), AgentError> {
        self.send(&request.encode().map_err(AgentError::Encode)?, &[])
            .await?;
        Self::checked(path, self.answer().await?)
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

    async fn send(
        &mut self,
        packet: &[u8],
        descriptors: &[std::os::fd::BorrowedFd<'_>],
    ) -> Result<(), AgentError> {
        while self.owed > 0 {
            self.answer().await?;
        }
        self.channel
            .send(packet, descriptors)
            .await
            .map_err(|error| {
                if is_disconnect(&error) {
                    AgentError::Gone
                } else {
                    AgentError::Socket(error)
                }
            })?;
        self.owed += 1;
        Ok(())
    }

    async fn answer(&mut self) -> Result<(Reply, Option<OwnedFd>), AgentError> {
        let packet = tokio::time::timeout(ANSWER_LIMIT, self.channel.receive())
            .await
            .map_err(|_| AgentError::Timeout)?
            .map_err(AgentError::Socket)?
            .ok_or(AgentError::Gone)?;
        let reply = Reply::decode(&packet.bytes).map_err(AgentError::Malformed)?;
        if !matches!(reply, Reply::Entries { more: true, .. }) {
            self.owed = self.owed.saturating_sub(1);
        }
        Ok((reply, packet.descriptors.into_iter().next()))
    }
}
