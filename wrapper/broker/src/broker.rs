//! The loop: requests in, replies and events out, ends of children, groups watched. One thread, one
//! `poll`; nothing in here waits for a peer.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use launch_protocol::VERSION;
use launch_protocol::broker::{
    Answer, Command, CredentialRequired, Hello, OpenLimits, Opened, Purpose, Refusal, RefusalClass,
    Request,
};
use launch_protocol::monitor::{Account, Ask, Which};
use launch_protocol::policy::{Party, Required};
use launch_protocol::verdict::VerifyRequest;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::channel::{Channel, Incoming};
use crate::error::Failure;
use crate::expiry::{Alarm, Due, Expiry, boot_time};
use crate::group::Hierarchies;
use crate::hooks::Running;
use crate::line::Line;
use crate::monitor::Monitor;
use crate::opening::{Desk, Goal, Mapped, Opening, ProxyCopy};
use crate::payload::{Outcome, Parts, Payload, Reaped};
use crate::ready::{Nest, Ready, Taken, take_down};
use crate::refuse::{caller, credential, trouble};
use crate::site::Site;
use crate::verifiers::{self, Verifiers};
use crate::writing::Replacements;
use sailplane_policy::why;

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

/// What the broker works with.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) monitor: Rc<Monitor>,
    /// The monitor's process number.
    pub(crate) number: i32,
    pub(crate) site: Site,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) verifiers: Verifiers,
    pub(crate) ready: Ready,
    /// There will be one payload and no other.
    pub(crate) single: bool,
    /// The last number given to a payload or hook.
    pub(crate) serial: u32,
}

/// What a payload is to be.
#[derive(Debug)]
struct Wanted {
    /// Below which directory its sandbox is.
    place: Option<PathBuf>,
    limits: OpenLimits,
    /// With an agent at once.
    agent: bool,
}

/// The broker of one pilot.
#[derive(Debug)]
pub(crate) struct Broker {
    tools: Tools,
    channel: Channel,
    openings: Vec<Opening>,
    replacements: Replacements,
    payloads: BTreeMap<u32, Payload>,
    /// The pilot's own credential.
    pilot: Option<Party>,
    greeted: bool,
    alarm: Alarm,
    /// A group waits for a payload that needs one.
    nest_is_warm: bool,
    /// A payload has been announced, closed, or opened beside another: there may be one more at any time.
    eager: bool,
    /// Has any been opened?
    opened: bool,
    /// Until when the next payload is expected, and what it will need kept ready.
    warm_until: Instant,
    /// When payloads are to be killed, once the pilot is gone.
    leaving: Option<Instant>,
    /// Payloads that were made before it was known for which job, which the record does not say yet.
    nameless: Vec<u32>,
    mappers: Arc<()>,
    buffer: Vec<u8>,
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default)]
struct Events {
    /// Nothing: it is time to prepare for the next payload.
    idle: bool,
    bell: bool,
    channel: bool,
    names: bool,
}

impl Broker {
    pub(crate) fn new(tools: Tools, control: OwnedFd) -> Result<Self, Failure> {
        let system = |errno| Failure::System("timerfd_create", errno);
        let mut broker = Self {
            tools,
            channel: Channel::new(control),
            openings: Vec::new(),
            replacements: Replacements::default(),
            payloads: BTreeMap::new(),
            pilot: None,
            greeted: false,
            alarm: Alarm::new().map_err(system)?,
            // The monitor makes the first of itself.
            nest_is_warm: true,
            eager: false,
            opened: false,
            warm_until: Instant::now(),
            leaving: None,
            nameless: Vec::new(),
            mappers: Arc::default(),
            buffer: vec![0; verifiers::BUFFER],
        };
        // A pilot that has just started expects its first job.
        broker.expect_payload();
        Ok(broker)
    }

    /// Serves until the pilot is gone and everything of it is cleaned up.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        // It may have said something already, and an answer of the name service may have come with another one.
        let mut events = Events {
            channel: true,
            names: true,
            ..Events::default()
        };
        loop {
            self.handle(events)?;
            let now = Instant::now();
            self.advance_openings(now);
            self.advance_replacements(now);
            self.advance_payloads(now);
            if self.tools.monitor.is_gone() {
                return Err(Failure::Alone);
            }
            if let Some(since) = self.leaving
                && (self.payloads.is_empty() || now >= since + FAREWELL)
            {
                self.tools.ready.cool_down(&self.tools.monitor);
                let left = self.payloads.len().to_string();
                self.tools
                    .monitor
                    .record(Line::new("end").text("left", &left));
                return Ok(());
            }
            events = if self.has_news() {
                Events {
                    names: true,
                    ..Events::default()
                }
            } else {
                self.wait()?
            };
        }
    }

    /// Has anything happened on the way that nobody has looked at yet?
    fn has_news(&mut self) -> bool {
        let broken = self.channel.is_broken() && self.leaving.is_none();
        broken || self.tools.monitor.has_news() || self.tools.site.names.has_news()
    }

    fn handle(&mut self, events: Events) -> Result<(), Failure> {
        if events.idle {
            self.tend();
        }
        if events.bell {
            self.tools.monitor.fetch_endings();
        }
        if self.tools.monitor.wants_end() {
            self.leave("signal", Duration::ZERO);
        }
        // Also those that have been seen while something else was waited for.
        while let Some((child, status)) = self.tools.monitor.next_ended() {
            self.reaped(child, status);
        }
        if events.bell && !self.openings.is_empty() {
            self.grow_ready();
        }
        if events.names {
            let Tools { site, monitor, .. } = &mut self.tools;
            if site.listen(Instant::now(), monitor) {
                // More numbers are known now than those that may be in use.
                self.tools.ready.expect(None);
            }
            if !self.openings.is_empty() {
                self.grow_ready();
            }
        }
        if !events.channel && !self.channel.is_behind() && !self.channel.is_broken() {
            return Ok(());
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
        Ok(())
    }

    /// Sleeps until something happens or a deadline is reached.
    fn wait(&mut self) -> Result<Events, Failure> {
        let expiries = self.payloads.values();
        let expiry = expiries.filter_map(|payload| payload.expiry.next()).min();
        let system = |call| move |errno| Failure::System(call, errno);
        self.alarm.set(expiry).map_err(system("timerfd_settime"))?;
        let now = Instant::now();
        let Tools { monitor, site, .. } = &self.tools;
        let payloads = self.payloads.values();
        let deadline = [site.names.deadline(), self.tending(now)]
            .into_iter()
            .chain(self.openings.iter().map(Opening::deadline))
            .chain(payloads.map(|payload| payload.deadline(now)))
            .chain([self.replacements.deadline()])
            .chain([self.leaving.map(|since| since.max(now) + FAREWELL)])
            .chain([self.leaving.filter(|since| *since > now)])
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
        let mut wanted = PollFlags::POLLIN;
        wanted.set(PollFlags::POLLOUT, self.channel.is_behind());
        let mut sources = Vec::with_capacity(8);
        sources.push(PollFd::new(monitor.socket(), PollFlags::empty()));
        sources.push(readable(monitor.bell()));
        sources.push(readable(self.alarm.as_fd()));
        // In fixed places; what is not to be listened to is asked for nothing.
        let (channel, pilot_listens) = (self.channel.as_fd(), self.leaving.is_none());
        if pilot_listens {
            sources.push(PollFd::new(channel, wanted));
        }
        let names = site.names.source();
        sources.extend(names.map(readable));
        let openings = self.openings.iter().filter_map(Opening::source);
        sources.extend(openings.map(readable));
        let events = self.payloads.values().filter_map(Payload::events);
        sources.extend(events.map(|source| PollFd::new(source, PollFlags::POLLPRI)));
        let idle = match poll(&mut sources, timeout) {
            Ok(ready) => ready == 0,
            Err(Errno::EINTR) => return Ok(Events::default()),
            Err(errno) => return Err(Failure::System("poll", errno)),
        };
        let mut ready = sources.iter().map(|it| it.any().unwrap_or(true));
        let mut next = |is_there: bool| is_there && ready.next().unwrap_or(false);
        let [hung_up, bell, _] = [true; 3].map(&mut next);
        let (channel, names) = (next(pilot_listens), next(names.is_some()));
        if hung_up {
            monitor.hung_up();
        }
        Ok(Events {
            idle,
            bell,
            channel,
            // A deadline may have passed.
            names: names || idle,
        })
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
        let line = Line::new("leave").text("why", why);
        self.tools.monitor.record(line.text("payloads", &payloads));
        self.openings.clear();
        if self.payloads.is_empty() {
            self.tools.ready.cool_down(&self.tools.monitor);
        }
    }

    fn reaped(&mut self, child: i32, status: i32) {
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
        if openings.iter_mut().any(|it| it.reaped(child, status))
            || self.replacements.reaped(child, status)
        {
            return;
        }
        // Else one that nobody waits for any more.
        let Tools {
            monitor,
            site,
            verifiers,
            ready,
            ..
        } = &mut self.tools;
        let _ = ready.reaped(monitor, child, status)
            || verifiers.reaped(child, status)
            || site.names.reaped(child, status);
    }

    // --- Readiness for the next payload ---

    /// Is there anything to prepare for the next payload? Not for those who want a single one, as long as
    /// they have it.
    fn is_cold(&self) -> bool {
        let Tools {
            site,
            verifiers,
            ready,
            ..
        } = &self.tools;
        if self.opened && !self.eager {
            return false;
        }
        site.is_cold() || verifiers.is_cold() || !self.nest_is_warm || self.readies(ready)
    }

    /// Not without groups, where one cannot tell a payload that waits from one that works.
    fn readies(&self, ready: &Ready) -> bool {
        self.tools.hierarchies.has_groups() && ready.is_cold(&self.tools.site)
    }

    /// When there will be something to do for the next payload, or to undo.
    fn tending(&self, now: Instant) -> Option<Instant> {
        let Tools {
            site,
            verifiers,
            ready,
            ..
        } = &self.tools;
        if self.leaving.is_some() {
            None
        } else if !self.nameless.is_empty() || (now < self.warm_until && self.is_cold()) {
            Some(now + IDLE)
        } else {
            let servants = site.names.is_running() || verifiers.is_warm();
            let warm = servants || ready.is_made() || self.nest_is_warm;
            warm.then_some(self.warm_until)
        }
    }

    /// In an idle moment: prepares for the next payload, or gives up waiting for it.
    fn tend(&mut self) {
        for payload in std::mem::take(&mut self.nameless) {
            if let Some(found) = self.payloads.get(&payload) {
                let _ = self.tools.monitor.order(&Ask::Limit {
                    payload,
                    label: found.label.clone(),
                    limits: OpenLimits::default(),
                });
            }
        }
        if Instant::now() < self.warm_until {
            self.warm_up();
        } else if self.openings.is_empty() && self.leaving.is_none() {
            self.tools.site.names.dismiss();
            self.tools.verifiers.cool_down();
            self.tools.ready.cool_down(&self.tools.monitor);
            self.cool_nest();
        }
    }

    fn warm_nest(&mut self) {
        // If it fails, whoever wants it will be told why.
        let _ = self.tools.monitor.order(&Ask::Warm);
        self.nest_is_warm = true;
    }

    fn cool_nest(&mut self) {
        if self.nest_is_warm {
            let _ = self.tools.monitor.order(&Ask::Cool);
        }
        self.nest_is_warm = false;
    }

    fn expect_payload(&mut self) {
        let time = Duration::from_secs(self.tools.site.settings.warm_time.into());
        self.warm_until = Instant::now() + time;
    }

    /// Somebody has said that a payload will come.
    fn prepare(&mut self, sandbox: bool) {
        self.expect_payload();
        self.tools.verifiers.expect_use();
        if !self.tools.single {
            self.eager = true;
            self.tools.ready.expect(None);
            while self.warm_up() {}
            return;
        }
        // The only one: it is not known yet where the last was wanted. What it may need first.
        if self.tools.site.lacks_names() {
            self.tools.site.start_names(&self.tools.monitor);
        }
        let dirs = &self.tools.site.settings.execute_dirs;
        let place = dirs.first().cloned().filter(|_| sandbox);
        self.tools.ready.expect(Some(place));
        self.grow_ready();
    }

    /// The processes of a payload are dying: time to prepare for the one that may follow at once.
    fn catch_up(&mut self) {
        let expected = self.eager && Instant::now() < self.warm_until;
        if expected && self.openings.is_empty() {
            while self.warm_up() {}
        }
    }

    /// Prepares one of the things the next payload will need. In an idle moment, because it takes about a millisecond, in which the one that is just starting would have to
    /// wait. False: nothing to prepare.
    fn warm_up(&mut self) -> bool {
        if self.leaving.is_some() || !self.is_cold() {
            return false;
        }
        let readies = self.readies(&self.tools.ready);
        let Tools {
            monitor,
            site,
            hierarchies,
            verifiers,
            ready,
            serial,
            ..
        } = &mut self.tools;
        if verifiers.is_cold() {
            verifiers.warm_up(monitor);
        } else if readies {
            let was_made = ready.is_made();
            ready.warm_up(monitor, hierarchies, site, serial);
            // It has taken the group that was ready.
            self.nest_is_warm &= was_made || !ready.is_made();
        } else if site.is_cold() {
            site.warm_up(monitor);
        } else {
            self.warm_nest();
        }
        !self.tools.monitor.is_gone()
    }

    // --- Requests ---

    fn serve(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> Result<(), Failure> {
        let Request { id, command } = request;
        if let Command::Hello { version } = command {
            if version != VERSION {
                return Err(Failure::Version(version));
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
        let now = Instant::now();
        let number = self.tools.number;
        let done = Some((Answer::Done, None));
        let outcome = match command {
            Command::Hello { .. } => return Ok(()),
            Command::Open { .. } | Command::Present | Command::Renew { .. } => self
                .take_credential(id, command, descriptors)
                .map(|()| None),
            Command::Replace { payload, file } => {
                let content = descriptors.into_iter().next();
                self.replace(id, (payload, file), content).map(|()| None)
            }
            Command::SpawnAgent { payload: number } => self
                .find(number)
                .and_then(|(payload, monitor)| spawn(monitor, payload))
                .map(|(pid, socket)| {
                    let payload = number;
                    Some((Answer::Spawned { payload, pid }, Some(socket)))
                }),
            Command::Signal { signal, .. } if !(1..=64).contains(&signal) => {
                Err(caller("signal.number", "signals have numbers from 1 to 64"))
            }
            Command::Signal {
                payload,
                signal,
                scope,
            } => self.find(payload).map(|(payload, monitor)| {
                payload.signal(monitor, signal, scope);
                done
            }),
            Command::Kill { payload } => self.find(payload).map(|(payload, monitor)| {
                payload.kill(monitor);
                done
            }),
            Command::Usage { payload } => self.find(payload).map(|(payload, _)| {
                let usage = payload.usage(number, now);
                Some((Answer::Usage(usage), None))
            }),
            Command::Close { payload } => {
                let Tools { monitor, .. } = &self.tools;
                self.replacements.stop_all_of(payload, monitor);
                let closing = self.find(payload).map(|(payload, monitor)| {
                    payload.close(monitor, Some(id), now);
                });
                // Its end first: that takes other processes, while this one prepares for the next.
                self.advance_payloads(now);
                // What went wrong with one may go well with the next.
                self.tools.ready.expect(None);
                self.catch_up();
                self.eager = !self.tools.single;
                closing.map(|()| None)
            }
            Command::Prepare { sandbox } => {
                self.prepare(sandbox);
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
        let Tools {
            site, hierarchies, ..
        } = &self.tools;
        let settings = &site.settings;
        let files = settings.policy_files.iter();
        let mut mapping: Vec<_> = files.map(|path| path.display().to_string()).collect();
        if let Some((first, last)) = settings.targets.dynamic_uids {
            mapping.push(format!("dynamic accounts {first}-{last}"));
        }
        let mut features = hierarchies.features();
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
            tracking: hierarchies.word().to_owned(),
            memory_source: hierarchies.memory_source().to_owned(),
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

    /// A payload that is not being closed, and the monitor.
    fn find(&mut self, payload: u32) -> Result<(&mut Payload, &Monitor), Refusal> {
        let found = self.payloads.get_mut(&payload);
        let open = found.filter(|payload| !payload.is_closing());
        let missing = || caller("payload.unknown", "there is no payload of this number");
        Ok((open.ok_or_else(missing)?, &self.tools.monitor))
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
            Command::Renew { payload, .. } => self.find(*payload)?.0.label.clone(),
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
        let goal = self.goal(command, &file)?;
        self.expect_payload();
        let tools = &mut self.tools;
        tools.serial += 1;
        let wanted = VerifyRequest {
            id: tools.serial,
            purpose: goal.purpose(),
            may_lack_key: tools.site.may_omit_key,
        };
        let verification = tools
            .verifiers
            .verify(wanted, file.as_fd(), &tools.monitor)?;
        // While that works.
        let files = if matches!(goal, Goal::Present) {
            Ok(None)
        } else {
            let files = tools.site.open_files(&tools.monitor)?;
            tools.site.load(files, &tools.monitor)
        };
        let opening = Opening::new(request, tools.serial, label, goal, files, verification);
        self.make_ready(&opening.goal);
        self.openings.push(opening);
        Ok(())
    }

    fn goal(&mut self, command: Command, file: &OwnedFd) -> Result<Goal, Refusal> {
        Ok(match command {
            Command::Open {
                execute_dir,
                slot_account,
                purpose,
                limits,
                agent,
                ..
            } => Goal::Open {
                place: execute_dir,
                slot_account,
                purpose,
                limits,
                agent,
            },
            Command::Renew { payload, proxy } => {
                let (found, _) = self.find(payload)?;
                let copy = |name| {
                    expect_sandbox(found)?;
                    let credential = file.try_clone();
                    Ok(ProxyCopy {
                        credential: credential.map_err(|it| trouble("renew", why(&it)))?,
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
        })
    }

    /// While a credential is being verified: what its payload will need, unless it is there.
    fn make_ready(&mut self, goal: &Goal) {
        let Goal::Open {
            place,
            purpose: Purpose::Run,
            ..
        } = goal
        else {
            return;
        };
        self.eager |= self.opened;
        self.opened = true;
        self.tools.ready.expect(Some(place.clone()));
        self.grow_ready();
        if !self.tools.ready.is_complete() && !self.nest_is_warm {
            self.warm_nest();
        }
    }

    /// While a credential is being verified: goes on with the payload that it may get.
    fn grow_ready(&mut self) {
        let Tools {
            monitor,
            site,
            hierarchies,
            ready,
            serial,
            ..
        } = &mut self.tools;
        if hierarchies.has_groups() && !ready.is_made() && ready.is_cold(site) {
            ready.warm_up(monitor, hierarchies, site, serial);
            self.nest_is_warm &= !ready.is_made();
        }
    }

    /// Has a payload's account write a file.
    fn replace(
        &mut self,
        request: u32,
        wanted: (u32, PathBuf),
        content: Option<OwnedFd>,
    ) -> Result<(), Refusal> {
        expect_sandbox(self.find(wanted.0)?.0)?;
        let monitor = &self.tools.monitor;
        self.replacements.start(monitor, request, wanted, content)
    }

    // --- Progress ---

    fn advance_openings(&mut self, now: Instant) {
        let mut index = 0;
        while let Some(opening) = self.openings.get_mut(index) {
            let tools = &mut self.tools;
            let mut desk = Desk {
                monitor: &tools.monitor,
                site: &mut tools.site,
                verifiers: &mut tools.verifiers,
                ready: &mut tools.ready,
                buffer: &mut self.buffer,
                mappers: &self.mappers,
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

    fn advance_replacements(&mut self, now: Instant) {
        while let Some((done, outcome)) = self.replacements.next_done(&self.tools.monitor, now) {
            let label = self.payloads.get(&done.payload).map(|it| &*it.label);
            let label = label.unwrap_or_default().to_owned();
            let answer = match outcome {
                Ok(()) => {
                    let line = about(&self.tools, "replace", "accepted", &label, None);
                    self.tools.monitor.record(line.text("file", &done.file));
                    Answer::Done
                }
                Err(refusal) => {
                    audit_refusal(&self.tools, "replace", &label, None, &refusal);
                    Answer::Refused(refusal)
                }
            };
            self.channel.send(done.request, answer, None);
        }
    }

    /// The end of a credential's way.
    fn conclude(&mut self, opening: Opening, outcome: Result<Option<Box<Mapped>>, Refusal>) {
        let request = opening.request;
        match opening.goal {
            Goal::Open {
                place,
                limits,
                agent,
                ..
            } => {
                let parts = (opening.label, opening.party);
                let wanted = Wanted {
                    place,
                    limits,
                    agent,
                };
                self.conclude_open(request, parts, wanted, outcome);
            }
            Goal::Present => self.conclude_present(request, opening.party, outcome.err()),
            Goal::Renew { payload, .. } => {
                let parts = (payload, opening.label, opening.party);
                self.conclude_renewal(request, parts, outcome.err());
            }
        }
    }

    fn conclude_present(&mut self, request: u32, party: Option<Party>, refusal: Option<Refusal>) {
        let refusal = match (party, refusal) {
            (Some(party), None) => {
                let answer = Answer::Presented {
                    identity: party.identity.clone(),
                    not_after: party.not_after,
                };
                self.pilot = Some(party);
                return self.channel.send(request, answer, None);
            }
            (party, refusal) => {
                let refusal = refusal.unwrap_or_else(lost);
                audit_refusal(&self.tools, "present", "", party.as_ref(), &refusal);
                refusal
            }
        };
        self.channel.send(request, Answer::Refused(refusal), None);
    }

    fn conclude_renewal(
        &mut self,
        request: u32,
        (payload, label, party): (u32, String, Option<Party>),
        refusal: Option<Refusal>,
    ) {
        let settings = self.tools.site.settings.clone();
        let outcome = match (&party, refusal) {
            (Some(party), None) => self.find(payload).map(|(found, _)| {
                found.expiry = Expiry::new(party.not_after, &settings);
                found.holder = party.clone();
                (found.account.uid, party.not_after)
            }),
            (_, refusal) => Err(refusal.unwrap_or_else(lost)),
        };
        match outcome {
            Ok((uid, not_after)) => {
                self.channel
                    .send(request, Answer::Renewed { not_after }, None);
                let line = about(&self.tools, "renew", "accepted", &label, party.as_ref());
                self.tools.monitor.record(line.number("uid", uid));
            }
            Err(refusal) => {
                audit_refusal(&self.tools, "renew", &label, party.as_ref(), &refusal);
                self.channel.send(request, Answer::Refused(refusal), None);
            }
        }
    }

    fn conclude_open(
        &mut self,
        request: u32,
        (label, party): (String, Option<Party>),
        wanted: Wanted,
        outcome: Result<Option<Box<Mapped>>, Refusal>,
    ) {
        let opened = match (&party, outcome) {
            (_, Err(refusal)) => Err(refusal),
            (Some(party), Ok(Some(mapped))) => {
                self.establish(request, &label, party, wanted, *mapped)
            }
            _ => Err(lost()),
        };
        if let Err(refusal) = opened {
            audit_refusal(&self.tools, "open", &label, party.as_ref(), &refusal);
            self.channel.send(request, Answer::Refused(refusal), None);
        }
    }

    /// Makes group and sandbox for a mapped account, if a payload is wanted and they are not there;
    /// answers, and does everything else then.
    fn establish(
        &mut self,
        request: u32,
        label: &str,
        holder: &Party,
        wanted: Wanted,
        mapped: Mapped,
    ) -> Result<(), Refusal> {
        let Mapped {
            payload,
            account,
            pool,
            source,
        } = mapped;
        let mut opened = Opened {
            payload: 0,
            uid: account.uid,
            gid: account.gid,
            account: account.name.clone(),
            home: account.home.clone(),
            shell: account.shell.clone(),
            identity: holder.identity.clone(),
            fqans: holder.fqans.clone(),
            not_after: holder.not_after,
            limited: holder.limited,
            lease: match &pool {
                Some(name) => format!("pool {name}"),
                None if account.dynamic => "dynamic".to_owned(),
                None => "account".to_owned(),
            },
            sandbox: None,
            // Which process that is, is seen when the payload is announced.
            agent: wanted.agent.then_some(0),
        };
        let mut line = about(&self.tools, "open", "accepted", label, Some(holder))
            .text("account", &opened.account)
            .number("uid", opened.uid)
            .numbers("gids", &groups_of(&account))
            .text("lease", &opened.lease)
            .text("source", &source);
        let Some(taken) = payload else {
            line = line.text("request", &request_name(&self.tools, 0));
            opened.agent = None;
            self.channel.send(request, Answer::Opened(opened), None);
            self.tools.monitor.record(line);
            return Ok(());
        };
        let number = taken.payload;
        let was_ready = taken.nest.is_some();
        let limits = wanted.limits;
        let nest = self.make(label, wanted, taken)?;
        opened.payload = number;
        opened.sandbox.clone_from(&nest.sandbox);
        let parts = Parts {
            expiry: Expiry::new(holder.not_after, &self.tools.site.settings),
            account,
            label: label.to_owned(),
            holder: holder.clone(),
            pool,
        };
        let payload = Payload::new(number, parts, nest);
        self.payloads.insert(number, payload);
        self.begin_prologue(request, opened)?;
        line = line.text("request", &request_name(&self.tools, number));
        self.tools.monitor.record(line);
        if was_ready && limits == OpenLimits::default() {
            self.nameless.push(number);
        }
        Ok(())
    }

    fn make(
        &mut self,
        label: &str,
        Wanted { place, limits, .. }: Wanted,
        taken: Taken,
    ) -> Result<Nest, Refusal> {
        let Taken {
            payload,
            account,
            nest,
        } = taken;
        let Tools {
            monitor,
            hierarchies,
            ..
        } = &self.tools;
        if let Some(nest) = nest {
            if limits != OpenLimits::default() {
                // Before anybody can have it do anything.
                let ask = Ask::Limit {
                    payload,
                    label: label.to_owned(),
                    limits,
                };
                if let Err(refusal) = monitor.order(&ask) {
                    take_down(monitor, payload, &nest);
                    return Err(refusal);
                }
            }
            return Ok(nest);
        }
        let mut payloads = self.payloads.values();
        let shares_account = payloads.any(|other| other.account.uid == account.uid);
        let made = if !hierarchies.has_groups() && shares_account {
            let text = "without cgroup2 one account can run one payload at a time";
            Err(trouble("lease.busy", text.to_owned()))
        } else {
            Nest::make(monitor, hierarchies, payload, label, place, limits, false)
        };
        self.nest_is_warm = false;
        if made.is_err() {
            let _ = self.tools.monitor.order(&Ask::Bury { payload });
        }
        made
    }

    /// The payload counts once the site's program for the beginning has agreed.
    fn begin_prologue(&mut self, request: u32, opened: Opened) -> Result<(), Refusal> {
        let Self {
            tools,
            payloads,
            channel,
            ..
        } = self;
        let payload = payloads.get_mut(&opened.payload);
        let payload = payload.ok_or_else(lost)?;
        if tools.site.hook(Which::Prologue).is_none() {
            announce(&tools.monitor, channel, (request, opened), payload);
            return Ok(());
        }
        match start_hook(tools, Which::Prologue, payload) {
            Ok(running) => {
                payload.hook = Some(running);
                payload.answer = Some((request, opened));
                Ok(())
            }
            Err(refusal) => {
                payload.close(&tools.monitor, None, Instant::now());
                Err(refusal)
            }
        }
    }

    fn advance_payloads(&mut self, now: Instant) {
        if self.payloads.is_empty() {
            return;
        }
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
                payload.close(&tools.monitor, None, now);
            }
            if payload.is_untouched(now) {
                touch(tools, payload);
            }
            while let Some(due) = payload.expire(&tools.monitor, boot) {
                match due {
                    Due::Warning => channel.send(0, Answer::Expiring { payload: number }, None),
                    Due::Kill => {
                        let (label, holder) = (&payload.label, Some(&payload.holder));
                        let line = about(tools, "expire", "killed", label, holder);
                        let line = line.text("request", &request_name(tools, number));
                        tools.monitor.record(line);
                        channel.send(0, Answer::KilledForExpiry { payload: number }, None);
                    }
                    Due::End => {}
                }
            }
            loop {
                match payload.advance(&tools.monitor, now) {
                    Outcome::Quiet => break true,
                    Outcome::Empty => channel.send(0, Answer::Empty { payload: number }, None),
                    Outcome::Epilogue => {
                        touch(tools, payload);
                        if tools.site.hook(Which::Epilogue).is_some() {
                            match start_hook(tools, Which::Epilogue, payload) {
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
                        match outcome {
                            Ok(()) => announce(&tools.monitor, channel, (request, opened), payload),
                            Err(refusal) => {
                                payload.close(&tools.monitor, None, now);
                                channel.send(request, Answer::Refused(refusal), None);
                            }
                        }
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
}

/// Primary group and those beside it.
fn groups_of(account: &Account) -> Vec<u32> {
    let further = account.groups.iter().filter(|gid| **gid != account.gid);
    [&account.gid].into_iter().chain(further).copied().collect()
}

fn lost() -> Refusal {
    trouble("open.state", "no verdict or no account".to_owned())
}

/// Tells the pilot of its payload, with an agent if it wants one at once.
fn announce(
    monitor: &Monitor,
    channel: &mut Channel,
    (request, mut opened): (u32, Opened),
    payload: &mut Payload,
) {
    // The first of a payload whose time is nearly over would be told to end before it has begun. Whoever asks for one
    // has been told, too, and where there is none, why.
    let is_due = payload.expiry.is_due(boot_time());
    let wanted = opened.agent.take().filter(|_| !is_due);
    let spawned = wanted.and_then(|_| spawn(monitor, payload).ok());
    let (pid, socket) = spawned.unzip();
    opened.agent = pid;
    channel.send(request, Answer::Opened(opened), socket);
}

/// Starts an agent, or takes the one that runs.
fn spawn(monitor: &Monitor, payload: &mut Payload) -> Result<(u32, OwnedFd), Refusal> {
    if !payload.is_idle(monitor) {
        return Err(caller("agent.busy", "the payload still has processes"));
    }
    if payload.expiry.is_over() {
        let text = "the credential of the payload has expired; renew it".to_owned();
        let class = RefusalClass::Job;
        return Err(credential(class, "proxy.expired", text, false));
    }
    let (pid, socket) = payload.agent(monitor, Instant::now())?;
    Ok((pid.cast_unsigned(), socket))
}

/// Starts a program of the site for a payload.
fn start_hook(tools: &mut Tools, which: Which, payload: &Payload) -> Result<Running, Refusal> {
    let hook = tools.site.hook(which).ok_or_else(lost)?;
    // The monitor has its numbers; this is whether the account exists.
    tools.site.account_of(hook)?;
    let account = &payload.account;
    let facts = [
        ("JOB", payload.label.clone()),
        ("ACCOUNT", account.name.clone()),
        ("UID", account.uid.to_string()),
        ("GID", account.gid.to_string()),
        ("IDENTITY", payload.holder.identity.clone()),
        ("SANDBOX", payload.place().display().to_string()),
    ];
    let facts = facts.each_ref().map(|(key, text)| (*key, text.as_str()));
    tools.serial += 1;
    Running::start(&tools.monitor, tools.serial, which, hook, &facts)
}

fn audit_hook(tools: &Tools, payload: &Payload, refusal: &Refusal) {
    let holder = Some(&payload.holder);
    audit_refusal(tools, "hook", &payload.label, holder, refusal);
}

/// The end of a payload: what could not be removed is left to recovery.
fn bury(tools: &Tools, number: u32, payload: &Payload, left: Option<&Refusal>) {
    let line = Line::new("close")
        .text("request", &request_name(tools, number))
        .text("job", &payload.label)
        .number("uid", payload.account.uid)
        .text("outcome", left.map_or("clean", |refusal| &refusal.code));
    tools.monitor.record(line);
    if left.is_some() {
        let _ = tools.monitor.order(&Ask::Abandon { payload: number });
    }
}

/// Says that a pool account is in use, so that nobody takes its lease for idle.
fn touch(tools: &Tools, payload: &Payload) {
    if let Some((lease, _)) = &payload.pool {
        let _ = tools.monitor.linked(&Ask::PoolTouch {
            account: payload.account.name.clone(),
            lease: lease.clone(),
        });
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
    tools.monitor.record(line);
}

fn expect_sandbox(payload: &Payload) -> Result<(), Refusal> {
    match &payload.sandbox {
        Some(_) => Ok(()),
        None => Err(caller(
            "renew.sandbox",
            "the payload has no sandbox for a file",
        )),
    }
}

/// Names a payload for as long as the log is kept.
fn request_name(tools: &Tools, payload: u32) -> String {
    format!("{}.{payload}", tools.number)
}
