//! The one unsafe line of this program.

#![allow(
    unsafe_code,
    reason = "the socket library returns descriptors as numbers"
)]

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// Takes over a descriptor that was just received.
pub(crate) fn own(received: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us, and nothing else knows its number.
    unsafe { OwnedFd::from_raw_fd(received) }
}
