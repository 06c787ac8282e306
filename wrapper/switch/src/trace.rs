//! `sailplane-switch --trace`: who was this uid, what did that name run. Root's questions about its own
//! log, answered by `sailplane-policy`, which opens the files and gives up root before it reads them.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::errno::Errno;

use crate::error::StartupError;
use crate::programs::{beside_ourselves, conf};

/// Becomes the program that answers, or says why not. For root only: whoever else calls gets no
/// further, set-uid bit or not.
pub(crate) fn trace(caller_uid: u32, words: &[OsString]) -> StartupError {
    if caller_uid != 0 {
        return StartupError::not_root();
    }
    let program = match beside_ourselves("sailplane-policy") {
        Ok(program) => program,
        Err(error) => return error,
    };
    let failed = Command::new(program).arg("trace").arg(conf()).args(words).env_clear().exec();
    let errno = Errno::from_raw(failed.raw_os_error().unwrap_or(libc::EINVAL));
    StartupError::system("starting sailplane-policy", errno)
}
