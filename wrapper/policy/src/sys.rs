//! The few unsafe lines of this program.

#![allow(unsafe_code, reason = "descriptors come as numbers")]

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// Takes over a descriptor that was just received.
pub(crate) fn own(received: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us, and nothing else knows its number.
    unsafe { OwnedFd::from_raw_fd(received) }
}

/// A descriptor that whoever started this program has left open for it.
pub(crate) fn inherited(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: only asks; a number that is not open is refused, harmlessly.
    let open = unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0;
    // Not the standard library's own, and asked for once, before anything else is opened.
    open.then(|| own(number))
}
