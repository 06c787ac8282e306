//! The loop: requests in, replies and events out, children reaped, groups watched. One thread, one
//! `poll`; nothing in here waits for a child or a peer.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use launch_protocol::VERSION;
use launch_protocol::broker::{
    Answer, Command, CredentialRequired, Hello, OpenLimits, Opened, Refusal, RefusalClass, Request,
};
use launch_protocol::policy::{Hook, Party, Required};
use launch_protocol::verdict::VerifyRequest;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, getpid};

use crate::account::{Rules, TargetAccount};
use crate::audit::{Audit, Line};
use crate::cgroup::Tracking;
use crate::channel::{Channel, Incoming};
use crate::errands::Runner;
use crate::error::StartupError;
use crate::expiry::{Alarm, Due, Expiry, boot_time};
use crate::hooks::Running;
use crate::lease::{Lease, LeaseDir, Record};
use crate::nest::{Kit, Nest, Nursery};
use crate::opening::{Desk, Goal, Mapped, Opening, ProxyCopy};
use crate::payload::{Outcome, Parts, Payload, Reaped};
use crate::pool::Pool;
use crate::refuse::{caller, credential, helper, trouble};
use crate::sandbox::{Place, Sandbox};
use crate::site::Site;
use crate::spawn::Identity;
use crate::startup::SavedLimits;
use crate::sys;
use crate::verifiers::Verifiers;

/// Credentials on their way at the same time.
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
    pub(crate) site: Site,
    pub(crate) limits: SavedLimits,
    pub(crate) tracking: Tracking,
    pub(crate) leases: LeaseDir,
    pub(crate) audit: Audit,
    pub(crate) null: OwnedFd,
    pub(crate) signals: OwnedFd,
    pub(crate) agent: PathBuf,
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
    /// The pilot's own credential.
    pilot: Option<Party>,
    serial: u32,
    greeted: bool,
    alarm: Alarm,
    /// Until when the next payload is expected, and what it will need kept ready.
    warm_until: Instant,
    /// When payloads are to be killed, once the pilot is gone.
    leaving: Option<Instant>,
}

impl Broker {
    pub(crate) fn new(
        mut tools: Tools,
        nursery: Nursery,
        control: OwnedFd,
    ) -> Result<Self, StartupError> {
        let system = |errno| StartupError::System("timerfd_create", errno);
        if tools.site.dynamic.is_cold() {
            vet(&mut tools);
        }
        let mut broker = Self {
            tools,
            channel: Channel::new(control),
            nursery,
            openings: Vec::new(),
            payloads: BTreeMap::new(),
            pilot: None,
            serial: 0,
            greeted: false,
            alarm: Alarm::new().map_err(system)?,
            warm_until: Instant::now(),
            leaving: None,
        };
        // A pilot that has just started expects its first job.
        broker.expect_payload();
        Ok(broker)
    }

    /// Serves until the pilot is gone and everything of it is cleaned up; false if something could
    /// not be.
    pub(crate) fn run(mut self) -> Result<bool, StartupError> {
        loop {
            let now = Instant::now();
            self.advance_openings(now);
            self.advance_payloads(now);
            if let Some(since) = self.leaving
                && (self.payloads.is_empty() || now >= since + FAREWELL)
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
                    self.leave("signal", Duration::ZERO);
                }
            }
            while let Some((child, status)) = sys::reap() {
                self.reaped(child, status);
            }
            self.channel.flush();
            let grace = Duration::from_secs(self.tools.site.settings.orphan_grace.into());
            if self.channel.is_broken() {
                self.leave("pilot does not read", grace);
            }
            for _ in 0..REQUESTS_AT_ONCE {
                if self.leaving.is_some() {
                    break;
                }
                match self.channel.receive() {
                    Incoming::Request(request, descriptors) => self.serve(request, descriptors)?,
                    Incoming::Nothing => break,
                    Incoming::End => self.leave("end of channel", grace),
                    Incoming::Malformed => self.leave("malformed packet", Duration::ZERO),
                }
            }
        }
    }

    /// Sleeps until something happens or a deadline is reached; true if nothing has happened.
    fn wait(&mut self) -> Result<bool, StartupError> {
        let expiries = self.payloads.values();
        let expiry = expiries.filter_map(|payload| payload.expiry.next()).min();
        let system = |call| move |errno| StartupError::System(call, errno);
        self.alarm.set(expiry).map_err(system("timerfd_settime"))?;
        let now = Instant::now();
        let Tools {
            site, verifiers, ..
        } = &self.tools;
        let payloads = self.payloads.values();
        let deadline = [site.decide.deadline(), site.names.deadline()]
            .into_iter()
            .chain(self.openings.iter().map(Opening::deadline))
            .chain(payloads.map(|payload| payload.deadline(now)))
            .chain([self.leaving.map(|since| since.max(now) + FAREWELL)])
            .chain([self.leaving.filter(|since| *since > now)])
            .chain([self.tending(now)])
            .flatten()
            .min();
        let timeout = match deadline {
            None => PollTimeout::NONE,
            // Rounded up, so that the deadline really has passed on return.
            Some(at) => {
                let left = at.saturating_duration_since(now) + Duration::from_millis(1);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            }
        };
        let readable = |source| PollFd::new(source, PollFlags::POLLIN);
        let mut sources = vec![
            readable(self.tools.signals.as_fd()),
            readable(self.alarm.as_fd()),
        ];
        if self.leaving.is_none() {
            let mut wanted = PollFlags::POLLIN;
            wanted.set(PollFlags::POLLOUT, self.channel.is_behind());
            sources.push(PollFd::new(self.channel.as_fd(), wanted));
        }
        let servants = [&site.decide, &site.names, &verifiers.servant];
        sources.extend(servants.iter().filter_map(|it| it.source()).map(readable));
        let openings = self.openings.iter().filter_map(Opening::source);
        sources.extend(openings.map(readable));
        let events = self.payloads.values().filter_map(Payload::events);
        sources.extend(events.map(|source| PollFd::new(source, PollFlags::POLLPRI)));
        match poll(&mut sources, timeout) {
            Ok(ready) => Ok(ready == 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(StartupError::System("poll", errno)),
        }
    }

    /// The pilot is gone, or must be treated so.
    fn leave(&mut self, why: &str, grace: Duration) {
        if self
            .leaving
            .is_some_and(|since| since <= Instant::now() + grace)
        {
            return;
        }
        self.leaving = Some(Instant::now() + grace);
        let payloads = self.payloads.len().to_string();
        let values = [("why", why), ("payloads", &payloads)];
        self.tools.audit.write("leave", &values);
        self.openings.clear();
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
        let openings = &mut self.openings;
        if openings.iter_mut().any(|it| it.reaped(child, status)) {
            return;
        }
        // Else an orphan of a payload.
        let Tools {
            site, verifiers, ..
        } = &mut self.tools;
        if site.dynamic.reaped(child, status) {
            return;
        }
        let servants = [&mut site.decide, &mut site.names, &mut verifiers.servant];
        if !servants.into_iter().any(|it| it.reaped(child, status)) {
            self.nursery.reaped(child);
        }
    }

    // --- Readiness for the next payload ---

    /// Is there anything to prepare for the next payload?
    fn is_cold(&self) -> bool {
        let Self { tools, nursery, .. } = self;
        let site = tools.site.is_cold() || tools.site.dynamic.is_cold();
        site || tools.verifiers.is_cold()
            || nursery.is_cold()
            || self.payloads.values().any(Payload::is_cold)
    }

    /// When there will be something to do for the next payload, or to undo.
    fn tending(&self, now: Instant) -> Option<Instant> {
        let Self { tools, nursery, .. } = self;
        if self.leaving.is_some() {
            None
        } else if now < self.warm_until && self.is_cold() {
            Some(now + IDLE)
        } else {
            let dynamic = tools.site.dynamic.is_warm();
            let servants = tools.site.decide.is_running() || tools.verifiers.is_warm();
            let warm = servants || dynamic || nursery.is_warm();
            warm.then_some(self.warm_until)
        }
    }

    /// In an idle moment: prepares for the next payload, or gives up waiting for it.
    fn tend(&mut self) {
        if Instant::now() < self.warm_until {
            self.warm_up();
        } else if self.openings.is_empty() {
            self.tools.site.decide.dismiss();
            self.tools.site.names.dismiss();
            self.tools.verifiers.cool_down();
            self.tools.site.dynamic.cool_down();
            self.nursery.close();
        }
    }

    fn expect_payload(&mut self) {
        let time = Duration::from_secs(self.tools.site.settings.warm_time.into());
        self.warm_until = Instant::now() + time;
    }

    /// Somebody has said that a payload will come.
    fn prepare(&mut self) {
        self.expect_payload();
        self.tools.verifiers.servant.expect_use();
        self.tools.site.dynamic.expect_use();
        self.nursery.expect_use();
        while self.warm_up() {}
    }

    /// The processes of a payload are dying: time to prepare for the one that may follow at once.
    fn catch_up(&mut self) {
        if Instant::now() < self.warm_until && self.openings.is_empty() {
            while self.warm_up() {}
        }
    }

    /// Prepares one of the things the next payload will need, or the next agent of one. In an idle moment, because it takes
    /// about a millisecond, in which the one that is just starting would have to wait. False: nothing
    /// to prepare.
    fn warm_up(&mut self) -> bool {
        if self.leaving.is_some() || !self.is_cold() {
            return false;
        }
        let Self {
            tools,
            nursery,
            payloads,
            ..
        } = self;
        if let Some(payload) = payloads.values_mut().find(|payload| payload.is_cold()) {
            payload.prepare(kit(tools));
        } else if tools.site.is_cold() {
            tools.site.warm_up(tools.null.as_fd());
        } else if tools.verifiers.is_cold() {
            tools.verifiers.warm_up(tools.null.as_fd());
        } else if nursery.is_cold() {
            nursery.warm_up(&tools.tracking, kit(tools));
        } else {
            vet(tools);
        }
        true
    }

    // --- Requests ---

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
            self.leave("no greeting", Duration::ZERO);
            return Ok(());
        }
        let done = Some((Answer::Done, None));
        let outcome = match command {
            Command::Hello { .. } => return Ok(()),
            Command::Open { .. } | Command::Present | Command::Renew { .. } => self
                .take_credential(id, command, descriptors)
                .map(|()| None),
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
                done
            }),
            Command::Kill { payload } => self.find(payload).map(|payload| {
                payload.kill();
                done
            }),
            Command::Usage { payload } => self
                .find(payload)
                .map(|payload| Some((Answer::Usage(payload.usage(Instant::now())), None))),
            Command::Close { payload } => {
                let found = self.find(payload);
                let closing = found.map(|payload| payload.close(Some(id), Instant::now()));
                // Its end first: that takes other processes, while this one prepares for the next.
                self.advance_payloads(Instant::now());
                self.catch_up();
                closing.map(|()| None)
            }
            Command::Prepare => {
                self.prepare();
                Ok(done)
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
        let Tools { site, tracking, .. } = &self.tools;
        let settings = &site.settings;
        let files = settings.policy_files.iter();
        let mut mapping: Vec<_> = files.map(|path| path.display().to_string()).collect();
        if let Some((first, last)) = settings.targets.dynamic_uids {
            mapping.push(format!("dynamic accounts {first}-{last}"));
        }
        let mut features = tracking.features();
        let isolation = &settings.isolation;
        let parts = [
            ("private-tmp", isolation.private_tmp),
            ("private-pid", isolation.private_pid),
            ("chroot", isolation.chroot.is_some()),
        ];
        features.extend(parts.iter().filter(|it| it.1).map(|it| it.0.to_owned()));
        Hello {
            version: VERSION,
            switch_version: env!("CARGO_PKG_VERSION").to_owned(),
            tracking: tracking.word().to_owned(),
            memory_source: tracking.memory_source().to_owned(),
            execute_dirs: settings.execute_dirs.clone(),
            mapping: mapping.join(", then "),
            credential_required: match settings.required {
                Required::User => CredentialRequired::User,
                Required::PilotAndUser => CredentialRequired::PilotAndUser,
            },
            linger: settings.linger,
            preserve_env: settings.preserve_env.clone(),
            features,
            front: settings.front.clone(),
        }
    }

    /// A payload that is not being closed.
    fn find(&mut self, payload: u32) -> Result<&mut Payload, Refusal> {
        self.payloads
            .get_mut(&payload)
            .filter(|payload| !payload.is_closing())
            .ok_or_else(|| caller("payload.unknown", "there is no payload of this number"))
    }

    /// Sends a credential on its way.
    fn take_credential(
        &mut self,
        request: u32,
        command: Command,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Refusal> {
        let label = match &command {
            Command::Open { job_label, .. } => job_label.clone(),
            Command::Renew { payload, .. } => self.find(*payload)?.label.clone(),
            _ => String::new(),
        };
        let outcome = self.begin(request, label.clone(), command, descriptors);
        if let Err(refusal) = &outcome {
            audit_refusal(&self.tools, "open", &label, None, refusal);
        }
        outcome
    }

    fn begin(
        &mut self,
        request: u32,
        label: String,
        command: Command,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Refusal> {
        if self.openings.len() >= MAX_OPENINGS || self.payloads.len() >= MAX_PAYLOADS {
            let text = "too many payloads are being opened at once";
            return Err(trouble("open.busy", text.to_owned()));
        }
        let file = descriptors
            .into_iter()
            .next()
            .ok_or_else(|| caller("open.credential", "no credential came with the request"))?;
        let goal = match command {
            Command::Open {
                execute_dir,
                slot_account,
                purpose,
                limits,
                ..
            } => {
                let site = &self.tools.site;
                let open = |path: PathBuf| {
                    let dirs = &site.settings.execute_dirs;
                    Place::open(&path, dirs, site.caller.uid).map_err(|error| {
                        let class = RefusalClass::SitePermanent;
                        helper(class, error.code(), error.to_string(), false)
                    })
                };
                Goal::Open {
                    place: execute_dir.map(open).transpose()?,
                    slot_account,
                    purpose,
                    limits,
                }
            }
            Command::Renew { payload, proxy } => {
                let found = self.find(payload)?;
                let copy = |name| {
                    let text = "the payload has no sandbox for a file";
                    let sandbox = found.sandbox.as_ref();
                    let sandbox = sandbox.ok_or_else(|| caller("renew.sandbox", text))?;
                    let credential = file.try_clone();
                    Ok(ProxyCopy {
                        credential: credential.map_err(|it| trouble("renew", it.to_string()))?,
                        account: found.account.clone(),
                        sandbox: sandbox.path(),
                        name,
                    })
                };
                Goal::Renew {
                    payload,
                    holder: found.holder.clone(),
                    copy: proxy.map(copy).transpose()?,
                }
            }
            _ => Goal::Present,
        };
        self.expect_payload();
        self.serial += 1;
        let tools = &mut self.tools;
        let wanted = VerifyRequest {
            id: self.serial,
            purpose: goal.purpose(),
            may_lack_key: tools.site.may_omit_key,
        };
        let verification = tools
            .verifiers
            .verify(wanted, file.as_fd(), tools.null.as_fd())
            .map_err(|errno| {
                let text = format!("starting the verifier: {}", errno.desc());
                trouble("verifier.start", text)
            })?;
        // While that works.
        let files = tools.site.files()?;
        if matches!(goal, Goal::Open { .. }) {
            if tools.site.dynamic.is_cold() {
                vet(tools);
            }
            self.nursery.warm_up(&tools.tracking, kit(tools));
        }
        let opening = Opening::new(request, self.serial, label, goal, files, verification);
        self.openings.push(opening);
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
        if payload.expiry.is_over() {
            let text = "the credential of the payload has expired; renew it".to_owned();
            let class = RefusalClass::Job;
            return Err(credential(class, "proxy.expired", text, false));
        }
        let started = payload
            .agent(kit(tools), &tools.site.settings)
            .map_err(|errno| {
                let text = format!("starting the agent: {}", errno.desc());
                trouble("agent.start", text)
            })?;
        payload.set_leader(started.pid, started.numbers, Instant::now());
        let pid = started.pid.as_raw().cast_unsigned();
        let answer = Answer::Spawned {
            payload: number,
            pid,
        };
        Ok((answer, Some(started.socket)))
    }

    // --- Progress ---

    fn advance_openings(&mut self, now: Instant) {
        self.tools.site.listen(now);
        let mut index = 0;
        while let Some(opening) = self.openings.get_mut(index) {
            let tools = &mut self.tools;
            let mut desk = Desk {
                site: &mut tools.site,
                verifiers: &mut tools.verifiers,
                leases: &tools.leases,
                runner: runner(&tools.agent, &tools.null),
                pilot: self.pilot.as_ref(),
            };
            match opening.advance(&mut desk, now) {
                None => index += 1,
                Some(outcome) => {
                    let opening = self.openings.swap_remove(index);
                    self.conclude(opening, outcome);
                }
            }
        }
    }

    /// The end of a credential's way.
    fn conclude(&mut self, opening: Opening, outcome: Result<Option<Mapped>, Refusal>) {
        let (request, label) = (opening.request, opening.label.clone());
        let party = opening.party.clone();
        let what = match &opening.goal {
            Goal::Open { .. } => "open",
            Goal::Present => "present",
            Goal::Renew { .. } => "renew",
        };
        let answer = match outcome.and_then(|mapped| self.carry_out(opening, mapped)) {
            Ok(None) => return,
            Ok(Some(answer)) => answer,
            Err(refusal) => {
                audit_refusal(&self.tools, what, &label, party.as_ref(), &refusal);
                Answer::Refused(refusal)
            }
        };
        self.channel.send(request, answer, None);
    }

    fn carry_out(
        &mut self,
        opening: Opening,
        mapped: Option<Mapped>,
    ) -> Result<Option<Answer>, Refusal> {
        let lost = || trouble("open.state", "no verdict or no account".to_owned());
        let party = opening.party.ok_or_else(lost)?;
        match opening.goal {
            Goal::Open { place, limits, .. } => {
                let mapped = mapped.ok_or_else(lost)?;
                let name = (opening.serial, opening.label);
                let opened = self.establish(name, party, (place, limits), mapped)?;
                self.begin_prologue(opening.request, opened)
            }
            Goal::Present => {
                let answer = Answer::Presented {
                    identity: party.identity.clone(),
                    not_after: party.not_after,
                };
                self.pilot = Some(party);
                Ok(Some(answer))
            }
            Goal::Renew { payload, .. } => {
                let settings = &self.tools.site.settings;
                let expiry = Expiry::new(party.not_after, settings);
                let found = self.find(payload)?;
                found.expiry = expiry;
                found.holder = party;
                let (label, uid) = (found.label.clone(), found.account.uid());
                let (holder, not_after) = (found.holder.clone(), found.holder.not_after);
                let line = about(&self.tools, "renew", "accepted", &label, Some(&holder));
                self.tools.audit.record(line.number("uid", uid));
                Ok(Some(Answer::Renewed { not_after }))
            }
        }
    }

    /// The payload counts once the site's program for the beginning has agreed.
    fn begin_prologue(&mut self, request: u32, opened: Opened) -> Result<Option<Answer>, Refusal> {
        let Self {
            tools, payloads, ..
        } = self;
        let hook = &tools.site.settings.prologue;
        let (Some(hook), Some(payload)) = (hook, payloads.get_mut(&opened.payload)) else {
            return Ok(Some(Answer::Opened(opened)));
        };
        match start_hook(tools, "prologue", hook, payload) {
            Ok(running) => {
                payload.hook = Some(running);
                payload.answer = Some((request, opened));
                Ok(None)
            }
            Err(refusal) => {
                payload.close(None, Instant::now());
                Err(refusal)
            }
        }
    }

    fn advance_payloads(&mut self, now: Instant) {
        let Self {
            tools,
            payloads,
            channel,
            leaving,
            ..
        } = self;
        let boot = boot_time();
        let ends = leaving.is_some_and(|since| now >= since);
        payloads.retain(|number, payload| {
            let number = *number;
            if ends && !payload.is_left() {
                payload.close(None, now);
            }
            if payload.is_untouched(now) {
                touch(tools, payload);
            }
            while let Some(due) = payload.expire(boot) {
                match due {
                    Due::Warning => channel.send(0, Answer::Expiring { payload: number }, None),
                    Due::Kill => {
                        let line = about(
                            tools,
                            "expire",
                            "killed",
                            &payload.label,
                            Some(&payload.holder),
                        );
                        tools
                            .audit
                            .record(line.text("request", &request_name(number)));
                        channel.send(0, Answer::KilledForExpiry { payload: number }, None);
                    }
                    Due::End => {}
                }
            }
            loop {
                match payload.advance(runner(&tools.agent, &tools.null), now) {
                    Outcome::Quiet => break true,
                    Outcome::Empty => channel.send(0, Answer::Empty { payload: number }, None),
                    Outcome::Epilogue => {
                        if let Some(hook) = &tools.site.settings.epilogue {
                            match start_hook(tools, "epilogue", hook, payload) {
                                Ok(running) => payload.hook = Some(running),
                                Err(refusal) => audit_hook(tools, payload, &refusal),
                            }
                        }
                    }
                    Outcome::Hook(outcome) => {
                        if let Err(refusal) = &outcome {
                            audit_hook(tools, payload, refusal);
                        }
                        let Some((request, opened)) = payload.answer.take() else {
                            continue;
                        };
                        let answer = match outcome {
                            Ok(()) => Answer::Opened(opened),
                            Err(refusal) => {
                                payload.close(None, now);
                                Answer::Refused(refusal)
                            }
                        };
                        channel.send(request, answer, None);
                    }
                    Outcome::Gone(request, left) => {
                        bury(tools, number, payload, left.as_ref());
                        if let Some(request) = request {
                            let answer = left.map_or(Answer::Closed, Answer::Refused);
                            channel.send(request, answer, None);
                        }
                        break false;
                    }
                }
            }
        });
    }

    /// Makes group and sandbox for a mapped account, if a payload is wanted.
    fn establish(
        &mut self,
        (serial, label): (u32, String),
        holder: Party,
        (place, limits): (Option<Place>, OpenLimits),
        mapped: Mapped,
    ) -> Result<Opened, Refusal> {
        let Mapped {
            account,
            lease,
            pool,
            source,
        } = mapped;
        let party = holder.clone();
        let mut opened = Opened {
            payload: 0,
            uid: account.uid(),
            gid: account.gid(),
            account: account.name().to_owned(),
            home: account.home().to_owned(),
            shell: account.shell().to_owned(),
            identity: holder.identity.clone(),
            fqans: holder.fqans.clone(),
            not_after: holder.not_after,
            limited: holder.limited,
            lease: match &pool {
                Some(name) => format!("pool {name}"),
                None if account.is_dynamic() => "dynamic".to_owned(),
                None => "account".to_owned(),
            },
            sandbox: None,
        };
        if let Some(mut lease) = lease {
            let (sandbox, nest) =
                match self.make((serial, &label), (place, limits), &account, &mut lease) {
                    Ok(made) => made,
                    Err(refusal) => {
                        self.tools.leases.release(lease);
                        return Err(refusal);
                    }
                };
            opened.payload = serial;
            opened.sandbox = sandbox.as_ref().map(Sandbox::path);
            let parts = Parts {
                expiry: Expiry::new(holder.not_after, &self.tools.site.settings),
                account: account.clone(),
                label: label.clone(),
                holder,
                pool,
                sandbox,
                lease,
            };
            let mut payload = Payload::new(parts, nest);
            // While the pilot hears of it. If it fails, whoever wants the agent will be told.
            let _ = payload.warm_up(kit(&self.tools), &self.tools.site.settings);
            self.payloads.insert(serial, payload);
        }
        let further = account.groups().iter().filter(|gid| **gid != opened.gid);
        let gids: Vec<_> = [&opened.gid].into_iter().chain(further).copied().collect();
        let line = about(&self.tools, "open", "accepted", &label, Some(&party))
            .text("account", &opened.account)
            .number("uid", opened.uid)
            .numbers("gids", &gids)
            .text("lease", &opened.lease)
            .text("source", &source)
            .text("request", &request_name(opened.payload));
        self.tools.audit.record(line);
        Ok(opened)
    }

    fn make(
        &mut self,
        (serial, label): (u32, &str),
        (place, limits): (Option<Place>, OpenLimits),
        account: &TargetAccount,
        lease: &mut Lease,
    ) -> Result<(Option<Sandbox>, Nest), Refusal> {
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
        let nest = nursery
            .take(&tools.tracking, kit(tools))
            .map_err(failed("group.failed", "making the payload's group"))?;
        let name = format!("dir_{}_{serial}", getpid());
        let record = Record {
            uid: account.uid(),
            gid: account.gid(),
            dynamic: account.is_dynamic(),
            sandbox: place
                .as_ref()
                .map(|place| place.path_of(&name))
                .unwrap_or_default(),
            groups: nest.directories.clone(),
            label: label.to_owned(),
        };
        let own_tmp = tools.site.settings.isolation.private_tmp;
        let made = lease
            .record(&record)
            .map_err(failed("lease.failed", "writing down the lease"))
            .and_then(|()| {
                let rules = &tools.site.settings.limits;
                let limited = nest.group.restrict(&limits, rules);
                limited.map_err(failed("group.limits", "limiting the payload's group"))
            })
            .and_then(|()| {
                place
                    .map(|place| Sandbox::make(place, &name, account, own_tmp))
                    .transpose()
                    .map_err(failed("sandbox.failed", "making the sandbox"))
            });
        match made {
            Ok(sandbox) => Ok((sandbox, nest)),
            Err(refusal) => {
                nest.take_down();
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
        own_numbers: tools.site.settings.isolation.private_pid,
    }
}

/// Begins to look at a dynamic account that the next payload may have.
fn vet(tools: &mut Tools) {
    let site = &mut tools.site;
    let rules = Rules {
        settings: &site.settings,
        caller: &site.caller,
        groups: None,
    };
    let runner = runner(&tools.agent, &tools.null);
    site.dynamic.vet(rules, &tools.leases, runner);
}

/// Who does what is to be done in an account's name.
fn runner<'a>(program: &'a Path, null: &'a OwnedFd) -> Runner<'a> {
    Runner {
        program,
        null: null.as_fd(),
    }
}

/// Starts a program of the site for a payload.
fn start_hook(
    tools: &Tools,
    what: &'static str,
    hook: &Hook,
    payload: &Payload,
) -> Result<Running, Refusal> {
    let (uid, gid, groups) = tools.site.account_of(hook)?;
    let who = Identity {
        uid,
        gid,
        groups: &groups,
    };
    let account = &payload.account;
    let facts = [
        ("JOB", payload.label.clone()),
        ("ACCOUNT", account.name().to_owned()),
        ("UID", account.uid().to_string()),
        ("GID", account.gid().to_string()),
        ("IDENTITY", payload.holder.identity.clone()),
        ("SANDBOX", payload.place().display().to_string()),
    ];
    let facts = facts.each_ref().map(|(key, text)| (*key, text.as_str()));
    let null = tools.null.as_fd();
    Running::start(what, hook, who, &tools.tracking, null, &facts)
}

fn audit_hook(tools: &Tools, payload: &Payload, refusal: &Refusal) {
    let holder = Some(&payload.holder);
    audit_refusal(tools, "hook", &payload.label, holder, refusal);
}

/// Gives back what kept the account of a payload that is over.
fn bury(tools: &Tools, number: u32, payload: &mut Payload, left: Option<&Refusal>) {
    let line = Line::new("close")
        .text("request", &request_name(number))
        .text("job", &payload.label)
        .number("uid", payload.account.uid())
        .text("outcome", left.map_or("clean", |refusal| &refusal.code));
    tools.audit.record(line);
    touch(tools, payload);
    // With something left the file stays, unlocked, for recovery.
    match (payload.lease.take(), left) {
        (Some(lease), None) => tools.leases.release(lease),
        (lease, _) => drop(lease),
    }
}

/// Says that a pool account is in use, so that nobody takes its lease for idle.
fn touch(tools: &Tools, payload: &Payload) {
    if let (Some((lease, _)), Some(dir)) = (&payload.pool, &tools.site.settings.gridmapdir)
        && let Ok(pool) = Pool::open(dir)
    {
        let _ = pool.touch(payload.account.name(), lease);
    }
}

/// What is said of every decision (requirement M9).
fn about(tools: &Tools, event: &str, verdict: &str, label: &str, party: Option<&Party>) -> Line {
    let caller = &tools.site.caller;
    let line = Line::new(event)
        .text("verdict", verdict)
        .number("caller_uid", caller.uid)
        .text("caller", caller.name.as_deref().unwrap_or(""))
        .text("job", label);
    let Some(party) = party else { return line };
    line.text("identity", &party.identity)
        .texts("fqans", &party.fqans)
        .text("limited", if party.limited { "yes" } else { "no" })
        .number("expires", party.not_after)
}

fn audit_refusal(
    tools: &Tools,
    event: &str,
    label: &str,
    party: Option<&Party>,
    refusal: &Refusal,
) {
    let line = about(tools, event, "refused", label, party)
        .text("code", &refusal.code)
        .text("reason", &refusal.message);
    tools.audit.record(line);
}

/// Names a payload for as long as the log is kept.
fn request_name(payload: u32) -> String {
    format!("{}.{payload}", std::process::id())
}
