//! The keeper of one payload: makes its sandbox, starts it, reaps it, and sees that nothing of it is left.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use launch_protocol::broker::{
    Answer, Command, Opened, Refusal, RefusalClass, RefusedBy, Request, SignalScope, Usage,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{SysconfVar, User, getegid, geteuid, getpid, sysconf};

use super::sandbox::Place;
use super::socket::{Packet, Socket, pair};
use super::sys::{self, Reaped};
use super::{MEMORY_SOURCE, OwnAccount, census, credentials};

/// Pause between two looks for processes that outlived a kill.
const KILL_PAUSE: u16 = 10;

/// How long killed processes are waited for at the end. Shorter than the pilot's patience with a close.
const END_LIMIT: Duration = Duration::from_secs(100);

/// What to open.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) id: u32,
    pub(super) payload: u32,
    pub(super) execute: &'a Path,
    pub(super) credential: OwnedFd,
    /// Process number of the router.
    pub(super) broker: i32,
}

/// Opens a payload and keeps it until it is closed or the router is gone. The result is this process's exit status.
pub(super) fn keep(own: &OwnAccount, order: Order<'_>, pilot: &Socket, orders: Socket) -> u8 {
    let Order { id, payload, .. } = order;
    match open(own, order) {
        Ok((place, opened, children)) => {
            let keeper = Keeper {
                own,
                pilot,
                orders,
                children,
                payload,
                place,
                leader: None,
                is_occupied: false,
                is_killing: false,
                started: None,
                wall: Duration::ZERO,
                peak: 0,
            };
            pilot.answer(id, Answer::Opened(opened), None);
            keeper.serve()
        }
        Err(refusal) => {
            pilot.answer(id, Answer::Refused(refusal), None);
            0
        }
    }
}

fn open(own: &OwnAccount, order: Order<'_>) -> Result<(Place, Opened, SignalFd), Refusal> {
    let bearer = credentials::judge(order.credential, own.ca_directory.as_deref())?;
    let broken = |what: &str, error: io::Error| {
        refusal(
            "keeper.broken",
            format!("cannot {what}: {error}"),
            RefusalClass::SiteTransient,
        )
    };
    prctl::set_child_subreaper(true)
        .map_err(|errno| broken("become the parent of orphans", errno.into()))?;
    let children = watch_children().map_err(|error| broken("watch children", error))?;
    let place = Place::make(order.execute, order.broker, order.payload).map_err(|error| {
        refusal(
            "sandbox.make",
            format!(
                "cannot make a sandbox below {}: {error}",
                order.execute.display()
            ),
            RefusalClass::SiteTransient,
        )
    })?;
    let opened = Opened {
        payload: order.payload,
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        account: account(),
        identity: bearer.identity,
        not_after: bearer.not_after,
        limited: bearer.limited,
        sandbox: Some(place.path().to_owned()),
        ..Opened::default()
    };
    Ok((place, opened, children))
}

/// A descriptor that becomes readable when a child ends. Every signal is blocked already.
pub(super) fn watch_children() -> io::Result<SignalFd> {
    let mut wanted = SigSet::empty();
    wanted.add(nix::sys::signal::Signal::SIGCHLD);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&wanted, flags)?)
}

/// Waits until a request or a child's end is there, or for some milliseconds. True: a request.
pub(super) fn wait(
    requests: &Socket,
    children: &SignalFd,
    milliseconds: Option<u16>,
) -> io::Result<bool> {
    let mut watched = [
        PollFd::new(requests.as_fd(), PollFlags::POLLIN),
        PollFd::new(children.as_fd(), PollFlags::POLLIN),
    ];
    let timeout = milliseconds.map_or(PollTimeout::NONE, PollTimeout::from);
    match poll(&mut watched, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let [request, _] = &watched;
    let is_ready = request.any().unwrap_or(false);
    // Its content does not matter: who has ended is asked of the kernel.
    while let Ok(Some(_)) = children.read_signal() {}
    Ok(is_ready)
}

/// The name of the account, for logs.
pub(super) fn account() -> String {
    let uid = geteuid();
    User::from_uid(uid)
        .ok()
        .flatten()
        .map(|user| user.name)
        .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()))
        .unwrap_or_else(|| format!("uid{uid}"))
}

/// A refusal in the broker's own name.
pub(super) fn refusal(code: &str, message: String, class: RefusalClass) -> Refusal {
    Refusal {
        class,
        code: code.to_owned(),
        message,
        may_succeed_later: class == RefusalClass::SiteTransient,
        who: RefusedBy::Helper,
    }
}

struct Keeper<'a> {
    own: &'a OwnAccount,
    pilot: &'a Socket,
    orders: Socket,
    children: SignalFd,
    payload: u32,
    place: Place,
    /// The agent, later the payload, until it is reaped.
    leader: Option<i32>,
    /// The leader or something it left behind lives.
    is_occupied: bool,
    is_killing: bool,
    started: Option<Instant>,
    /// From the first start until nothing was left.
    wall: Duration,
    /// Most memory seen, bytes.
    peak: u64,
}

impl Keeper<'_> {
    fn serve(mut self) -> u8 {
        loop {
            let pause = (self.is_killing && self.is_occupied).then_some(KILL_PAUSE);
            let Ok(is_asked) = wait(&self.orders, &self.children, pause) else {
                return self.end(None);
            };
            self.reap();
            if self.is_killing && self.is_occupied {
                self.signal_all(libc::SIGKILL);
            }
            if !is_asked {
                continue;
            }
            match self.orders.receive() {
                Ok(Some(packet)) => match self.obey(&packet) {
                    Some(id) => return self.end(Some(id)),
                    None => continue,
                },
                Ok(None) | Err(_) => return self.end(None),
            }
        }
    }

    /// Carries a request out; that to close is left to the caller.
    fn obey(&mut self, packet: &Packet) -> Option<u32> {
        // The router has read it before it passed it on.
        let Ok(Request { id, command }) = Request::decode(&packet.bytes) else {
            return None;
        };
        let answer = match command {
            Command::Close { .. } => return Some(id),
            Command::SpawnAgent { .. } => {
                self.spawn(id);
                return None;
            }
            Command::Signal { signal, scope, .. } => {
                match (scope, self.leader) {
                    (SignalScope::Leader, Some(leader)) => {
                        sys::signal(leader.saturating_neg(), signal);
                    }
                    (SignalScope::Leader, None) => {}
                    (SignalScope::All, _) => self.signal_all(signal),
                }
                Answer::Done
            }
            Command::Kill { .. } => {
                self.is_killing = true;
                self.signal_all(libc::SIGKILL);
                Answer::Done
            }
            Command::Usage { .. } => Answer::Usage(self.usage()),
            Command::Hello { .. }
            | Command::Open { .. }
            | Command::Present
            | Command::Renew { .. }
            | Command::Prepare => return None,
        };
        self.pilot.answer(id, answer, None);
        None
    }

    fn spawn(&mut self, id: u32) {
        if self.is_occupied {
            let refusal = refusal(
                "agent.busy",
                "processes of the payload still live".to_owned(),
                RefusalClass::Caller,
            );
            return self.pilot.answer(id, Answer::Refused(refusal), None);
        }
        let started = pair().map_err(io::Error::from).and_then(|(ours, theirs)| {
            let pid = sys::spawn_agent(&self.own.agent, self.place.path(), theirs)?;
            Ok((pid, ours))
        });
        match started {
            Ok((pid, socket)) => {
                self.leader = Some(pid.cast_signed());
                self.is_occupied = true;
                self.is_killing = false;
                self.started.get_or_insert_with(Instant::now);
                let answer = Answer::Spawned {
                    payload: self.payload,
                    pid,
                };
                self.pilot.answer(id, answer, Some(socket.as_fd()));
            }
            Err(error) => {
                let message = format!("cannot start {}: {error}", self.own.agent.display());
                let refusal = refusal("agent.start", message, RefusalClass::SiteTransient);
                self.pilot.answer(id, Answer::Refused(refusal), None);
            }
        }
    }

    /// Takes note of who has ended.
    fn reap(&mut self) {
        let nobody = loop {
            match sys::reap() {
                Reaped::Child(pid, wait_status) => {
                    if self.leader == Some(pid) {
                        self.leader = None;
                        let answer = Answer::Exited {
                            payload: self.payload,
                            wait_status,
                        };
                        self.pilot.answer(0, answer, None);
                    }
                }
                Reaped::Nothing => break false,
                Reaped::Nobody => break true,
            }
        };
        if nobody && self.is_occupied {
            // A subreaper without children has no descendants.
            self.is_occupied = false;
            self.is_killing = false;
            self.wall = self.started.map_or(Duration::ZERO, |start| start.elapsed());
            let answer = Answer::Empty {
                payload: self.payload,
            };
            self.pilot.answer(0, answer, None);
        }
    }

    fn signal_all(&self, number: i32) {
        for process in census::descendants(&census::read(), getpid().as_raw()) {
            if !process.is_zombie {
                sys::signal(process.pid, number);
            }
        }
    }

    fn usage(&mut self) -> Usage {
        // Processes that end between the two looks are counted with the living or not at all, never twice.
        let dead = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
        let page = sysconf(SysconfVar::PAGE_SIZE)
            .ok()
            .flatten()
            .unwrap_or(4096);
        let living = census::sum(
            &census::descendants(&census::read(), getpid().as_raw()),
            u64::try_from(page).unwrap_or(4096),
        );
        let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
        let microseconds = |time: nix::sys::time::TimeVal| {
            unsigned(time.tv_sec())
                .saturating_mul(1_000_000)
                .saturating_add(unsigned(time.tv_usec()))
        };
        // The largest of the dead ones, KiB.
        let largest = dead.map_or(0, |dead| unsigned(dead.max_rss()).saturating_mul(1024));
        self.peak = self.peak.max(living.resident_bytes).max(largest);
        let wall = match self.started {
            Some(start) if self.is_occupied => start.elapsed(),
            _ => self.wall,
        };
        Usage {
            user_usec: living
                .user_usec
                .saturating_add(dead.map_or(0, |dead| microseconds(dead.user_time()))),
            system_usec: living
                .system_usec
                .saturating_add(dead.map_or(0, |dead| microseconds(dead.system_time()))),
            memory_current_bytes: living.resident_bytes,
            memory_peak_bytes: self.peak,
            processes: living.processes,
            wall_usec: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
            memory_source: MEMORY_SOURCE.to_owned(),
            ..Usage::default()
        }
    }

    /// Kills what is left, removes the sandbox, and says so if somebody asked for it.
    fn end(mut self, asked: Option<u32>) -> u8 {
        self.is_killing = true;
        let limit = Instant::now() + END_LIMIT;
        while self.is_occupied && Instant::now() < limit {
            self.signal_all(libc::SIGKILL);
            let mut watched = [PollFd::new(self.children.as_fd(), PollFlags::POLLIN)];
            // An error would only make this loop faster.
            let _ = poll(&mut watched, KILL_PAUSE);
            while let Ok(Some(_)) = self.children.read_signal() {}
            self.reap();
        }
        let survivors = self.is_occupied;
        let removed = self.place.remove();
        let answer = match removed {
            _ if survivors => Answer::Refused(refusal(
                "close.processes",
                "killed processes of the payload do not end".to_owned(),
                RefusalClass::SiteTransient,
            )),
            Err(error) => Answer::Refused(refusal(
                "close.sandbox",
                format!("the sandbox cannot be removed: {error}"),
                RefusalClass::SiteTransient,
            )),
            Ok(()) => Answer::Closed,
        };
        if let Some(id) = asked {
            self.pilot.answer(id, answer, None);
        }
        0
    }
}
