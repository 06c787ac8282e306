//! A second process that does nothing but outlive the monitor: if that is killed, it cleans up at once instead
//! of leaving payloads to the next one (requirement K2). For that it becomes `sailplane-admin`.

use std::os::fd::{AsFd as _, OwnedFd};

use launch_protocol::CONTROL_FD;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::unistd::{pipe2, read, setsid, write};

use crate::programs::become_admin;
use crate::refuse::status;
use crate::sys;

/// The monitor's hold on its guardian.
#[derive(Debug)]
pub(crate) struct Guardian(OwnedFd);

impl Guardian {
    /// Starts it.
    pub(crate) fn start() -> Result<Self, Errno> {
        let (theirs, pipe) = pipe2(OFlag::O_CLOEXEC)?;
        sys::child(None, || {
            // Above all the pilot's socket must not stay open in here.
            if sys::place(theirs.as_fd(), CONTROL_FD).is_err() {
                return 1;
            }
            sys::close_from(CONTROL_FD + 1);
            let _ = setsid();
            let _ = prctl::set_name(c"sailplane-guard");
            watch(&sys::own(CONTROL_FD))
        })?;
        Ok(Self(pipe))
    }

    /// Nothing is left to be done.
    pub(crate) fn dismiss(self) {
        let _ = write(&self.0, b"q");
    }
}

fn watch(pipe: &OwnedFd) -> u8 {
    let outcome = loop {
        match read(pipe, &mut [0]) {
            Err(Errno::EINTR) => {}
            other => break other,
        }
    };
    // Nothing comes before the end: the monitor is gone.
    if outcome == Ok(0) { status(&become_admin(&["--guard".into()])) } else { 0 }
}
