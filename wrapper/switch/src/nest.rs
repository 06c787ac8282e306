//! Groups that wait for a payload with a process already inside.
//!
//! Making groups takes time, and entering a cgroup2 group by hand can take the kernel ten
//! milliseconds, because it waits for all processors to notice; so does an old memory group before
//! Linux 5.5. So a group is made ahead of need, and a child of the monitor sits in it, still root,
//! waiting for its orders on the socket that will be the agent's. The order names account and
//! sandbox; the child then switches and becomes the agent.

use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::cgroup::{self, Group};
use crate::introduce::{Ground, Standing};
use crate::isolate::{self, Numbers};
use crate::spawn::{Child, Who, packet_sockets};
use crate::sys;

/// A child that waits for its order, and our end of its socket.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) pid: Pid,
    pub(crate) socket: OwnedFd,
    /// Its own process numbers, if it has such.
    pub(crate) numbers: Option<Numbers>,
}

/// A group with a child waiting in it.
#[derive(Debug)]
pub(crate) struct Nest {
    pub(crate) group: Group,
    /// Its name in each hierarchy.
    pub(crate) name: String,
    pub(crate) waiting: Waiting,
}

/// Keeps one nest ready.
#[derive(Debug, Default)]
pub(crate) struct Nursery {
    ready: Option<Nest>,
    made: u32,
}

impl Drop for Nursery {
    fn drop(&mut self) {
        self.close();
    }
}

impl Nursery {
    /// Makes the first one, in the group by which the hierarchies were tried out.
    pub(crate) fn begin(&mut self, first: Group, standing: &Standing, ground: &Ground) {
        self.ready = self.make(Some(first), standing, ground).ok();
    }

    /// Makes one ahead of need. Whoever takes it will be told why it cannot be.
    pub(crate) fn warm_up(&mut self, standing: &Standing, ground: &Ground) {
        if self.ready.is_none() {
            self.ready = self.make(None, standing, ground).ok();
        }
    }

    /// The ready one, or a new one.
    pub(crate) fn take(&mut self, standing: &Standing, ground: &Ground) -> Result<Nest, Errno> {
        let own_numbers = standing.settings.isolation.private_pid;
        let fits = |nest: &mut Nest| nest.waiting.numbers.is_some() == own_numbers;
        if let Some(nest) = self.ready.take_if(fits) {
            return Ok(nest);
        }
        self.close();
        self.make(None, standing, ground)
    }

    fn make(&mut self, group: Option<Group>, standing: &Standing, ground: &Ground) -> Result<Nest, Errno> {
        self.made += 1;
        let name = cgroup::name(self.made);
        let group = group.map_or_else(|| standing.tracking.create(&name), Ok)?;
        let waiting = hatch(&group, standing, ground)?;
        Ok(Nest { group, name, waiting })
    }

    /// Takes note that a child has been reaped.
    pub(crate) fn reaped(&mut self, child: Pid) {
        self.ready.take_if(|nest| nest.waiting.pid == child);
    }

    /// Takes the ready one down.
    pub(crate) fn close(&mut self) {
        if let Some(nest) = self.ready.take() {
            nest.take_down();
        }
    }
}

impl Nest {
    /// Its child must be gone before the group is dropped.
    pub(crate) fn take_down(self) {
        let Waiting { pid, socket, .. } = self.waiting;
        // Without it the child ends even if it could not be killed.
        drop(socket);
        let _ = sys::kill(pid.as_raw(), libc::SIGKILL);
        let _ = sys::wait_for(pid);
    }
}

/// Makes a child in the group that waits for its order.
pub(crate) fn hatch(group: &Group, standing: &Standing, ground: &Ground) -> Result<Waiting, Errno> {
    let (socket, theirs) = packet_sockets()?;
    let null = ground.null.as_fd();
    let own_numbers = standing.settings.isolation.private_pid;
    let child = Child {
        who: Who::Ordered(&ground.limits),
        program: &standing.agent,
        words: &[],
        environment: &[],
        descriptors: &[null, null, null, theirs.as_fd()],
        group: Some(group),
        sees_parent: !own_numbers,
        urgent: false,
    };
    let (pid, numbers) = if own_numbers {
        let born = isolate::with_own_numbers(&standing.agent, null, || child.start())?;
        (born.0, Some(born.1))
    } else {
        (child.start()?, None)
    };
    Ok(Waiting { pid, socket, numbers })
}
