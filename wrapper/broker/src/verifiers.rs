//! Credentials on their way through the verifier. `sailplane-verify` stays as long as payloads are
//! expected; each credential gets a process of its own from it and a socket of its own to that, both
//! made ahead of need. See `launch_protocol::verdict`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use launch_protocol::broker::{Refusal, RefusalClass};
use launch_protocol::monitor::Ask;
use launch_protocol::policy::Party;
use launch_protocol::verdict::{MAX_VERDICT, NEW_VERIFIER, ONLY_VERIFIER, Verdict, VerifyRequest};
use nix::errno::Errno;

use crate::channel::{self, packet_sockets};
use crate::monitor::{CANNOT_START, Monitor};
use crate::names::DEADLINE;
use crate::refuse::{credential, helper, trouble, unix_now};

/// How long after the end of a socket to wait for the news that the whole program has ended.
const NEWS: Duration = Duration::from_secs(1);

/// Makes verifiers.
#[derive(Debug, Default)]
pub(crate) struct Verifiers {
    /// A single credential is expected: whoever verifies it need not stay for others.
    single: bool,
    /// The process that forks one for each credential: its number and our end of its socket.
    parent: Option<(i32, OwnedFd)>,
    /// How the last one has ended, until the next is started.
    ended: Option<i32>,
    /// The socket of one that nobody has used yet.
    warm: Option<OwnedFd>,
}

/// One credential being verified.
#[derive(Debug)]
pub(crate) struct Verification {
    socket: OwnedFd,
    silent: bool,
    deadline: Instant,
}

impl Verifiers {
    /// `single`: one credential is expected, and no other.
    pub(crate) fn new(single: bool) -> Self {
        Self {
            single,
            ..Self::default()
        }
    }

    /// Should one be made ahead of need? Not after one has died unasked.
    pub(crate) fn is_cold(&self) -> bool {
        self.warm.is_none() && self.ended.is_none()
    }

    /// Makes one ahead of need. Whoever asks will be told why it cannot be.
    pub(crate) fn warm_up(&mut self, monitor: &Monitor) {
        self.warm = self.make(monitor).ok();
    }

    /// Is something waiting?
    pub(crate) fn is_warm(&self) -> bool {
        self.parent.is_some()
    }

    /// Somebody will ask soon, so it may be started again even if the last one has died unasked.
    pub(crate) fn expect_use(&mut self) {
        self.ended = None;
    }

    /// Takes everything down: it ends with its socket.
    pub(crate) fn cool_down(&mut self) {
        self.warm = None;
        self.parent = None;
    }

    /// Takes note that a child has been reaped; true if it was this one.
    pub(crate) fn reaped(&mut self, child: i32, status: i32) -> bool {
        let ours = self.parent.as_ref().is_some_and(|(its, _)| *its == child);
        if ours {
            self.parent = None;
            self.ended = Some(if self.single && status != NEVER_BEGUN {
                WITHOUT_WORD
            } else {
                status
            });
        }
        ours
    }

    /// Gives a credential to a verifier.
    pub(crate) fn verify(
        &mut self,
        request: VerifyRequest,
        credential: BorrowedFd<'_>,
        monitor: &Monitor,
    ) -> Result<Verification, Refusal> {
        let failed = |errno: Errno| {
            let text = format!("starting the verifier: {}", errno.desc());
            trouble("verifier.start", text)
        };
        let packet = request.encode().map_err(|_| failed(Errno::EMSGSIZE))?;
        let hand_over =
            |socket: &OwnedFd| channel::transmit(socket.as_fd(), &packet, &[credential]);
        let socket = match self.warm.take().filter(|warm| hand_over(warm).is_ok()) {
            Some(warm) => warm,
            None => {
                let fresh = self.make(monitor)?;
                hand_over(&fresh).map_err(failed)?;
                fresh
            }
        };
        Ok(Verification {
            socket,
            silent: false,
            deadline: Instant::now() + DEADLINE,
        })
    }

    /// Our end of the socket of a verifier to be. It need not be there yet to be spoken to.
    fn make(&mut self, monitor: &Monitor) -> Result<OwnedFd, Refusal> {
        let failed = |errno: Errno| {
            let text = format!("starting the verifier: {}", errno.desc());
            trouble("verifier.start", text)
        };
        let (ours, theirs) = packet_sockets().map_err(failed)?;
        let packet = if self.single {
            ONLY_VERIFIER
        } else {
            NEW_VERIFIER
        };
        if let Some((child, parent)) = self.parent.as_ref().filter(|_| !self.single) {
            match channel::transmit(parent.as_fd(), packet, &[theirs.as_fd()]) {
                Err(Errno::EPIPE | Errno::ECONNRESET) => {
                    let child = *child;
                    self.parent = None;
                    monitor.signal(child, libc::SIGKILL);
                    self.ended = monitor.wait_for(child, NEWS);
                }
                other => return other.map(|()| ours).map_err(failed),
            }
        }
        let (child, parent) = monitor.start(&Ask::Verifier)?;
        self.ended = None;
        let sent = channel::transmit(parent.as_fd(), packet, &[theirs.as_fd()]);
        self.parent = Some((child, parent));
        sent.map(|()| ours).map_err(failed)
    }
}

impl Verification {
    /// What to poll; nothing once the socket has nothing more to say.
    pub(crate) fn source(&self) -> Option<BorrowedFd<'_>> {
        (!self.silent).then(|| self.socket.as_fd())
    }

    /// When the verdict must be there.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The verdict, or the refusal that stands for a missing one; `None`: not yet. `buffer`: of
    /// [`BUFFER`] bytes.
    pub(crate) fn advance(
        &mut self,
        verifiers: &Verifiers,
        buffer: &mut [u8],
        now: Instant,
    ) -> Option<Result<Party, Refusal>> {
        if !self.silent {
            match channel::hear(self.socket.as_fd(), buffer) {
                Some(Ok(packet)) => return Some(judge(packet)),
                Some(Err(_)) => {
                    self.silent = true;
                    self.deadline = self.deadline.min(now + NEWS);
                }
                None if now >= self.deadline => {
                    let seconds = DEADLINE.as_secs();
                    let text = format!("the credential was not verified within {seconds} seconds");
                    let class = RefusalClass::SiteTransient;
                    return Some(Err(credential(class, "verifier.timeout", text, true)));
                }
                None => return None,
            }
        }
        let ended = verifiers.ended;
        (ended.is_some() || now >= self.deadline).then(|| Err(no_verdict(ended)))
    }
}

/// Wait status of a verifier that never was one.
const NEVER_BEGUN: i32 = (CANNOT_START as i32) << 8;

/// Stands for the end of one that was the only one: why it has not said anything is the credential's affair, as with
/// the process that has one of several.
const WITHOUT_WORD: i32 = 0;

/// What is needed to read a verdict: one byte more than the longest, so that too long a one shows.
pub(crate) const BUFFER: usize = MAX_VERDICT + 1;

fn judge(packet: &[u8]) -> Result<Party, Refusal> {
    match Verdict::decode(packet) {
        Ok(Verdict::Accepted { not_after, .. }) if not_after <= unix_now() => {
            let text = "the credential has expired; renew it".to_owned();
            Err(credential(RefusalClass::Job, "proxy.expired", text, false))
        }
        Ok(Verdict::Accepted {
            id: _,
            kind,
            identity,
            fqans,
            issuers,
            not_after,
            limited,
        }) => Ok(Party {
            kind,
            identity,
            fqans,
            issuers,
            limited,
            not_after,
        }),
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
            let text = format!("the verifier's answer cannot be read: {error}");
            let class = RefusalClass::SitePermanent;
            Err(helper(class, "verifier.answer", text, false))
        }
    }
}

/// `ended`: how the parent of all verifiers has ended, if it has.
fn no_verdict(ended: Option<i32>) -> Refusal {
    match ended {
        None | Some(WITHOUT_WORD) => {
            let text = "the verifier ended without a verdict, so the credential counts as bad";
            let class = RefusalClass::Job;
            credential(class, "verifier.died", text.to_owned(), false)
        }
        Some(NEVER_BEGUN) => {
            let text = "sailplane-verify cannot be started; check that it is installed and \
                        executable for all";
            let class = RefusalClass::SitePermanent;
            helper(class, "verifier.missing", text.to_owned(), false)
        }
        Some(status) => {
            let text = format!("sailplane-verify ended unexpectedly (wait status {status:#x})");
            helper(RefusalClass::SiteTransient, "verifier.ended", text, true)
        }
    }
}
