//! A second process that does nothing but outlive the broker: if that is killed, it cleans up at once
//! instead of leaving payloads to the next broker (requirement K2).

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::stat::Mode;
use nix::unistd::{pipe2, read, setsid, write};

use launch_protocol::policy::Settings;

use crate::audit::Audit;
use crate::cgroup::Tracking;
use crate::errands::Runner;
use crate::lease::LeaseDir;
use crate::recover::recover;
use crate::sys;
use launch_protocol::CONTROL_FD;

/// How often the guardian looks: the broker's locks may end a little later than its pipe.
const LOOKS: u32 = 5;
/// Milliseconds between looks.
const PAUSE: u8 = 50;

/// The broker's hold on its guardian.
#[derive(Debug)]
pub(crate) struct Guardian {
    pipe: OwnedFd,
}

impl Guardian {
    /// Starts it.
    pub(crate) fn start(
        settings: &Settings,
        tracking: &Tracking,
        job: &Path,
    ) -> Result<Self, Errno> {
        let (theirs, pipe) = pipe2(OFlag::O_CLOEXEC)?;
        sys::child(None, || {
            // Above all the pilot's socket must not stay open in here.
            if sys::place(theirs.as_fd(), CONTROL_FD).is_err() {
                return 1;
            }
            sys::close_from(CONTROL_FD + 1);
            let _ = setsid();
            let _ = prctl::set_name(c"sailplane-guard");
            watch(&sys::own(CONTROL_FD), settings, tracking, job)
        })?;
        Ok(Self { pipe })
    }

    /// Nothing is left to be done.
    pub(crate) fn dismiss(self) {
        let _ = write(&self.pipe, b"q");
    }
}

fn watch(broker: &OwnedFd, settings: &Settings, tracking: &Tracking, job: &Path) -> u8 {
    loop {
        match read(broker, &mut [0]) {
            Ok(0) => break,
            Ok(_) => return 0,
            Err(Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
    clean_up(settings, tracking, job)
}

fn clean_up(settings: &Settings, tracking: &Tracking, job: &Path) -> u8 {
    let audit = Audit::open(&settings.audit).unwrap_or_default();
    audit.write("guardian", &[("why", "the broker is gone")]);
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let (Ok(leases), Ok(null)) = (
        LeaseDir::open(&settings.rundir),
        open("/dev/null", flags, Mode::empty()),
    ) else {
        return 1;
    };
    for _ in 0..LOOKS {
        let runner = Runner {
            program: job,
            null: null.as_fd(),
        };
        recover(&leases, runner, &audit);
        tracking.remove_orphans();
        let _ = poll(&mut [], PollTimeout::from(PAUSE));
    }
    0
}
