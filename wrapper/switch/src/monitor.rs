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
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use crate::answer::unknown;
use crate::guardian::Guardian;
use crate::held::Held;
use crate::introduce::{self, Broker, Ground, Standing, ended, until};
use crate::nest::{Nursery, Waiting};
use crate::refuse::{failed, system};
use crate::spawn;
use crate::startup::SavedLimits;
use crate::sys;
use crate::wire::Gone;

/// How long the end may take after the pilot is gone.
const FAREWELL: Duration = Duration::from_secs(60);

/// What a question is answered with, and descriptors beside it.
pub type Answer = Result<(Reply, Vec<OwnedFd>), Refusal>;

/// Answers questions that only an administrator's broker may ask.
pub type Further = fn(&mut Monitor, Ask) -> Answer;

/// Root's part of one broker.
#[derive(Debug)]
pub struct Monitor {
    /// What it acts on.
    pub standing: Standing,
    /// Payloads.
    pub held: BTreeMap<u32, Held>,
    /// With the number of the payload with which it, and what it starts, is killed.
    pub(crate) children: BTreeMap<i32, Option<u32>>,
    pub(crate) nursery: Nursery,
    pub(crate) broker: Broker,
    pub(crate) further: Option<Further>,
    /// Leases that an administrator's answers have still to look at.
    pub stale: Option<Vec<String>>,
    pub(crate) ground: Ground,
    signals: SignalFd,
    ended: VecDeque<(i32, i32)>,
    /// How the broker has ended.
    broker_status: Option<i32>,
    /// Watched, not read: a broker that hangs must not keep the payloads of a pilot that is gone.
    control: Option<OwnedFd>,
    /// When that broker has had time enough.
    patience: Option<Instant>,
    terminate: bool,
}

/// Serves until the broker, which gets these words, has nothing more to do. `control`: the pilot's socket; `further`:
/// what it answers to an administrator's broker alone.
pub(crate) fn run(
    mode: Mode,
    words: &[OsString],
    (caller, limits): (Caller, SavedLimits),
    control: Option<OwnedFd>,
    further: Option<Further>,
) -> Result<u8, Refusal> {
    let null = crate::startup::open_null().map_err(system("opening /dev/null"))?;
    let wanted = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM]);
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&wanted, flags).map_err(system("signalfd"))?;
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let bell = EventFd::from_value_and_flags(0, flags).map_err(system("eventfd"))?;
    let ground = Ground { caller, limits, null, bell };
    let (mut nursery, mut guardian) = (Nursery::default(), None);
    let meanwhile = |standing: &Standing, first| {
        if mode == Mode::Serve {
            nursery.begin(first, standing, &ground);
            guardian = Some(Guardian::start());
        }
    };
    let introduced = introduce::introduce(mode, words, &ground, meanwhile);
    let guardian = guardian.transpose().map_err(system("starting the guardian"))?;
    let (broker, standing) = match introduced {
        Ok(introduced) => introduced,
        Err(refusal) => {
            guardian.map(Guardian::dismiss).unwrap_or_default();
            return Err(refusal);
        }
    };
    let tracking = standing.tracking.places.clone();
    let theirs = control.as_ref().map(OwnedFd::try_clone).transpose();
    let theirs = theirs.map_err(|error| system("dup")(sys::errno(error)))?;
    let admitted = (Reply::Admitted { tracking }, theirs.into_iter().collect());
    broker.wire.answer(Ok(admitted)).map_err(|Gone| ended())?;
    let mut monitor = Monitor {
        standing,
        held: BTreeMap::new(),
        children: BTreeMap::new(),
        nursery,
        broker,
        further,
        stale: None,
        ground,
        signals,
        ended: VecDeque::new(),
        broker_status: None,
        control,
        patience: None,
        terminate: false,
    };
    let outcome = monitor.serve();
    let (status, clean) = monitor.end();
    if let Some(guardian) = guardian.filter(|_| clean) {
        guardian.dismiss();
    }
    outcome?;
    // A broker that serves ends well when the pilot is gone.
    if mode == Mode::Serve && status != 0 { Err(ended()) } else { Ok(status) }
}

impl Monitor {
    fn serve(&mut self) -> Result<(), Refusal> {
        loop {
            // Questions first: whoever asks has nothing else to do.
            loop {
                let answer = match self.broker.wire.receive() {
                    Ok(None) => break,
                    Ok(Some((Ask::Decline(refusal), _))) => return Err(refusal),
                    Ok(Some((Ask::Audit { line }, _))) => {
                        self.standing.audit.record(&line);
                        continue;
                    }
                    Ok(Some((ask, beside))) => self.answer(ask, &beside),
                    Err(Gone) => return Ok(()),
                };
                if self.broker.wire.answer(answer).is_err() {
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
                    self.ring();
                }
            }
            while let Some((child, status)) = sys::reap() {
                self.reaped(child, status);
            }
            self.broker.names.listen();
        }
    }

    fn wait(&mut self) -> Result<(), Refusal> {
        let mut sources = self.broker.sources();
        sources.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        // Of the end of this one the kernel tells without being asked.
        let control = self.control.as_ref().map(|it| PollFd::new(it.as_fd(), PollFlags::empty()));
        sources.extend(control);
        match poll(&mut sources, until(self.patience)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(system("poll")(errno)),
        }
        let events = sources.last().and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        if self.control.is_some() && events.contains(PollFlags::POLLHUP) {
            let grace = u64::from(self.standing.settings.orphan_grace);
            self.patience = Some(Instant::now() + Duration::from_secs(grace) + FAREWELL);
            self.control = None;
        }
        Ok(())
    }

    /// Tells the broker that there is news. One that cannot be told would wait for ever.
    fn ring(&mut self) {
        if self.ground.bell.write(1).is_err() {
            self.patience = Some(Instant::now());
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
            self.ring();
        }
    }

    pub(crate) fn endings(&mut self) -> Reply {
        let count = self.ended.len().min(MAX_LISTED);
        Reply::Endings { ended: self.ended.drain(..count).collect(), terminate: self.terminate }
    }

    /// Starts an agent in a payload's group: who waits there, if anybody does; must it be alone in its account?
    pub(crate) fn start_agent(
        &mut self,
        payload: u32,
        how: (Option<Waiting>, bool),
    ) -> Result<(i32, OwnedFd), Refusal> {
        let failed = failed("spawn.failed", "the agent could not be started");
        let held = self.held.get_mut(&payload).ok_or(Errno::ESRCH).map_err(&failed)?;
        let (pid, socket) = held.start_agent(how, &self.standing, &self.ground).map_err(failed)?;
        self.children.insert(pid.as_raw(), Some(payload));
        Ok((pid.as_raw(), socket))
    }

    /// A payload that exists.
    ///
    /// # Errors
    /// If it does not.
    pub fn find(&mut self, payload: u32) -> Result<&mut Held, Refusal> {
        self.held.get_mut(&payload).ok_or_else(unknown)
    }

    /// Kills a payload's group, and those who may not have entered it yet.
    pub(crate) fn kill(&mut self, payload: u32) {
        if let Some(held) = self.held.get_mut(&payload) {
            held.kill();
        }
        for (child, _) in self.children.iter().filter(|(_, of)| **of == Some(payload)) {
            // Not reaped, so the number is its own.
            let _ = sys::kill(*child, libc::SIGKILL);
        }
    }

    /// The configuration has changed: a fresh broker reads it, for this one has heard the pilot.
    pub(crate) fn reread(&mut self) -> Result<Reply, Refusal> {
        let introduced = introduce::introduce(Mode::Configure, &[], &self.ground, |_, _| ());
        let (fresh, standing) = introduced?;
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
        let (pid, questions) = introduce::start_names(&self.ground, &mut self.broker.names)?;
        Ok((self.started(pid), vec![questions]))
    }

    /// A child that the broker hears of when it ends.
    pub(crate) fn started(&mut self, pid: Pid) -> Reply {
        let child = pid.as_raw();
        self.children.insert(child, None);
        Reply::Started { child }
    }

    /// There is no broker any more. Without it nothing may run. Its exit status, and whether nothing is left.
    fn end(&mut self) -> (u8, bool) {
        let payloads: Vec<_> = self.held.keys().copied().collect();
        for payload in &payloads {
            self.kill(*payload);
        }
        self.nursery.close();
        // Nobody waits now.
        self.standing.tracking.remove_orphans();
        // It has closed its socket, so it ends. One that does not is made to.
        let status = spawn::end(self.broker.pid, self.broker_status);
        if !payloads.is_empty() && self.further.is_none() {
            let left = payloads.len();
            let line = format!("\"event\":\"abandon\",\"payloads\":{left}");
            self.standing.audit.record(&line);
        }
        (status, payloads.is_empty())
    }
}
