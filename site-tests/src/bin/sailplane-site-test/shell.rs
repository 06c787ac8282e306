//! A payload that is a shell script, and the pipes to it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use launch_protocol::exec::ExecRequest;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use validation::switching::agent::AgentError;
use validation::switching::client::Client;

/// The other ends of a payload's standard streams.
#[derive(Debug)]
pub(super) struct Running {
    /// To it.
    pub(super) input: File,
    /// From it.
    pub(super) output: Lines,
    /// What it complains about.
    pub(super) errors: Lines,
}

/// A pipe that is read with a deadline.
#[derive(Debug)]
pub(super) struct Lines {
    pipe: File,
    read: Vec<u8>,
}

/// Variables of the scripts.
const ENVIRONMENT: [&[u8]; 2] = [b"PATH=/usr/bin:/bin", b"GREETING=good morning"];

/// Starts the agent of a payload and makes it become the shell. Returns when the shell runs.
pub(super) fn start(
    client: &mut Client,
    payload: u32,
    script: &str,
) -> Result<Running, AgentError> {
    become_program(client, payload, "/bin/sh", &["sh", "-c", script])
}

/// The same with any program.
pub(super) fn become_program(
    client: &mut Client,
    payload: u32,
    program: &str,
    words: &[&str],
) -> Result<Running, AgentError> {
    let agent = client.agent(payload)?;
    let request = ExecRequest {
        path: PathBuf::from(program),
        argv: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
        env: ENVIRONMENT.iter().map(|one| one.to_vec()).collect(),
        umask: 0o022,
        ..ExecRequest::default()
    };
    let pipe = || std::io::pipe().map_err(AgentError::Socket);
    let ((its_input, input), (output, its_output), (errors, its_errors)) =
        (pipe()?, pipe()?, pipe()?);
    agent.exec(
        &request,
        [its_input.into(), its_output.into(), its_errors.into()],
    )?;
    let lines = |pipe: OwnedFd| Lines {
        pipe: pipe.into(),
        read: Vec::new(),
    };
    Ok(Running {
        input: OwnedFd::from(input).into(),
        output: lines(output.into()),
        errors: lines(errors.into()),
    })
}

impl Running {
    /// Gives the payload something to read, and no more.
    pub(super) fn say(self, text: &str) -> (Lines, Lines) {
        let mut input = self.input;
        // Fits into the pipe; a payload that does not listen is noticed elsewhere.
        let _ = input.write_all(text.as_bytes());
        (self.output, self.errors)
    }
}

impl Lines {
    /// The next line, without its end; `None` if there is none in time, or none at all.
    pub(super) fn line(&mut self, within: Duration) -> Option<String> {
        let end = Instant::now() + within;
        loop {
            if let Some(place) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=place).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if !self.more(end) {
                return None;
            }
        }
    }

    /// All until the end of the pipe, or of the time.
    pub(super) fn rest(mut self, within: Duration) -> String {
        let end = Instant::now() + within;
        while self.read.len() < MOST && self.more(end) {}
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Whether nothing comes for so long. What came is forgotten.
    pub(super) fn is_quiet(&mut self, time: Duration) -> bool {
        self.read.clear();
        let quiet = !self.more(Instant::now() + time);
        self.read.clear();
        quiet
    }

    fn more(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut polled, timeout), Ok(1..)) {
            return false;
        }
        let mut buffer = [0; 4096];
        match self.pipe.read(&mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.read
                    .extend_from_slice(buffer.get(..count).unwrap_or_default());
                true
            }
        }
    }
}

/// Most that is kept of what a script says, bytes.
const MOST: usize = 64 * 1024;
