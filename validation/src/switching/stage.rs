//! One payload in which the scenarios are played, one after the other.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use launch_protocol::broker::{Answer, Hello, Opened};
use launch_protocol::exec::ExecRequest;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;

use super::agent::AgentError;
use super::client::{Client, ClientError, deadline};
use super::policy::Account;
use super::socket::wait;

/// How long anything in here may take that should take milliseconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Most that is read of what a payload says, bytes.
const OUTPUT_MAX: usize = 512 * 1024;

/// A broker with one payload.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) client: Client,
    pub(super) hello: Hello,
    pub(super) opened: Opened,
    pub(super) credential: Vec<u8>,
    /// `EXECUTE`.
    pub(super) execute: PathBuf,
    /// Whose account payloads have to have.
    pub(super) account: Account,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ran {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// As `waitpid` gives it.
    pub(super) wait_status: Option<i32>,
}

/// A program that runs.
#[derive(Debug)]
pub(super) struct Running {
    /// What it says.
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    /// From the order to the signal that it runs.
    pub(super) started_in: Duration,
}

/// What a program says, read with deadlines.
#[derive(Debug)]
pub(super) struct Output(File);

/// What went wrong in a scenario.
#[derive(Debug, thiserror::Error)]
pub(super) enum StageError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("a pipe failed: {0}")]
    Pipe(#[from] io::Error),
}

impl Stage {
    /// The sandbox.
    pub(super) fn sandbox(&self) -> &Path {
        self.opened
            .sandbox
            .as_deref()
            .unwrap_or_else(|| Path::new("/"))
    }

    /// Starts a program as the payload.
    pub(super) fn start(
        &mut self,
        words: &[&str],
        variables: &[(&str, &str)],
        input: &[u8],
    ) -> Result<Running, StageError> {
        let agent = self.client.agent(self.opened.payload)?;
        let sandbox = self.sandbox().to_owned();
        let mut env: Vec<Vec<u8>> = variables
            .iter()
            .map(|(name, value)| format!("{name}={value}").into_bytes())
            .collect();
        env.push(b"PATH=/usr/local/bin:/usr/bin:/bin".to_vec());
        env.push([b"HOME=", sandbox.as_os_str().as_bytes()].concat());
        let request = ExecRequest {
            path: words.first().copied().unwrap_or("/bin/sh").into(),
            argv: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
            env,
            cwd: sandbox,
            umask: 0o022,
            ..ExecRequest::default()
        };
        let (stdin, mut feed) = io::pipe()?;
        let (stdout, to_stdout) = io::pipe()?;
        let (stderr, to_stderr) = io::pipe()?;
        // Less than a pipe holds, so that nobody waits.
        feed.write_all(input)?;
        drop(feed);
        let began = Instant::now();
        agent.exec(&request, [stdin.into(), to_stdout.into(), to_stderr.into()])?;
        Ok(Running {
            started_in: began.elapsed(),
            stdout: Output::new(stdout.into())?,
            stderr: Output::new(stderr.into())?,
        })
    }

    /// Runs a program to its end, and waits until nothing of it is left.
    pub(super) fn run(
        &mut self,
        words: &[&str],
        variables: &[(&str, &str)],
        input: &[u8],
    ) -> Result<Ran, StageError> {
        let mut running = self.start(words, variables, input)?;
        let stdout = running.stdout.rest()?;
        let stderr = running.stderr.rest()?;
        let wait_status = self.client.empty(self.opened.payload, PATIENCE)?;
        Ok(Ran {
            stdout,
            stderr,
            wait_status,
        })
    }

    /// Runs a line of shell.
    pub(super) fn shell(&mut self, line: &str) -> Result<Ran, StageError> {
        self.run(&["/bin/sh", "-c", line], &[], b"")
    }

    /// Kills what is there and waits for it to be gone; for the end of a scenario that failed in its middle.
    pub(super) fn settle(&mut self) {
        let payload = self.opened.payload;
        if self.client.kill(payload).is_ok()
            && self
                .client
                .usage(payload)
                .is_ok_and(|usage| usage.processes > 0)
        {
            let _ = self.client.empty(payload, PATIENCE);
        }
        // What is still to come of the last scenario must not be taken for the next one's.
        while matches!(
            self.client.event(Duration::from_millis(1)),
            Ok(Some(Answer::Exited { .. } | Answer::Empty { .. }))
        ) {}
    }
}

impl Output {
    fn new(pipe: OwnedFd) -> Result<Self, StageError> {
        let flags = fcntl(&pipe, FcntlArg::F_GETFL).map_err(io::Error::from)?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(&pipe, FcntlArg::F_SETFL(flags)).map_err(io::Error::from)?;
        Ok(Self(pipe.into()))
    }

    /// Everything until the last writer is gone.
    pub(super) fn rest(&mut self) -> io::Result<Vec<u8>> {
        self.until(PATIENCE, |_| false)
    }

    /// A line.
    pub(super) fn line(&mut self) -> io::Result<Vec<u8>> {
        self.until(PATIENCE, |bytes| bytes.ends_with(b"\n"))
    }

    /// Whether anything comes within a time; it is read.
    pub(super) fn says_something(&mut self, within: Duration) -> io::Result<bool> {
        match self.until(within, |bytes| !bytes.is_empty()) {
            Ok(bytes) => Ok(!bytes.is_empty()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads away what is there.
    pub(super) fn discard(&mut self) {
        let mut buffer = [0; 4096];
        while matches!(self.0.read(&mut buffer), Ok(count) if count > 0) {}
    }

    fn until(
        &mut self,
        within: Duration,
        is_enough: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Vec<u8>> {
        let until = deadline(within);
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        while bytes.len() < OUTPUT_MAX && !is_enough(&bytes) {
            match self.0.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(&self.0, PollFlags::POLLIN, until)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }
}

impl Ran {
    /// Its words, for people: standard error if it said something there, else the status.
    pub(super) fn words(&self) -> String {
        let status = match self.wait_status {
            Some(status) if status & 0x7f == 0 => format!("exit status {}", (status >> 8) & 0xff),
            Some(status) => format!("killed by signal {}", status & 0x7f),
            None => "no exit status".to_owned(),
        };
        let said = String::from_utf8_lossy(&self.stderr);
        match said.lines().find(|line| !line.trim().is_empty()) {
            Some(line) => format!("{status}: {}", line.trim()),
            None => status,
        }
    }

    /// Whether it ended with status 0.
    pub(super) fn is_success(&self) -> bool {
        self.wait_status == Some(0)
    }
}
