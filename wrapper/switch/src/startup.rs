//! From the first instruction to a program that nobody outside can influence any more
//! (requirement S1), and whether it can do its work at all (G3, S4).

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::prctl;
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{
    Gid, Uid, chdir, geteuid, getgid, getgroups, getppid, getuid, setgroups, setresgid, setresuid,
    setsid,
};

use crate::error::StartupError;
use crate::sys;
use launch_protocol::CONTROL_FD;
use launch_protocol::policy::Caller;

/// Resource limits as the caller had them; payloads get them back.
#[derive(Clone, Debug)]
pub(crate) struct SavedLimits {
    limits: Vec<(sys::Resource, libc::rlimit)>,
}

/// What the helper sets for itself. The stack is left: it is this program's own.
const OWN_LIMITS: [(sys::Resource, libc::rlim_t); 13] = [
    (libc::RLIMIT_CORE, 0),
    (libc::RLIMIT_NOFILE, OWN_DESCRIPTORS),
    (libc::RLIMIT_AS, libc::RLIM_INFINITY),
    (libc::RLIMIT_CPU, libc::RLIM_INFINITY),
    (libc::RLIMIT_DATA, libc::RLIM_INFINITY),
    (libc::RLIMIT_FSIZE, libc::RLIM_INFINITY),
    (libc::RLIMIT_LOCKS, libc::RLIM_INFINITY),
    (libc::RLIMIT_MEMLOCK, libc::RLIM_INFINITY),
    (libc::RLIMIT_MSGQUEUE, libc::RLIM_INFINITY),
    (libc::RLIMIT_NPROC, libc::RLIM_INFINITY),
    (libc::RLIMIT_RSS, libc::RLIM_INFINITY),
    (libc::RLIMIT_RTTIME, libc::RLIM_INFINITY),
    (libc::RLIMIT_SIGPENDING, libc::RLIM_INFINITY),
];

/// Descriptors the helper may have open.
const OWN_DESCRIPTORS: libc::rlim_t = 16_384;

/// Four times the most that Linux takes as arguments and environment, and then some.
const FRONT_STACK: libc::rlim_t = 64 << 20;

impl SavedLimits {
    /// Sets the caller's limits again; to be called as root, for a hard limit may go up.
    pub(crate) fn restore(&self) -> Result<(), Errno> {
        self.limits
            .iter()
            .try_for_each(|(resource, limit)| sys::set_limit(*resource, *limit))
    }

    /// For the half that becomes the caller's again: no more than the caller may have, and of that
    /// all, because a low soft limit is meant for the command; nothing for core files.
    pub(crate) fn restore_hard(&self) -> Result<(), Errno> {
        // The kernel lowers the soft limit of the stack for set-uid programs, and with it what fits
        // into an `execve`: less than what the caller has got through one.
        let stack = sys::limit(libc::RLIMIT_STACK)?;
        let rlim_cur = stack.rlim_max.min(FRONT_STACK);
        sys::set_limit(libc::RLIMIT_STACK, libc::rlimit { rlim_cur, ..stack })?;
        self.limits.iter().try_for_each(|(resource, limit)| {
            let core = *resource == libc::RLIMIT_CORE;
            let rlim_cur = if core { 0 } else { limit.rlim_max };
            sys::set_limit(*resource, libc::rlimit { rlim_cur, ..*limit })
        })
    }
}

/// Requirement S1, in its order but for the working directory, which the drop-in form needs once more.
/// Reads nothing but what it resets.
///
/// # Errors
/// If even /dev/null cannot be opened; errors of limits are not errors, they only leave the
/// caller's own limits in force.
pub(crate) fn sanitise() -> Result<SavedLimits, StartupError> {
    for number in 0..3 {
        if fcntl(sys::borrow(number), FcntlArg::F_GETFD) == Err(Errno::EBADF) {
            let null = open("/dev/null", OFlag::O_RDWR, Mode::empty())
                .map_err(|errno| StartupError::System("opening /dev/null", errno))?;
            // The lowest free number, which is this one; it stays open for good.
            std::mem::forget(null);
        }
    }
    sys::close_from(CONTROL_FD + 1);
    sys::clear_environment();
    sys::stop_timers();
    sys::default_signals();
    sys::block_signals(true);
    umask(Mode::from_bits_truncate(0o077));
    prctl::set_dumpable(false).map_err(|errno| StartupError::System("PR_SET_DUMPABLE", errno))?;

    let mut limits = Vec::new();
    for (resource, wanted) in OWN_LIMITS {
        let Ok(limit) = sys::limit(resource) else {
            continue;
        };
        limits.push((resource, limit));
        // Never lower a hard limit: without CAP_SYS_RESOURCE the payload could not have it back.
        let raised = libc::rlimit {
            rlim_cur: wanted,
            rlim_max: wanted.max(limit.rlim_max),
        };
        if sys::set_limit(resource, raised).is_err() {
            let soft = libc::rlimit {
                rlim_cur: wanted.min(limit.rlim_max),
                ..limit
            };
            let _ = sys::set_limit(resource, soft);
        }
    }
    Ok(SavedLimits { limits })
}

/// Who calls, as the kernel says. To be asked before all uids become root's.
pub(crate) fn real_caller() -> Caller {
    let further = getgroups().unwrap_or_default();
    let groups = std::iter::once(getgid()).chain(further);
    Caller {
        uid: getuid().as_raw(),
        groups: groups.map(|gid| gid.as_raw()).collect(),
        executable: fs::read_link(format!("/proc/{}/exe", getppid())).ok(),
        ..Caller::default()
    }
}

/// The null device.
pub(crate) fn open_null() -> Result<OwnedFd, Errno> {
    open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
}

/// Away from the caller's standard streams.
pub(crate) fn drop_streams() -> Result<(), Errno> {
    let null = open_null()?;
    (0..3).try_for_each(|number| sys::place(null.as_fd(), number))
}

/// Out of the caller's working directory.
pub(crate) fn leave_directory() -> Result<(), StartupError> {
    chdir("/").map_err(|errno| StartupError::System("chdir to /", errno))
}

/// The kernel's number for the initial user namespace.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Can this process switch accounts? If not, why not.
pub(crate) fn self_check() -> Result<(), StartupError> {
    let namespace = fs::metadata("/proc/self/ns/user").map_err(|error| {
        StartupError::NoProc(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    })?;
    if namespace.ino() != INITIAL_USER_NAMESPACE {
        return Err(StartupError::UserNamespace);
    }
    if geteuid().is_root() {
        return Ok(());
    }
    if prctl::get_no_new_privs() == Ok(true) {
        return Err(StartupError::NoNewPrivileges);
    }
    let program = own_path();
    if statvfs("/proc/self/exe").is_ok_and(|facts| facts.flags().contains(FsFlags::ST_NOSUID)) {
        return Err(StartupError::NosuidMount(program));
    }
    Err(StartupError::NotSetuid(program))
}

/// Where this program lies, by the kernel's word.
pub(crate) fn own_path() -> PathBuf {
    fs::read_link("/proc/self/exe").unwrap_or_else(|_| PathBuf::from("sailplane-switch"))
}

/// Takes over descriptor 3 if it is a packet socket.
pub(crate) fn control_socket() -> Result<OwnedFd, StartupError> {
    let socket = sys::own(CONTROL_FD);
    if getsockopt(&socket, sockopt::SockType) != Ok(SockType::SeqPacket) {
        std::mem::forget(socket);
        return Err(StartupError::NoControlSocket);
    }
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
        .map_err(|errno| StartupError::System("fcntl", errno))?;
    Ok(socket)
}

/// From here on the caller can neither signal nor trace this process (requirement K1).
pub(crate) fn become_root() -> Result<(), StartupError> {
    let at = |call| move |errno| StartupError::System(call, errno);
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[]).map_err(at("setgroups"))?;
    setresgid(gid, gid, gid).map_err(at("setresgid"))?;
    setresuid(uid, uid, uid).map_err(at("setresuid"))?;
    prctl::set_dumpable(false).map_err(at("PR_SET_DUMPABLE"))?;
    // Out of the caller's terminal; fails if the caller made us a group leader, which is as good.
    let _ = setsid();
    // Orphans of payloads come to us, not to whoever happens to be above.
    prctl::set_child_subreaper(true).map_err(at("PR_SET_CHILD_SUBREAPER"))
}
