//! Programs of the site that run before and after each payload: as an account that is not root, in a
//! group of their own, for so long and no longer.

use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use launch_protocol::broker::{Refusal, RefusalClass};
use launch_protocol::policy;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Pid, getpid, pipe2, read};

use crate::cgroup::{Group, Tracking};
use crate::errands::exit_status;
use crate::refuse::helper;
use crate::spawn::{CANNOT_START, Errand, Identity};
use crate::sys;
use crate::trusted::{self, Kind};

/// Exit status for "not now" (`EX_TEMPFAIL` of `sysexits.h`).
const NOT_NOW: u8 = 75;
/// How often to look for what a hook has left running.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Longest message taken from a hook, bytes.
const MESSAGE: usize = 512;

/// A hook that runs.
#[derive(Debug)]
pub(crate) struct Running {
    /// `prologue` or `epilogue`
    what: &'static str,
    program: String,
    pid: Pid,
    group: Option<Group>,
    said: OwnedFd,
    deadline: Instant,
    late: bool,
    ended: Option<i32>,
}

impl Running {
    /// Starts it. `facts` become its environment, `SAILPLANE_NAME=value` each.
    pub(crate) fn start(
        what: &'static str,
        hook: &policy::Hook,
        who: Identity<'_>,
        tracking: &Tracking,
        null: BorrowedFd<'_>,
        facts: &[(&str, &str)],
    ) -> Result<Self, Refusal> {
        let program = hook.program.display().to_string();
        let refuse = |why: String| refusal(what, &program, &why, false);
        trusted::check(&hook.program, Kind::File).map_err(|error| refuse(error.to_string()))?;
        let variables = facts
            .iter()
            .map(|(name, value)| format!("SAILPLANE_{name}={value}"));
        let fixed = [
            "PATH=/usr/bin:/bin:/usr/sbin:/sbin".to_owned(),
            format!("SAILPLANE_HOOK={what}"),
        ];
        let environment = fixed.into_iter().chain(variables).map(CString::new);
        let environment: Vec<_> = environment.flatten().collect();
        let start = || -> Result<_, Errno> {
            let name = format!("sailplane-{}-{what}-{}", getpid(), unique());
            let mut group = match tracking.has_groups() {
                true => Some(tracking.create(&name)?),
                false => None,
            };
            // Not waiting, for either side.
            let (said, stderr) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
            let started = Errand {
                who,
                program: &hook.program,
                words: &[hook.program.as_os_str()],
                environment: &environment,
                descriptors: &[null, null, stderr.as_fd()],
                group: group.as_ref(),
                sees_parent: true,
            }
            .start();
            if let (Err(_), Some(group)) = (&started, &mut group) {
                let _ = group.remove();
            }
            Ok((started?, group, said))
        };
        let (pid, group, said) = start().map_err(|errno| refuse(errno.desc().to_owned()))?;
        Ok(Self {
            what,
            program,
            pid,
            group,
            said,
            deadline: Instant::now() + Duration::from_secs(hook.timeout.into()),
            late: false,
            ended: None,
        })
    }

    /// Takes note that a child has been reaped; true if it was this one.
    pub(crate) fn reaped(&mut self, child: Pid, status: i32) -> bool {
        let ours = self.ended.is_none() && self.pid == child;
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
    pub(crate) fn advance(&mut self, now: Instant) -> Option<Result<(), Refusal>> {
        self.late |= self.ended.is_none() && now >= self.deadline;
        if self.ended.is_none() && !self.late {
            return None;
        }
        self.kill();
        let status = self.ended?;
        if let Some(group) = &mut self.group
            && (group.is_populated() || group.remove().is_err())
        {
            return None;
        }
        let (why, later) = match exit_status(status) {
            _ if self.late => ("it has run longer than it may".to_owned(), false),
            Some(0) => return Some(Ok(())),
            Some(CANNOT_START) => ("it cannot be started".to_owned(), false),
            Some(code) => (format!("status {code}{}", self.message()), code == NOT_NOW),
            None => (format!("it was killed by signal {}", status & 0x7f), false),
        };
        Some(Err(refusal(self.what, &self.program, &why, later)))
    }

    /// Kills it and what it has started.
    pub(crate) fn kill(&mut self) {
        if let Some(group) = &mut self.group {
            group.kill();
        }
        if self.ended.is_none() {
            // Not reaped, so the number is its own, and its session's.
            let _ = sys::kill(-self.pid.as_raw(), libc::SIGKILL);
            let _ = sys::kill(self.pid.as_raw(), libc::SIGKILL);
        }
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

/// No two hooks of this broker have the same group.
fn unique() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

fn refusal(what: &'static str, program: &str, why: &str, later: bool) -> Refusal {
    let class = if later {
        RefusalClass::SiteTransient
    } else {
        RefusalClass::SitePermanent
    };
    let message = format!("the site's {what} {program} has failed: {why}");
    helper(class, &format!("hook.{what}"), message, later)
}
