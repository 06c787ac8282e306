//! The few calls to the kernel that have no safe form.
#![allow(
    unsafe_code,
    reason = "system calls without a safe wrapper; nothing else in this crate is unsafe"
)]

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::errno::Errno;

/// Takes over a descriptor that the kernel has just handed to this process.
pub(crate) fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: callers pass numbers out of SCM_RIGHTS, which the kernel has installed for this
    // process and nothing else in it knows, or an announced descriptor, once, at start.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// A number that may or may not be open, for asking just that, or one of 0 to 2, which never close.
pub(crate) fn borrow(raw: RawFd) -> BorrowedFd<'static> {
    // SAFETY: used for F_GETFD, and for 0 to 2, which this program replaces but never closes.
    unsafe { BorrowedFd::borrow_raw(raw) }
}

/// Takes a shared lock if that needs no waiting.
pub(crate) fn lock_shared(file: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: no memory is involved; nix's form would take the descriptor over.
    Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH | libc::LOCK_NB) }).map(drop)
}

/// Makes `file` also known as number `place`.
pub(crate) fn place(file: BorrowedFd<'_>, place: RawFd) -> Result<(), Errno> {
    // SAFETY: used for 0 to 2 only, which nobody here owns.
    Errno::result(unsafe { libc::dup2(file.as_raw_fd(), place) }).map(drop)
}

/// A number that nobody can guess.
pub(crate) fn random() -> u32 {
    let mut number = 0_u32;
    let size = size_of_val(&number);
    // SAFETY: the call writes at most `size` bytes of `number`, which outlives it.
    let done = unsafe { libc::getrandom((&raw mut number).cast(), size, libc::GRND_NONBLOCK) };
    if Errno::result(done).is_err() {
        // Early at boot only; whoever takes the name first makes us try another.
        return std::process::id();
    }
    number
}

/// Ends this process by a signal, if that is what the signal does.
pub(crate) fn die_of(signal: i32) {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset only writes the set it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the action is the default one; no handler is installed.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: no memory is involved. It stays pending while it is blocked.
    unsafe { libc::raise(signal) };
    // SAFETY: the set was initialised above, the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut()) };
}
