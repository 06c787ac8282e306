//! Helpers without privilege that stay as long as they are needed: `sailplane-policy`, twice, and the
//! verifier. Each runs as nobody with a packet socket on descriptor 0. One that has died is started
//! again by the next who asks.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use launch_protocol::MAX_PACKET;
use launch_protocol::broker::{Refusal, RefusalClass};
use launch_protocol::policy::{Answer, Ask, Reply, Request};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::account::NOBODY;
use crate::channel;
use crate::refuse::{helper, trouble};
use crate::spawn::{CANNOT_START, Errand, Identity, Started, packet_sockets};
use crate::sys;

/// How long an answer may take (requirement S20).
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// One helper.
#[derive(Debug)]
pub(crate) struct Servant {
    program: PathBuf,
    words: Vec<String>,
    running: Option<Started>,
    /// How the last one has ended, until the next is started.
    ended: Option<i32>,
    serial: u32,
    /// Questions under way, and until when they must be answered.
    asked: BTreeMap<u32, Instant>,
    answers: BTreeMap<u32, Reply>,
}

impl Servant {
    /// Starts nothing yet.
    pub(crate) fn new(program: PathBuf, words: Vec<String>) -> Self {
        Self {
            program,
            words,
            running: None,
            ended: None,
            serial: 0,
            asked: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    fn start(&self, null: BorrowedFd<'_>) -> Result<Started, Errno> {
        let (socket, theirs) = packet_sockets()?;
        let words = self.words.iter().map(OsStr::new);
        let words: Vec<_> = self.program.file_name().into_iter().chain(words).collect();
        let pid = Errand {
            who: Identity {
                uid: NOBODY,
                gid: NOBODY,
                groups: &[],
            },
            program: &self.program,
            words: &words,
            environment: &[],
            descriptors: &[theirs.as_fd(), null, null],
            group: None,
            sees_parent: true,
        }
        .start()?;
        Ok(Started {
            pid,
            socket,
            numbers: None,
        })
    }

    /// Starts it before there is anything to ask.
    pub(crate) fn start_ahead(&mut self, null: BorrowedFd<'_>) -> Result<(), Errno> {
        self.running = Some(self.start(null)?);
        Ok(())
    }

    /// Sends a packet, to a new one if there is none or it does not listen.
    pub(crate) fn send(
        &mut self,
        packet: &[u8],
        beside: &[BorrowedFd<'_>],
        null: BorrowedFd<'_>,
    ) -> Result<(), Errno> {
        if let Some(running) = &self.running {
            match channel::transmit(running.socket.as_fd(), packet, beside) {
                Err(Errno::EPIPE | Errno::ECONNRESET) => self.stop(),
                other => return other,
            }
        }
        let fresh = self.start(null)?;
        self.ended = None;
        let sent = channel::transmit(fresh.socket.as_fd(), packet, beside);
        self.running = Some(fresh);
        sent
    }

    /// Asks; the answer is fetched with [`Self::take`].
    pub(crate) fn ask(
        &mut self,
        ask: Ask,
        beside: &[BorrowedFd<'_>],
        null: BorrowedFd<'_>,
    ) -> Result<u32, Refusal> {
        self.serial += 1;
        let id = self.serial;
        let packet = Request { id, ask }
            .encode()
            .map_err(|error| trouble("policy.ask", format!("asking sailplane-policy: {error}")))?;
        self.send(&packet, beside, null).map_err(|errno| {
            let text = format!("asking sailplane-policy: {}", errno.desc());
            trouble("policy.ask", text)
        })?;
        self.asked.insert(id, Instant::now() + DEADLINE);
        Ok(id)
    }

    /// What to poll while an answer is awaited.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'_>> {
        let running = self.running.as_ref()?;
        (!self.asked.is_empty()).then(|| running.socket.as_fd())
    }

    /// When to look again even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.asked.values().min().copied()
    }

    /// Takes in every answer that is there. One that says something else, or too late, is stopped.
    pub(crate) fn listen(&mut self, now: Instant) {
        while let Some(running) = &self.running {
            match channel::hear(running.socket.as_fd(), MAX_PACKET) {
                None => break,
                Some(Ok(packet)) => match Answer::decode(&packet) {
                    Ok(Answer { id, reply }) if self.asked.remove(&id).is_some() => {
                        self.answers.insert(id, reply);
                    }
                    _ => self.stop(),
                },
                Some(Err(_)) => self.stop(),
            }
        }
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            self.stop();
        }
    }

    /// The answer to a question, or the refusal that stands for a missing one; `None`: not yet.
    pub(crate) fn take(&mut self, id: u32) -> Option<Result<Reply, Refusal>> {
        match self.answers.remove(&id) {
            Some(Reply::Refused(refusal)) => Some(Err(refusal)),
            Some(reply) => Some(Ok(reply)),
            None if self.asked.contains_key(&id) => None,
            None => Some(Err(self.silence())),
        }
    }

    /// Waits for an answer: at start, and when the configuration has changed.
    pub(crate) fn wait(&mut self, id: u32) -> Result<Reply, Refusal> {
        loop {
            self.listen(Instant::now());
            if let Some(outcome) = self.take(id) {
                return outcome;
            }
            let left = self.deadline().map_or(Duration::ZERO, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let sources = self.source().map(|it| PollFd::new(it, PollFlags::POLLIN));
            // Interrupted or timed out: `listen` finds out.
            let _ = poll(&mut Vec::from_iter(sources), timeout);
        }
    }

    /// Takes note that a child has been reaped; true if it was this one.
    pub(crate) fn reaped(&mut self, child: Pid, status: i32) -> bool {
        let ours = self.running.as_ref().is_some_and(|it| it.pid == child);
        if ours {
            self.running = None;
            self.ended = Some(status);
            self.asked.clear();
        }
        ours
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// How the last one has ended, if that is known and no other has been started since.
    pub(crate) fn ended(&self) -> Option<i32> {
        self.ended
    }

    /// Lets it go: it ends with its socket, and is reaped later like any other child.
    pub(crate) fn dismiss(&mut self) {
        self.running = None;
        self.asked.clear();
    }

    /// Somebody will ask soon, so it may be started again even if the last one has died unasked.
    pub(crate) fn expect_use(&mut self) {
        self.ended = None;
    }

    /// Takes it down; what it has not answered stays unanswered.
    pub(crate) fn stop(&mut self) {
        if let Some(Started { pid, socket, .. }) = self.running.take() {
            // Without it the helper ends even if it could not be killed.
            drop(socket);
            // Not reaped, so the number is its own. If it was ending already, its status is kept.
            let _ = sys::kill(pid.as_raw(), libc::SIGKILL);
            self.ended = sys::wait_for(pid).ok();
        }
        self.asked.clear();
    }

    fn silence(&self) -> Refusal {
        let program = self.program.display();
        if self.ended == Some(i32::from(CANNOT_START) << 8) {
            let text = format!("{program} cannot be started; check that all can execute it");
            return helper(RefusalClass::SitePermanent, "policy.missing", text, false);
        }
        trouble("policy.silent", format!("{program} has not answered"))
    }
}
