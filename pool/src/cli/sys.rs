//! What the system says of the terminal.

use std::os::fd::{AsRawFd, BorrowedFd};

/// Columns of the terminal behind a descriptor; `None` if it is no terminal or does not know.
#[expect(unsafe_code, reason = "there is no safe call for it")]
pub(super) fn terminal_columns(descriptor: BorrowedFd<'_>) -> Option<usize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the descriptor is open, and the request writes one `winsize` to the place given, which is one.
    let done = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}
