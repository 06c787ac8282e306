//! Credentials on their way through the verifier. `sailplane-verify` stays as long as payloads are
//! expected; each credential gets a process of its own from it and a socket of its own to that, both
//! made ahead of need. See `launch_protocol::verdict`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use launch_protocol::broker::{Refusal, RefusalClass};
use launch_protocol::policy::Party;
use launch_protocol::verdict::{MAX_VERDICT, NEW_VERIFIER, Verdict, VerifyRequest};
use nix::errno::Errno;

use crate::channel;
use crate::refuse::{credential, helper, unix_now};
use crate::servant::{DEADLINE, Servant};
use crate::spawn::{CANNOT_START, packet_sockets};

/// How long after the end of a socket to wait for the news that the whole program has ended.
const NEWS: Duration = Duration::from_millis(50);

/// Makes verifiers.
#[derive(Debug)]
pub(crate) struct Verifiers {
    /// The process that forks one for each credential.
    pub(crate) servant: Servant,
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
    pub(crate) fn new(servant: Servant) -> Self {
        let warm = None;
        Self { servant, warm }
    }

    /// Should one be made ahead of need? Not after one has died unasked.
    pub(crate) fn is_cold(&self) -> bool {
        self.warm.is_none() && self.servant.ended().is_none()
    }

    /// Makes one ahead of need. Whoever asks will be told why it cannot be.
    pub(crate) fn warm_up(&mut self, null: BorrowedFd<'_>) {
        self.warm = self.make(null).ok();
    }

    /// Is something waiting?
    pub(crate) fn is_warm(&self) -> bool {
        self.servant.is_running()
    }

    /// Takes everything down.
    pub(crate) fn cool_down(&mut self) {
        self.warm = None;
        self.servant.dismiss();
    }

    /// Gives a credential to a verifier.
    pub(crate) fn verify(
        &mut self,
        request: VerifyRequest,
        credential: BorrowedFd<'_>,
        null: BorrowedFd<'_>,
    ) -> Result<Verification, Errno> {
        let packet = request.encode().map_err(|_| Errno::EMSGSIZE)?;
        let hand_over =
            |socket: &OwnedFd| channel::transmit(socket.as_fd(), &packet, &[credential]);
        let socket = match self.warm.take().filter(|warm| hand_over(warm).is_ok()) {
            Some(warm) => warm,
            None => {
                let fresh = self.make(null)?;
                hand_over(&fresh)?;
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
    fn make(&mut self, null: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let (ours, theirs) = packet_sockets()?;
        self.servant.send(NEW_VERIFIER, &[theirs.as_fd()], null)?;
        Ok(ours)
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

    /// The verdict, or the refusal that stands for a missing one; `None`: not yet.
    pub(crate) fn advance(
        &mut self,
        verifiers: &Verifiers,
        now: Instant,
    ) -> Option<Result<Party, Refusal>> {
        if !self.silent {
            match channel::hear(self.socket.as_fd(), MAX_VERDICT) {
                Some(Ok(packet)) => return Some(judge(&packet)),
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
        let ended = verifiers.servant.ended();
        (ended.is_some() || now >= self.deadline).then(|| Err(no_verdict(ended)))
    }
}

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
        None => {
            let text = "the verifier ended without a verdict, so the credential counts as bad";
            let class = RefusalClass::Job;
            credential(class, "verifier.died", text.to_owned(), false)
        }
        Some(status) if status == i32::from(CANNOT_START) << 8 => {
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
