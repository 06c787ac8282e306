//! From the first instruction to a program that nobody outside can influence any more
//! (requirement S1), and whether it can do its work at all (G3, S4).

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{
    Gid, Uid, chdir, geteuid, getgid, getgroups, getppid, getuid, setgroups, setresgid, setresuid,
    setsid,
};

use crate::error::{CALLER, StartupError};
use crate::sys;
use launch_protocol::CONTROL_FD;
use launch_protocol::policy::Caller;

/// Resource limits as the caller had them, soft and hard; payloads get them back.
#[derive(Clone, Debug)]
pub(crate) struct SavedLimits {
    limits: Vec<(Resource, rlim_t, rlim_t)>,
}

/// What the helper sets for itself. The stack is left: it is this program's own.
const OWN_LIMITS: [(Resource, rlim_t); 13] = [
    (Resource::RLIMIT_CORE, 0),
    (Resource::RLIMIT_NOFILE, OWN_DESCRIPTORS),
    (Resource::RLIMIT_AS, RLIM_INFINITY),
    (Resource::RLIMIT_CPU, RLIM_INFINITY),
    (Resource::RLIMIT_DATA, RLIM_INFINITY),
    (Resource::RLIMIT_FSIZE, RLIM_INFINITY),
    (Resource::RLIMIT_LOCKS, RLIM_INFINITY),
    (Resource::RLIMIT_MEMLOCK, RLIM_INFINITY),
    (Resource::RLIMIT_MSGQUEUE, RLIM_INFINITY),
    (Resource::RLIMIT_NPROC, RLIM_INFINITY),
    (Resource::RLIMIT_RSS, RLIM_INFINITY),
    (Resource::RLIMIT_RTTIME, RLIM_INFINITY),
    (Resource::RLIMIT_SIGPENDING, RLIM_INFINITY),
];

/// Descriptors the helper may have open.
const OWN_DESCRIPTORS: rlim_t = 16_384;

/// Four times the most that Linux takes as arguments and environment, and then some.
const FRONT_STACK: rlim_t = 64 << 20;

impl SavedLimits {
    /// Sets the caller's limits again; to be called as root, for a hard limit may go up.
    pub(crate) fn restore(&self) -> Result<(), Errno> {
        let mut limits = self.limits.iter();
        limits.try_for_each(|(resource, soft, hard)| setrlimit(*resource, *soft, *hard))
    }

    /// For the half that becomes the caller's again: no more than the caller may have, and of that
    /// all, because a low soft limit is meant for the command; nothing for core files.
    pub(crate) fn restore_hard(&self) -> Result<(), Errno> {
        // The kernel lowers the soft limit of the stack for set-uid programs, and with it what fits
        // into an `execve`: less than what the caller has got through one.
        let (_, stack) = getrlimit(Resource::RLIMIT_STACK)?;
        setrlimit(Resource::RLIMIT_STACK, stack.min(FRONT_STACK), stack)?;
        self.limits.iter().try_for_each(|(resource, _, hard)| {
            let soft = if *resource == Resource::RLIMIT_CORE { 0 } else { *hard };
            setrlimit(*resource, soft, *hard)
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
                .map_err(|errno| StartupError::system("opening /dev/null", errno))?;
            // The lowest free number, which is this one; it stays open for good.
            std::mem::forget(null);
        }
    }
    sys::close_from(CONTROL_FD + 1);
    sys::clear_environment();
    sys::stop_timers();
    sys::default_signals();
    block_signals(true);
    umask(Mode::from_bits_truncate(0o077));
    prctl::set_dumpable(false).map_err(|errno| StartupError::system("PR_SET_DUMPABLE", errno))?;

    let mut limits = Vec::new();
    for (resource, wanted) in OWN_LIMITS {
        let Ok((soft, hard)) = getrlimit(resource) else {
            continue;
        };
        limits.push((resource, soft, hard));
        // Never lower a hard limit: without CAP_SYS_RESOURCE the payload could not have it back.
        if setrlimit(resource, wanted, wanted.max(hard)).is_err() {
            let _ = setrlimit(resource, wanted.min(hard), hard);
        }
    }
    Ok(SavedLimits { limits })
}

/// Blocks every signal that can be blocked, or none.
pub(crate) fn block_signals(block: bool) {
    let set = if block { SigSet::all() } else { SigSet::empty() };
    // Fails for an unknown way to combine sets only.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None);
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
    chdir("/").map_err(|errno| StartupError::system("chdir to /", errno))
}

/// The kernel's number for the initial user namespace.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Can this process switch accounts? If not, why not.
pub(crate) fn self_check() -> Result<(), StartupError> {
    let namespace = fs::metadata("/proc/self/ns/user").map_err(|error| {
        let why = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)).desc();
        StartupError::site("startup.proc", format!("/proc cannot be read: {why}; mount it"))
    })?;
    if namespace.ino() != INITIAL_USER_NAMESPACE {
        let text = "this is not the initial user namespace, where accounts cannot be switched; start the pilot \
                    outside of the container's user namespace";
        return Err(StartupError::site("startup.userns", text.to_owned()));
    }
    if geteuid().is_root() {
        return Ok(());
    }
    if prctl::get_no_new_privs() == Ok(true) {
        let text = "the caller runs with no_new_privs, so the set-uid bit has no effect; remove that restriction \
                    from the batch system's or container's settings";
        return Err(StartupError::site("startup.no_new_privs", text.to_owned()));
    }
    let program = own_path();
    if statvfs("/proc/self/exe").is_ok_and(|facts| facts.flags().contains(FsFlags::ST_NOSUID)) {
        let text = "lies on a file system mounted nosuid; install it on one that is not";
        return Err(StartupError::site("startup.nosuid", format!("{} {text}", program.display())));
    }
    let text = "must belong to root and have the set-uid bit (chown root, chmod 4755)";
    Err(StartupError::site("startup.setuid", format!("{} {text}", program.display())))
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
        let text = "descriptor 3 is not a packet socket; the pilot must start this program";
        return Err(StartupError::caller(CALLER, "startup.socket", text));
    }
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
        .map_err(|errno| StartupError::system("fcntl", errno))?;
    Ok(socket)
}

/// From here on the caller can neither signal nor trace this process (requirement K1).
pub(crate) fn become_root() -> Result<(), StartupError> {
    let at = |call| move |errno| StartupError::system(call, errno);
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
