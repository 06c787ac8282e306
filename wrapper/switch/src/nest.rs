//! Agents, and groups that wait for a payload with a process already inside.
//!
//! Making groups takes time, and entering a cgroup2 group by hand can take the kernel ten
//! milliseconds, because it waits for all processors to notice; so does an old memory group before
//! Linux 5.5. So a group is made ahead of need, and a child of the broker sits in it, still root,
//! waiting for its orders on the socket that will be the agent's. The order names account and
//! sandbox; the child then switches and becomes the agent.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::Path;

use launch_protocol::agent::Reply;
use launch_protocol::order::{Order, View};
use launch_protocol::policy::{Isolation, LimitRules};
use launch_protocol::{CONTROL_FD, MAX_PACKET};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, execve, fexecve, getpid, setsid};

use crate::account::TargetAccount;
use crate::cgroup::{Group, Tracking};
use crate::isolate;
use crate::sandbox::Sandbox;
use crate::spawn::{
    CANNOT_START, Identity, Started, SwitchError, arrange, become_account, cstring, die_with,
    packet_sockets, parent_seen,
};
use crate::startup::{SavedLimits, block_signals};
use crate::sys;

/// What every agent starts with.
#[derive(Clone, Copy)]
pub(crate) struct Kit<'a> {
    pub(crate) program: &'a Path,
    pub(crate) limits: &'a SavedLimits,
    pub(crate) null: BorrowedFd<'a>,
    /// Children get process numbers of their own.
    pub(crate) own_numbers: bool,
}

/// A group with a child waiting in it.
#[derive(Debug)]
pub(crate) struct Nest {
    pub(crate) group: Group,
    /// Its name in each hierarchy.
    pub(crate) name: String,
    pub(crate) waiting: Started,
}

/// Keeps one nest ready.
#[derive(Debug, Default)]
pub(crate) struct Nursery {
    ready: Option<Nest>,
    made: u32,
}

impl Nursery {
    /// Makes one ahead of need. Whoever takes it will be told why it cannot be.
    pub(crate) fn warm_up(&mut self, tracking: &Tracking, kit: Kit<'_>) {
        if self.ready.is_none() {
            self.ready = self.make(tracking, kit).ok();
        }
    }

    /// The ready one, or a new one.
    pub(crate) fn take(&mut self, tracking: &Tracking, kit: Kit<'_>) -> Result<Nest, Errno> {
        let fits = |nest: &mut Nest| nest.waiting.numbers.is_some() == kit.own_numbers;
        if let Some(nest) = self.ready.take_if(fits) {
            return Ok(nest);
        }
        self.close();
        self.make(tracking, kit)
    }

    fn make(&mut self, tracking: &Tracking, kit: Kit<'_>) -> Result<Nest, Errno> {
        self.made += 1;
        let name = format!("sailplane-{}-{}", getpid(), self.made);
        let mut group = tracking.create(&name)?;
        match hatch(&group, kit) {
            Ok(waiting) => Ok(Nest { group, name, waiting }),
            Err(errno) => {
                let _ = group.remove();
                Err(errno)
            }
        }
    }

    /// Takes note that a child has been reaped.
    pub(crate) fn reaped(&mut self, child: Pid) {
        if let Some(mut nest) = self.ready.take_if(|nest| nest.waiting.pid == child) {
            let _ = nest.group.remove();
        }
    }

    /// Takes the ready one down.
    pub(crate) fn close(&mut self) {
        if let Some(nest) = self.ready.take() {
            nest.take_down();
        }
    }
}

impl Nest {
    /// Its child must be gone before the group can be removed.
    pub(crate) fn take_down(mut self) {
        let Started { pid, socket, .. } = self.waiting;
        // Without it the child ends even if it could not be killed.
        drop(socket);
        let _ = sys::kill(pid.as_raw(), libc::SIGKILL);
        let _ = sys::wait_for(pid);
        let _ = self.group.remove();
    }
}

/// Makes a child in the group that waits for its order.
pub(crate) fn hatch(group: &Group, kit: Kit<'_>) -> Result<Started, Errno> {
    if !kit.own_numbers {
        return bear(group, kit);
    }
    let born = || bear(group, kit);
    let (mut started, numbers) = isolate::with_own_numbers(kit.program, kit.null, born)?;
    started.numbers = Some(numbers);
    Ok(started)
}

fn bear(group: &Group, kit: Kit<'_>) -> Result<Started, Errno> {
    let (ours, theirs) = packet_sockets()?;
    let parent = parent_seen(!kit.own_numbers);
    let life = |enter: bool| {
        // First of all, so that descriptor 3 no longer is the pilot's.
        if arrange(kit.null, theirs.as_fd()).is_err() {
            return CANNOT_START;
        }
        let joined = group.join(enter);
        sys::close_from(CONTROL_FD + 1);
        let joined =
            joined.map_err(|errno| SwitchError { step: "joining the payload's group", errno });
        let Err(failure) = joined.and_then(|()| wait_and_become(Some(parent), kit));
        report(failure);
        CANNOT_START
    };
    let pid = match group.entry() {
        Some(entry) => sys::child(Some(entry), || life(false))?,
        None => sys::child(None, || life(true))?,
    };
    Ok(Started { pid, socket: ours, numbers: None })
}

/// Tells the pilot, who by then has or will get the other end.
fn report(failure: SwitchError) {
    let (errno, step) = (failure.errno, failure.step);
    let message = format!("the agent cannot start: {step}: {}", errno.desc());
    if let Ok(packet) = (Reply::Trouble { errno: errno as i32, message }).encode() {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let _ = send(CONTROL_FD, &packet, flags);
    }
}

/// Waits for the order on descriptor 3 and carries it out. Without a `parent` nothing is tied to the
/// broker's life.
pub(crate) fn wait_and_become(
    parent: Option<Pid>,
    kit: Kit<'_>,
) -> Result<Infallible, SwitchError> {
    let at = |step| move |errno| SwitchError { step, errno };
    // The program may not be seen any more where the payload lives.
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let program = open(kit.program, flags, Mode::empty()).map_err(at("opening sailplane-job"))?;
    setsid().map_err(at("setsid"))?;
    parent.map_or(Ok(()), die_with)?;
    let order = receive().map_err(at("waiting for orders"))?;
    kit.limits.restore().map_err(at("resource limits"))?;
    for (resource, most) in &order.rlimits {
        sys::cap(*resource, *most).map_err(at("the site's resource limits"))?;
    }
    sys::be_nice(order.nice).map_err(at("the nice value"))?;
    isolate::enter(&order.view)?;
    become_account(&Identity { uid: order.uid, gid: order.gid, groups: &order.groups })?;
    // The switch has taken it back.
    parent.map_or(Ok(()), die_with)?;
    block_signals(false);
    let mut words = vec![c"sailplane-job".to_owned()];
    for word in &order.words {
        words.push(cstring(word).map_err(at("the agent's arguments"))?);
    }
    let none = Vec::<CString>::new();
    match order.view.chroot {
        None => {
            let program = cstring(kit.program.as_os_str()).map_err(at("the agent's name"))?;
            execve(&program, &words, &none).map_err(at("execve of sailplane-job"))
        }
        Some(_) => fexecve(&program, &words, &none).map_err(at("execve of sailplane-job")),
    }
}

/// What a child is to become.
#[derive(Clone, Copy)]
pub(crate) struct Launch<'a> {
    pub(crate) account: &'a TargetAccount,
    pub(crate) sandbox: Option<&'a Sandbox>,
    /// The configured directory that the sandbox is in.
    pub(crate) execute_dir: Option<&'a Path>,
    pub(crate) limits: &'a LimitRules,
    pub(crate) isolation: &'a Isolation,
    /// The site's rules for programs, as the agent takes them.
    pub(crate) rules: &'a [OsString],
}

/// Sends a waiting child on its way.
pub(crate) fn order(to: &Started, launch: Launch<'_>) -> Result<(), Errno> {
    let Isolation { private_tmp, chroot, .. } = launch.isolation;
    let sandbox = launch.sandbox;
    let elsewhere = sandbox.filter(|_| chroot.is_some()).zip(launch.execute_dir);
    let path = sandbox.map(|sandbox| sandbox.path().into_os_string());
    let order = Order {
        uid: launch.account.uid(),
        gid: launch.account.gid(),
        groups: launch.account.groups().to_vec(),
        nice: launch.limits.nice_min,
        rlimits: launch.limits.rlimits.clone(),
        view: View {
            own_proc: to.numbers.is_some(),
            own_tmp: *private_tmp,
            tmp: sandbox.map_or_else(Vec::new, Sandbox::tmp_whereabouts),
            chroot: chroot.clone(),
            sandbox: elsewhere.map(|(sandbox, dir)| (sandbox.whereabouts(), dir.to_owned())),
        },
        words: launch.rules.iter().cloned().chain(path).collect(),
    };
    let packet = order.encode().map_err(|_| Errno::E2BIG)?;
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
    let packet = packet.get(..length).unwrap_or_default();
    Order::decode(packet).map_err(|_| Errno::EBADMSG)
}
