//! One payload: its account, sandbox and group, and the way to its end.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use launch_protocol::broker::{Opened, Refusal, SignalScope, Usage};
use launch_protocol::monitor::{Account, Ask, Errand};
use launch_protocol::policy::Party;

use crate::expiry::{Due, Expiry};
use crate::group::Group;
use crate::hooks::Running;
use crate::monitor::{DONE, IN_USE, Monitor, exit_status};
use crate::ready::Nest;
use crate::refuse::trouble;

/// How long killed processes may take to vanish (they may hang in a file system call).
const KILLING: Duration = Duration::from_secs(10);
/// How long removing a sandbox may take.
const REMOVING: Duration = Duration::from_secs(300);
/// How often the lease of a pool account is said to be in use: other nodes see nothing else of it.
const TOUCH: Duration = Duration::from_secs(1800);
/// How often to look where no event tells that a group has become empty.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The same where the kernel tells of the end, for what it passes over when it kills a group.
const KILL_AGAIN: Duration = Duration::from_millis(200);
/// How long an errand may take that is waited for.
const ERRAND: Duration = Duration::from_secs(5);

/// A payload from `Open` to `Close`.
#[derive(Debug)]
pub(crate) struct Payload {
    /// By which the monitor and the pilot know it.
    number: u32,
    pub(crate) account: Account,
    pub(crate) label: String,
    /// Whose it is, by the latest credential.
    pub(crate) holder: Party,
    pub(crate) expiry: Expiry,
    /// Name of the pool lease that keeps the account, and when that was said to be in use.
    pub(crate) pool: Option<(String, Instant)>,
    pub(crate) sandbox: Option<PathBuf>,
    group: Group,
    /// The first agent, which nobody has asked for yet.
    waiting: Option<(i32, OwnedFd)>,
    /// It has been killed before anybody asked for it, and has not ended yet.
    doomed: Option<i32>,
    leader: Option<i32>,
    /// Everything is to die. Without cgroup2 that takes repeated looks.
    killing: bool,
    /// When it was killed last.
    killed: Instant,
    /// `Exited` has been said, `Empty` not yet.
    owes_empty: bool,
    started: Option<Instant>,
    emptied: Option<Instant>,
    closing: Option<Closing>,
    /// A program of the site that runs before or after it.
    pub(crate) hook: Option<Running>,
    /// What waits for the one before it: whom to answer, and what.
    pub(crate) answer: Option<(u32, Opened)>,
}

/// What a payload is made of, beside its group.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) account: Account,
    pub(crate) label: String,
    pub(crate) holder: Party,
    pub(crate) expiry: Expiry,
    pub(crate) pool: Option<String>,
}

/// On the way out.
#[derive(Debug)]
struct Closing {
    /// Who wants to know; nobody, when the pilot is gone.
    request: Option<u32>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Until the group is empty.
    Killing {
        deadline: Instant,
    },
    /// Until the site's program has ended.
    Epilogue,
    /// Until nothing runs as the (dynamic) account any more, in the group or not; the remover looks
    /// before it begins.
    Sweeping {
        deadline: Instant,
    },
    Removing {
        child: i32,
        deadline: Instant,
        /// Until when `IN_USE` means to try again.
        sweeping: Instant,
    },
    Removed {
        status: u8,
        sweeping: Instant,
    },
}

/// Whose child has been reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaped {
    Leader,
    Other,
    Stranger,
}

/// What a step has brought about.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Nothing to say.
    Quiet,
    /// No process is left; to be told the pilot.
    Empty,
    /// The site's program for the end can be started.
    Epilogue,
    /// That program, or the one for the beginning, has ended.
    Hook(Result<(), Refusal>),
    /// It is over: who asked, and what could not be cleaned up. `None`: nothing is left.
    Gone(Option<u32>, Option<Refusal>),
}

impl Payload {
    pub(crate) fn new(number: u32, parts: Parts, nest: Nest) -> Self {
        Self {
            number,
            account: parts.account,
            label: parts.label,
            holder: parts.holder,
            expiry: parts.expiry,
            pool: parts.pool.map(|lease| (lease, Instant::now())),
            sandbox: nest.sandbox,
            group: nest.group,
            waiting: Some(nest.agent),
            doomed: None,
            leader: None,
            killing: false,
            killed: Instant::now(),
            owes_empty: false,
            started: None,
            emptied: None,
            closing: None,
            hook: None,
            answer: None,
        }
    }

    /// The sandbox's path, empty if there is none.
    pub(crate) fn place(&self) -> PathBuf {
        self.sandbox.clone().unwrap_or_default()
    }

    /// Does what is due at the end of the credential; to be told the pilot.
    pub(crate) fn expire(&mut self, monitor: &Monitor, now: Duration) -> Option<Due> {
        let due = self.expiry.due(now)?;
        match due {
            Due::Warning => self.signal(monitor, libc::SIGTERM, SignalScope::Leader),
            Due::Kill | Due::End => self.kill(monitor),
        }
        Some(due)
    }

    /// May another agent be started?
    pub(crate) fn is_idle(&mut self, monitor: &Monitor) -> bool {
        if let Some(doomed) = self.doomed.take() {
            monitor.wait_for(doomed, ERRAND);
        }
        let empty = || self.waiting.is_some() || !self.is_populated(monitor);
        self.closing.is_none() && self.leader.is_none() && empty()
    }

    /// Is there any process of it? What cannot be found out counts as yes.
    fn is_populated(&self, monitor: &Monitor) -> bool {
        let of_account = |errand| {
            let outcome = monitor.run_errand(self.number, errand, ERRAND);
            outcome != Ok(Some(DONE))
        };
        let alone = || of_account(Errand::Alone { home: false });
        // The process table has gaps for whoever forks fast enough; the kernel's own order and count for
        // an account have none.
        let is_own = self.account.dynamic && self.group.events().is_none();
        match self.group.is_populated() {
            Some(populated) => populated || (is_own && alone()),
            None if is_own => alone(),
            None => of_account(Errand::Members),
        }
    }

    fn hatch(&self, monitor: &Monitor) -> Result<(i32, OwnedFd), Refusal> {
        let payload = self.number;
        monitor.start(&Ask::Hatch { payload })
    }

    /// The agent, the first or one made now: its process number and socket. From now on it is the leader.
    pub(crate) fn agent(
        &mut self,
        monitor: &Monitor,
        now: Instant,
    ) -> Result<(i32, OwnedFd), Refusal> {
        let agent = match self.waiting.take() {
            Some(waiting) => waiting,
            None => self.hatch(monitor)?,
        };
        self.leader = Some(agent.0);
        self.owes_empty = false;
        self.killing = false;
        self.started.get_or_insert(now);
        self.emptied = None;
        Ok(agent)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Takes note that a child has been reaped.
    pub(crate) fn reaped(&mut self, child: i32, status: i32) -> Reaped {
        if self
            .hook
            .as_mut()
            .is_some_and(|hook| hook.reaped(child, status))
        {
            return Reaped::Other;
        }
        if self.leader == Some(child) {
            self.leader = None;
            self.owes_empty = true;
            return Reaped::Leader;
        }
        let waits = self.waiting.as_ref().is_some_and(|(its, _)| *its == child);
        if waits || self.doomed == Some(child) {
            (self.waiting, self.doomed) = (None, None);
            return Reaped::Other;
        }
        if let Some(Closing { stage, .. }) = &mut self.closing
            && let Stage::Removing {
                child: remover,
                sweeping,
                ..
            } = *stage
            && remover == child
        {
            let status = exit_status(status).unwrap_or(u8::MAX);
            *stage = Stage::Removed { status, sweeping };
            return Reaped::Other;
        }
        Reaped::Stranger
    }

    /// Signals the leader's process group or everything.
    pub(crate) fn signal(&mut self, monitor: &Monitor, signal: i32, scope: SignalScope) {
        match (scope, self.leader) {
            (SignalScope::All, _) => match signal {
                libc::SIGSTOP => self.suspend(monitor, true),
                libc::SIGCONT => {
                    self.suspend(monitor, false);
                    self.signal_all(monitor, signal);
                }
                // One order, and a number that no fork can outrun.
                libc::SIGKILL => self.kill(monitor),
                _ => self.signal_all(monitor, signal),
            },
            (SignalScope::Leader, Some(leader)) => monitor.signal(leader, signal),
            (SignalScope::Leader, None) => {}
        }
    }

    fn signal_all(&self, monitor: &Monitor, signal: i32) {
        let payload = self.number;
        if self.group.is_real() {
            let _ = monitor.order(&Ask::SignalAll { payload, signal });
        } else {
            let _ = monitor.run_errand(payload, Errand::SignalMembers { signal }, ERRAND);
        }
    }

    /// Stops everything, or lets it run on (requirement K8): the kernel's freezer misses no newborn
    /// process. Without one there is only the signal.
    fn suspend(&self, monitor: &Monitor, stop: bool) {
        let payload = self.number;
        if self.group.is_real() {
            let _ = monitor.order(&Ask::Freeze { payload, stop });
        } else if stop {
            self.signal_all(monitor, libc::SIGSTOP);
        }
    }

    /// Kills everything. Returns as soon as the order is given.
    pub(crate) fn kill(&mut self, monitor: &Monitor) {
        self.killing = true;
        self.doomed = self.waiting.take().map(|(agent, _)| agent).or(self.doomed);
        self.kill_again(monitor);
    }

    /// This must be repeated until nothing is left, all the time where the kernel kills no group at once.
    fn kill_again(&mut self, monitor: &Monitor) {
        let payload = self.number;
        self.killed = Instant::now();
        let _ = monitor.order(&Ask::Kill { payload });
        if self.group.events().is_some() {
            return;
        }
        if self.account.dynamic {
            let _ = monitor.run_errand(payload, Errand::KillAll, ERRAND);
        } else if !self.group.is_real() {
            // What is stopped has no children; what was born meanwhile is stopped the next time.
            for signal in [libc::SIGSTOP, libc::SIGSTOP, libc::SIGKILL] {
                self.signal_all(monitor, signal);
            }
        }
    }

    /// Is it time to say that the lease is in use?
    pub(crate) fn is_untouched(&mut self, now: Instant) -> bool {
        let Some((_, last)) = self.pool.as_mut().filter(|pool| now >= pool.1 + TOUCH) else {
            return false;
        };
        *last = now;
        true
    }

    /// Is the pilot's going away known already?
    pub(crate) fn is_left(&self) -> bool {
        matches!(self.closing, Some(Closing { request: None, .. }))
    }

    /// Begins the end. The first who asks gets the answer; the pilot's going away overrides.
    pub(crate) fn close(&mut self, monitor: &Monitor, request: Option<u32>, now: Instant) {
        self.kill(monitor);
        if let (Some(hook), Some(_)) = (&self.hook, &self.answer) {
            // Nobody waits for what it would allow.
            hook.kill(monitor);
        }
        match &mut self.closing {
            Some(closing) => closing.request = request,
            None => {
                let stage = Stage::Killing {
                    deadline: now + KILLING,
                };
                self.closing = Some(Closing { request, stage });
            }
        }
    }

    /// When to look again even if nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let soon = self
            .waits_for_empty()
            .then(|| self.next_kill(now))
            .flatten();
        let stage = self
            .closing
            .as_ref()
            .and_then(|closing| match closing.stage {
                Stage::Killing { deadline } | Stage::Removing { deadline, .. } => Some(deadline),
                Stage::Sweeping { .. } => Some(now + LOOK_AGAIN),
                Stage::Removed { .. } | Stage::Epilogue => None,
            });
        let hook = self.hook.as_ref().map(|hook| hook.deadline(now));
        let touch = self.pool.as_ref().map(|(_, last)| *last + TOUCH);
        [soon, stage, hook, touch].into_iter().flatten().min()
    }

    /// Goes as far as it can now.
    pub(crate) fn advance(&mut self, monitor: &Monitor, now: Instant) -> Outcome {
        // Read even if the leader lives: that is what takes back the readiness of `events`.
        let populated = self.waits_for_empty() && self.is_populated(monitor);
        if populated
            && self.killing
            && self
                .next_kill(now)
                .is_some_and(|due| due <= now + LOOK_AGAIN)
        {
            // A process that was born while the others were being killed.
            self.kill_again(monitor);
        }
        let agent = self.leader.is_some() || self.waiting.is_some() || self.doomed.is_some();
        let over = !agent && !populated;
        self.killing &= !over;
        if self.owes_empty && over {
            self.owes_empty = false;
            self.emptied = Some(now);
            return Outcome::Empty;
        }
        if let Some(hook) = &mut self.hook {
            return match hook.advance(monitor, now) {
                None => Outcome::Quiet,
                Some(outcome) => {
                    self.hook = None;
                    Outcome::Hook(outcome)
                }
            };
        }
        let Some(closing) = &mut self.closing else {
            return Outcome::Quiet;
        };
        match closing.stage {
            Stage::Killing { .. } if over => {
                closing.stage = Stage::Epilogue;
                Outcome::Epilogue
            }
            Stage::Epilogue => {
                let sweeping = now + KILLING;
                if self.sandbox.is_none() && !self.account.dynamic {
                    let left = self.finish(monitor, DONE);
                    return self.gone(left);
                }
                closing.stage = Stage::Sweeping { deadline: sweeping };
                self.advance(monitor, now)
            }
            Stage::Sweeping { deadline } => {
                let errand = Errand::Remove {
                    account: self.account.dynamic,
                    if_alone: self.account.dynamic,
                };
                match monitor.errand(self.number, errand) {
                    Ok(child) => {
                        closing.stage = Stage::Removing {
                            child,
                            deadline: now + REMOVING,
                            sweeping: deadline,
                        }
                    }
                    Err(refusal) => {
                        let why = refusal.message;
                        let text = format!("the sandbox could not be removed: {why}");
                        return self.gone(Some(trouble("close.sandbox", text)));
                    }
                }
                Outcome::Quiet
            }
            Stage::Killing { deadline } if now >= deadline => {
                let text = "killed processes of the payload do not end (they hang in the kernel)";
                self.gone(Some(trouble("close.processes", text.to_owned())))
            }
            Stage::Removing {
                child, deadline, ..
            } if now >= deadline => {
                monitor.signal(child, libc::SIGKILL);
                let text = format!(
                    "removing the sandbox took longer than {} s",
                    REMOVING.as_secs()
                );
                self.gone(Some(trouble("close.sandbox", text)))
            }
            Stage::Removed {
                status: IN_USE,
                sweeping,
            } => {
                if now >= sweeping {
                    let text = "processes of the payload's account could not be killed";
                    return self.gone(Some(trouble("close.processes", text.to_owned())));
                }
                closing.stage = Stage::Sweeping { deadline: sweeping };
                let _ = monitor.run_errand(self.number, Errand::KillAll, ERRAND);
                Outcome::Quiet
            }
            Stage::Removed { status, .. } => {
                let left = self.finish(monitor, status);
                self.gone(left)
            }
            _ => Outcome::Quiet,
        }
    }

    /// After the remover: the top directory, the group and the lease.
    fn finish(&self, monitor: &Monitor, status: u8) -> Option<Refusal> {
        let path = self.place();
        let path = path.display();
        if status != DONE {
            let text = format!("something in the sandbox {path} could not be removed");
            return Some(trouble("close.sandbox", text));
        }
        let payload = self.number;
        monitor.order(&Ask::Bury { payload }).err()
    }

    fn gone(&self, left: Option<Refusal>) -> Outcome {
        Outcome::Gone(
            self.closing.as_ref().and_then(|closing| closing.request),
            left,
        )
    }

    /// What it has used.
    pub(crate) fn usage(&mut self, monitor: i32, now: Instant) -> Usage {
        let figures = self.group.figures(monitor, self.account.uid);
        let waits = self.waiting.is_some() || self.doomed.is_some();
        let wall = self.started.map_or(Duration::ZERO, |start| {
            self.emptied.unwrap_or(now).saturating_duration_since(start)
        });
        Usage {
            user_usec: figures.user_usec,
            system_usec: figures.system_usec,
            memory_current_bytes: figures.memory_current,
            memory_peak_bytes: figures.memory_peak,
            processes: figures.processes.saturating_sub(u32::from(waits)),
            wall_usec: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
            memory_source: self.group.source().to_owned(),
            processes_peak: figures.processes_peak,
            io_read_bytes: figures.io_read,
            io_write_bytes: figures.io_write,
            oom_kills: figures.oom_kills,
        }
    }

    /// To be polled for `POLLPRI` while waiting for it to become empty.
    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.group.events().filter(|_| self.waits_for_empty())
    }

    /// When to look, and kill again what is there, if it is being killed.
    fn next_kill(&self, now: Instant) -> Option<Instant> {
        match self.group.events() {
            None => Some(now + LOOK_AGAIN),
            Some(_) => self.killing.then(|| self.killed + KILL_AGAIN),
        }
    }

    fn waits_for_empty(&self) -> bool {
        self.owes_empty
            || self.killing
            || matches!(
                self.closing,
                Some(Closing {
                    stage: Stage::Killing { .. },
                    ..
                })
            )
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;

    use launch_protocol::monitor::Tracking;
    use launch_protocol::policy::CredentialKind;

    use super::*;
    use crate::group::Hierarchies;
    use crate::testing::{Fake, account, settings};

    const LEADER: i32 = 55;

    struct Stage {
        fake: Fake,
        monitor: Monitor,
        groups: tempfile::TempDir,
        payload: Payload,
    }

    impl Stage {
        fn new() -> Self {
            let (fake, monitor) = Fake::start();
            let groups = tempfile::tempdir().expect("a folder");
            std::fs::create_dir(groups.path().join("group")).expect("a group");
            let hierarchies = Hierarchies::new(Tracking {
                hierarchies: vec![("cgroup2".to_owned(), groups.path().to_owned())],
                ..Tracking::default()
            });
            let populate = |number| {
                let events = groups.path().join("group/cgroup.events");
                std::fs::write(events, format!("populated {number}\nfrozen 0\n"))
            };
            populate(1).expect("written");
            let holder = Party {
                kind: CredentialKind::Proxy,
                identity: "/CN=Bob".to_owned(),
                fqans: Vec::new(),
                issuers: Vec::new(),
                limited: false,
                not_after: i64::MAX,
            };
            let parts = Parts {
                account: account(60_000),
                label: "1.0".to_owned(),
                expiry: Expiry::new(holder.not_after, &settings()),
                holder,
                pool: None,
            };
            let (socket, _) = crate::channel::packet_sockets().expect("sockets");
            let nest = Nest {
                group: hierarchies.open("group".to_owned()),
                sandbox: Some("/scratch/dir_1".into()),
                agent: (LEADER, socket),
            };
            Self {
                fake,
                monitor,
                groups,
                payload: Payload::new(3, parts, nest),
            }
        }

        fn empty(&self) {
            let events = self.groups.path().join("group/cgroup.events");
            std::fs::write(events, "populated 0\nfrozen 0\n").expect("written");
        }

        fn advance(&mut self) -> Outcome {
            self.payload.advance(&self.monitor, Instant::now())
        }

        fn reap(&mut self) {
            self.monitor.fetch_endings();
            while let Some((child, status)) = self.monitor.next_ended() {
                assert_eq!(self.payload.reaped(child, status), Reaped::Other);
            }
        }

        /// Asked since the last time, without those for endings.
        fn asked(&self) -> Vec<String> {
            let mut asked = std::mem::take(&mut self.fake.books().asked);
            asked.retain(|name| name != "Endings");
            asked
        }
    }

    #[test]
    fn from_the_agent_to_the_end() {
        let mut stage = Stage::new();
        assert!(stage.payload.is_idle(&stage.monitor));
        let (child, socket) = stage
            .payload
            .agent(&stage.monitor, Instant::now())
            .expect("there");
        assert!(child == LEADER && socket.as_raw_fd() > 2);
        assert!(!stage.payload.is_idle(&stage.monitor) && stage.asked().is_empty());
        assert!(matches!(stage.advance(), Outcome::Quiet));
        assert_eq!(stage.payload.reaped(LEADER, 0), Reaped::Leader);
        // What it has started lives on.
        assert!(matches!(stage.advance(), Outcome::Quiet));
        stage.empty();
        assert!(matches!(stage.advance(), Outcome::Empty));
        assert!(matches!(stage.advance(), Outcome::Quiet));
        stage.payload.close(&stage.monitor, Some(9), Instant::now());
        assert!(matches!(stage.advance(), Outcome::Epilogue));
        assert!(matches!(stage.advance(), Outcome::Quiet));
        assert_eq!(stage.asked(), ["Kill", "Errand"]);
        stage.reap();
        assert!(matches!(stage.advance(), Outcome::Gone(Some(9), None)));
        assert_eq!(stage.asked(), ["Bury"]);
    }

    #[test]
    fn an_agent_that_has_been_killed_is_nobodys_leader() {
        let mut stage = Stage::new();
        stage.payload.kill(&stage.monitor);
        stage.fake.end(LEADER, 9);
        stage.empty();
        assert!(stage.payload.is_idle(&stage.monitor));
        let agent = stage.payload.agent(&stage.monitor, Instant::now());
        assert_eq!(agent.expect("another").0, 101);
        assert_eq!(stage.asked(), ["Kill", "Hatch"]);
    }

    #[test]
    fn k5_an_account_that_is_not_empty_is_swept_until_it_is() {
        let mut stage = Stage::new();
        // The fake monitor knows the account by its lease.
        let lease = Ask::Lease {
            payload: 3,
            target: launch_protocol::monitor::Target::Dynamic(60_000),
            groups: None,
            sweep: false,
        };
        stage.monitor.account(&lease).expect("leased");
        stage.fake.books().busy.insert(60_000);
        stage.payload.close(&stage.monitor, None, Instant::now());
        assert!(stage.payload.is_left());
        stage.empty();
        assert!(matches!(stage.advance(), Outcome::Quiet));
        assert_eq!(stage.payload.reaped(LEADER, 9), Reaped::Other);
        assert!(matches!(stage.advance(), Outcome::Epilogue));
        assert!(matches!(stage.advance(), Outcome::Quiet));
        stage.reap();
        stage.asked();
        assert!(matches!(stage.advance(), Outcome::Quiet));
        assert_eq!(stage.asked(), ["Errand"], "everything is killed");
        stage.fake.books().busy.clear();
        assert!(matches!(stage.advance(), Outcome::Quiet));
        stage.reap();
        assert!(matches!(stage.advance(), Outcome::Gone(None, None)));
    }
}
