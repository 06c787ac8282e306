//! How monitor and broker come together: what the site has configured and who may call, told by a broker
//! that has not heard anything from a pilot yet.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use launch_protocol::broker::Refusal;
use launch_protocol::monitor::{Ask, Mode, Numbers, Reply};
use launch_protocol::policy::{Caller, Settings};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::unistd::Pid;

use crate::audit::Audit;
use crate::cgroup::{Group, Tracking};
use crate::lease::LeaseDir;
use crate::monitor::Answer;
use crate::names::Names;
use crate::programs::{self, Libexec, Verifier, conf};
use crate::refuse::{failed, system, trouble};
use crate::spawn::packet_sockets;
use crate::startup::SavedLimits;
use crate::trusted::{self, Kind};
use crate::wire::{Gone, Wire};

/// How long a configuration that has changed may take to be read, while payloads run.
const REREADING: Duration = Duration::from_secs(5);

/// What is known and open from the start, for all who are started.
#[derive(Debug)]
pub(crate) struct Ground {
    /// Who calls, as the kernel says.
    pub(crate) caller: Caller,
    /// The caller's own, which payloads get back.
    pub(crate) limits: SavedLimits,
    pub(crate) null: OwnedFd,
    /// Rung when there is something for the broker to fetch.
    pub(crate) bell: EventFd,
}

/// A broker, and the name service that it asks.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) pid: Pid,
    pub(crate) wire: Wire,
    pub(crate) names: Names,
}

/// What the monitor acts on.
#[derive(Debug)]
pub struct Standing {
    /// What the site has configured.
    pub settings: Settings,
    pub(crate) caller: Caller,
    pub(crate) may_omit_key: bool,
    pub(crate) hooks: [Numbers; 2],
    /// `sailplane-job`
    pub(crate) agent: PathBuf,
    /// `sailplane-verify`
    pub(crate) verifier: PathBuf,
    /// Where groups are made.
    pub tracking: Tracking,
    pub(crate) audit: Audit,
    /// Who has which account.
    pub leases: LeaseDir,
    /// A verifier that was started before the configuration was known.
    pub(crate) early: Option<Verifier>,
}

impl Broker {
    /// What is to be polled for it.
    pub(crate) fn sources(&self) -> Vec<PollFd<'_>> {
        let names = Some(self.names.socket.as_fd()).filter(|_| !self.names.ended);
        let sources = std::iter::once(self.wire.socket.as_fd()).chain(names);
        sources.map(|source| PollFd::new(source, PollFlags::POLLIN)).collect()
    }
}

/// How long to poll, if only until then.
pub(crate) fn until(deadline: Option<Instant>) -> PollTimeout {
    deadline.map_or(PollTimeout::NONE, |deadline| {
        let left = deadline.saturating_duration_since(Instant::now());
        PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
    })
}

/// Starts the name service, of which copies come from now on: its process number, the socket for questions.
pub(crate) fn start_names(ground: &Ground, names: &mut Names) -> Result<(Pid, OwnedFd), Refusal> {
    let program = Libexec::own()?.find_names()?;
    let mut started = || {
        let (questions, theirs) = packet_sockets()?;
        let (copies, witness) = packet_sockets()?;
        let null = ground.null.as_fd();
        let descriptors = [theirs.as_fd(), null, null, witness.as_fd()];
        let pid = programs::start_as_nobody(&program, &descriptors)?;
        names.move_to(copies);
        Ok((pid, questions))
    };
    started().map_err(system("starting sailplane-names"))
}

/// Starts a broker and lets it introduce itself. It waits for the answer to its last word. `meanwhile`: what to
/// do while it works and needs nothing: while it asks the name service, as a rule.
pub(crate) fn introduce(
    mode: Mode,
    words: &[std::ffi::OsString],
    ground: &Ground,
    meanwhile: impl FnOnce(&Standing, Group),
) -> Result<(Broker, Standing), Refusal> {
    let libexec = Libexec::own()?;
    let program = libexec.find("sailplane-broker")?;
    let started = programs::start_broker(&program, mode, words, ground);
    let (pid, socket) = started.map_err(system("starting sailplane-broker"))?;
    let (copies, witness) = packet_sockets().map_err(system("socketpair"))?;
    // Its libraries take the longest time. What it may trust it will be told.
    let early = Some("sailplane-verify").filter(|_| mode == Mode::Serve);
    let early = early.and_then(|name| libexec.find(name).ok());
    let early = early.and_then(|program| Verifier::start(program, ground.null.as_fd()).ok());
    let mut broker = Broker { pid, wire: Wire::new(socket), names: Names::new(copies) };
    let standing = listen(mode, ground, &mut broker, (witness, libexec, early), meanwhile)?;
    Ok((broker, standing))
}

fn listen(
    mode: Mode,
    ground: &Ground,
    broker: &mut Broker,
    (witness, libexec, early): (OwnedFd, Libexec, Option<Verifier>),
    meanwhile: impl FnOnce(&Standing, Group),
) -> Result<Standing, Refusal> {
    let deadline = (mode == Mode::Configure).then(|| Instant::now() + REREADING);
    let (mut witness, mut meanwhile) = (Some(witness), Some(meanwhile));
    let mut programs = Some((libexec, early));
    let mut found = Vec::new();
    let mut standing: Option<Standing> = None;
    let mut prepare = |standing: &mut Standing, found: &[_]| {
        if let Some(work) = meanwhile.take().filter(|_| mode != Mode::Configure) {
            let (tracking, first) = Tracking::try_out(found);
            standing.tracking = tracking;
            work(standing, first);
        }
    };
    loop {
        let answer: Answer = match (next(broker, deadline)?, &mut standing) {
            (Ask::Begin { hierarchies }, None) => {
                found = hierarchies;
                let witness = witness.take().ok_or_else(ended)?;
                let caller = Box::new(ground.caller.clone());
                let monitor = std::process::id().cast_signed();
                let conf = trusted::open("configuration", &conf(), Kind::File);
                conf.map(|conf| (Reply::Begun { mode, monitor, caller }, vec![conf, witness]))
            }
            (Ask::Names, _) => {
                let started = start_names(ground, &mut broker.names);
                started.map(|(pid, questions)| (Reply::Started { child: pid.as_raw() }, vec![questions]))
            }
            (Ask::Configured(settings), None) => {
                let programs = programs.take().ok_or_else(ended)?;
                Standing::new(*settings, programs).and_then(|ready| {
                    let files = files(&ready.settings)?;
                    standing = Some(ready);
                    Ok((Reply::Files, files))
                })
            }
            (Ask::Verifier, Some(standing)) => {
                let answer = standing.start_verifier(ground);
                let answer = answer.map(|(pid, socket)| (Reply::Started { child: pid.as_raw() }, vec![socket]));
                broker.wire.answer(answer).map_err(|Gone| ended())?;
                prepare(standing, &found);
                continue;
            }
            (Ask::Audit { line }, Some(standing)) => {
                standing.audit.record(&line);
                continue;
            }
            (Ask::Decline(refusal), _) => return Err(refusal),
            (Ask::Admitted { caller, may_omit_key, hooks }, Some(_)) => {
                let mut standing = standing.ok_or_else(ended)?;
                prepare(&mut standing, &found);
                // What the kernel has said stays.
                standing.caller = Caller { uid: ground.caller.uid, ..*caller };
                (standing.may_omit_key, standing.hooks) = (may_omit_key, hooks);
                broker.names.distrust_broker();
                return Ok(standing);
            }
            _ => return Err(ended()),
        };
        broker.wire.answer(answer).map_err(|Gone| ended())?;
    }
}

fn next(broker: &mut Broker, deadline: Option<Instant>) -> Result<Ask, Refusal> {
    loop {
        if let Some((ask, _)) = broker.wire.receive().map_err(|Gone| ended())? {
            return Ok(ask);
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(ended());
        }
        // Interrupted: look again.
        let _ = poll(&mut broker.sources(), until(deadline));
        broker.names.listen();
    }
}

impl Standing {
    /// Looks whether everything is as it must be.
    fn new(settings: Settings, (own, early): (Libexec, Option<Verifier>)) -> Result<Self, Refusal> {
        let other = settings.libexec.as_deref().filter(|other| *other != own.path);
        let libexec = other.map(Libexec::open).transpose()?.unwrap_or(own);
        let verify = &settings.verifier;
        for path in &verify.directories {
            trusted::check("certdir or vomsdir", path, Kind::Directory)?;
        }
        for path in &verify.files {
            trusted::check("token keys", path, Kind::File)?;
        }
        Ok(Self {
            agent: libexec.find("sailplane-job")?,
            verifier: libexec.find("sailplane-verify")?,
            audit: Audit::open(&settings.audit)?,
            leases: LeaseDir::open(&settings.rundir)?,
            caller: Caller::default(),
            may_omit_key: false,
            hooks: Default::default(),
            settings,
            tracking: Tracking::default(),
            early,
        })
    }

    /// Starts the verifier, if it has not been: its process number and socket.
    pub(crate) fn start_verifier(&mut self, ground: &Ground) -> Result<(Pid, OwnedFd), Refusal> {
        let started = match self.early.take().filter(|early| early.program == self.verifier) {
            Some(early) => Ok(early),
            None => Verifier::start(self.verifier.clone(), ground.null.as_fd()),
        };
        let started = started.and_then(|it| it.instruct(&self.settings.verifier.words));
        started.map_err(failed("verifier.start", "starting sailplane-verify"))
    }
}

/// The configuration and the policy files, opened now.
pub(crate) fn files(settings: &Settings) -> Result<Vec<OwnedFd>, Refusal> {
    let paths = std::iter::once(conf()).chain(settings.policy_files.iter().cloned());
    paths.map(|path| trusted::open("policy", &path, Kind::File)).collect()
}

/// Without a broker nothing can be done.
pub(crate) fn ended() -> Refusal {
    let text = "sailplane-broker has ended unexpectedly; check that all can execute it";
    trouble("broker.ended", text)
}
