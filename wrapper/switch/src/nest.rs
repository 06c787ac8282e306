//! Agents, and groups that wait for a payload with a process already inside.
//!
//! Making groups takes time, and entering a cgroup2 group by hand can take the kernel ten
//! milliseconds, because it waits for all processors to notice; so does an old memory group before
//! Linux 5.5. So a group is made ahead of need, and a child of the broker sits in it, still root,
//! waiting for its orders on the socket that will be the agent's. The order names account and
//! sandbox; the child then switches and becomes the agent.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use launch_protocol::agent::Reply;
use launch_protocol::{CONTROL_FD, MAX_PACKET};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use nix::unistd::{Pid, execve, getpid, setsid};

use crate::account::TargetAccount;
use crate::cgroup::{Group, Tracking};
use crate::spawn::{
    CANNOT_START, Identity, Started, SwitchError, arrange, become_account, cstring, die_with,
    packet_sockets,
};
use crate::startup::SavedLimits;
use crate::sys;

/// What every agent starts with.
#[derive(Clone, Copy)]
pub(crate) struct Kit<'a> {
    pub(crate) program: &'a Path,
    pub(crate) limits: &'a SavedLimits,
    pub(crate) null: BorrowedFd<'a>,
}

/// A group with a child waiting in it.
#[derive(Debug)]
pub(crate) struct Nest {
    pub(crate) group: Group,
    /// For the lease's record.
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) waiting: Started,
}

/// Keeps one nest ready.
#[derive(Debug, Default)]
pub(crate) struct Nursery {
    ready: Option<Nest>,
    /// The child of one died unused; do not make the next before somebody asks.
    spoiled: bool,
    made: u32,
}

impl Nursery {
    /// Should one be made ahead of need?
    pub(crate) fn is_cold(&self) -> bool {
        self.ready.is_none() && !self.spoiled
    }

    /// Makes one ahead of need.
    pub(crate) fn warm_up(&mut self, tracking: &Tracking, kit: Kit<'_>) {
        if self.is_cold() {
            match self.make(tracking, kit) {
                Ok(nest) => self.ready = Some(nest),
                // Whoever asks will be told why.
                Err(_) => self.spoiled = true,
            }
        }
    }

    /// Somebody will ask soon.
    pub(crate) fn expect_use(&mut self) {
        self.spoiled = false;
    }

    /// Is one waiting?
    pub(crate) fn is_warm(&self) -> bool {
        self.ready.is_some()
    }

    /// The ready one, or a new one.
    pub(crate) fn take(&mut self, tracking: &Tracking, kit: Kit<'_>) -> Result<Nest, Errno> {
        self.spoiled = false;
        match self.ready.take() {
            Some(nest) => Ok(nest),
            None => self.make(tracking, kit),
        }
    }

    fn make(&mut self, tracking: &Tracking, kit: Kit<'_>) -> Result<Nest, Errno> {
        self.made += 1;
        let name = format!("sailplane-{}-{}", getpid(), self.made);
        let mut group = tracking.create(&name)?;
        match hatch(&group, true, kit) {
            Ok(waiting) => Ok(Nest {
                group,
                directories: tracking.directories(&name),
                waiting,
            }),
            Err(errno) => {
                let _ = group.remove();
                Err(errno)
            }
        }
    }

    /// Takes note that a child has been reaped; true if it was the waiting one.
    pub(crate) fn reaped(&mut self, child: Pid) -> bool {
        let ours = self
            .ready
            .as_ref()
            .is_some_and(|nest| nest.waiting.pid == child);
        if ours && let Some(mut nest) = self.ready.take() {
            let _ = nest.group.remove();
            self.spoiled = true;
        }
        ours
    }

    /// Takes the ready one down; its child must be gone before the group can be removed.
    pub(crate) fn close(&mut self) {
        if let Some(Nest {
            mut group, waiting, ..
        }) = self.ready.take()
        {
            let _ = sys::kill(waiting.pid.as_raw(), libc::SIGKILL);
            let _ = sys::wait_for(waiting.pid);
            let _ = group.remove();
        }
    }
}

/// Makes a child in the group that waits for its order. Not `with_memory`: it stays out of an old
/// memory group, so that moving files out after a payload costs no waiting and is not counted.
pub(crate) fn hatch(group: &Group, with_memory: bool, kit: Kit<'_>) -> Result<Started, Errno> {
    let (ours, theirs) = packet_sockets()?;
    let program = cstring(kit.program.as_os_str())?;
    let broker = getpid();
    let life = |enter: bool| {
        // First of all, so that descriptor 3 no longer is the pilot's.
        if arrange(kit.null, theirs.as_fd()).is_err() {
            return CANNOT_START;
        }
        let joined = group.join(enter, with_memory);
        sys::close_from(CONTROL_FD + 1);
        let joined = joined.map_err(|errno| SwitchError {
            step: "joining the payload's group",
            errno,
        });
        let Err(failure) = joined.and_then(|()| wait_and_become(broker, &program, kit.limits));
        report(failure);
        CANNOT_START
    };
    let pid = match group.entry() {
        Some(entry) => sys::child(Some(entry), || life(false))?,
        None => sys::child(None, || life(true))?,
    };
    Ok(Started { pid, socket: ours })
}

/// Tells the pilot, who by then has or will get the other end.
fn report(failure: SwitchError) {
    let (errno, step) = (failure.errno, failure.step);
    let message = format!("the agent cannot start: {step}: {}", errno.desc());
    if let Ok(packet) = (Reply::Trouble {
        errno: errno as i32,
        message,
    })
    .encode()
    {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let _ = send(CONTROL_FD, &packet, flags);
    }
}

fn wait_and_become(
    broker: Pid,
    program: &CString,
    limits: &SavedLimits,
) -> Result<std::convert::Infallible, SwitchError> {
    let at = |step| move |errno| SwitchError { step, errno };
    setsid().map_err(at("setsid"))?;
    die_with(broker)?;
    let order = receive().map_err(at("waiting for orders"))?;
    limits.restore().map_err(at("resource limits"))?;
    become_account(&Identity {
        uid: order.uid,
        gid: order.gid,
        groups: &order.groups,
    })?;
    // The switch has taken it back.
    die_with(broker)?;
    sys::block_signals(false);
    let name = c"sailplane-job".to_owned();
    execve::<_, CString>(program, &[name, order.sandbox], &[])
        .map_err(at("execve of sailplane-job"))
}

struct Order {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    sandbox: CString,
}

/// Sends a waiting child on its way.
pub(crate) fn order(to: &Started, account: &TargetAccount, sandbox: &Path) -> Result<(), Errno> {
    let count = u32::try_from(account.groups().len()).map_err(|_| Errno::E2BIG)?;
    let mut packet = Vec::new();
    for number in [account.uid(), account.gid(), count]
        .iter()
        .chain(account.groups())
    {
        packet.extend_from_slice(&number.to_le_bytes());
    }
    packet.extend_from_slice(sandbox.as_os_str().as_bytes());
    if packet.len() > MAX_PACKET {
        return Err(Errno::E2BIG);
    }
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    send(to.socket.as_raw_fd(), &packet, flags).map(drop)
}

fn receive() -> Result<Order, Errno> {
    let mut packet = vec![0; MAX_PACKET];
    let length = loop {
        match recv(CONTROL_FD, &mut packet, MsgFlags::empty()) {
            // The broker has no use for us any more.
            Ok(0) => sys::exit_now(0),
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    packet.truncate(length);
    parse(&packet).ok_or(Errno::EBADMSG)
}

fn parse(packet: &[u8]) -> Option<Order> {
    let mut rest = packet;
    let mut number = || {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        Some(u32::from_le_bytes(*head))
    };
    let (uid, gid, count) = (number()?, number()?, number()?);
    let groups = (0..count).map(|_| number()).collect::<Option<Vec<_>>>()?;
    let sandbox = cstring(OsStr::from_bytes(rest)).ok()?;
    Some(Order {
        uid,
        gid,
        groups,
        sandbox,
    })
}
