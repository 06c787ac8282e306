//! How monitor and broker come together: what the site has configured and who may call, told by a broker
//! that has not heard anything from a pilot yet.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use launch_protocol::broker::{Refusal, RefusalClass};
use launch_protocol::monitor::{Ask, Mode, Numbers, Reply};
use launch_protocol::policy::{Caller, Settings};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::audit::Audit;
use crate::cgroup::{Group, Tracking};
use crate::error::StartupError;
use crate::lease::LeaseDir;
use crate::names::Names;
use crate::programs::{self, Libexec, Verifier, conf};
use crate::refuse::{helper, trouble};
use crate::spawn::packet_sockets;
use crate::trusted::{self, Kind};
use crate::wire::{Gone, Wire};

/// How long a configuration that has changed may take to be read, while payloads run.
const REREADING: Duration = Duration::from_secs(5);

/// What every broker is started with.
#[derive(Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) mode: Mode,
    pub(crate) words: &'a [std::ffi::OsString],
    /// Who calls, as the kernel says.
    pub(crate) caller: &'a Caller,
    /// Standard output and error.
    pub(crate) streams: [BorrowedFd<'a>; 2],
    pub(crate) null: BorrowedFd<'a>,
    /// Rung when there is something to be fetched.
    pub(crate) bell: BorrowedFd<'a>,
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

/// Starts the name service: its process number, the socket for questions, the copies.
pub(crate) fn start_names(
    program: &Path,
    null: BorrowedFd<'_>,
) -> Result<(Pid, OwnedFd, Names), StartupError> {
    let started = || {
        let (questions, theirs) = packet_sockets()?;
        let (copies, witness) = packet_sockets()?;
        let descriptors = [theirs.as_fd(), null, null, witness.as_fd()];
        let pid = programs::start_as_nobody(program, &descriptors)?;
        Ok((pid, questions, Names::new(copies)))
    };
    started().map_err(|errno| StartupError::system("starting sailplane-names", errno))
}

/// Starts a broker and lets it introduce itself. It waits for the answer to its last word. `meanwhile`: what to
/// do while it works and needs nothing: while it asks the name service, as a rule.
pub(crate) fn introduce(
    start: Start<'_>,
    meanwhile: impl FnOnce(&Standing, Group),
) -> Result<(Broker, Standing), StartupError> {
    let libexec = Libexec::own()?;
    let find = |name| {
        let found = libexec.find(name);
        found.map_err(|error| StartupError::untrusted("libexec", &error))
    };
    // First of all: its libraries take the longest time. What it may trust it will be told.
    let early = match start.mode {
        Mode::Serve => find("sailplane-verify").ok(),
        _ => None,
    };
    let early = early.and_then(|program| Verifier::start(program, start.null).ok());
    let program = find("sailplane-broker")?;
    let (pid, socket) =
        programs::start_broker(&program, start.mode, start.words, start.streams, start.bell)
            .map_err(|errno| StartupError::system("starting sailplane-broker", errno))?;
    let (_, questions, names) = start_names(&find("sailplane-names")?, start.null)?;
    let wire = Wire::new(socket);
    let mut broker = Broker { pid, wire, names };
    let standing = listen(start, &mut broker, questions, (libexec, early), meanwhile)?;
    Ok((broker, standing))
}

fn listen(
    start: Start<'_>,
    broker: &mut Broker,
    questions: OwnedFd,
    programs: (Libexec, Option<Verifier>),
    meanwhile: impl FnOnce(&Standing, Group),
) -> Result<Standing, StartupError> {
    let deadline = (start.mode == Mode::Configure).then(|| Instant::now() + REREADING);
    let (mut questions, mut meanwhile) = (Some(questions), Some(meanwhile));
    let mut programs = Some(programs);
    let mut found = Vec::new();
    let mut standing: Option<Standing> = None;
    let mut prepare = |standing: &mut Standing, found: &[(String, PathBuf)]| {
        if let Some(work) = meanwhile.take()
            && start.mode != Mode::Configure
        {
            let (tracking, first) = Tracking::try_out(found);
            standing.tracking = tracking;
            work(standing, first);
        }
    };
    loop {
        let (ask, _) = next(broker, deadline)?;
        let lost = |Gone| ended();
        let refusal = match (ask, &mut standing) {
            (Ask::Begin { hierarchies }, None) if questions.is_some() => {
                found = hierarchies;
                let reply = Reply::Begun {
                    mode: start.mode,
                    monitor: std::process::id().cast_signed(),
                    caller: Box::new(start.caller.clone()),
                };
                match (open(&conf(), "configuration"), questions.take()) {
                    (Ok(conf), Some(questions)) => {
                        let beside = [conf.as_fd(), questions.as_fd()];
                        broker.wire.answer(&reply, &beside).map_err(lost)?;
                        continue;
                    }
                    (Err(refusal), _) => refusal,
                    _ => return Err(ended()),
                }
            }
            (Ask::Configured(settings), None) => {
                let ready = Standing::new(*settings, programs.take().ok_or_else(ended)?);
                match ready.and_then(|ready| Ok((files(&ready.settings)?, ready))) {
                    Ok((files, ready)) => {
                        let beside: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
                        broker.wire.answer(&Reply::Files, &beside).map_err(lost)?;
                        standing = Some(ready);
                        continue;
                    }
                    Err(refusal) => refusal,
                }
            }
            (Ask::Verifier, Some(standing)) => match standing.start_verifier(start.null) {
                Ok((child, socket)) => {
                    let child = child.as_raw();
                    let reply = Reply::Started { child };
                    broker.wire.answer(&reply, &[socket.as_fd()]).map_err(lost)?;
                    prepare(standing, &found);
                    continue;
                }
                Err(refusal) => refusal,
            },
            (Ask::Audit { line }, Some(standing)) => {
                standing.audit.record(&line);
                continue;
            }
            (Ask::Decline(refusal), _) => return Err(refusal.into()),
            (Ask::Admitted { caller, may_omit_key, hooks }, Some(_)) => {
                let mut standing = standing.ok_or_else(ended)?;
                prepare(&mut standing, &found);
                (standing.caller, standing.may_omit_key) = (*caller, may_omit_key);
                // What the kernel has said stays.
                standing.caller.uid = start.caller.uid;
                standing.hooks = hooks;
                return Ok(standing);
            }
            _ => return Err(ended()),
        };
        broker.wire.answer(&Reply::Refused(refusal), &[]).map_err(lost)?;
    }
}

fn next(
    broker: &mut Broker,
    deadline: Option<Instant>,
) -> Result<(Ask, Vec<OwnedFd>), StartupError> {
    loop {
        if let Some(question) = broker.wire.receive().map_err(|Gone| ended())? {
            return Ok(question);
        }
        let left = deadline.map(|it| it.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(ended());
        }
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let sources = [broker.wire.as_fd(), broker.names.as_fd()];
        let named = usize::from(!broker.names.has_ended());
        let sources = sources.iter().take(1 + named);
        let mut sources: Vec<_> =
            sources.map(|source| PollFd::new(*source, PollFlags::POLLIN)).collect();
        // Interrupted: look again.
        let _ = poll(&mut sources, timeout);
        broker.names.listen();
    }
}

impl Standing {
    /// Looks whether everything is as it must be.
    fn new(settings: Settings, (own, early): (Libexec, Option<Verifier>)) -> Result<Self, Refusal> {
        let other = settings.libexec.as_deref().filter(|other| *other != own.path());
        let other = other.map(Libexec::open).transpose();
        let libexec = other.map_err(|error| untrusted("libexec", &error))?.unwrap_or(own);
        let verify = &settings.verifier;
        for path in &verify.directories {
            trust("certdir or vomsdir", path, Kind::Directory)?;
        }
        for path in &verify.files {
            trust("token keys", path, Kind::File)?;
        }
        let program = |name| libexec.find(name).map_err(|error| untrusted("libexec", &error));
        Ok(Self {
            agent: program("sailplane-job")?,
            verifier: program("sailplane-verify")?,
            audit: Audit::open(&settings.audit).map_err(|error| untrusted("log_file", &error))?,
            leases: LeaseDir::open(&settings.rundir)
                .map_err(|error| untrusted("rundir", &error))?,
            caller: Caller::default(),
            may_omit_key: false,
            hooks: Default::default(),
            settings,
            tracking: Tracking::default(),
            early,
        })
    }

    /// Starts the verifier, if it has not been: its process number and socket.
    pub(crate) fn start_verifier(
        &mut self,
        null: BorrowedFd<'_>,
    ) -> Result<(Pid, OwnedFd), Refusal> {
        let early = self.early.take().filter(|early| early.is_of(&self.verifier));
        let started = match early {
            Some(early) => Ok(early),
            None => Verifier::start(self.verifier.clone(), null),
        };
        let started = started.and_then(|it| it.instruct(&self.settings.verifier.words));
        started.map_err(|errno| trouble("verifier.start", errno.desc().to_owned()))
    }
}

/// The configuration and the policy files, opened now.
pub(crate) fn files(settings: &Settings) -> Result<Vec<File>, Refusal> {
    let paths = std::iter::once(conf()).chain(settings.policy_files.iter().cloned());
    paths.map(|path| open(&path, "policy")).collect()
}

fn open(path: &Path, key: &str) -> Result<File, Refusal> {
    trusted::open_file(path).map_err(|error| untrusted(key, &error))
}

fn trust(key: &str, path: &Path, kind: Kind) -> Result<(), Refusal> {
    trusted::check(path, kind).map_err(|error| untrusted(key, &error))
}

/// A file or directory that must be trusted is not.
pub(crate) fn untrusted(key: &str, error: &trusted::TrustError) -> Refusal {
    let class = RefusalClass::SitePermanent;
    helper(class, error.code(), format!("{key}: {error}"), false)
}

/// Without a broker nothing can be done.
pub(crate) fn ended() -> StartupError {
    let text = "sailplane-broker has ended unexpectedly; check that all can execute it";
    trouble("broker.ended", text.to_owned()).into()
}
