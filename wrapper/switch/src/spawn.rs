//! Children: the switch to another account (requirement S11), and what is started with it.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use launch_protocol::CONTROL_FD;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{
    Gid, Pid, Uid, execve, getegid, getgroups, getpid, getppid, getresgid, getresuid, setgroups,
    setresgid, setresuid, setsid,
};

use crate::account::TargetAccount;
use crate::cgroup::Group;
use crate::isolate::Numbers;
use crate::startup::block_signals;
use crate::sys;

/// User and group number of "nobody", for programs that are to have no rights at all.
pub(crate) const NOBODY: u32 = 65_534;

/// Numbers to switch to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: &'a [u32],
}

impl<'a> From<&'a TargetAccount> for Identity<'a> {
    fn from(account: &'a TargetAccount) -> Self {
        Self { uid: account.uid(), gid: account.gid(), groups: account.groups() }
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
    let wrong = |step| Err(SwitchError { step, errno: Errno::EPERM });
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

/// The number that a child to be made will see for this process.
pub(crate) fn parent_seen(seen: bool) -> Pid {
    if seen { getpid() } else { Pid::from_raw(0) }
}

/// Ties the child's life to the broker's. After the switch, because that resets it. Where the broker
/// has no number, its end also is that of the first process of the child's own numbers.
pub(crate) fn die_with(broker: Pid) -> Result<(), SwitchError> {
    let at = |step| move |errno| SwitchError { step, errno };
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(at("parent-death signal"))?;
    if getppid() != broker {
        return Err(SwitchError { step: "looking for the broker", errno: Errno::ESRCH });
    }
    Ok(())
}

/// A started verifier or agent and our end of its socket.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: Pid,
    pub(crate) socket: OwnedFd,
    /// Its own process numbers, if it has such.
    pub(crate) numbers: Option<Numbers>,
}

pub(crate) fn packet_sockets() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// The exit status of a child that has been reaped or is ending; one that is not, a second later, is killed.
pub(crate) fn end(child: Pid, reaped: Option<i32>) -> u8 {
    let status = reaped.unwrap_or_else(|| wait_a_second(child));
    match status & 0x7f {
        0 => u8::try_from(status >> 8 & 0xff).unwrap_or(u8::MAX),
        _ => CHILD_KILLED,
    }
}

fn wait_a_second(child: Pid) -> i32 {
    let handle = sys::process_descriptor(child);
    let ending = handle.is_ok_and(|handle| {
        let mut polled = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::from(1000_u16)) == Ok(1)
    });
    if !ending {
        let _ = sys::kill(child.as_raw(), libc::SIGKILL);
    }
    sys::wait_for(child).unwrap_or(0)
}

/// Stands for the exit status of a child that was killed.
const CHILD_KILLED: u8 = 113;

/// Exit status of a child that could not become the program it should.
pub(crate) const CANNOT_START: u8 = 126;

/// A program to be run as somebody else, who never is root.
#[derive(Clone, Copy)]
pub(crate) struct Errand<'a> {
    pub(crate) who: Identity<'a>,
    pub(crate) program: &'a Path,
    /// Its arguments, its name first.
    pub(crate) words: &'a [&'a OsStr],
    pub(crate) environment: &'a [CString],
    /// What it finds on 0, 1, 2 and so on; nothing else stays open.
    pub(crate) descriptors: &'a [BorrowedFd<'a>],
    /// Where it lives, if not with the broker.
    pub(crate) group: Option<&'a Group>,
    /// Its parent has a number where it is born.
    pub(crate) sees_parent: bool,
    /// It goes before everything that is not urgent.
    pub(crate) urgent: bool,
}

impl Errand<'_> {
    /// Starts it. A child that cannot become it ends with [`CANNOT_START`].
    pub(crate) fn start(&self) -> Result<Pid, Errno> {
        let program = cstring(self.program.as_os_str())?;
        let words = self.words.iter().map(|word| cstring(word));
        let words = words.collect::<Result<Vec<_>, _>>()?;
        let parent = parent_seen(self.sees_parent);
        let become_it = || -> Result<Infallible, SwitchError> {
            let at = |step| move |errno| SwitchError { step, errno };
            if let Some(group) = self.group {
                group.join(true).map_err(at("joining the group"))?;
            }
            place_all(self.descriptors).map_err(at("descriptors"))?;
            setsid().map_err(at("setsid"))?;
            become_account(&self.who)?;
            die_with(parent)?;
            block_signals(false);
            execve(&program, &words, self.environment).map_err(at("execve"))
        };
        // Before it is born, or it would have to wait for its turn to say so.
        if self.urgent {
            sys::be_urgent(true);
        }
        let child = sys::child(None, || match become_it() {
            Ok(never) => match never {},
            Err(_) => CANNOT_START,
        });
        if self.urgent {
            sys::be_urgent(false);
        }
        child
    }
}

/// Puts descriptors on 0, 1, 2 and so on, and closes all others.
fn place_all(descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let count = RawFd::try_from(descriptors.len()).map_err(|_| Errno::EMFILE)?;
    // Out of the way first: one may stand where another is to go.
    let copies = descriptors
        .iter()
        .map(|file| fcntl(file, FcntlArg::F_DUPFD(count)).map(sys::own))
        .collect::<Result<Vec<_>, _>>()?;
    for (number, copy) in (0..).zip(&copies) {
        sys::place(copy.as_fd(), number)?;
    }
    std::mem::forget(copies);
    sys::close_from(count);
    Ok(())
}

/// The null device on 0 to 2 and one descriptor on 3.
pub(crate) fn arrange(null: BorrowedFd<'_>, third: BorrowedFd<'_>) -> Result<(), Errno> {
    sys::place(null, 0)
        .and_then(|()| sys::place(null, 1))
        .and_then(|()| sys::place(null, 2))
        .and_then(|()| sys::place(third, CONTROL_FD))
}

pub(crate) fn cstring(text: &OsStr) -> Result<CString, Errno> {
    CString::new(text.as_bytes()).map_err(|_| Errno::EINVAL)
}
