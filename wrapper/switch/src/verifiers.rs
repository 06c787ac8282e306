//! Verifier processes: one waits ahead of need, the others are made when several are needed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use launch_protocol::verdict::{RefusalClass, Verdict};
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::channel;
use crate::refuse::{self, credential, helper};
use crate::spawn::{self, CANNOT_START, Started};
use crate::sys;
use launch_protocol::broker::Refusal;

/// How long a verdict may take (requirement S20).
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Starts verifiers.
#[derive(Debug)]
pub(crate) struct Verifiers {
    program: PathBuf,
    certdir: PathBuf,
    warm: Option<Started>,
    /// A warm one died unused; do not start the next before somebody asks.
    spoiled: bool,
}

/// One credential being verified.
#[derive(Debug)]
pub(crate) struct Verification {
    socket: OwnedFd,
    pid: Pid,
    /// Wait status, once reaped.
    ended: Option<i32>,
    silent: bool,
    deadline: Instant,
}

impl Verifiers {
    pub(crate) fn new(program: PathBuf, certdir: PathBuf) -> Self {
        Self {
            program,
            certdir,
            warm: None,
            spoiled: false,
        }
    }

    /// Should one be started ahead of need?
    pub(crate) fn is_cold(&self) -> bool {
        self.warm.is_none() && !self.spoiled
    }

    /// Starts one ahead of need.
    pub(crate) fn warm_up(&mut self, null: BorrowedFd<'_>) {
        if self.is_cold() {
            self.warm = spawn::verifier(&self.program, &self.certdir, null).ok();
            // Whoever asks will be told why.
            self.spoiled = self.warm.is_none();
        }
    }

    /// Somebody will ask soon.
    pub(crate) fn expect_use(&mut self) {
        self.spoiled = false;
    }

    /// Is one waiting?
    pub(crate) fn is_warm(&self) -> bool {
        self.warm.is_some()
    }

    /// Takes the waiting one down. Reaped later, like any other child.
    pub(crate) fn cool_down(&mut self) {
        if let Some(warm) = self.warm.take() {
            let _ = sys::kill(warm.pid.as_raw(), libc::SIGKILL);
        }
    }

    /// Gives a credential to a verifier.
    pub(crate) fn verify(
        &mut self,
        credential: BorrowedFd<'_>,
        null: BorrowedFd<'_>,
        now: Instant,
    ) -> Result<Verification, Errno> {
        self.spoiled = false;
        if let Some(warm) = self.warm.take() {
            if channel::hand_over(warm.socket.as_fd(), credential).is_ok() {
                return Ok(Verification::new(warm, now));
            }
            // Died while waiting; its end is on its way.
            let _ = sys::kill(warm.pid.as_raw(), libc::SIGKILL);
        }
        let fresh = spawn::verifier(&self.program, &self.certdir, null)?;
        let verification = Verification::new(fresh, now);
        channel::hand_over(verification.as_fd(), credential)?;
        Ok(verification)
    }

    /// Takes note that a child has been reaped; true if it was the warm one.
    pub(crate) fn reaped(&mut self, child: Pid) -> bool {
        let ours = self.warm.as_ref().is_some_and(|warm| warm.pid == child);
        if ours {
            self.warm = None;
            self.spoiled = true;
        }
        ours
    }
}

impl AsFd for Verification {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Verification {
    fn new(Started { pid, socket }: Started, now: Instant) -> Self {
        Self {
            socket,
            pid,
            ended: None,
            silent: false,
            deadline: now + DEADLINE,
        }
    }

    /// When the verdict must be there.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes note that a child has been reaped; true if it was this one.
    pub(crate) fn reaped(&mut self, child: Pid, status: i32) -> bool {
        let ours = self.ended.is_none() && self.pid == child;
        if ours {
            self.ended = Some(status);
        }
        ours
    }

    /// False once the socket has nothing more to say.
    pub(crate) fn is_open(&self) -> bool {
        !self.silent
    }

    /// The verdict, or the refusal that stands for a missing one; `None`: not yet.
    pub(crate) fn advance(&mut self, now: Instant) -> Option<Result<Accepted, Refusal>> {
        if !self.silent {
            match channel::hear(self.as_fd()) {
                Some(Ok(packet)) => return Some(judge(&packet)),
                Some(Err(_)) => {
                    self.silent = true;
                    self.kill();
                }
                None if now >= self.deadline => {
                    let message = format!(
                        "the credential was not verified within {} seconds",
                        DEADLINE.as_secs()
                    );
                    return Some(Err(credential(
                        RefusalClass::SiteTransient,
                        "verifier.timeout",
                        message,
                        true,
                    )));
                }
                None => return None,
            }
        }
        self.ended.map(|status| Err(ended_without_verdict(status)))
    }

    fn kill(&self) {
        if self.ended.is_none() {
            // Not reaped, so the number is still the verifier's.
            let _ = sys::kill(self.pid.as_raw(), libc::SIGKILL);
        }
    }
}

impl Drop for Verification {
    fn drop(&mut self) {
        // It has said what it had to say. Reaped later, like any other child.
        self.kill();
    }
}

/// An accepted credential.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) identity: String,
    pub(crate) not_after: i64,
    pub(crate) limited: bool,
}

fn judge(packet: &[u8]) -> Result<Accepted, Refusal> {
    match Verdict::decode(packet) {
        Ok(Verdict::Accepted {
            identity,
            not_after,
            limited,
            ..
        }) => {
            if not_after <= refuse::unix_now() {
                let message = "the credential has expired; renew it".to_owned();
                return Err(credential(
                    RefusalClass::Job,
                    "proxy.expired",
                    message,
                    false,
                ));
            }
            Ok(Accepted {
                identity,
                not_after,
                limited,
            })
        }
        Ok(Verdict::Rejected {
            code,
            message,
            class,
            ..
        }) => {
            let later = class == RefusalClass::SiteTransient;
            Err(credential(class, &code, message, later))
        }
        Err(error) => {
            let message = format!("the verifier's answer cannot be read: {error}");
            Err(helper(
                RefusalClass::SitePermanent,
                "verifier.answer",
                message,
                false,
            ))
        }
    }
}

fn ended_without_verdict(status: i32) -> Refusal {
    if status == i32::from(CANNOT_START) << 8 {
        let message =
            "sailplane-verify cannot be started; check that it is installed and executable for all";
        return helper(
            RefusalClass::SitePermanent,
            "verifier.missing",
            message.to_owned(),
            false,
        );
    }
    let how = match status & 0x7f {
        0 => format!("exit status {}", status >> 8 & 0xff),
        signal => format!("signal {signal}"),
    };
    let message =
        format!("the verifier ended without a verdict ({how}), so the credential counts as bad");
    credential(RefusalClass::Job, "verifier.died", message, false)
}
