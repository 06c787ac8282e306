//! The calls to the kernel that have no safe form. Nothing else in this crate is unsafe.
//!
//! One fact carries most of the safety comments: the helper is single-threaded from its first
//! instruction to its last (requirement S2), so `fork` copies a complete program and process-wide
//! settings race with nobody.
#![allow(unsafe_code, reason = "system calls without a safe wrapper; nothing else in this crate is unsafe")]

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Pid;

/// The kernel's number for an error.
pub(crate) fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Takes over a descriptor that the kernel has just handed to this process.
pub(crate) fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: callers pass numbers out of SCM_RIGHTS, which the kernel has installed for this
    // process and nothing else in it knows, or the announced control descriptor, once, at start.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Makes `file` also known as number `place`, without close-on-exec.
pub(crate) fn place(file: BorrowedFd<'_>, place: RawFd) -> Result<(), Errno> {
    // SAFETY: used in freshly forked children only, which then exec or exit; what `place` was
    // before is not used again there.
    Errno::result(unsafe { libc::dup2(file.as_raw_fd(), place) }).map(drop)
}

/// Closes every descriptor from `first` up.
pub(crate) fn close_from(first: RawFd) {
    let from = first.cast_unsigned();
    // SAFETY: called at start, before this program owns any descriptor from `first` up, and in
    // freshly forked children that use none of them again.
    if unsafe { libc::syscall(libc::SYS_close_range, from, libc::c_uint::MAX, 0) } == 0 {
        return;
    }
    // Before Linux 5.9. The limit can have been lowered below open numbers, hence the floor.
    let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(65_536, |(_, most)| most);
    let most = RawFd::try_from(most.clamp(65_536, 1 << 20)).unwrap_or(65_536);
    for number in first..most {
        // SAFETY: as above; a number that is not open is refused, harmlessly.
        unsafe { libc::close(number) };
    }
}

/// Removes every environment variable.
pub(crate) fn clear_environment() {
    // SAFETY: single-threaded, and no pointer into the environment is held.
    unsafe { libc::clearenv() };
}

/// Default action for every signal.
pub(crate) fn default_signals() {
    // The kernel's own structure, all zero, is "default, no flags, empty mask" on every architecture.
    let default = [0_u64; 8];
    let none = std::ptr::null_mut::<u64>();
    for number in 1..=libc::SIGRTMAX() {
        // Not through the C library, which keeps two signals to itself and would leave them ignored.
        // SAFETY: the structure is larger than the kernel's and only read; no handler is installed.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, &raw const default, none, size_of::<u64>()) };
    }
}

/// Switches off the timers that survive `execve`.
pub(crate) fn stop_timers() {
    // Two times of two words each.
    let none = [0_u64; 4];
    for timer in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
        // SAFETY: reads `none` only; the old value is not asked for.
        unsafe { libc::syscall(libc::SYS_setitimer, timer, &raw const none, 0) };
    }
}

/// Soft and hard limit of a resource, by the kernel's number for it, as they were; `new`: as they are to be.
pub(crate) fn limits(resource: u32, new: Option<[u64; 2]>) -> Result<[u64; 2], Errno> {
    let mut old = [0_u64; 2];
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: soft and hard limit are two words; the new ones outlive the call, which writes the old ones only.
    let done = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, new, &raw mut old) };
    Errno::result(done).map(|_| old)
}

/// Lowers what may be had of a resource; as root, or raises it.
pub(crate) fn cap(resource: u32, most: u64) -> Result<(), Errno> {
    let [soft, _] = limits(resource, None)?;
    limits(resource, Some([soft.min(most), most])).map(drop)
}

/// Makes the nice value at least this.
pub(crate) fn be_nice(least: u8) -> Result<(), Errno> {
    // SAFETY: no memory is involved. The kernel counts backwards here, from 20.
    if least == 0 || 20 - unsafe { libc::syscall(libc::SYS_getpriority, 0, 0) } >= least.into() {
        return Ok(());
    }
    // SAFETY: no memory is involved.
    let done = unsafe { libc::syscall(libc::SYS_setpriority, 0, 0, libc::c_int::from(least)) };
    Errno::result(done).map(drop)
}

/// Goes before everything that is not urgent, however much of that there is, or stands in line again.
pub(crate) fn be_urgent(urgent: bool) {
    let (policy, priority) = if urgent { (libc::SCHED_RR, 1) } else { (libc::SCHED_OTHER, 0) };
    // SAFETY: the priority outlives the call, which only reads it.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) };
}

/// Runs `work` in a forked child and ends that with the status it returns.
///
/// `cgroup`: make the child there (`clone3` with `CLONE_INTO_CGROUP`); fails with `ENOSYS`,
/// `EINVAL` or `E2BIG` where the kernel cannot.
pub(crate) fn child(cgroup: Option<BorrowedFd<'_>>, work: impl FnOnce() -> u8) -> Result<Pid, Errno> {
    let pid = match cgroup {
        // SAFETY: single-threaded, so the child is a complete program.
        None => unsafe { libc::fork() },
        Some(group) => {
            let mut arguments = [0_u64; 11];
            let [flags, _, _, _, exit_signal, _, _, _, _, _, cgroup] = &mut arguments;
            *flags = CLONE_INTO_CGROUP;
            *exit_signal = libc::SIGCHLD as u64;
            *cgroup = u64::from(group.as_raw_fd().cast_unsigned());
            let size = size_of_val(&arguments);
            // SAFETY: as fork: no memory is shared, no stack is given; the structure outlives the
            // call and has the size of its third published version.
            let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) };
            libc::pid_t::try_from(pid).unwrap_or(-1)
        }
    };
    match Errno::result(pid)? {
        0 => {
            let work = std::panic::AssertUnwindSafe(work);
            let status = std::panic::catch_unwind(work).unwrap_or(CHILD_PANICKED);
            exit_now(status)
        }
        pid => Ok(Pid::from_raw(pid)),
    }
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Status of a forked child that met a bug.
pub(crate) const CHILD_PANICKED: u8 = 112;

/// Ends this process without running anything further.
pub(crate) fn exit_now(status: u8) -> ! {
    // SAFETY: has no preconditions.
    unsafe { libc::_exit(i32::from(status)) }
}

fn wait(target: i32, flags: i32) -> Result<(Pid, i32), Errno> {
    let mut status = 0;
    // SAFETY: writes `status` only.
    let pid = Errno::result(unsafe { libc::waitpid(target, &raw mut status, flags) });
    pid.map(|pid| (Pid::from_raw(pid), status))
}

/// Reaps one dead child, if there is one: number and status as from `waitpid`.
pub(crate) fn reap() -> Option<(Pid, i32)> {
    wait(-1, libc::WNOHANG).ok().filter(|(pid, _)| pid.as_raw() > 0)
}

/// Waits for one child.
pub(crate) fn wait_for(child: Pid) -> Result<i32, Errno> {
    loop {
        match wait(child.as_raw(), 0) {
            Err(Errno::EINTR) => {}
            other => return other.map(|(_, status)| status),
        }
    }
}

/// Drops every capability from the bounding set, and the ambient set.
pub(crate) fn drop_bounding_set() -> Result<(), Errno> {
    for capability in 0..64 {
        // SAFETY: no memory is involved.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match Errno::result(done) {
            Ok(_) => {}
            // The first number this kernel does not know, if it says so when asked, too.
            Err(Errno::EINVAL) if capability > 0 && !knows(capability) => break,
            Err(errno) => return Err(errno),
        }
    }
    // SAFETY: no memory is involved.
    let done = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    Errno::result(done).map(drop)
}

/// Takes an empty session keyring: the caller's, with whatever keys and tickets it holds, stays behind. It is kept
/// through all changes of accounts otherwise.
pub(crate) fn leave_keyring() -> Result<(), Errno> {
    let command = libc::c_long::from(libc::KEYCTL_JOIN_SESSION_KEYRING);
    // SAFETY: no name is given, so no memory is involved.
    let done = unsafe { libc::syscall(libc::SYS_keyctl, command, std::ptr::null::<u8>()) };
    match Errno::result(done) {
        // No keys here, or for nobody here: then neither for a payload.
        Ok(_) | Err(Errno::ENOSYS | Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Has this kernel a capability of this number?
fn knows(capability: libc::c_int) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) != -1 }
}

/// Version 3 of the capability calls (two words per set), and this process.
const CAPABILITIES: [u32; 2] = [0x2008_0522, 0];

/// Empties effective, permitted and inheritable capabilities.
pub(crate) fn clear_capabilities() -> Result<(), Errno> {
    let header = CAPABILITIES;
    let none = [0_u32; 6];
    // SAFETY: both structures have the layout of version 3 and are only read.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const none) };
    Errno::result(done).map(drop)
}

/// All bits of effective, permitted and inheritable capabilities together.
pub(crate) fn any_capability() -> Result<u32, Errno> {
    let mut header = CAPABILITIES;
    let mut now = [0_u32; 6];
    // SAFETY: both structures have the layout of version 3, which is what the call writes.
    let done = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, &raw mut now) };
    Errno::result(done).map(|_| now.iter().fold(0, |all, word| all | word))
}

/// A stable handle for a process.
pub(crate) fn process_descriptor(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is involved.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
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

/// Signals a process, a process group (negative), or everything this account may signal (-1).
pub(crate) fn kill(target: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: no memory is involved; nix's form refuses real-time signals.
    Errno::result(unsafe { libc::kill(target, signal) }).map(drop)
}

/// A number that may or may not be open, for asking just that.
pub(crate) fn borrow(raw: RawFd) -> BorrowedFd<'static> {
    // SAFETY: used for 0 to 2, which this program never closes, and for the question whether one is open.
    unsafe { BorrowedFd::borrow_raw(raw) }
}
