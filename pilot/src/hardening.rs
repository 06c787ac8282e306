//! What the process does to itself before anything else: it will handle the credentials of many users.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::{Mode, umask};

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct HardeningError {
    step: &'static str,
    source: Errno,
}

/// Lifts the signal mask but for `SIGXFSZ`, so that a file size limit of the batch system is an error of a write and not the
/// end of the pilot; forbids core dumps and hides the process's memory from other processes of its account.
///
/// Must run before the first thread starts: a mask is inherited per thread, and a `condor_master` blocks nearly every
/// signal around its children (protocol page 05, section 1), which would leave us deaf to SIGTERM.
///
/// # Errors
/// Names the step the kernel refused.
pub fn apply() -> Result<(), HardeningError> {
    let step = |step| move |source| HardeningError { step, source };
    // Children get an empty mask.
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGXFSZ);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&mask), None).map_err(step("set the signal mask"))?;
    // Whatever the batch system forbids others, the pilot can use what it makes itself.
    let theirs = umask(Mode::empty()) & (Mode::S_IRWXG | Mode::S_IRWXO);
    umask(theirs | Mode::S_IWGRP | Mode::S_IWOTH);
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(step("forbid core dumps"))?;
    prctl::set_dumpable(false).map_err(step("make the process undumpable"))
}
