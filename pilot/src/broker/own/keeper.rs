//! The keeper of one payload: makes its sandbox, starts it, reaps it, and sees that nothing of it is left.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
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
use zeroize::Zeroizing;

use super::credentials::Bearer;
use super::files::replace_beneath;
use super::sandbox::Place;
use super::socket::{Packet, Socket, pair};
use super::sys::{self, Reaped};
use super::{MEMORY_SOURCE, OwnAccount, census, credentials, remover};

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
    /// The account of the slot, if it has one.
    pub(super) slot_account: Option<&'a str>,
    /// Process number of the router.
    pub(super) broker: i32,
}

/// Opens a payload and keeps it until it is closed or the router is gone. The result is this process's exit status.
pub(super) fn keep(own: &OwnAccount, order: Order<'_>, pilot: &Socket, orders: Socket) -> u8 {
    let Order { id, payload, .. } = order;
    match open(own, order) {
        Ok((place, opened, children, bearer)) => {
            let mut keeper = Keeper::new(&own.agent, pilot, orders, children, payload);
            keeper.sandbox = place.path().to_owned();
            keeper.leavings = Leavings::All(place);
            keeper.bearer = Some((bearer, own.ca_directory.as_deref()));
            pilot.answer(id, Answer::Opened(opened), None);
            keeper.serve()
        }
        Err(refusal) => {
            pilot.answer(id, Answer::Refused(refusal), None);
            0
        }
    }
}

/// Keeps a payload inside namespaces, as their first process. The warden outside removes the sandbox.
pub(super) fn keep_enclosed(agent: PathBuf, sandbox: &Path, payload: u32, socket: &Socket) -> u8 {
    keep_inside(&agent, sandbox, payload, socket, Leavings::Nothing)
}

/// Keeps a payload under another account: makes the sandbox, and empties it at the end.
pub(super) fn keep_foreign(agent: &Path, sandbox: &Path, payload: u32, socket: &Socket) -> u8 {
    // Neither the payload nor anybody else of this account looks into this process.
    let prepared = prctl::set_dumpable(false)
        .and_then(|()| SigSet::all().thread_block())
        .map_err(io::Error::from)
        .and_then(|()| DirBuilder::new().mode(0o700).create(sandbox));
    if let Err(error) = prepared {
        let message = format!(
            "uid {} cannot make a sandbox {}: {error}",
            geteuid(),
            sandbox.display()
        );
        let refusal = refusal("sandbox.make", message, RefusalClass::SiteTransient);
        socket.answer(0, Answer::Refused(refusal), None);
        return 0;
    }
    keep_inside(agent, sandbox, payload, socket, Leavings::Content)
}

fn keep_inside(
    agent: &Path,
    sandbox: &Path,
    payload: u32,
    socket: &Socket,
    leavings: Leavings,
) -> u8 {
    let prepared = prctl::set_child_subreaper(true)
        .map_err(io::Error::from)
        .and_then(|()| watch_children())
        .and_then(|children| Ok((children, socket.try_clone()?)));
    let (children, orders) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            let message = format!("cannot watch over a payload: {error}");
            let refusal = refusal("keeper.broken", message, RefusalClass::SiteTransient);
            socket.answer(0, Answer::Refused(refusal), None);
            return 0;
        }
    };
    let opened = Opened {
        payload,
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        account: account(),
        // The warden knows better, and says so.
        identity: "(inside)".to_owned(),
        sandbox: Some(sandbox.to_owned()),
        ..Opened::default()
    };
    let mut keeper = Keeper::new(agent, socket, orders, children, payload);
    sandbox.clone_into(&mut keeper.sandbox);
    keeper.leavings = leavings;
    socket.answer(0, Answer::Opened(opened), None);
    keeper.serve()
}

fn open(own: &OwnAccount, order: Order<'_>) -> Result<(Place, Opened, SignalFd, Bearer), Refusal> {
    let content = credentials::read(order.credential)?;
    let bearer = credentials::judge(&content, own.ca_directory.as_deref())?;
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
        identity: bearer.identity.clone(),
        not_after: bearer.not_after,
        limited: bearer.limited,
        sandbox: Some(place.path().to_owned()),
        ..Opened::default()
    };
    Ok((place, opened, children, bearer))
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

/// What is removed at the end.
enum Leavings {
    /// The sandbox with all that is in it.
    All(Place),
    /// What is in it; the directory itself lies in another account's.
    Content,
    /// Somebody else does it.
    Nothing,
}

struct Keeper<'a> {
    agent: &'a Path,
    /// Whose the credential is, and what renewed ones are verified against; `None` where a warden sees to that.
    bearer: Option<(Bearer, Option<&'a Path>)>,
    pilot: &'a Socket,
    orders: Socket,
    children: SignalFd,
    payload: u32,
    sandbox: PathBuf,
    leavings: Leavings,
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

impl<'a> Keeper<'a> {
    fn new(
        agent: &'a Path,
        pilot: &'a Socket,
        orders: Socket,
        children: SignalFd,
        payload: u32,
    ) -> Self {
        Self {
            agent,
            bearer: None,
            pilot,
            orders,
            children,
            payload,
            sandbox: PathBuf::new(),
            leavings: Leavings::Nothing,
            leader: None,
            is_occupied: false,
            is_killing: false,
            started: None,
            wall: Duration::ZERO,
            peak: 0,
        }
    }

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
                Ok(Some(packet)) => match self.obey(packet) {
                    Some(id) => return self.end(Some(id)),
                    None => continue,
                },
                Ok(None) | Err(_) => return self.end(None),
            }
        }
    }

    /// Carries a request out; that to close is left to the caller.
    fn obey(&mut self, packet: Packet) -> Option<u32> {
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
            | Command::Prepare { .. } => {
                return None;
            }
            Command::Renew { proxy, .. } => match self.renew(proxy.as_deref(), packet.descriptor) {
                Ok(answer) => answer,
                Err(refusal) => Answer::Refused(refusal),
            },
            Command::Replace { file, .. } => match self.replace(&file, packet.descriptor) {
                Ok(()) => Answer::Done,
                Err(refusal) => Answer::Refused(refusal),
            },
        };
        self.pilot.answer(id, answer, None);
        None
    }

    /// Puts a renewed credential in the place of the old one. A warden that has judged it waits only for the writing.
    fn renew(
        &mut self,
        proxy: Option<&Path>,
        credential: Option<OwnedFd>,
    ) -> Result<Answer, Refusal> {
        let content = content_of(credential)?;
        let renewed = match &self.bearer {
            None => None,
            Some((bearer, authorities)) => {
                let renewed = credentials::judge(&content, *authorities)?;
                bearer.agrees_with(&renewed)?;
                Some(renewed)
            }
        };
        if let Some(proxy) = proxy {
            self.write(proxy, &content)?;
        }
        let Some(renewed) = renewed else {
            return Ok(Answer::Done);
        };
        let not_after = renewed.not_after;
        if let Some((bearer, _)) = &mut self.bearer {
            *bearer = renewed;
        }
        Ok(Answer::Renewed { not_after })
    }

    /// Puts a file in the place of the one of that name.
    fn replace(&self, file: &Path, content: Option<OwnedFd>) -> Result<(), Refusal> {
        self.write(file, &content_of(content)?)
    }

    fn write(&self, file: &Path, content: &[u8]) -> Result<(), Refusal> {
        replace_beneath(&self.sandbox, file, content).map_err(|error| {
            refusal(
                "renew.write",
                format!(
                    "the renewed credential cannot be written to {} in the sandbox: {error}",
                    file.display()
                ),
                RefusalClass::SiteTransient,
            )
        })
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
            let pid = sys::spawn_agent(self.agent, &self.sandbox, theirs)?;
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
                let message = format!("cannot start {}: {error}", self.agent.display());
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
        let removed = match self.leavings {
            Leavings::All(place) => place.remove(),
            Leavings::Content => remover::empty_out(&self.sandbox),
            Leavings::Nothing => Ok(()),
        };
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

/// What came beside a request, read to its end.
fn content_of(descriptor: Option<OwnedFd>) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    let missing = || {
        refusal(
            "renew.descriptor",
            "no credential came with it".to_owned(),
            RefusalClass::Caller,
        )
    };
    credentials::read(descriptor.ok_or_else(missing)?)
}
