//! The few calls that have no safe form.
#![allow(
    unsafe_code,
    reason = "taking over descriptors from the kernel and closing leaked ones; nothing else here is unsafe"
)]

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use nix::errno::Errno;
use tokio::io::unix::AsyncFd;

/// Takes over a descriptor that the kernel has just handed to this process.
pub(super) fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: callers pass numbers out of SCM_RIGHTS, which the kernel has installed for this process and nothing else
    // in it knows, each once.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Closes every descriptor from `first` up. Only for a process with one thread that owns none of them.
pub(super) fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: no memory is involved, and by the caller's word nothing in this process owns these descriptors.
    let done = unsafe { libc::close_range(first, libc::c_uint::MAX, 0) };
    match Errno::result(done) {
        Ok(_) => Ok(()),
        // Before Linux 5.9: one by one, as far as descriptors usually go.
        Err(Errno::ENOSYS) => {
            for number in first..65_536 {
                // SAFETY: as above; a number that is not open is refused, harmlessly.
                unsafe { libc::close(number.cast_signed()) };
            }
            Ok(())
        }
        Err(errno) => Err(errno),
    }
}

/// Registers a socket with the runtime.
pub(super) fn watch(socket: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives, which is what `register` asks for.
    unsafe { AsyncFd::register(socket) }.map_err(Into::into)
}
