//! The loop: the broker's questions, children reaped. One thread, one `poll`; nothing in here waits for a
//! child or a peer.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use launch_protocol::broker::Refusal;
use launch_protocol::monitor::{Ask, MAX_LISTED, Mode, Reply};
use launch_protocol::policy::Caller;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::cgroup::Group;
use crate::error::StartupError;
use crate::guardian::Guardian;
use crate::held::Held;
use crate::introduce::{self, Broker, Standing, Start, ended};
use crate::nest::{Nest, Nursery, Waiting};
use crate::programs;
use crate::refuse::{caller, trouble};
use crate::spawn;
use crate::startup::SavedLimits;
use crate::sys;
use crate::wire::Gone;

/// How long the end may take after the pilot is gone.
const FAREWELL: Duration = Duration::from_secs(60);

/// What the monitor is started for, and by whom.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) mode: Mode,
    /// Further words for the broker.
    pub(crate) words: Vec<OsString>,
    pub(crate) caller: Caller,
    pub(crate) limits: SavedLimits,
    /// The pilot's socket.
    pub(crate) control: Option<OwnedFd>,
    /// What it answers to an administrator's broker alone.
    pub(crate) further: Option<Further>,
}

/// What a question is answered with, and descriptors beside it.
pub type Answer = Result<(Reply, Vec<OwnedFd>), Refusal>;

/// Answers questions that only an administrator's broker may ask.
pub type Further = fn(&mut Monitor, Ask) -> Answer;

/// What a child is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It, and what it starts, is killed with the payload of this number.
    Payload(u32),
    /// Something done for a payload, or for all.
    Servant,
}

/// Root's part of one broker.
#[derive(Debug)]
pub struct Monitor {
    /// What it acts on.
    pub standing: Standing,
    /// Payloads.
    pub held: BTreeMap<u32, Held>,
    pub(crate) children: BTreeMap<i32, Role>,
    pub(crate) nursery: Nursery,
    pub(crate) broker: Broker,
    pub(crate) hooks_made: u32,
    pub(crate) further: Option<Further>,
    /// Leases that an administrator's answers have still to look at.
    pub stale: Option<Vec<String>>,
    signals: SignalFd,
    bell: EventFd,
    ended: VecDeque<(i32, i32)>,
    /// How the broker has ended.
    broker_status: Option<i32>,
    /// Watched, not read: a broker that hangs must not keep the payloads of a pilot that is gone.
    control: Option<OwnedFd>,
    /// When that broker has had time enough.
    patience: Option<Instant>,
    terminate: bool,
    pub(crate) mode: Mode,
    caller: Caller,
}

/// Serves until the broker has nothing more to do.
pub(crate) fn run(call: Call) -> Result<u8, StartupError> {
    let system = |call| move |errno| StartupError::system(call, errno);
    let null = crate::startup::open_null().map_err(system("opening /dev/null"))?;
    let wanted = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM]);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&wanted, flags).map_err(system("signalfd"))?;
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let bell = EventFd::from_value_and_flags(0, flags).map_err(system("eventfd"))?;
    let (out, err) = (std::io::stdout(), std::io::stderr());
    let streams = match call.mode {
        Mode::Sweep | Mode::Release => [out.as_fd(), err.as_fd()],
        _ => [null.as_fd(); 2],
    };
    let start = Start {
        mode: call.mode,
        words: &call.words,
        caller: &call.caller,
        streams,
        null: null.as_fd(),
        bell: bell.as_fd(),
    };
    let own_null = null.try_clone().map_err(|error| system("dup")(sys::errno(error)))?;
    let mut nursery = Nursery::new(call.limits, own_null);
    let mut guardian = Ok(None);
    let meanwhile = |standing: &Standing, mut first: Group| {
        if call.mode == Mode::Serve {
            nursery.begin(first, standing);
            guardian = Guardian::start().map(Some);
        } else {
            let _ = first.remove();
        }
    };
    let introduced = introduce::introduce(start, meanwhile);
    let guardian = guardian.map_err(system("starting the guardian"));
    let (broker, standing, guardian) = match (introduced, guardian) {
        (Ok((broker, standing)), Ok(guardian)) => (broker, standing, guardian),
        (Err(error), guardian) => {
            nursery.close();
            guardian.ok().flatten().map(Guardian::dismiss).unwrap_or_default();
            return Err(error);
        }
        (_, Err(error)) => {
            nursery.close();
            return Err(error);
        }
    };
    let beside = call.control.as_ref().map(|control| control.as_fd());
    let tracking = standing.tracking.places.clone();
    let admitted = broker.wire.answer(&Reply::Admitted { tracking }, beside.as_slice());
    admitted.map_err(|Gone| ended())?;
    let mut monitor = Monitor {
        standing,
        held: BTreeMap::new(),
        children: BTreeMap::new(),
        nursery,
        broker,
        hooks_made: 0,
        further: call.further,
        stale: None,
        signals,
        bell,
        ended: VecDeque::new(),
        broker_status: None,
        control: call.control,
        patience: None,
        terminate: false,
        mode: call.mode,
        caller: call.caller,
    };
    let outcome = monitor.serve();
    let (status, clean) = monitor.end();
    if let Some(guardian) = guardian.filter(|_| clean) {
        guardian.dismiss();
    }
    outcome?;
    // A broker that serves ends well when the pilot is gone.
    if call.mode == Mode::Serve && status != 0 { Err(ended()) } else { Ok(status) }
}

impl Monitor {
    fn serve(&mut self) -> Result<(), StartupError> {
        loop {
            // Questions first: whoever asks has nothing else to do.
            while let Some((ask, beside)) = match self.broker.wire.receive() {
                Ok(question) => question,
                Err(Gone) => return Ok(()),
            } {
                match ask {
                    Ask::Decline(refusal) => return Err(refusal.into()),
                    Ask::Audit { line } => {
                        self.standing.audit.record(&line);
                        continue;
                    }
                    _ => {}
                }
                let (reply, beside) = self
                    .answer(ask, beside)
                    .unwrap_or_else(|refusal| (Reply::Refused(refusal), Vec::new()));
                let beside: Vec<_> = beside.iter().map(|file| file.as_fd()).collect();
                if self.broker.wire.answer(&reply, &beside).is_err() {
                    return Ok(());
                }
            }
            self.wait()?;
            if self.patience.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
            while let Ok(Some(signal)) = self.signals.read_signal() {
                if i32::try_from(signal.ssi_signo) == Ok(libc::SIGTERM) {
                    self.terminate = true;
                    let _ = self.bell.write(1);
                }
            }
            while let Some((child, status)) = sys::reap() {
                self.reaped(child, status);
            }
            self.broker.names.listen();
        }
    }

    fn wait(&mut self) -> Result<(), StartupError> {
        let readable = |source| PollFd::new(source, PollFlags::POLLIN);
        let mut sources = vec![readable(self.broker.wire.as_fd()), readable(self.signals.as_fd())];
        if !self.broker.names.has_ended() {
            sources.push(readable(self.broker.names.as_fd()));
        }
        // Of the end of this one the kernel tells without being asked.
        let control = self.control.as_ref().map(|it| PollFd::new(it.as_fd(), PollFlags::empty()));
        sources.extend(control);
        let timeout = self.patience.map_or(PollTimeout::NONE, |until| {
            let left = until.saturating_duration_since(Instant::now());
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let outcome = poll(&mut sources, timeout);
        let hung_up = |source: &PollFd<'_>| {
            source.revents().is_some_and(|it| it.contains(PollFlags::POLLHUP))
        };
        if self.control.is_some() && sources.last().is_some_and(hung_up) {
            let grace = u64::from(self.standing.settings.orphan_grace);
            self.patience = Some(Instant::now() + Duration::from_secs(grace) + FAREWELL);
            self.control = None;
        }
        match outcome {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(StartupError::system("poll", errno)),
        }
    }

    fn reaped(&mut self, child: Pid, status: i32) {
        if child == self.broker.pid {
            self.broker_status = Some(status);
        }
        self.nursery.reaped(child);
        // Else an orphan of a payload, or nobody whom the broker knows.
        if self.children.remove(&child.as_raw()).is_some() {
            self.ended.push_back((child.as_raw(), status));
            let _ = self.bell.write(1);
        }
    }

    pub(crate) fn endings(&mut self) -> Reply {
        let count = self.ended.len().min(MAX_LISTED);
        Reply::Endings { ended: self.ended.drain(..count).collect(), terminate: self.terminate }
    }

    /// Makes one ahead of need.
    pub(crate) fn warm_up(&mut self) {
        self.nursery.warm_up(&self.standing);
    }

    /// What waits for a payload, with an account or without.
    pub(crate) fn take_nest(&mut self) -> Result<Nest, Errno> {
        self.nursery.take(&self.standing)
    }

    /// Starts an agent in a payload's group.
    pub(crate) fn start_agent(
        &mut self,
        payload: u32,
        waiting: Option<Waiting>,
    ) -> Result<(i32, OwnedFd), Refusal> {
        let failed = failed("spawn.failed", "the agent could not be started");
        let held = self.held.get_mut(&payload).ok_or(Errno::ESRCH).map_err(&failed)?;
        let (pid, socket) =
            held.start_agent(waiting, &self.nursery, &self.standing).map_err(failed)?;
        self.children.insert(pid.as_raw(), Role::Payload(payload));
        Ok((pid.as_raw(), socket))
    }

    /// A payload that exists.
    ///
    /// # Errors
    /// If it does not.
    pub fn find(&mut self, payload: u32) -> Result<&mut Held, Refusal> {
        let text = "there is no payload of this number";
        let found = self.held.get_mut(&payload);
        found.ok_or_else(|| caller("payload.unknown", text))
    }

    /// Kills a payload's group, and those who may not have entered it yet.
    pub(crate) fn kill(&mut self, payload: u32) {
        if let Some(held) = self.held.get_mut(&payload) {
            held.kill();
        }
        for (child, role) in &self.children {
            if *role == Role::Payload(payload) {
                // Not reaped, so the number is its own.
                let _ = sys::kill(*child, libc::SIGKILL);
            }
        }
    }

    /// The configuration has changed: a fresh broker reads it, for this one has heard the pilot.
    pub(crate) fn reread(&mut self) -> Result<Reply, Refusal> {
        let start = Start {
            mode: Mode::Configure,
            words: &[],
            caller: &self.caller,
            streams: [self.nursery.null.as_fd(); 2],
            null: self.nursery.null.as_fd(),
            bell: self.bell.as_fd(),
        };
        let introduced = introduce::introduce(start, |_, _| ());
        let (fresh, standing) = introduced.map_err(|error| error.refusal())?;
        drop(fresh);
        let tracking = std::mem::take(&mut self.standing.tracking);
        self.standing = Standing { tracking, ..standing };
        Ok(Reply::Reread {
            settings: Box::new(self.standing.settings.clone()),
            caller: Box::new(self.standing.caller.clone()),
            may_omit_key: self.standing.may_omit_key,
        })
    }

    /// Starts the name service again.
    pub(crate) fn restart_names(&mut self) -> Result<(Reply, Vec<OwnedFd>), Refusal> {
        let program = programs::beside_ourselves("sailplane-names");
        let null = self.nursery.null.as_fd();
        let started = program.and_then(|it| introduce::start_names(&it, null));
        let (pid, questions, names) = started.map_err(|error| error.refusal())?;
        self.broker.names = names;
        Ok((self.started(pid), vec![questions]))
    }

    /// A child that the broker hears of when it ends.
    pub(crate) fn started(&mut self, pid: Pid) -> Reply {
        let child = pid.as_raw();
        self.children.insert(child, Role::Servant);
        Reply::Started { child }
    }

    /// There is no broker any more. Without it nothing may run. Its exit status, and whether nothing is left.
    fn end(&mut self) -> (u8, bool) {
        let payloads: Vec<_> = self.held.keys().copied().collect();
        for payload in &payloads {
            self.kill(*payload);
        }
        self.nursery.close();
        // It has closed its socket, so it ends. One that does not is made to.
        let status = spawn::end(self.broker.pid, self.broker_status);
        if !payloads.is_empty() && self.mode == Mode::Serve {
            let left = payloads.len();
            let line = format!("\"event\":\"abandon\",\"payloads\":{left}");
            self.standing.audit.record(&line);
        }
        (status, payloads.is_empty())
    }
}

/// Something that should not fail did.
pub fn failed(code: &'static str, what: &'static str) -> impl Fn(Errno) -> Refusal {
    move |errno| trouble(code, format!("{what}: {}", errno.desc()))
}
