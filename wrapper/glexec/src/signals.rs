//! Signals: blocked from the first instruction (the set-uid half hands them over so), read from a
//! descriptor, so that none is lost and none interrupts anything.

use std::os::fd::{AsFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::failure::Failure;

/// Passed on to the command.
const FORWARDED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTERM,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];
/// End a call whose command does not run yet.
const ENDING: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];

/// The signals that concern us.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Something to read.
    Readable,
    /// A signal to be passed on.
    Forward(Signal),
    /// A wish to be stopped, from a terminal.
    Stop,
}

impl Signals {
    /// Blocks everything and opens the descriptor.
    pub(crate) fn open() -> Result<Self, Failure> {
        let failed = |errno: Errno| {
            let text = format!("signals cannot be arranged: {}", errno.desc());
            Failure::administrator("helper.system", text)
        };
        SigSet::all().thread_block().map_err(failed)?;
        let mut wanted = SigSet::empty();
        for signal in FORWARDED {
            wanted.add(signal);
        }
        wanted.add(Signal::SIGTSTP);
        wanted.add(Signal::SIGCHLD);
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        SignalFd::with_flags(&wanted, flags)
            .map(Self)
            .map_err(failed)
    }

    /// Waits until there is something to read, before the command runs.
    pub(crate) fn wait_for(&self, file: BorrowedFd<'_>) -> Result<(), Failure> {
        loop {
            match self.next(file)? {
                Event::Readable => return Ok(()),
                Event::Forward(signal) if ENDING.contains(&signal) => {
                    return Err(Failure::interrupted(signal as i32));
                }
                Event::Forward(_) | Event::Stop => {}
            }
        }
    }

    /// Waits for whatever comes first.
    pub(crate) fn next(&self, file: BorrowedFd<'_>) -> Result<Event, Failure> {
        loop {
            let mut sources = [
                PollFd::new(self.0.as_fd(), PollFlags::POLLIN),
                PollFd::new(file, PollFlags::POLLIN),
            ];
            match poll(&mut sources, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => {
                    let text = format!("waiting failed: {}", errno.desc());
                    return Err(Failure::administrator("helper.system", text));
                }
            }
            let readable = sources[1].any() == Some(true);
            if let Ok(Some(info)) = self.0.read_signal() {
                let number = i32::try_from(info.ssi_signo).unwrap_or(0);
                match Signal::try_from(number) {
                    Ok(Signal::SIGCHLD) => reap(),
                    Ok(Signal::SIGTSTP) => return Ok(Event::Stop),
                    Ok(signal) => return Ok(Event::Forward(signal)),
                    Err(_) => {}
                }
            } else if readable {
                return Ok(Event::Readable);
            }
        }
    }
}

/// The broker is our child; whatever the caller had as children is ours to bury too.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            break;
        }
    }
}
