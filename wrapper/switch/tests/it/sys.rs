//! Calls that have no safe form.
#![allow(unsafe_code, reason = "these calls have no safe form")]
#![allow(dead_code, reason = "each program that includes this uses some of it")]

use std::fs::File;
use std::os::fd::{FromRawFd as _, RawFd};

use nix::sys::signal::{SigHandler, Signal};
use nix::unistd::ForkResult;

/// Takes over a received descriptor.
pub(crate) fn own(raw: RawFd) -> File {
    // SAFETY: the kernel has just installed it for this process; nobody else knows it.
    unsafe { File::from_raw_fd(raw) }
}

/// Sets what a signal does.
pub(crate) fn handle(signal: Signal, handler: SigHandler) {
    // SAFETY: callers ignore signals or restore the default; no code of ours runs in a handler.
    let _ = unsafe { nix::sys::signal::signal(signal, handler) };
}

/// True in the new process. Only for programs of one thread.
pub(crate) fn fork() -> bool {
    // SAFETY: with one thread the child is a complete copy.
    matches!(unsafe { nix::unistd::fork() }, Ok(ForkResult::Child))
}
