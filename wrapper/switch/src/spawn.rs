//! Children: the switch to another account (requirement S11), and what is started with it.

use std::ffi::CString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use launch_protocol::CONTROL_FD;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{
    Gid, Pid, Uid, execve, getegid, getgroups, getpid, getppid, getresgid, getresuid, setgroups,
    setresgid, setresuid, setsid,
};

use crate::account::TargetAccount;
use crate::config::NOBODY;
use crate::sys;

/// Numbers to switch to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: &'a [u32],
}

impl<'a> From<&'a TargetAccount> for Identity<'a> {
    fn from(account: &'a TargetAccount) -> Self {
        Self {
            uid: account.uid(),
            gid: account.gid(),
            groups: account.groups(),
        }
    }
}

/// Which step of a switch failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SwitchError {
    pub(crate) step: &'static str,
    pub(crate) errno: Errno,
}

/// Gives up root for good: groups, gid, uid, capabilities; reads everything back and tries to
/// regain it. After an error the process must end without doing anything else.
pub(crate) fn become_account(who: &Identity<'_>) -> Result<(), SwitchError> {
    let at = |step| move |errno| SwitchError { step, errno };
    let wrong = |step| {
        Err(SwitchError {
            step,
            errno: Errno::EPERM,
        })
    };
    if who.uid == 0 || who.uid == u32::MAX || who.gid == 0 || who.gid == u32::MAX {
        return wrong("refusing root");
    }
    sys::drop_bounding_set().map_err(at("dropping the bounding set"))?;
    let (uid, gid) = (Uid::from_raw(who.uid), Gid::from_raw(who.gid));
    let groups: Vec<_> = who.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(at("setgroups"))?;
    setresgid(gid, gid, gid).map_err(at("setresgid"))?;
    setresuid(uid, uid, uid).map_err(at("setresuid"))?;
    sys::clear_capabilities().map_err(at("clearing capabilities"))?;
    prctl::set_no_new_privs().map_err(at("no_new_privs"))?;

    let uids = getresuid().map_err(at("getresuid"))?;
    if [uids.real, uids.effective, uids.saved] != [uid; 3] {
        return wrong("reading the uids back");
    }
    let gids = getresgid().map_err(at("getresgid"))?;
    if [gids.real, gids.effective, gids.saved, getegid()] != [gid; 4] {
        return wrong("reading the gids back");
    }
    let sorted = |mut list: Vec<Gid>| {
        list.sort_unstable_by_key(|gid| gid.as_raw());
        list.dedup();
        list
    };
    if sorted(getgroups().map_err(at("getgroups"))?) != sorted(groups) {
        return wrong("reading the groups back");
    }
    if sys::any_capability().map_err(at("capget"))? != 0 {
        return wrong("reading the capabilities back");
    }
    let (root, root_group) = (Uid::from_raw(0), Gid::from_raw(0));
    if setresuid(root, root, root).is_ok() || setresgid(root_group, root_group, root_group).is_ok()
    {
        return wrong("trying to regain root");
    }
    Ok(())
}

/// Ties the child's life to the broker's. After the switch, because that resets it.
pub(crate) fn die_with(broker: Pid) -> Result<(), SwitchError> {
    let at = |step| move |errno| SwitchError { step, errno };
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(at("parent-death signal"))?;
    if getppid() != broker {
        return Err(SwitchError {
            step: "looking for the broker",
            errno: Errno::ESRCH,
        });
    }
    Ok(())
}

/// A started verifier or agent and our end of its socket.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: Pid,
    pub(crate) socket: OwnedFd,
}

pub(crate) fn packet_sockets() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )
}

/// Exit status of a child that could not become the program it should.
pub(crate) const CANNOT_START: u8 = 126;

/// Starts a verifier as nobody with its socket on 0 and nothing else.
pub(crate) fn verifier(
    program: &Path,
    certdir: &Path,
    null: BorrowedFd<'_>,
) -> Result<Started, Errno> {
    let (ours, theirs) = packet_sockets()?;
    let argv = [cstring(Path::new("sailplane-verify"))?, cstring(certdir)?];
    let program = cstring(program)?;
    let broker = getpid();
    let nobody = Identity {
        uid: NOBODY,
        gid: NOBODY,
        groups: &[],
    };
    let pid = sys::child(None, || {
        let ready = sys::place(theirs.as_fd(), 0)
            .and_then(|()| sys::place(null, 1))
            .and_then(|()| sys::place(null, 2))
            .and_then(|()| setsid().map(drop))
            .map_err(|errno| SwitchError {
                step: "descriptors",
                errno,
            })
            .and_then(|()| {
                sys::close_from(3);
                become_account(&nobody)
            })
            .and_then(|()| die_with(broker));
        if ready.is_ok() {
            sys::block_signals(false);
            let _ = execve::<_, CString>(&program, &argv, &[]);
        }
        CANNOT_START
    })?;
    Ok(Started { pid, socket: ours })
}

/// The null device on 0 to 2 and one descriptor on 3.
pub(crate) fn arrange(null: BorrowedFd<'_>, third: BorrowedFd<'_>) -> Result<(), Errno> {
    sys::place(null, 0)
        .and_then(|()| sys::place(null, 1))
        .and_then(|()| sys::place(null, 2))
        .and_then(|()| sys::place(third, CONTROL_FD))
}

/// Runs `work` in a child as the payload's account, with no descriptor but the null device and
/// `keep`, which it gets as its own copy.
pub(crate) fn as_account(
    account: &Identity<'_>,
    null: BorrowedFd<'_>,
    keep: Option<BorrowedFd<'_>>,
    work: impl FnOnce(OwnedFd) -> u8,
) -> Result<Pid, Errno> {
    let broker = getpid();
    sys::child(None, || {
        if arrange(null, keep.unwrap_or(null)).is_err() {
            return CANNOT_START;
        }
        sys::close_from(CONTROL_FD + 1);
        if setsid().is_err() || become_account(account).is_err() || die_with(broker).is_err() {
            return CANNOT_START;
        }
        sys::block_signals(false);
        work(sys::own(CONTROL_FD))
    })
}

/// In a child that has become an account: is it the only process of it? Asked of the kernel's own
/// count, which has no gaps as a scan of process numbers has: the child allows itself two processes
/// and tries to fork. Zombies count until they are reaped. `None`: it cannot be found out.
pub(crate) fn is_alone() -> Option<bool> {
    let two = libc::rlimit {
        rlim_cur: 2,
        rlim_max: 2,
    };
    sys::set_limit(libc::RLIMIT_NPROC, two).ok()?;
    match sys::child(None, || 0) {
        Ok(second) => {
            let _ = sys::wait_for(second);
            Some(true)
        }
        Err(_) => Some(false),
    }
}

/// Does any process run as this uid? See [`is_alone`].
pub(crate) fn is_in_use(account: &Identity<'_>, null: BorrowedFd<'_>) -> Result<bool, Errno> {
    let child = as_account(account, null, None, |_| match is_alone() {
        Some(true) => 0,
        Some(false) => 1,
        None => CANNOT_START,
    })?;
    match sys::wait_for(child)? {
        0 => Ok(false),
        status if status == 1 << 8 => Ok(true),
        _ => Err(Errno::EPERM),
    }
}

/// Kills every process of a uid that is the payload's alone: as the account, "everything I may signal".
pub(crate) fn kill_all_of(account: &Identity<'_>, null: BorrowedFd<'_>) -> Result<(), Errno> {
    let child = as_account(account, null, None, |_| {
        u8::from(sys::kill(-1, libc::SIGKILL).is_err())
    })?;
    sys::wait_for(child).map(drop)
}

pub(crate) fn cstring(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}
