//! The loop: requests in, replies and events out, children reaped, groups watched. One thread, one
//! `poll`; nothing in here waits for a child or a peer.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use launch_protocol::VERSION;
use launch_protocol::broker::{
    Answer, Command, Hello, Opened, Purpose, Refusal, RefusalClass, Request,
};
use launch_protocol::policy::{Isolation, LimitRules};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, getpid};

use crate::account::{Caller, TargetAccount};
use crate::audit::{Audit, Line};
use crate::cgroup::Tracking;
use crate::channel::{Channel, Incoming};
use crate::config::Config;
use crate::errands::Runner;
use crate::error::StartupError;
use crate::lease::{Lease, LeaseDir, Record};
use crate::mapping::{Known, Mapped, Policy};
use crate::nest::{self, Kit, Launch, Nest, Nursery};
use crate::opening::Opening;
use crate::payload::{Outcome, Payload, Reaped};
use crate::refuse::{caller, helper, trouble};
use crate::sandbox::{Place, Sandbox};
use crate::startup::SavedLimits;
use crate::sys;
use crate::verifiers::Verifiers;
use crate::warmth::Warmth;

/// Credentials being verified at the same time.
const MAX_OPENINGS: usize = 32;
/// Payloads of one pilot.
const MAX_PAYLOADS: usize = 4096;
/// Requests read before other work gets its turn.
const REQUESTS_AT_ONCE: usize = 32;
/// After so long without an event there is time to prepare for the next payload.
const IDLE: Duration = Duration::from_millis(5);
/// How long the end may take after the pilot is gone; recovery does the rest.
const FAREWELL: Duration = Duration::from_secs(30);

/// What the broker works with, all of it checked.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) config: Config,
    pub(crate) caller: Caller,
    pub(crate) limits: SavedLimits,
    pub(crate) tracking: Tracking,
    pub(crate) leases: LeaseDir,
    pub(crate) audit: Audit,
    pub(crate) null: OwnedFd,
    pub(crate) signals: OwnedFd,
    pub(crate) agent: PathBuf,
    pub(crate) known: Known,
    pub(crate) verifiers: Verifiers,
}

/// The broker of one pilot.
#[derive(Debug)]
pub(crate) struct Broker {
    tools: Tools,
    channel: Channel,
    nursery: Nursery,
    openings: Vec<Opening>,
    payloads: BTreeMap<u32, Payload>,
    serial: u32,
    greeted: bool,
    warmth: Warmth,
    /// Since when the end has begun.
    leaving: Option<Instant>,
}

impl Broker {
    pub(crate) fn new(tools: Tools, control: OwnedFd) -> Self {
        let warmth = Warmth::new(tools.config.warm_time, Instant::now());
        Self {
            tools,
            channel: Channel::new(control),
            nursery: Nursery::default(),
            openings: Vec::new(),
            payloads: BTreeMap::new(),
            serial: 0,
            greeted: false,
            warmth,
            leaving: None,
        }
    }

    /// Serves until the pilot is gone and everything of it is cleaned up; false if something could
    /// not be.
    pub(crate) fn run(mut self) -> Result<bool, StartupError> {
        loop {
            self.advance_all(Instant::now());
            if let Some(since) = self.leaving
                && (self.payloads.is_empty() || since.elapsed() >= FAREWELL)
            {
                let left = self.payloads.len();
                self.tools
                    .audit
                    .write("end", &[("left", &left.to_string())]);
                return Ok(left == 0);
            }
            if self.wait()? {
                self.tend();
            }
            while let Some(signal) = sys::next_signal(self.tools.signals.as_fd()) {
                if i32::try_from(signal) == Ok(libc::SIGTERM) {
                    self.leave("signal");
                }
            }
            while let Some((child, status)) = sys::reap() {
                self.reaped(child, status);
            }
            self.channel.flush();
            if self.channel.is_broken() {
                self.leave("pilot does not read");
            }
            for _ in 0..REQUESTS_AT_ONCE {
                if self.leaving.is_some() {
                    break;
                }
                match self.channel.receive() {
                    Incoming::Request(request, descriptors) => self.serve(request, descriptors)?,
                    Incoming::Nothing => break,
                    Incoming::End => self.leave("end of channel"),
                    Incoming::Malformed => self.leave("malformed packet"),
                }
            }
        }
    }

    /// Is there anything to prepare for the next payload?
    fn is_cold(&self) -> bool {
        let Self { tools, nursery, .. } = self;
        tools.verifiers.is_cold() || nursery.is_cold() || tools.known.is_cold(&tools.config)
    }

    /// When there will be something to do for the next payload, or to undo.
    fn tending(&self, now: Instant) -> Option<Instant> {
        let Self { tools, nursery, .. } = self;
        if self.leaving.is_some() {
            None
        } else if self.warmth.lasts(now) && self.is_cold() {
            Some(now + IDLE)
        } else {
            let warm = tools.verifiers.is_warm() || tools.known.is_warm() || nursery.is_warm();
            warm.then(|| self.warmth.until())
        }
    }

    /// In an idle moment: prepares for the next payload, or gives up waiting for it.
    fn tend(&mut self) {
        if self.warmth.lasts(Instant::now()) {
            self.warm_up();
        } else {
            self.tools.verifiers.cool_down();
            self.tools.known.cool_down();
            self.nursery.close();
        }
    }

    /// Somebody has said that a payload will come.
    fn prepare(&mut self) {
        self.warmth.renew(Instant::now());
        self.tools.verifiers.expect_use();
        self.tools.known.expect_use();
        self.nursery.expect_use();
        while self.warm_up() {}
    }

    /// The processes of a payload are dying: time to prepare for the one that may follow at once.
    fn catch_up(&mut self) {
        if self.warmth.lasts(Instant::now()) && self.openings.is_empty() {
            while self.warm_up() {}
        }
    }

    /// Prepares one of the three things the next payload will need. In an idle moment, because it takes
    /// about a millisecond, in which the one that is just starting would have to wait. False: nothing
    /// to prepare.
    fn warm_up(&mut self) -> bool {
        if self.leaving.is_some() || !self.is_cold() {
            return false;
        }
        let Self { tools, nursery, .. } = self;
        if tools.verifiers.is_cold() {
            tools.verifiers.warm_up(tools.null.as_fd());
        } else if nursery.is_cold() {
            nursery.warm_up(&tools.tracking, kit(tools));
        } else {
            let policy = Policy {
                config: &tools.config,
                caller: &tools.caller,
                leases: &tools.leases,
                null: tools.null.as_fd(),
                runner: runner(&tools.agent, &tools.null),
                serial: self.serial,
            };
            tools.known.vet(policy);
        }
        true
    }

    /// Sleeps until something happens or a deadline is reached; true if nothing has happened.
    fn wait(&self) -> Result<bool, StartupError> {
        let now = Instant::now();
        let deadline = self
            .openings
            .iter()
            .filter_map(Opening::deadline)
            .chain(
                self.payloads
                    .values()
                    .filter_map(|payload| payload.deadline(now)),
            )
            .chain(self.leaving.map(|since| since + FAREWELL))
            .chain(self.tending(now))
            .min();
        let timeout = match deadline {
            None => PollTimeout::NONE,
            // Rounded up, so that the deadline really has passed on return.
            Some(at) => {
                let left = at.saturating_duration_since(now) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut sources = vec![PollFd::new(self.tools.signals.as_fd(), PollFlags::POLLIN)];
        if self.leaving.is_none() {
            let mut wanted = PollFlags::POLLIN;
            wanted.set(PollFlags::POLLOUT, self.channel.is_behind());
            sources.push(PollFd::new(self.channel.as_fd(), wanted));
        }
        let openings = self.openings.iter().filter_map(Opening::source);
        sources.extend(openings.map(|source| PollFd::new(source, PollFlags::POLLIN)));
        let events = self.payloads.values().filter_map(Payload::events);
        sources.extend(events.map(|source| PollFd::new(source, PollFlags::POLLPRI)));
        match poll(&mut sources, timeout) {
            Ok(ready) => Ok(ready == 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(StartupError::System("poll", errno)),
        }
    }

    /// The pilot is gone, or must be treated so.
    fn leave(&mut self, why: &str) {
        if self.leaving.is_some() {
            return;
        }
        let now = Instant::now();
        self.leaving = Some(now);
        let payloads = self.payloads.len().to_string();
        self.tools
            .audit
            .write("leave", &[("why", why), ("payloads", &payloads)]);
        for Mapped { lease, .. } in self
            .openings
            .drain(..)
            .filter_map(|opening| opening.reserved)
        {
            self.tools.leases.release(lease);
        }
        for payload in self.payloads.values_mut() {
            payload.close(None, now);
        }
        self.nursery.close();
    }

    fn reaped(&mut self, child: Pid, status: i32) {
        for (number, payload) in &mut self.payloads {
            match payload.reaped(child, status) {
                Reaped::Leader => {
                    let answer = Answer::Exited {
                        payload: *number,
                        wait_status: status,
                    };
                    self.channel.send(0, answer, None);
                    return;
                }
                Reaped::Other => return,
                Reaped::Stranger => {}
            }
        }
        if self
            .openings
            .iter_mut()
            .any(|opening| opening.reaped(child, status))
        {
            return;
        }
        // Else an orphan of a payload.
        if !self.tools.verifiers.reaped(child) {
            self.nursery.reaped(child);
        }
    }

    fn serve(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Result<(), StartupError> {
        let Request { id, command } = request;
        if let Command::Hello { version } = command {
            if version != VERSION {
                return Err(StartupError::Version(version));
            }
            self.greeted = true;
            let hello = self.hello();
            self.channel.send(id, Answer::Hello(hello), None);
            return Ok(());
        }
        if !self.greeted {
            self.leave("no greeting");
            return Ok(());
        }
        let outcome = match command {
            Command::Hello { .. } => return Ok(()),
            Command::Open {
                job_label,
                execute_dir: Some(execute_dir),
                slot_account: None,
                purpose: Purpose::Run,
                limits: _,
            } => self
                .open(id, job_label, execute_dir, descriptors)
                .map(|()| None),
            Command::Open { .. } | Command::Present | Command::Renew { .. } => Err(caller(
                "request.unsupported",
                "this helper cannot do that yet",
            )),
            Command::SpawnAgent { payload } => self.spawn(payload).map(Some),
            Command::Signal { signal, .. } if !(1..=64).contains(&signal) => {
                Err(caller("signal.number", "signals have numbers from 1 to 64"))
            }
            Command::Signal {
                payload,
                signal,
                scope,
            } => self.find(payload).map(|payload| {
                payload.signal(signal, scope);
                Some((Answer::Done, None))
            }),
            Command::Kill { payload } => self.find(payload).map(|payload| {
                payload.kill();
                Some((Answer::Done, None))
            }),
            Command::Usage { payload } => self
                .find(payload)
                .map(|payload| Some((Answer::Usage(payload.usage(Instant::now())), None))),
            Command::Close { payload } => {
                let found = self.find(payload);
                let closing = found.map(|payload| payload.close(Some(id), Instant::now()));
                self.catch_up();
                closing.map(|()| None)
            }
            Command::Prepare => {
                self.prepare();
                Ok(Some((Answer::Done, None)))
            }
        };
        match outcome {
            Ok(None) => {}
            Ok(Some((answer, beside))) => self.channel.send(id, answer, beside),
            Err(refusal) => self.channel.send(id, Answer::Refused(refusal), None),
        }
        Ok(())
    }

    fn hello(&self) -> Hello {
        let Tools {
            config, tracking, ..
        } = &self.tools;
        let mapping = [
            config
                .gridmap
                .as_ref()
                .map(|path| format!("map file {}", path.display())),
            config
                .dynamic_uids
                .map(|(first, last)| format!("dynamic accounts {first}-{last}")),
        ];
        Hello {
            version: VERSION,
            switch_version: env!("CARGO_PKG_VERSION").to_owned(),
            tracking: tracking.word().to_owned(),
            memory_source: tracking.memory_source().to_owned(),
            execute_dirs: config.execute_dirs.clone(),
            mapping: mapping
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(", then "),
            features: tracking.features(),
            ..Hello::default()
        }
    }

    /// A payload that is not being closed.
    fn find(&mut self, payload: u32) -> Result<&mut Payload, Refusal> {
        self.payloads
            .get_mut(&payload)
            .filter(|payload| !payload.is_closing())
            .ok_or_else(|| caller("payload.unknown", "there is no payload of this number"))
    }

    fn open(
        &mut self,
        request: u32,
        label: String,
        execute_dir: PathBuf,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Refusal> {
        let outcome = self.begin_open(request, &label, execute_dir, &descriptors);
        if let Err(refusal) = &outcome {
            audit_refusal(&self.tools, &label, "", refusal);
        }
        outcome
    }

    fn begin_open(
        &mut self,
        request: u32,
        label: &str,
        execute_dir: PathBuf,
        descriptors: &[OwnedFd],
    ) -> Result<(), Refusal> {
        if self.openings.len() >= MAX_OPENINGS || self.payloads.len() >= MAX_PAYLOADS {
            return Err(trouble(
                "open.busy",
                "too many payloads are being opened at once".to_owned(),
            ));
        }
        let place = Place::open(&execute_dir, &self.tools.config, self.tools.caller.uid).map_err(
            |error| {
                helper(
                    RefusalClass::SitePermanent,
                    error.code(),
                    error.to_string(),
                    false,
                )
            },
        )?;
        let Some(credential) = descriptors.first() else {
            return Err(caller(
                "open.credential",
                "no credential came with the request",
            ));
        };
        self.warmth.renew(Instant::now());
        let null = self.tools.null.as_fd();
        let verification = self
            .tools
            .verifiers
            .verify(credential.as_fd(), null, Instant::now())
            .map_err(|errno| {
                trouble(
                    "verifier.start",
                    format!("starting the verifier: {}", errno.desc()),
                )
            })?;
        self.serial += 1;
        let mut opening = Opening::new(request, self.serial, label.to_owned(), place, verification);
        let Self {
            tools, openings, ..
        } = self;
        opening.reserved = tools.known.reserve(Policy {
            config: &tools.config,
            caller: &tools.caller,
            leases: &tools.leases,
            null: tools.null.as_fd(),
            runner: runner(&tools.agent, &tools.null),
            serial: opening.serial,
        });
        openings.push(opening);
        Ok(())
    }

    fn spawn(&mut self, number: u32) -> Result<(Answer, Option<OwnedFd>), Refusal> {
        self.find(number)?;
        let Self {
            tools, payloads, ..
        } = self;
        let payload = payloads
            .get_mut(&number)
            .filter(|payload| payload.is_idle())
            .ok_or_else(|| caller("agent.busy", "the payload still has processes"))?;
        let started = payload
            .hatchling(kit(tools))
            .and_then(|child| {
                let launch = Launch {
                    account: &payload.account,
                    sandbox: Some(&payload.sandbox),
                    execute_dir: None,
                    limits: &LimitRules::default(),
                    isolation: &Isolation::default(),
                    rules: &[],
                };
                nest::order(&child, launch).map(|()| child)
            })
            .map_err(|errno| {
                trouble(
                    "agent.start",
                    format!("starting the agent: {}", errno.desc()),
                )
            })?;
        payload.set_leader(started.pid, started.numbers, Instant::now());
        let pid = started.pid.as_raw().cast_unsigned();
        Ok((
            Answer::Spawned {
                payload: number,
                pid,
            },
            Some(started.socket),
        ))
    }

    fn advance_all(&mut self, now: Instant) {
        let Self {
            tools, openings, ..
        } = self;
        let mut ready = Vec::new();
        let mut index = 0;
        while let Some(opening) = openings.get_mut(index) {
            let policy = Policy {
                config: &tools.config,
                caller: &tools.caller,
                leases: &tools.leases,
                null: tools.null.as_fd(),
                runner: runner(&tools.agent, &tools.null),
                serial: opening.serial,
            };
            match opening.advance(&mut tools.known, policy, now) {
                None => index += 1,
                Some(outcome) => {
                    let mut opening = openings.swap_remove(index);
                    if let Some(Mapped { lease, .. }) = opening.reserved.take() {
                        tools.leases.release(lease);
                    }
                    ready.push((opening, outcome));
                }
            }
        }
        for (opening, outcome) in ready {
            let identity = opening
                .accepted
                .as_ref()
                .map_or("", |accepted| &accepted.identity)
                .to_owned();
            let (request, label) = (opening.request, opening.label.clone());
            let answer = match outcome.and_then(|mapped| self.establish(opening, mapped)) {
                Ok(opened) => {
                    audit_open(&self.tools, &label, &opened);
                    Answer::Opened(opened)
                }
                Err(refusal) => {
                    audit_refusal(&self.tools, &label, &identity, &refusal);
                    Answer::Refused(refusal)
                }
            };
            self.channel.send(request, answer, None);
        }
        self.advance_payloads(now);
    }

    fn advance_payloads(&mut self, now: Instant) {
        let Self {
            tools,
            payloads,
            channel,
            ..
        } = self;
        payloads.retain(|number, payload| {
            loop {
                match payload.advance(runner(&tools.agent, &tools.null), now) {
                    Outcome::Quiet => break true,
                    Outcome::Empty => {
                        channel.send(0, Answer::Empty { payload: *number }, None);
                    }
                    Outcome::Gone(request, left) => {
                        let code = left.as_ref().map_or("clean", |refusal| &refusal.code);
                        let line = Line::new("close")
                            .text("request", &request_name(*number))
                            .text("job", &payload.label)
                            .number("uid", payload.account.uid())
                            .text("outcome", code);
                        tools.audit.record(line);
                        // With something left the file stays, unlocked, for recovery.
                        match (payload.lease.take(), &left) {
                            (Some(lease), None) => tools.leases.release(lease),
                            (lease, _) => drop(lease),
                        }
                        if let Some(request) = request {
                            channel.send(
                                request,
                                left.map_or(Answer::Closed, Answer::Refused),
                                None,
                            );
                        }
                        break false;
                    }
                }
            }
        });
    }

    /// Makes group and sandbox for a mapped account.
    fn establish(&mut self, opening: Opening, mapped: Mapped) -> Result<Opened, Refusal> {
        let Mapped { account, mut lease } = mapped;
        let Opening {
            serial,
            label,
            place,
            accepted,
            ..
        } = opening;
        let made = accepted
            .ok_or_else(|| trouble("open.state", "no verdict".to_owned()))
            .and_then(|accepted| {
                self.make(serial, &label, place, &account, &mut lease)
                    .map(|made| (accepted, made))
            });
        let (accepted, (sandbox, nest)) = match made {
            Ok(made) => made,
            Err(refusal) => {
                self.tools.leases.release(lease);
                return Err(refusal);
            }
        };
        let opened = Opened {
            payload: serial,
            uid: account.uid(),
            gid: account.gid(),
            account: account.name().to_owned(),
            identity: accepted.identity,
            not_after: accepted.not_after,
            limited: accepted.limited,
            sandbox: Some(sandbox.path()),
            ..Opened::default()
        };
        self.payloads
            .insert(serial, Payload::new(account, label, sandbox, nest, lease));
        Ok(opened)
    }

    fn make(
        &mut self,
        serial: u32,
        label: &str,
        place: Place,
        account: &TargetAccount,
        lease: &mut Lease,
    ) -> Result<(Sandbox, Nest), Refusal> {
        let Self {
            tools,
            nursery,
            payloads,
            ..
        } = self;
        let shares_account = payloads
            .values()
            .any(|other| other.account.uid() == account.uid());
        if !tools.tracking.has_groups() && shares_account {
            let text = "without cgroup2 one account can run one payload at a time";
            return Err(trouble("lease.busy", text.to_owned()));
        }
        let failed = |code: &'static str, what: &'static str| {
            move |errno: Errno| trouble(code, format!("{what}: {}", errno.desc()))
        };
        let mut nest = nursery
            .take(&tools.tracking, kit(tools))
            .map_err(failed("group.failed", "making the payload's group"))?;
        let name = format!("dir_{}_{serial}", getpid());
        let record = Record {
            uid: account.uid(),
            gid: account.gid(),
            dynamic: account.is_dynamic(),
            sandbox: place.path_of(&name),
            groups: nest.directories.clone(),
            label: label.to_owned(),
        };
        let made = lease
            .record(&record)
            .map_err(failed("lease.failed", "writing down the lease"))
            .and_then(|()| {
                Sandbox::make(place, &name, account, false)
                    .map_err(failed("sandbox.failed", "making the sandbox"))
            });
        match made {
            Ok(sandbox) => Ok((sandbox, nest)),
            Err(refusal) => {
                let _ = sys::kill(nest.waiting.pid.as_raw(), libc::SIGKILL);
                let _ = sys::wait_for(nest.waiting.pid);
                let _ = nest.group.remove();
                Err(refusal)
            }
        }
    }
}

/// What agents start with.
fn kit(tools: &Tools) -> Kit<'_> {
    Kit {
        program: &tools.agent,
        limits: &tools.limits,
        null: tools.null.as_fd(),
        own_numbers: false,
    }
}

/// Who does what is to be done in an account's name.
fn runner<'a>(program: &'a Path, null: &'a OwnedFd) -> Runner<'a> {
    Runner {
        program,
        null: null.as_fd(),
    }
}

/// What is said of every decision (requirement M9).
fn about(tools: &Tools, verdict: &str, label: &str, identity: &str) -> Line {
    Line::new("open")
        .text("verdict", verdict)
        .number("caller_uid", tools.caller.uid)
        .text("caller", tools.caller.name.as_deref().unwrap_or(""))
        .text("job", label)
        .text("identity", identity)
}

fn audit_open(tools: &Tools, label: &str, opened: &Opened) {
    let line = about(tools, "accepted", label, &opened.identity)
        .text("limited", if opened.limited { "yes" } else { "no" })
        .number("expires", opened.not_after)
        .text("account", &opened.account)
        .number("uid", opened.uid)
        .numbers("gids", &[opened.gid])
        .text("request", &request_name(opened.payload));
    tools.audit.record(line);
}

/// Names a payload for as long as the log is kept.
fn request_name(payload: u32) -> String {
    format!("{}.{payload}", std::process::id())
}

fn audit_refusal(tools: &Tools, label: &str, identity: &str, refusal: &Refusal) {
    let line = about(tools, "refused", label, identity)
        .text("code", &refusal.code)
        .text("reason", &refusal.message);
    tools.audit.record(line);
}
