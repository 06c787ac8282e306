//! A second process that does nothing but outlive the monitor: if that is killed, it cleans up at once instead
//! of leaving payloads to the next one (requirement K2).

use std::os::fd::{AsFd as _, OwnedFd};

use launch_protocol::CONTROL_FD;
use launch_protocol::monitor::Mode;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollTimeout, poll};
use nix::sys::prctl;
use nix::unistd::{pipe2, read, setsid, write};

use crate::monitor::{self, Call};
use crate::sys;

/// How often the guardian looks: the monitor's locks may end a little later than its pipe.
const LOOKS: u32 = 3;
/// Milliseconds between looks.
const PAUSE: u8 = 100;

/// The monitor's hold on its guardian.
#[derive(Debug)]
pub(crate) struct Guardian {
    pipe: Option<OwnedFd>,
}

impl Guardian {
    /// Where nothing is to be guarded.
    pub(crate) fn none() -> Self {
        Self { pipe: None }
    }

    /// Starts it.
    pub(crate) fn start(call: &Call) -> Result<Self, Errno> {
        let (theirs, pipe) = pipe2(OFlag::O_CLOEXEC)?;
        sys::child(None, || {
            // Above all the pilot's socket must not stay open in here.
            if sys::place(theirs.as_fd(), CONTROL_FD).is_err() {
                return 1;
            }
            sys::close_from(CONTROL_FD + 1);
            let _ = setsid();
            let _ = prctl::set_name(c"sailplane-guard");
            watch(&sys::own(CONTROL_FD), call)
        })?;
        Ok(Self { pipe: Some(pipe) })
    }

    /// Nothing is left to be done.
    pub(crate) fn dismiss(self) {
        if let Some(pipe) = &self.pipe {
            let _ = write(pipe, b"q");
        }
    }
}

fn watch(pipe: &OwnedFd, call: &Call) -> u8 {
    loop {
        match read(pipe, &mut [0]) {
            Ok(0) => break,
            Ok(_) => return 0,
            Err(Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
    for _ in 0..LOOKS {
        let _ = monitor::run(Call {
            mode: Mode::Recover,
            words: Vec::new(),
            caller: call.caller.clone(),
            limits: call.limits.clone(),
            control: None,
            speaks: false,
        });
        let _ = poll(&mut [], PollTimeout::from(PAUSE));
    }
    0
}
