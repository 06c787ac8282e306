//! Credentials on their way through the verifier. `sailplane-verify` stays as long as payloads are
//! expected; each credential gets a process of its own from it and a socket of its own to that, both
//! made ahead of need. See `launch_protocol::verdict`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use launch_protocol::verdict::{RefusalClass, Verdict};
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::channel;
use crate::config::NOBODY;
use crate::refuse::{self, credential, helper};
use crate::spawn::{self, CANNOT_START, Errand, Identity, Started};
use launch_protocol::broker::Refusal;

/// How long a verdict may take (requirement S20).
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// How long after the end of a socket to wait for the news that the whole program has ended.
const NEWS: Duration = Duration::from_millis(50);

/// Makes verifiers.
#[derive(Debug)]
pub(crate) struct Verifiers {
    program: PathBuf,
    certdir: PathBuf,
    /// The process that forks one for each credential.
    parent: Option<Started>,
    /// The socket of one that nobody has used yet.
    warm: Option<OwnedFd>,
    /// The parent died unasked; do not start it again before somebody asks.
    spoiled: bool,
}

/// One credential being verified.
#[derive(Debug)]
pub(crate) struct Verification {
    socket: OwnedFd,
    parent: Pid,
    /// Wait status of the parent, if that has died.
    ended: Option<i32>,
    silent: bool,
    deadline: Instant,
}

impl Verifiers {
    pub(crate) fn new(program: PathBuf, certdir: PathBuf) -> Self {
        Self {
            program,
            certdir,
            parent: None,
            warm: None,
            spoiled: false,
        }
    }

    /// Should one be made ahead of need?
    pub(crate) fn is_cold(&self) -> bool {
        self.warm.is_none() && !self.spoiled
    }

    /// Makes one ahead of need.
    pub(crate) fn warm_up(&mut self, null: BorrowedFd<'_>) {
        if self.is_cold() {
            self.warm = self.make(null).ok();
            // Whoever asks will be told why.
            self.spoiled = self.warm.is_none();
        }
    }

    /// Somebody will ask soon.
    pub(crate) fn expect_use(&mut self) {
        self.spoiled = false;
    }

    /// Is something waiting?
    pub(crate) fn is_warm(&self) -> bool {
        self.warm.is_some() || self.parent.is_some()
    }

    /// Takes everything down: each process ends with its socket. Reaped later, like any other child.
    pub(crate) fn cool_down(&mut self) {
        self.warm = None;
        self.parent = None;
    }

    /// Gives a credential to a verifier.
    pub(crate) fn verify(
        &mut self,
        credential: BorrowedFd<'_>,
        null: BorrowedFd<'_>,
        now: Instant,
    ) -> Result<Verification, Errno> {
        self.spoiled = false;
        if let Some(warm) = self.warm.take()
            && channel::hand_over(warm.as_fd(), credential).is_ok()
        {
            return Ok(self.verification(warm, now));
        }
        let fresh = self.make(null)?;
        channel::hand_over(fresh.as_fd(), credential)?;
        Ok(self.verification(fresh, now))
    }

    /// Our end of the socket of a verifier to be. It need not be there yet to be spoken to.
    fn make(&mut self, null: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let (ours, theirs) = spawn::packet_sockets()?;
        if let Some(parent) = &self.parent
            && channel::ask_verifier(parent.socket.as_fd(), theirs.as_fd()).is_ok()
        {
            return Ok(ours);
        }
        let (socket, child) = spawn::packet_sockets()?;
        let words = [OsStr::new("sailplane-verify"), self.certdir.as_os_str()];
        let pid = Errand {
            who: Identity {
                uid: NOBODY,
                gid: NOBODY,
                groups: &[],
            },
            program: &self.program,
            words: &words,
            environment: &[],
            descriptors: &[child.as_fd(), null, null],
            group: None,
            sees_parent: true,
        }
        .start()?;
        let parent = Started {
            pid,
            socket,
            numbers: None,
        };
        channel::ask_verifier(parent.socket.as_fd(), theirs.as_fd())?;
        self.parent = Some(parent);
        Ok(ours)
    }

    fn verification(&self, socket: OwnedFd, now: Instant) -> Verification {
        Verification {
            socket,
            parent: self.parent.as_ref().map_or(Pid::from_raw(0), |it| it.pid),
            ended: None,
            silent: false,
            deadline: now + DEADLINE,
        }
    }

    /// Takes note that a child has been reaped; true if it was ours.
    pub(crate) fn reaped(&mut self, child: Pid) -> bool {
        let ours = self
            .parent
            .as_ref()
            .is_some_and(|parent| parent.pid == child);
        if ours {
            self.cool_down();
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
    /// When the verdict must be there.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes note that a child has been reaped.
    pub(crate) fn reaped(&mut self, child: Pid, status: i32) {
        if self.parent == child {
            self.ended = Some(status);
        }
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
                    self.deadline = self.deadline.min(now + NEWS);
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
        (self.ended.is_some() || now >= self.deadline).then(|| Err(no_verdict(self.ended)))
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

/// `ended`: how the parent of all verifiers has ended, if it has.
fn no_verdict(ended: Option<i32>) -> Refusal {
    match ended {
        None => {
            let message = "the verifier ended without a verdict, so the credential counts as bad";
            credential(
                RefusalClass::Job,
                "verifier.died",
                message.to_owned(),
                false,
            )
        }
        Some(status) if status == i32::from(CANNOT_START) << 8 => {
            let message = "sailplane-verify cannot be started; check that it is installed and executable for all";
            let class = RefusalClass::SitePermanent;
            helper(class, "verifier.missing", message.to_owned(), false)
        }
        Some(status) => {
            let how = match status & 0x7f {
                0 => format!("exit status {}", status >> 8 & 0xff),
                signal => format!("signal {signal}"),
            };
            let message = format!("sailplane-verify ended unexpectedly ({how})");
            helper(RefusalClass::SiteTransient, "verifier.ended", message, true)
        }
    }
}
