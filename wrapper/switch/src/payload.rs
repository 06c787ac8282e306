//! One payload: its account, sandbox and group, and the way to its end.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use launch_protocol::broker::{Opened, Refusal, SignalScope, Usage};
use launch_protocol::policy::{Party, Settings};
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::account::TargetAccount;
use crate::cgroup::Group;
use crate::errands::{DONE, Extent, IN_USE, Runner, exit_status};
use crate::expiry::{Due, Expiry};
use crate::hooks::Running;
use crate::isolate::Numbers;
use crate::lease::Lease;
use crate::nest::{self, Kit, Launch, Nest};
use crate::refuse::trouble;
use crate::sandbox::Sandbox;
use crate::spawn::{Identity, Started};
use crate::sys;

/// How long killed processes may take to vanish (they may hang in a file system call).
const KILLING: Duration = Duration::from_secs(10);
/// How long removing a sandbox may take.
const REMOVING: Duration = Duration::from_secs(300);
/// How often the lease of a pool account is said to be in use: other nodes see nothing else of it.
const TOUCH: Duration = Duration::from_secs(1800);
/// How often to look where no event tells that a group has become empty.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// With this word for the front no agent executes what is a link (requirement S13).
const NO_LINKS: &str = "prohibit_exec_via_symlink=yes";

/// A payload from `Open` to `Close`.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) account: TargetAccount,
    pub(crate) label: String,
    /// Whose it is, by the latest credential.
    pub(crate) holder: Party,
    pub(crate) expiry: Expiry,
    /// Name of the pool lease that keeps the account, and when that was said to be in use.
    pub(crate) pool: Option<(String, Instant)>,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) group: Group,
    /// Taken out when it is given back.
    pub(crate) lease: Option<Lease>,
    /// Waits in the group to become the first agent.
    waiting: Option<Started>,
    /// It has its order, and is on its way to be an agent or is one.
    ordered: bool,
    /// One died before anybody wanted it: make none ahead of need.
    spoiled: bool,
    leader: Option<Pid>,
    /// Its own process numbers, as long as anything may have one.
    numbers: Option<Numbers>,
    /// Everything is to die. Without cgroup2 that takes repeated looks.
    killing: bool,
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
    pub(crate) account: TargetAccount,
    pub(crate) label: String,
    pub(crate) holder: Party,
    pub(crate) expiry: Expiry,
    pub(crate) pool: Option<String>,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) lease: Lease,
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
        child: Pid,
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
    pub(crate) fn new(parts: Parts, nest: Nest) -> Self {
        let Nest {
            mut group, waiting, ..
        } = nest;
        group.assign(parts.account.uid());
        Self {
            account: parts.account,
            label: parts.label,
            holder: parts.holder,
            expiry: parts.expiry,
            pool: parts.pool.map(|lease| (lease, Instant::now())),
            sandbox: parts.sandbox,
            group,
            waiting: Some(waiting),
            ordered: false,
            spoiled: false,
            lease: Some(parts.lease),
            leader: None,
            numbers: None,
            killing: false,
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
        self.sandbox.as_ref().map(Sandbox::path).unwrap_or_default()
    }

    /// Does what is due at the end of the credential; to be told the pilot.
    pub(crate) fn expire(&mut self, now: Duration) -> Option<Due> {
        let due = self.expiry.due(now)?;
        match due {
            Due::Warning => self.signal(libc::SIGTERM, SignalScope::Leader),
            Due::Kill | Due::End => self.kill(),
        }
        Some(due)
    }

    /// May another agent be started?
    pub(crate) fn is_idle(&self) -> bool {
        let empty = || self.waiting.is_some() || !self.group.is_populated();
        self.closing.is_none() && self.leader.is_none() && empty()
    }

    /// Does no child wait to be the next agent, though one may be wanted soon?
    pub(crate) fn is_cold(&self) -> bool {
        // Where processes are told by their account, one that waits would count among them.
        let idle = self.emptied.is_some() && self.closing.is_none() && self.waiting.is_none();
        idle && self.group.events().is_some() && !self.spoiled && !self.expiry.is_over()
    }

    /// Sends the child that waits in the group, or a new one, on its way to be an agent, so that it
    /// is one by the time that somebody wants it.
    pub(crate) fn warm_up(&mut self, kit: Kit<'_>, settings: &Settings) -> Result<(), Errno> {
        if self.waiting.is_some() && self.ordered {
            return Ok(());
        }
        let child = match self.waiting.take() {
            Some(waiting) => waiting,
            None => nest::hatch(&self.group, kit)?,
        };
        let mut dirs = settings.execute_dirs.iter().map(PathBuf::as_path);
        let place = self.place();
        let no_links = settings.front.iter().any(|word| word == NO_LINKS);
        let launch = Launch {
            account: &self.account,
            sandbox: self.sandbox.as_ref(),
            execute_dir: dirs.find(|dir| place.starts_with(dir)),
            limits: &settings.limits,
            isolation: &settings.isolation,
            rules: if no_links {
                &["--no-links".into()]
            } else {
                &[]
            },
        };
        let sent = nest::order(&child, launch);
        self.ordered = sent.is_ok();
        self.waiting = Some(child);
        sent
    }

    /// In an idle moment makes a child that waits in the group, still root, for its order. If it
    /// fails, not again before somebody wants the agent.
    pub(crate) fn prepare(&mut self, kit: Kit<'_>) {
        match nest::hatch(&self.group, kit) {
            Ok(waiting) => (self.waiting, self.ordered) = (Some(waiting), false),
            Err(_) => self.spoiled = true,
        }
    }

    /// The agent, made ahead or now.
    pub(crate) fn agent(&mut self, kit: Kit<'_>, settings: &Settings) -> Result<Started, Errno> {
        self.spoiled = false;
        self.warm_up(kit, settings)?;
        self.waiting.take().ok_or(Errno::ESRCH)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// An agent has been started.
    pub(crate) fn set_leader(&mut self, leader: Pid, numbers: Option<Numbers>, now: Instant) {
        self.leader = Some(leader);
        self.numbers = numbers;
        self.owes_empty = false;
        self.killing = false;
        self.started.get_or_insert(now);
        self.emptied = None;
    }

    /// Takes note that a child has been reaped.
    pub(crate) fn reaped(&mut self, child: Pid, status: i32) -> Reaped {
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
        if self
            .waiting
            .as_ref()
            .is_some_and(|waiting| waiting.pid == child)
        {
            self.waiting = None;
            self.spoiled = true;
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
    pub(crate) fn signal(&mut self, signal: i32, scope: SignalScope) {
        match (scope, self.leader) {
            (SignalScope::All, _) => match signal {
                libc::SIGSTOP => self.group.suspend(true),
                libc::SIGCONT => {
                    self.group.suspend(false);
                    self.group.signal_all(signal);
                }
                // One order, and a number that no fork can outrun.
                libc::SIGKILL => self.kill(),
                _ => self.group.signal_all(signal),
            },
            // Not reaped, so the number is its own, and its session is in the payload's group.
            (SignalScope::Leader, Some(leader)) => {
                if sys::kill(-leader.as_raw(), signal).is_err() {
                    // Between `fork` and `setsid` there is no process group of that number yet.
                    let _ = sys::kill(leader.as_raw(), signal);
                }
            }
            (SignalScope::Leader, None) => {}
        }
    }

    /// Kills everything. Returns as soon as the order is given.
    pub(crate) fn kill(&mut self) {
        self.killing = true;
        self.group.kill();
        if self.group.events().is_none() {
            // Where the kernel kills no group at once, it does so with its process numbers.
            self.numbers = None;
        }
        let waiting = self.waiting.as_ref().map(|waiting| waiting.pid);
        for leader in self.leader.into_iter().chain(waiting) {
            // It may not have entered the group yet. Not reaped, so the number is its own.
            let _ = sys::kill(leader.as_raw(), libc::SIGKILL);
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
    pub(crate) fn close(&mut self, request: Option<u32>, now: Instant) {
        self.kill();
        if let (Some(hook), Some(_)) = (&mut self.hook, &self.answer) {
            // Nobody waits for what it would allow.
            hook.kill();
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
        let soon =
            (self.waits_for_empty() && self.group.events().is_none()).then(|| now + LOOK_AGAIN);
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
    pub(crate) fn advance(&mut self, runner: Runner<'_>, now: Instant) -> Outcome {
        // Read even if the leader lives: that is what takes back the readiness of `events`.
        let mut populated = self.waits_for_empty() && self.group.is_populated();
        if self.group.events().is_none() && self.waits_for_empty() {
            if populated && self.killing {
                // A process that was born while the others were being killed.
                self.group.kill();
            }
            if self.account.is_dynamic() {
                // The process table has gaps for whoever forks fast enough; the kernel's own order and
                // count for an account have none.
                let who = Identity::from(&self.account);
                if self.killing {
                    let _ = runner.kill_all(&who);
                }
                populated = populated || runner.is_in_use(&who) != Ok(false);
            }
        }
        let over = self.leader.is_none() && self.waiting.is_none() && !populated;
        self.killing &= !over;
        if self.owes_empty && over {
            self.owes_empty = false;
            self.numbers = None;
            self.emptied = Some(now);
            return Outcome::Empty;
        }
        if let Some(hook) = &mut self.hook {
            return match hook.advance(now) {
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
                closing.stage = Stage::Sweeping {
                    deadline: now + KILLING,
                };
                self.advance(runner, now)
            }
            Stage::Sweeping { deadline } => {
                let who = Identity::from(&self.account);
                let extent = if self.account.is_dynamic() {
                    Extent::AccountIfAlone
                } else {
                    Extent::Sandbox
                };
                match runner.remove(&who, self.sandbox.as_ref(), extent) {
                    Ok(child) => {
                        closing.stage = Stage::Removing {
                            child,
                            deadline: now + REMOVING,
                            sweeping: deadline,
                        }
                    }
                    Err(errno) => {
                        let text = format!("the sandbox could not be removed: {}", errno.desc());
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
                let _ = sys::kill(child.as_raw(), libc::SIGKILL);
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
                let _ = runner.kill_all(&Identity::from(&self.account));
                // Zombies of it are reaped by the loop before the next look.
                closing.stage = Stage::Sweeping { deadline: sweeping };
                Outcome::Quiet
            }
            Stage::Removed { status, .. } => {
                let left = self.finish(status);
                self.gone(left)
            }
            _ => Outcome::Quiet,
        }
    }

    /// After the remover: the top directory and the group.
    fn finish(&mut self, status: u8) -> Option<Refusal> {
        let path = self.place();
        let path = path.display();
        if status != DONE {
            let text = format!("something in the sandbox {path} could not be removed");
            return Some(trouble("close.sandbox", text));
        }
        let removed = self.sandbox.as_ref().map_or(Ok(()), Sandbox::remove_tops);
        if let Err(errno) = removed {
            let text = format!("the sandbox {path} could not be removed: {}", errno.desc());
            return Some(trouble("close.sandbox", text));
        }
        match self.group.remove() {
            Ok(()) => None,
            Err(errno) => {
                let text = format!("the payload's group could not be removed: {}", errno.desc());
                Some(trouble("close.group", text))
            }
        }
    }

    fn gone(&self, left: Option<Refusal>) -> Outcome {
        Outcome::Gone(
            self.closing.as_ref().and_then(|closing| closing.request),
            left,
        )
    }

    /// What it has used.
    pub(crate) fn usage(&mut self, now: Instant) -> Usage {
        let figures = self.group.figures();
        let wall = self.started.map_or(Duration::ZERO, |start| {
            self.emptied.unwrap_or(now).saturating_duration_since(start)
        });
        Usage {
            user_usec: figures.user_usec,
            system_usec: figures.system_usec,
            memory_current_bytes: figures.memory_current,
            memory_peak_bytes: figures.memory_peak,
            processes: figures
                .processes
                .saturating_sub(u32::from(self.waiting.is_some())),
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

    fn waits_for_empty(&self) -> bool {
        let sweeping = self.killing && self.group.events().is_none();
        self.owes_empty
            || sweeping
            || matches!(
                self.closing,
                Some(Closing {
                    stage: Stage::Killing { .. },
                    ..
                })
            )
    }
}
