//! Children: the switch to another account (requirement S11), and what is started with it.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use launch_protocol::agent::Reply;
use launch_protocol::monitor::Numbers;
use launch_protocol::order::Order;
use launch_protocol::{CONTROL_FD, MAX_PACKET};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use nix::sys::stat::Mode;
use nix::unistd::{
    Gid, Pid, Uid, execve, fexecve, getegid, getgroups, getpid, getppid, getresgid, getresuid, setgroups, setresgid,
    setresuid, setsid,
};

use crate::cgroup::Group;
use crate::isolate;
use crate::startup::{SavedLimits, block_signals};
use crate::sys;

/// User and group number of "nobody", for programs that are to have no rights at all.
pub(crate) static NOBODY: Numbers = Numbers { uid: 65_534, gid: 65_534, groups: Vec::new() };

/// Which step of a switch failed, and how.
pub(crate) type Failure = (&'static str, Errno);

/// Makes one of an error.
pub(crate) fn at(step: &'static str) -> impl Fn(Errno) -> Failure {
    move |errno| (step, errno)
}

/// A step that had another outcome than it must.
fn wrong<T>(step: &'static str) -> Result<T, Failure> {
    Err((step, Errno::EPERM))
}

/// What a switch begins with, and what needs no account: no program that this process becomes will have a capability.
fn prepare_to_switch() -> Result<(), Failure> {
    sys::leave_keyring().map_err(at("leaving the caller's keyring"))?;
    sys::drop_bounding_set().map_err(at("dropping the bounding set"))
}

/// Then gives up root for good: groups, gid, uid, capabilities; reads everything back and tries to
/// regain it. After an error the process must end without doing anything else.
fn become_account(who: &Numbers) -> Result<(), Failure> {
    if who.uid == 0 || who.uid == u32::MAX || who.gid == 0 || who.gid == u32::MAX {
        return wrong("refusing root");
    }
    let (uid, gid) = (Uid::from_raw(who.uid), Gid::from_raw(who.gid));
    let groups: Vec<_> = who.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(at("setgroups"))?;
    setresgid(gid, gid, gid).map_err(at("setresgid"))?;
    setresuid(uid, uid, uid).map_err(at("setresuid"))?;
    sys::clear_capabilities().map_err(at("clearing capabilities"))?;
    prctl::set_no_new_privs().map_err(at("no_new_privs"))?;

    read_back(uid, gid)?;
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
    if prctl::get_no_new_privs() != Ok(true) {
        return wrong("reading no_new_privs back");
    }
    let (root, root_group) = (Uid::from_raw(0), Gid::from_raw(0));
    if setresuid(root, root, root).is_ok() || setresgid(root_group, root_group, root_group).is_ok() {
        return wrong("trying to regain root");
    }
    Ok(())
}

/// Are all user and group numbers of this process these?
pub(crate) fn read_back(uid: Uid, gid: Gid) -> Result<(), Failure> {
    let uids = getresuid().map_err(at("getresuid"))?;
    if [uids.real, uids.effective, uids.saved] != [uid; 3] {
        return wrong("reading the uids back");
    }
    let gids = getresgid().map_err(at("getresgid"))?;
    if [gids.real, gids.effective, gids.saved, getegid()] != [gid; 4] {
        return wrong("reading the gids back");
    }
    Ok(())
}

/// Ties the child's life to the broker's. After the switch, because that resets it. Where the broker
/// has no number, its end also is that of the first process of the child's own numbers.
pub(crate) fn die_with(broker: Pid) -> Result<(), Failure> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(at("parent-death signal"))?;
    if getppid() != broker {
        return wrong("looking for the parent");
    }
    Ok(())
}

pub(crate) fn packet_sockets() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}

/// The exit status of a child that has been reaped or is ending; one that is not, a second later, is killed.
pub(crate) fn end(child: Pid, reaped: Option<i32>) -> u8 {
    let status = reaped.unwrap_or_else(|| {
        if let Ok(handle) = sys::process_descriptor(child) {
            let mut polled = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut polled, PollTimeout::from(1000_u16));
        }
        // Not reaped, so the number is its own; and if it has ended, its status stays.
        let _ = sys::kill(child.as_raw(), libc::SIGKILL);
        sys::wait_for(child).unwrap_or(0)
    });
    match status & 0x7f {
        0 => u8::try_from(status >> 8 & 0xff).unwrap_or(u8::MAX),
        _ => CHILD_KILLED,
    }
}

/// Stands for the exit status of a child that was killed.
const CHILD_KILLED: u8 = 113;

/// Exit status of a child that could not become the program it should.
pub(crate) const CANNOT_START: u8 = 126;

/// A program to be started as somebody else, who never is root.
#[derive(Clone, Copy)]
pub(crate) struct Child<'a> {
    pub(crate) who: Who<'a>,
    pub(crate) program: &'a Path,
    /// Its arguments behind its name.
    pub(crate) words: &'a [&'a OsStr],
    pub(crate) environment: &'a [CString],
    /// What it finds on 0, 1, 2 and so on; nothing else stays open.
    pub(crate) descriptors: &'a [BorrowedFd<'a>],
    /// Where it lives, if not with the monitor.
    pub(crate) group: Option<&'a Group>,
    /// Its parent has a number where it is born.
    pub(crate) sees_parent: bool,
    /// It goes before everything that is not urgent.
    pub(crate) urgent: bool,
}

/// As whom.
#[derive(Clone, Copy)]
pub(crate) enum Who<'a> {
    /// At once.
    Known(&'a Numbers),
    /// As the order says that will come on descriptor 3; with these resource limits, which that may lower. If it
    /// cannot be, whoever then has the other end of that is told.
    Ordered(&'a SavedLimits),
}

impl<'a> Child<'a> {
    /// One with nothing but its name and descriptors.
    pub(crate) fn plain(
        who: &'a Numbers,
        program: &'a Path,
        words: &'a [&'a OsStr],
        descriptors: &'a [BorrowedFd<'a>],
    ) -> Self {
        let who = Who::Known(who);
        let (environment, group) = (&[], None);
        Self { who, program, words, environment, descriptors, group, sees_parent: true, urgent: false }
    }

    /// Starts it. A child that cannot become it ends with [`CANNOT_START`].
    pub(crate) fn start(&self) -> Result<Pid, Errno> {
        let name = self.program.file_name().into_iter();
        let words = name.chain(self.words.iter().copied()).map(cstring);
        let words = words.collect::<Result<Vec<_>, _>>()?;
        let parent = if self.sees_parent { getpid() } else { Pid::from_raw(0) };
        let life = |enter: bool| {
            let joined = self.group.map_or(Ok(()), |group| group.join(enter));
            // Before anything is said on descriptor 3, which until now is the pilot's.
            if place_all(self.descriptors).is_err() {
                return CANNOT_START;
            }
            let joined = joined.map_err(at("joining the group"));
            let Err(failure) = joined.and_then(|()| self.become_it(parent, words.clone()));
            if let Who::Ordered(_) = self.who {
                report(failure);
            }
            CANNOT_START
        };
        // Before it is born, or it would have to wait for its turn to say so.
        if self.urgent {
            sys::be_urgent(true);
        }
        let child = match self.group {
            Some(group) => group.bear(life),
            None => sys::child(None, || life(false)),
        };
        if self.urgent {
            sys::be_urgent(false);
        }
        child
    }

    fn become_it(&self, parent: Pid, mut words: Vec<CString>) -> Result<Infallible, Failure> {
        // The program may not be seen any more where the payload lives.
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let file = open(self.program, flags, Mode::empty()).map_err(at("opening the program"))?;
        setsid().map_err(at("setsid"))?;
        // Now: whoever waits for an order has time.
        prepare_to_switch()?;
        let mut elsewhere = false;
        match self.who {
            Who::Known(who) => become_account(who)?,
            Who::Ordered(limits) => {
                die_with(parent)?;
                let order = receive().map_err(at("waiting for orders"))?;
                limits.restore().map_err(at("resource limits"))?;
                for (resource, most) in &order.rlimits {
                    sys::cap(*resource, *most).map_err(at("the site's resource limits"))?;
                }
                sys::be_nice(order.nice).map_err(at("the nice value"))?;
                isolate::enter(&order.view)?;
                let Order { uid, gid, groups, .. } = order;
                become_account(&Numbers { uid, gid, groups })?;
                for word in &order.words {
                    words.push(cstring(word).map_err(at("the agent's arguments"))?);
                }
                elsewhere = order.view.chroot.is_some();
            }
        }
        // The switch has taken it back.
        die_with(parent)?;
        block_signals(false);
        if elsewhere {
            return fexecve(&file, &words, self.environment).map_err(at("execve"));
        }
        let program = cstring(self.program.as_os_str()).map_err(at("the program's name"))?;
        execve(&program, &words, self.environment).map_err(at("execve"))
    }
}

/// Tells the pilot, who by then has or will get the other end.
fn report((step, errno): Failure) {
    let message = format!("the agent cannot start: {step}: {}", errno.desc());
    if let Ok(packet) = (Reply::Trouble { errno: errno as i32, message }).encode() {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let _ = send(CONTROL_FD, &packet, flags);
    }
}

/// The order.
fn receive() -> Result<Order, Errno> {
    let mut packet = vec![0; MAX_PACKET];
    let length = loop {
        match recv(CONTROL_FD, &mut packet, MsgFlags::empty()) {
            // The monitor has no use for us any more.
            Ok(0) => sys::exit_now(0),
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let packet = packet.get(..length).unwrap_or_default();
    Order::decode(packet).map_err(|_| Errno::EBADMSG)
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

pub(crate) fn cstring(text: &OsStr) -> Result<CString, Errno> {
    CString::new(text.as_bytes()).map_err(|_| Errno::EINVAL)
}
