//! Files that accounts put into their sandboxes while their payloads run: renewed credentials.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Instant;

use launch_protocol::broker::Refusal;
use launch_protocol::monitor::{Ask, Errand, Reply};

use crate::monitor::{DONE, Monitor, exit_status};
use crate::names::DEADLINE;
use crate::refuse::{caller, trouble};

/// Files being written at the same time, beside those of [`crate::opening`].
const MAX_AT_ONCE: usize = 64;

/// One file on its way, written by a process of the payload's account. The payload may hinder that process as it may
/// hinder any of its own, so there is an end to it.
#[derive(Debug)]
pub(crate) struct Writing {
    child: i32,
    /// The wait status, once reaped.
    ended: Option<i32>,
    deadline: Instant,
}

impl Writing {
    pub(crate) fn start(
        monitor: &Monitor,
        payload: u32,
        name: PathBuf,
        content: BorrowedFd<'_>,
    ) -> Result<Self, Refusal> {
        let ask = Ask::Errand {
            payload,
            errand: Errand::PutProxy { name },
        };
        match monitor.ask_with(&ask, &[content]) {
            Ok((Reply::Started { child }, _)) => Ok(Self {
                child,
                ended: None,
                deadline: Instant::now() + DEADLINE,
            }),
            Ok(_) => Err(monitor.confused()),
            Err(refusal) => Err(not_written(&refusal.message)),
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes note that a child has been reaped; true if it was this one's.
    pub(crate) fn reaped(&mut self, child: i32, status: i32) -> bool {
        let is_ours = self.child == child;
        if is_ours {
            self.ended = Some(status);
        }
        is_ours
    }

    /// How it went; `None`: it is still going on.
    pub(crate) fn outcome(&self, monitor: &Monitor, now: Instant) -> Option<Result<(), Refusal>> {
        match self.ended.map(exit_status) {
            Some(Some(DONE)) => Some(Ok(())),
            Some(_) => Some(Err(not_written(
                "the account cannot write it there, because of its quota, a full disk, or what its payload did to \
                 the place",
            ))),
            None if now >= self.deadline => {
                self.stop(monitor);
                Some(Err(not_written("it took too long")))
            }
            None => None,
        }
    }

    fn stop(&self, monitor: &Monitor) {
        monitor.signal(self.child, libc::SIGKILL);
    }
}

fn not_written(why: &str) -> Refusal {
    let text = format!("the renewed credential could not be put into the sandbox: {why}");
    trouble("renew.write", text)
}

/// What a pilot has asked to be written by itself, without a credential to be verified before.
#[derive(Debug)]
pub(crate) struct Replacement {
    /// The pilot's request.
    pub(crate) request: u32,
    pub(crate) payload: u32,
    /// The file's name, for the log.
    pub(crate) file: String,
    writing: Writing,
}

/// Those under way.
#[derive(Debug, Default)]
pub(crate) struct Replacements(Vec<Replacement>);

impl Replacements {
    pub(crate) fn start(
        &mut self,
        monitor: &Monitor,
        request: u32,
        (payload, file): (u32, PathBuf),
        content: Option<OwnedFd>,
    ) -> Result<(), Refusal> {
        let content =
            content.ok_or_else(|| caller("replace.content", "no content came with the request"))?;
        if self.0.len() >= MAX_AT_ONCE {
            let text = "too many files are being written at once";
            return Err(trouble("replace.busy", text.to_owned()));
        }
        let name = file.display().to_string();
        let writing = Writing::start(monitor, payload, file, content.as_fd())?;
        self.0.push(Replacement {
            request,
            payload,
            file: name,
            writing,
        });
        Ok(())
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|it| it.writing.deadline()).min()
    }

    /// Takes note that a child has been reaped; true if it was one of these.
    pub(crate) fn reaped(&mut self, child: i32, status: i32) -> bool {
        self.0.iter_mut().any(|it| it.writing.reaped(child, status))
    }

    /// One that has come to its end, and how.
    pub(crate) fn next_done(
        &mut self,
        monitor: &Monitor,
        now: Instant,
    ) -> Option<(Replacement, Result<(), Refusal>)> {
        let (index, outcome) = self.0.iter().enumerate().find_map(|(index, it)| {
            let outcome = it.writing.outcome(monitor, now)?;
            Some((index, outcome))
        })?;
        Some((self.0.swap_remove(index), outcome))
    }

    /// Nothing is written any more for a payload whose sandbox is to go.
    pub(crate) fn stop_all_of(&self, payload: u32, monitor: &Monitor) {
        for it in self.0.iter().filter(|it| it.payload == payload) {
            it.writing.stop(monitor);
        }
    }
}
