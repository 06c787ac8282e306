//! From the first instruction to a program that nobody outside can influence any more
//! (requirement S1), and whether it can do its work at all (G3, S4).

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{
    Gid, Uid, chdir, geteuid, getgid, getgroups, getppid, getuid, setgroups, setresgid, setresuid, setsid,
};

use crate::refuse::{caller, site, system};
use crate::sys;
use launch_protocol::CONTROL_FD;
use launch_protocol::broker::Refusal;
use launch_protocol::policy::Caller;

/// Resource limits as the caller had them, soft and hard, by the kernel's numbers; payloads get them back.
#[derive(Clone, Debug)]
pub(crate) struct SavedLimits(Vec<(u32, [u64; 2])>);

/// How many resources the kernel limits.
const RESOURCES: u32 = 16;
const CORE: u32 = Resource::RLIMIT_CORE as u32;
const NOFILE: u32 = Resource::RLIMIT_NOFILE as u32;
const STACK: u32 = Resource::RLIMIT_STACK as u32;
/// Descriptors the helper may have open.
const OWN_DESCRIPTORS: u64 = 16_384;
/// Four times the most that Linux takes as arguments and environment, and then some.
const FRONT_STACK: u64 = 64 << 20;

impl SavedLimits {
    /// Sets what the helper wants for itself, and keeps what was. The stack is left: it is this program's own; and so
    /// is what concerns nobody without privilege.
    fn replace() -> Self {
        let mut saved = Vec::new();
        // Nor the nice value's and the real-time priority's: the same numbers on every architecture.
        for resource in (0..RESOURCES).filter(|it| ![STACK, 13, 14].contains(it)) {
            let wanted = match resource {
                CORE => 0,
                NOFILE => OWN_DESCRIPTORS,
                _ => RLIM_INFINITY,
            };
            let Ok([soft, hard]) = sys::limits(resource, None) else {
                continue;
            };
            saved.push((resource, [soft, hard]));
            // Never lower a hard limit: without CAP_SYS_RESOURCE the payload could not have it back.
            if sys::limits(resource, Some([wanted, wanted.max(hard)])).is_err() {
                let _ = sys::limits(resource, Some([wanted.min(hard), hard]));
            }
        }
        Self(saved)
    }

    /// Sets the caller's limits again; to be called as root, for a hard limit may go up.
    pub(crate) fn restore(&self) -> Result<(), Errno> {
        let mut saved = self.0.iter();
        saved.try_for_each(|(resource, limits)| sys::limits(*resource, Some(*limits)).map(drop))
    }

    /// For the half that becomes the caller's again: no more than the caller may have, and of that
    /// all, because a low soft limit is meant for the command; nothing for core files.
    pub(crate) fn restore_hard(&self) -> Result<(), Errno> {
        // The kernel lowers the soft limit of the stack for set-uid programs, and with it what fits
        // into an `execve`: less than what the caller has got through one.
        let [_, stack] = sys::limits(STACK, None)?;
        sys::limits(STACK, Some([stack.min(FRONT_STACK), stack]))?;
        self.0.iter().try_for_each(|(resource, [_, hard])| {
            let soft = if *resource == CORE { 0 } else { *hard };
            sys::limits(*resource, Some([soft, *hard])).map(drop)
        })
    }
}

/// Requirement S1, in its order but for the working directory, which the drop-in form needs once more.
/// Reads nothing but what it resets.
///
/// # Errors
/// If even /dev/null cannot be opened; errors of limits are not errors, they only leave the
/// caller's own limits in force.
pub(crate) fn sanitise() -> Result<SavedLimits, Refusal> {
    for number in 0..3 {
        if fcntl(sys::borrow(number), FcntlArg::F_GETFD) == Err(Errno::EBADF) {
            let null = open("/dev/null", OFlag::O_RDWR, Mode::empty()).map_err(system("opening /dev/null"))?;
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
    prctl::set_dumpable(false).map_err(system("PR_SET_DUMPABLE"))?;
    Ok(SavedLimits::replace())
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
pub(crate) fn leave_directory() -> Result<(), Refusal> {
    chdir("/").map_err(system("chdir to /"))
}

/// The kernel's number for the initial user namespace.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Can this process switch accounts? If not, why not.
pub(crate) fn self_check() -> Result<(), Refusal> {
    let namespace = fs::metadata("/proc/self/ns/user").map_err(|error| {
        let why = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)).desc();
        site("startup.proc", format!("/proc cannot be read: {why}; mount it"))
    })?;
    let program = own_path();
    let (code, text) = if namespace.ino() != INITIAL_USER_NAMESPACE {
        let text = "this is not the initial user namespace, where accounts cannot be switched; start the pilot \
                    outside of the container's user namespace";
        ("startup.userns", text.to_owned())
    } else if geteuid().is_root() {
        return Ok(());
    } else if prctl::get_no_new_privs() == Ok(true) {
        let text = "the caller runs with no_new_privs, so the set-uid bit has no effect; remove that restriction \
                    from the batch system's or container's settings";
        ("startup.no_new_privs", text.to_owned())
    } else if is_traced() {
        let text = "this program is being traced, so the set-uid bit has no effect; start it without strace \
                    or a debugger";
        ("startup.traced", text.to_owned())
    } else if statvfs("/proc/self/exe").is_ok_and(|it| it.flags().contains(FsFlags::ST_NOSUID)) {
        let text = "lies on a file system mounted nosuid; install it on one that is not";
        ("startup.nosuid", format!("{} {text}", program.display()))
    } else {
        let text = "must belong to root and have the set-uid bit (chown root, chmod 4755)";
        ("startup.setuid", format!("{} {text}", program.display()))
    };
    Err(site(code, text))
}

fn is_traced() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    !status.contains("TracerPid:\t0\n")
}

/// Where this program lies, by the kernel's word.
pub(crate) fn own_path() -> PathBuf {
    fs::read_link("/proc/self/exe").unwrap_or_else(|_| PathBuf::from("sailplane-switch"))
}

/// Takes over descriptor 3 if it is a packet socket.
pub(crate) fn control_socket() -> Result<OwnedFd, Refusal> {
    let socket = sys::borrow(CONTROL_FD);
    if getsockopt(&socket, sockopt::SockType) != Ok(SockType::SeqPacket) {
        let text = "descriptor 3 is not a packet socket; the pilot must start this program";
        return Err(caller("startup.socket", text));
    }
    fcntl(socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(system("fcntl"))?;
    Ok(sys::own(CONTROL_FD))
}

/// From here on the caller can neither signal nor trace this process (requirement K1).
pub(crate) fn become_root() -> Result<(), Refusal> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setgroups(&[]).map_err(system("setgroups"))?;
    setresgid(gid, gid, gid).map_err(system("setresgid"))?;
    setresuid(uid, uid, uid).map_err(system("setresuid"))?;
    prctl::set_dumpable(false).map_err(system("PR_SET_DUMPABLE"))?;
    // Out of the caller's terminal; fails if the caller made us a group leader, which is as good.
    let _ = setsid();
    // Orphans of payloads come to us, not to whoever happens to be above.
    prctl::set_child_subreaper(true).map_err(system("PR_SET_CHILD_SUBREAPER"))
}
