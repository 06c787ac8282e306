//! The few calls to the kernel that have no safe form.
#![allow(
    unsafe_code,
    reason = "system calls without a safe wrapper; nothing else in this crate is unsafe"
)]

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use launch_protocol::exec::{IoClass, IoPriority};
use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};

use crate::system_v::SystemV;

/// Takes over a descriptor that the kernel has just handed to this process.
pub(crate) fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: callers pass numbers that the kernel has just installed for this process and nothing
    // else in it knows, or the announced control descriptor, once, at start.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// A descriptor that whoever started this program has left open for it.
pub(crate) fn inherited(raw: RawFd) -> Option<OwnedFd> {
    // SAFETY: only asks; a number that is not open is refused, harmlessly.
    let open = unsafe { libc::fcntl(raw, libc::F_GETFD) } >= 0;
    // Not the standard library's own: errands neither read nor print on what they take over here.
    open.then(|| own(raw))
}

/// Creation modes are given exactly by the pilot.
pub(crate) fn clear_umask() {
    umask(Mode::empty());
}

/// Default action for every signal, and none blocked.
pub(crate) fn reset_signals() {
    // The kernel's own structure, all zero, is "default, no flags, empty mask" on every architecture.
    let default = [0_u64; 8];
    let none = std::ptr::null_mut::<u64>();
    for number in 1..=libc::SIGRTMAX() {
        // Not through the C library, which keeps two signals to itself and would leave them ignored.
        // SAFETY: the structure is larger than the kernel's and only read; no handler is installed.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                &raw const default,
                none,
                size_of::<u64>(),
            )
        };
    }
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset only writes the set it is given.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: the set was initialised just above, the old one is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
}

/// Every descriptor from 3 up closes at `execve`.
pub(crate) fn close_all_on_exec() -> Result<(), Errno> {
    let (first, last) = (3_u32, u32::MAX);
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: with CLOSE_RANGE_CLOEXEC this only sets a flag on descriptors of this process.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    match Errno::result(done) {
        Ok(_) => Ok(()),
        // Before Linux 5.11: one by one, as far as descriptors can go.
        Err(Errno::ENOSYS | Errno::EINVAL) => {
            let (highest, _) = limit(DESCRIPTORS)?;
            for number in 3..RawFd::try_from(highest.min(1 << 20)).unwrap_or(1 << 20) {
                // SAFETY: only sets a flag; a number that is not open is refused, harmlessly.
                unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
            }
            Ok(())
        }
        Err(errno) => Err(errno),
    }
}

/// The type the C library gives resource numbers.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

/// Resource numbers, as the kernel and the protocol have them.
pub(crate) const CORE: u32 = number(libc::RLIMIT_CORE);
const DESCRIPTORS: u32 = number(libc::RLIMIT_NOFILE);
pub(crate) const PROCESSES: u32 = number(libc::RLIMIT_NPROC);

#[cfg(target_env = "gnu")]
const fn number(resource: Resource) -> u32 {
    resource
}

#[cfg(not(target_env = "gnu"))]
const fn number(resource: Resource) -> u32 {
    resource.cast_unsigned()
}

#[cfg(target_env = "gnu")]
const fn resource(number: u32) -> Resource {
    number
}

#[cfg(not(target_env = "gnu"))]
const fn resource(number: u32) -> Resource {
    number.cast_signed()
}

/// Soft and hard limit of a resource.
pub(crate) fn limit(number: u32) -> Result<(u64, u64), Errno> {
    let mut now = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `now` outlives the call, which writes nothing else; a bad number is refused.
    let done = unsafe { libc::getrlimit(resource(number), &raw mut now) };
    Errno::result(done).map(|_| (now.rlim_cur, now.rlim_max))
}

/// Sets soft and hard limit of a resource.
pub(crate) fn set_limit(number: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let new = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `new` outlives the call, which only reads it; a bad number is refused.
    let done = unsafe { libc::setrlimit(resource(number), &raw const new) };
    Errno::result(done).map(drop)
}

/// Adds to the nice value; going up is always allowed.
pub(crate) fn add_nice(value: i32) {
    // SAFETY: no memory is involved.
    unsafe { libc::nice(value) };
}

/// Sets the priority of reading and writing.
pub(crate) fn set_io_priority(IoPriority { class, level }: IoPriority) -> Result<(), Errno> {
    // The kernel's numbers: who is meant (1: a process, 0: this one), and the class in the upper bits.
    let class = match class {
        IoClass::BestEffort => 2,
        IoClass::Idle => 3,
    };
    let priority = class << 13 | libc::c_int::from(level);
    // SAFETY: no memory is involved.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, priority) }).map(drop)
}

/// Runs on these processors only from now on.
pub(crate) fn run_only_on(processors: &[u32]) -> Result<(), Errno> {
    // The kernel reads a bit set in words of its own size and ignores what is beyond its own numbers.
    let mut set = [0_usize; 128];
    for number in processors {
        let (word, bit) = (number / usize::BITS, number % usize::BITS);
        if let Some(word) = usize::try_from(word).ok().and_then(|at| set.get_mut(at)) {
            *word |= 1 << bit;
        }
    }
    let size = size_of_val(&set);
    // SAFETY: the set outlives the call, which only reads that many bytes of it.
    let done = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, set.as_ptr()) };
    Errno::result(done).map(drop)
}

/// Makes standard input the controlling terminal; never takes one away from another session.
pub(crate) fn control_terminal() -> Result<(), Errno> {
    // SAFETY: the argument is a number.
    Errno::result(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) }).map(drop)
}

/// Renames a file within a directory; fails with `EEXIST` where the new name is taken.
pub(crate) fn rename_to_new(dir: BorrowedFd<'_>, from: &Path, to: &Path) -> Result<(), Errno> {
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL);
    let (dir, from, to) = (dir.as_raw_fd(), name(from)?, name(to)?);
    let (from, to, flags) = (from.as_ptr(), to.as_ptr(), libc::RENAME_NOREPLACE);
    // SAFETY: both names end with NUL and outlive the call, which only reads them.
    let done = unsafe { libc::syscall(libc::SYS_renameat2, dir, from, dir, to, flags) };
    Errno::result(done).map(drop)
}

/// Removes a System V object.
pub(crate) fn remove_system_v(kind: SystemV, id: i32) -> Result<(), Errno> {
    let done = match kind {
        // SAFETY: IPC_RMID takes no buffer.
        SystemV::Memory => unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) },
        // SAFETY: IPC_RMID takes no further argument.
        SystemV::Semaphores => unsafe { libc::semctl(id, 0, libc::IPC_RMID) },
        // SAFETY: IPC_RMID takes no buffer.
        SystemV::Messages => unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) },
    };
    Errno::result(done).map(drop)
}

/// A keyring that belongs to a number, not to a process.
#[derive(Clone, Copy)]
pub(crate) enum Keyring {
    User,
    UserSession,
    Persistent,
}

/// Unlinks all keys of one of this account's keyrings.
pub(crate) fn clear_keyring(keyring: Keyring) -> Result<(), Errno> {
    let number = match keyring {
        Keyring::User => libc::c_long::from(libc::KEY_SPEC_USER_KEYRING),
        Keyring::UserSession => libc::c_long::from(libc::KEY_SPEC_USER_SESSION_KEYRING),
        Keyring::Persistent => {
            let (get, here) = (libc::KEYCTL_GET_PERSISTENT, libc::KEY_SPEC_THREAD_KEYRING);
            // SAFETY: no memory is involved. -1: this account's; it is linked where it ends with this process.
            let found = unsafe { libc::syscall(libc::SYS_keyctl, get, -1, here) };
            Errno::result(found)?
        }
    };
    // SAFETY: no memory is involved.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_CLEAR, number) };
    Errno::result(done).map(drop)
}

/// Kills everything that this account may signal, but itself.
pub(crate) fn kill_everything() -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    Errno::result(unsafe { libc::kill(-1, libc::SIGKILL) }).map(drop)
}

/// A stable handle for a process.
pub(crate) fn process_descriptor(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is involved.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    Errno::result(raw).map(|raw| own(RawFd::try_from(raw).unwrap_or(-1)))
}

/// Signals the process behind a handle.
pub(crate) fn signal_process(process: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let none = std::ptr::null::<libc::siginfo_t>();
    let raw = process.as_raw_fd();
    // SAFETY: no memory is passed.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, raw, signal, none, 0) };
    Errno::result(done).map(drop)
}

/// Could this account have one more process than this one? Asked with a child that does nothing.
pub(crate) fn can_fork() -> bool {
    // SAFETY: this program has one thread, and the child ends at once.
    match unsafe { libc::fork() } {
        // SAFETY: has no preconditions.
        0 => unsafe { libc::_exit(0) },
        child => {
            let mut status = 0;
            // SAFETY: writes `status` only.
            child > 0 && unsafe { libc::waitpid(child, &raw mut status, 0) } == child
        }
    }
}

/// Children are reaped by the kernel from now on.
pub(crate) fn ignore_children() {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Sleeps for a few milliseconds.
pub(crate) fn pause(milliseconds: i32) {
    // SAFETY: with no descriptors the pointer is not used.
    unsafe { libc::poll(std::ptr::null_mut(), 0, milliseconds) };
}
