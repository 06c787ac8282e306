//! Programs of the site that run before and after each payload: as an account that is not root, in a
//! group of their own, for so long and no longer.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use launch_protocol::broker::{Refusal, RefusalClass};
use launch_protocol::monitor::{Ask, Which};
use launch_protocol::policy;
use nix::unistd::read;

use crate::monitor::{CANNOT_START, Monitor, exit_status};
use crate::refuse::helper;

/// Exit status for "not now" (`EX_TEMPFAIL` of `sysexits.h`).
const NOT_NOW: u8 = 75;
/// How often to look for what a hook has left running.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Longest message taken from a hook, bytes.
const MESSAGE: usize = 512;

/// A hook that runs.
#[derive(Debug)]
pub(crate) struct Running {
    which: Which,
    program: String,
    /// By which the monitor knows it.
    number: u32,
    child: i32,
    said: OwnedFd,
    deadline: Instant,
    late: bool,
    ended: Option<i32>,
}

impl Running {
    /// Starts it. `facts` become its environment, `SAILPLANE_NAME=value` each.
    pub(crate) fn start(
        monitor: &Monitor,
        number: u32,
        which: Which,
        hook: &policy::Hook,
        facts: &[(&str, &str)],
    ) -> Result<Self, Refusal> {
        let facts = facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let (child, said) = monitor.start(&Ask::Hook {
            payload: number,
            which,
            facts,
        })?;
        Ok(Self {
            which,
            program: hook.program.display().to_string(),
            number,
            child,
            said,
            deadline: Instant::now() + Duration::from_secs(hook.timeout.into()),
            late: false,
            ended: None,
        })
    }

    /// Takes note that a child has been reaped; true if it was this one.
    pub(crate) fn reaped(&mut self, child: i32, status: i32) -> bool {
        let ours = self.ended.is_none() && self.child == child;
        if ours {
            self.ended = Some(status);
        }
        ours
    }

    /// When to look again even if nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Instant {
        match self.ended {
            None if !self.late => self.deadline,
            _ => now + LOOK_AGAIN,
        }
    }

    /// Goes as far as it can now; `None`: it still runs, or something that it has started.
    pub(crate) fn advance(
        &mut self,
        monitor: &Monitor,
        now: Instant,
    ) -> Option<Result<(), Refusal>> {
        self.late |= self.ended.is_none() && now >= self.deadline;
        if self.ended.is_none() && !self.late {
            return None;
        }
        self.kill(monitor);
        let status = self.ended?;
        let payload = self.number;
        monitor.order(&Ask::Bury { payload }).ok()?;
        let (why, later) = match exit_status(status) {
            _ if self.late => ("it has run longer than it may".to_owned(), false),
            Some(0) => return Some(Ok(())),
            Some(CANNOT_START) => ("it cannot be started".to_owned(), false),
            Some(code) => (format!("status {code}{}", self.message()), code == NOT_NOW),
            None => (format!("it was killed by signal {}", status & 0x7f), false),
        };
        Some(Err(refusal(self.which, &self.program, &why, later)))
    }

    /// Kills it and what it has started.
    pub(crate) fn kill(&self, monitor: &Monitor) {
        let payload = self.number;
        let _ = monitor.order(&Ask::Kill { payload });
    }

    /// The first line of what it has said on standard error.
    fn message(&self) -> String {
        let mut text = [0; MESSAGE];
        let length = read(&self.said, &mut text).unwrap_or(0);
        let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default());
        let line: String = text
            .lines()
            .next()
            .unwrap_or_default()
            .escape_debug()
            .collect();
        if line.is_empty() {
            line
        } else {
            format!(": {line}")
        }
    }
}

fn refusal(which: Which, program: &str, why: &str, later: bool) -> Refusal {
    let class = if later {
        RefusalClass::SiteTransient
    } else {
        RefusalClass::SitePermanent
    };
    let what = which.word();
    let message = format!("the site's {what} {program} has failed: {why}");
    helper(class, &format!("hook.{what}"), message, later)
}
