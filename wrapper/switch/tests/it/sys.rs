//! The one call that has no safe form.
#![allow(
    unsafe_code,
    reason = "taking over a received descriptor has no safe form"
)]

use std::fs::File;
use std::os::fd::{FromRawFd as _, RawFd};

/// Takes over a received descriptor.
pub(crate) fn own(raw: RawFd) -> File {
    // SAFETY: the kernel has just installed it for this process; nobody else knows it.
    unsafe { File::from_raw_fd(raw) }
}
