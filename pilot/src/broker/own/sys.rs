//! Processes: fork, reap, signal, and what a child does to itself before it becomes the agent.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};

use launch_protocol::CONTROL_FD;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::unistd::{ForkResult, Pid, fork, setsid};

/// Exit status of a child whose work panicked.
const PANICKED: i32 = 101;

/// Takes over [`CONTROL_FD`], if it is a packet socket. To be called once, first of all.
pub(super) fn take_control() -> Option<OwnedFd> {
    // SAFETY: the number is announced to this process as its own, and nothing else in it knows it yet; if it is not
    // open, or something else, the value is forgotten below and never closed.
    let socket = unsafe { OwnedFd::from_raw_fd(CONTROL_FD) };
    let packets =
        getsockopt(&socket, sockopt::SockType).is_ok_and(|kind| kind == SockType::SeqPacket);
    if !packets || fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_err() {
        std::mem::forget(socket);
        return None;
    }
    Some(socket)
}

/// Runs `work` in a copy of this process, which ends with its result.
pub(super) fn child(work: impl FnOnce() -> u8) -> Result<Pid, Errno> {
    // SAFETY: the broker has one thread, so the copy holds no lock that nobody will release.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let status = catch_unwind(AssertUnwindSafe(work)).map_or(PANICKED, i32::from);
            // SAFETY: ends this process, and runs nothing of its parent's.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Starts the agent in a session of its own, with its end of the socket as [`CONTROL_FD`]. It dies with this process.
pub(super) fn spawn_agent(program: &Path, sandbox: &Path, socket: OwnedFd) -> io::Result<u32> {
    let mut command = Command::new(program);
    command
        .arg(sandbox)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let keeper = nix::unistd::getpid();
    let in_child = move || {
        // SAFETY: dup2 takes two numbers and no memory; async-signal-safe. CONTROL_FD is taken in this process, by its
        // own control socket, so that it is no descriptor of the library's.
        if unsafe { libc::dup2(socket.as_raw_fd(), CONTROL_FD) } < 0 {
            return Err(io::Error::last_os_error());
        }
        setsid()?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        if nix::unistd::getppid() != keeper {
            return Err(Errno::ESRCH.into());
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only, and allocates nothing.
    unsafe { command.pre_exec(in_child) };
    // Reaped with all other children, by number.
    command.spawn().map(|child| child.id())
}

/// What there was to reap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaped {
    /// A child that has ended, and its raw wait status.
    Child(i32, i32),
    /// Children, none of which has ended.
    Nothing,
    /// No children.
    Nobody,
}

/// Reaps one child. The raw status is taken because a death by a real-time signal has no name.
pub(super) fn reap() -> Reaped {
    loop {
        let mut status = 0;
        // SAFETY: waitpid writes one int, which outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match Errno::result(pid) {
            Ok(0) => return Reaped::Nothing,
            Ok(pid) => return Reaped::Child(pid, status),
            Err(Errno::EINTR) => {}
            Err(_) => return Reaped::Nobody,
        }
    }
}

/// Waits for all children of this process. Gives the exit status of the last.
pub(super) fn wait_for_all() -> u8 {
    let mut last = 1;
    loop {
        let mut status = 0;
        // SAFETY: waitpid writes one int, which outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        match Errno::result(pid) {
            Ok(_) => last = u8::from(status != 0),
            Err(Errno::EINTR) => {}
            Err(_) => return last,
        }
    }
}

/// Takes over standard input, if it is a packet socket. To be called once, first of all.
pub(super) fn take_standard_input() -> Option<OwnedFd> {
    // SAFETY: whoever started this process announced the descriptor as a socket made for it; nothing else in it reads
    // from standard input.
    let socket = unsafe { OwnedFd::from_raw_fd(0) };
    let packets =
        getsockopt(&socket, sockopt::SockType).is_ok_and(|kind| kind == SockType::SeqPacket);
    // A copy elsewhere, so that 0 is not close-on-exec and can be replaced for the agent.
    let copy = fcntl(&socket, FcntlArg::F_DUPFD_CLOEXEC(4));
    std::mem::forget(socket);
    let null = std::fs::File::open("/dev/null").ok()?;
    if !packets {
        return None;
    }
    // SAFETY: the number was made by the call above, and nothing else knows it.
    let copy = unsafe { OwnedFd::from_raw_fd(copy.ok()?) };
    // The agent's socket will be put there, over whatever it is: it must be nobody's. Whether the first or the second
    // of these has the number, it stays taken.
    let taken = fcntl(&null, FcntlArg::F_DUPFD_CLOEXEC(CONTROL_FD)).ok()?;
    // SAFETY: dup2 takes two numbers and no memory.
    let replaced = unsafe { libc::dup2(null.as_raw_fd(), 0) } == 0;
    if taken != CONTROL_FD {
        std::mem::forget(null);
    }
    replaced.then_some(copy)
}

/// Sends any signal number to a process, or with a negative number to a group. One that is gone needs none.
pub(super) fn signal(pid: i32, number: i32) {
    if matches!(pid, -1..=1) {
        return;
    }
    // SAFETY: no memory is involved; the numbers that would mean "everybody" are refused above.
    unsafe { libc::kill(pid, number) };
}

/// Makes a mount and everything mounted below it read-only, in this process's namespace.
pub(super) fn make_read_only(path: &Path) -> Result<(), Errno> {
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    const READ_ONLY: u64 = 1;
    let attributes = Attributes {
        set: READ_ONLY,
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    let path = super::enclosure::c_path(path)?;
    // SAFETY: the kernel reads a string that ends with zero and a structure of the size that is given; both live on.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Leaves the session keyring of the account for an empty one. A kernel without keyrings has none to leave.
pub(super) fn new_session_keyring() -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: libc::c_int = 1;
    // SAFETY: the call takes a number and no name.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    match Errno::result(result) {
        Ok(_) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}
