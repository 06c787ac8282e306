//! The one unsafe line of this program.
#![allow(
    unsafe_code,
    reason = "descriptors come from the kernel as numbers; nothing else in this crate is unsafe"
)]

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// Takes over a descriptor that nothing else in this process knows.
pub(crate) fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: callers pass numbers out of SCM_RIGHTS, which the kernel has just installed for this
    // process, or the announced descriptors 0 and 3, each once, at start.
    unsafe { OwnedFd::from_raw_fd(raw) }
}
