//! Every step of the privileged path can fail: `strace` makes it, one step at a time, in every process of a launch, by an
//! error, by a pretended success, by a signal, or by the caller's end at that very moment. Whatever happens, the outcome is
//! a refusal in plain words or a correct launch: never a payload with another identity, never something left after the
//! next broker's start (requirements S11, K2, K10).
//!
//! A sample runs with the other tests; `cargo xtask faults` runs them all.

mod conversation;
mod front;
mod steps;
mod tracer;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use launch_protocol::VERSION;
use launch_protocol::broker::Command;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cell::{Cell, EXECUTE, children, groups_of, in_cell, names_in, processes_of};
use crate::client::{Pilot, Start, eventually};
use crate::strace::traced;
use crate::strays::strays;
use conversation::Conversation;
use tracer::Tracer;

/// Whose steps fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    /// The monitor from its first instruction, and everybody it starts.
    Start,
    /// The monitor after the greeting.
    Monitor,
    /// The broker after its greeting.
    Broker,
    /// The child that waits in a payload's group, through the switch and the agent to the payload's first instruction.
    Agent,
    /// The name service after the greeting.
    Names,
    /// The verifier, and the process that it makes for the credential.
    Verifier,
    /// The guardian, and whom it starts, after the monitor has been killed with a payload open.
    Guardian,
    /// Everybody that the monitor starts after the greeting, and itself.
    Everybody,
    /// Both halves of a process that was called as gLExec, and everybody below.
    Front,
}

impl Victim {
    /// Is it one process, and one of those for whom a caller waits?
    fn can_be_stopped(self) -> bool {
        [Self::Monitor, Self::Broker, Self::Agent, Self::Names].contains(&self)
    }
}

/// What is launched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Scene {
    /// A payload in an account that is a number, made ahead of need.
    ready: bool,
}

/// Enough numbers for payloads to be made ahead.
const MANY: u32 = 8;

impl Scene {
    fn owner(self) -> &'static str {
        if self.ready { "Bob" } else { "Alice" }
    }

    fn furnish(self, cell: &Cell) {
        if self.ready {
            cell.configure(&format!(
                "dynamic_uids = {}-{}\n",
                cell.first,
                cell.first + MANY - 1
            ));
        }
    }

    /// Waits for what is made ahead, once it is known where payloads are wanted.
    fn prepare(self, pilot: &mut Pilot) {
        let monitor = pilot.id();
        if self.ready {
            let first = pilot.try_open("accept 600 full /CN=First").expect("opens");
            pilot.close(first.payload);
            eventually("a payload made ahead", PATIENCE, || is_ready(monitor));
        }
    }
}

fn is_ready(monitor: u32) -> bool {
    waiting(monitor).is_some_and(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim_end() == "sailplane-job" && names_in(EXECUTE).len() == 1
    })
}

/// One failure.
#[derive(Clone, Debug)]
struct Fault {
    victim: Victim,
    call: String,
    /// Which one of these calls, from 1.
    when: usize,
    /// As `strace` takes it: `error=EPERM`, `retval=0`, `signal=KILL`; or [`HANG_UP`].
    what: String,
    scene: Scene,
}

/// The victim is stopped, the caller ends, and the victim goes on.
const HANG_UP: &str = "hang-up";

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = if self.scene.ready { " ready" } else { "" };
        let Self {
            victim,
            call,
            when,
            what,
            ..
        } = self;
        write!(f, "{victim:?} {call}#{when} {what}{ready}")
    }
}

impl Fault {
    fn options(&self) -> String {
        let what = if self.what == HANG_UP {
            "signal=STOP"
        } else {
            &self.what
        };
        format!(
            "-e trace={0} -e inject={0}:{1}:when={2}",
            self.call, what, self.when
        )
    }
}

/// Where a launch came to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// It refused or ended before the greeting.
    NoBroker,
    /// No payload, with the refusal's code.
    Refused(String),
    /// No payload: the channel ended or nobody answered in time.
    Ended(&'static str),
    /// The payload ran as it should.
    Ran,
    /// It was started and ended before it had said who it is.
    Killed,
    /// It ran, without a group whose look-up failed: the C library's list does not tell failure from absence.
    FewerGroups,
    /// The caller went.
    HungUp,
}

/// No answer takes longer: ten seconds for a servant that hangs, and a little.
const PATIENCE: Duration = Duration::from_secs(14);

/// The child that waits for the next payload.
fn waiting(monitor: u32) -> Option<u32> {
    let mut nests = children(monitor, "sailplane-job");
    nests.extend(children(monitor, "sailplane-switch"));
    nests.into_iter().find(|pid| {
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        group.contains(&format!("/sailplane-{monitor}-"))
    })
}

/// The victim's process.
fn who(pilot: &Pilot, victim: Victim) -> Option<u32> {
    let monitor = pilot.id();
    let child = |name| children(monitor, name).first().copied();
    match victim {
        Victim::Monitor | Victim::Everybody => Some(monitor),
        Victim::Broker => Some(pilot.broker()),
        Victim::Agent => waiting(monitor),
        Victim::Names => child("sailplane-names"),
        Victim::Verifier => child("sailplane-verify"),
        Victim::Guardian => child("sailplane-guard"),
        Victim::Start | Victim::Front => None,
    }
}

/// A tracer on the victim, once it is there.
fn attach(pilot: &Pilot, fault: &Fault) -> Option<Tracer> {
    let pid = match fault.victim {
        Victim::Start | Victim::Front => return None,
        victim => {
            eventually("the victim", PATIENCE, || who(pilot, victim).is_some());
            who(pilot, victim)?
        }
    };
    let with_children = [Victim::Everybody, Victim::Verifier, Victim::Guardian];
    let follow = if with_children.contains(&fault.victim) {
        "-f "
    } else {
        ""
    };
    Some(Tracer::attach(&format!("{follow}{}", fault.options()), pid))
}

/// The monitor is killed with a payload open.
fn abandon(conversation: &mut Conversation<'_>, cell: &Cell) -> Result<(), Outcome> {
    let (_, done) = conversation.open_and_run(cell)?;
    let monitor = Pid::from_raw(conversation.pilot.id().cast_signed());
    kill(monitor, Signal::SIGKILL).expect("killed");
    done
}

/// One launch with one failure in it.
fn try_fault(cell: &Cell, fault: &Fault) -> Outcome {
    tracer::forget();
    if fault.victim == Victim::Front {
        let outcome = front::try_fault(cell, fault);
        assert_nothing_left(cell, None);
        return outcome;
    }
    let mut pilot = match fault.victim {
        Victim::Start => traced(cell, &fault.options()).start(),
        _ => Start::usual(cell).start(),
    };
    let monitor = pilot.id();
    let mut conversation = Conversation {
        pilot: &mut pilot,
        owner: fault.scene.owner(),
    };
    let hello = conversation.ask(Command::Hello { version: VERSION }, None);
    let outcome = if hello.is_err() {
        let hangs = matches!(hello, Err(Outcome::Ended("no answer")));
        assert!(!hangs, "it hangs at its start");
        Outcome::NoBroker
    } else {
        let tracer = if fault.victim == Victim::Start {
            None
        } else {
            fault.scene.prepare(conversation.pilot);
            attach(conversation.pilot, fault)
        };
        let victim = who(conversation.pilot, fault.victim);
        let done = match fault.victim {
            Victim::Guardian => abandon(&mut conversation, cell),
            _ => conversation.launch(cell),
        };
        let outcome = done.map_or_else(|outcome| outcome, |()| Outcome::Ran);
        assert!(outcome != Outcome::Ended("no answer"), "nobody answers");
        pilot.socket = None;
        if let (true, Some(victim)) = (tracer::has_stopped(), victim) {
            let _ = kill(Pid::from_raw(victim.cast_signed()), Signal::SIGCONT);
        }
        let start = Instant::now();
        while pilot.monitor.try_wait().expect("a child").is_none() {
            if start.elapsed() > Duration::from_secs(35) {
                pilot.monitor.kill().expect("killed");
                panic!("it does not end");
            }
            // It may have come to its step only now.
            if let (true, Some(victim)) = (tracer::has_stopped(), victim) {
                let _ = kill(Pid::from_raw(victim.cast_signed()), Signal::SIGCONT);
            }
            pause();
        }
        drop(tracer);
        outcome
    };
    drop(pilot);
    assert_nothing_left(cell, Some(monitor));
    outcome
}

/// Whatever is left, the next one finds it.
fn assert_nothing_left(cell: &Cell, monitor: Option<u32>) {
    let mut next = Pilot::start(cell);
    let other = next.id();
    assert_eq!(next.hang_up(), Some(0), "the next one's end");
    drop(next);
    let left = || {
        let mut left = names_in(EXECUTE);
        left.extend(names_in("/run/sailplane/leases"));
        let groups = monitor.into_iter().chain([other]).flat_map(groups_of);
        left.extend(groups.map(|path| path.display().to_string()));
        left.extend(
            processes_of(cell.alice)
                .iter()
                .map(|pid| format!("process {pid}")),
        );
        left.extend(strays());
        left
    };
    let start = Instant::now();
    while !left().is_empty() {
        assert!(
            start.elapsed() < Duration::from_secs(6),
            "LEFT: {:?}",
            left()
        );
        pause();
    }
}

/// Lets others work for a moment.
fn pause() {
    let _ = nix::poll::poll(&mut [], 5_u8);
}

/// Calls that cannot fail, or whose failure means nothing.
const NEVER: &[&str] = &[
    "exit_group",
    "exit",
    "rt_sigreturn",
    "getpid",
    "gettid",
    "restart_syscall",
    "set_robust_list",
    "rseq",
];

/// Ways in which a call can fail.
fn ways(call: &str) -> &'static [&'static str] {
    match call {
        "clone" | "clone3" | "fork" | "vfork" => &["error=EAGAIN", "error=ENOMEM", "error=ENOSYS"],
        "openat" | "openat2" | "socketpair" | "pipe2" | "dup2" | "signalfd4" | "socket"
        | "pidfd_open" | "timerfd_create" => &[
            "error=EMFILE",
            "error=ENFILE",
            "error=ENOMEM",
            "error=EACCES",
        ],
        "mkdir" | "mkdirat" | "write" | "ftruncate" | "linkat" | "renameat" => {
            &["error=ENOSPC", "error=EROFS", "error=EIO"]
        }
        "setresuid" | "setresgid" | "setgroups" => {
            &["error=EPERM", "error=EAGAIN", "error=ENOMEM", "retval=0"]
        }
        "capset" => &["error=EPERM", "retval=0"],
        "prctl" | "prlimit64" | "setsid" => &["error=EPERM", "error=EINVAL"],
        "brk" | "mmap" | "mprotect" => &["error=ENOMEM"],
        "poll" | "recvmsg" | "recvfrom" | "sendmsg" | "sendto" | "read" => {
            &["error=ENOMEM", "error=EIO", "error=EINTR"]
        }
        // The kernel closes in any case.
        "close" => &[],
        "wait4" | "waitid" => &["error=ECHILD"],
        _ => &["error=EPERM", "error=EIO"],
    }
}

fn matrix(cell: &Cell, scene: Scene) -> Vec<Fault> {
    let mut all = Vec::new();
    for (victim, calls) in steps::steps(cell, scene) {
        for (call, skipped, times) in calls {
            let errors = ways(&call).iter();
            let signals = ["signal=KILL", "signal=TERM"];
            // The caller is killed while the victim is at this step.
            let hang_up = victim.can_be_stopped().then_some(&HANG_UP);
            for when in skipped + 1..=times {
                for what in errors.clone().chain(&signals).chain(hang_up) {
                    let (call, what) = (call.clone(), (*what).to_owned());
                    all.push(Fault {
                        victim,
                        call,
                        when,
                        what,
                        scene,
                    });
                }
            }
        }
    }
    all
}

/// Tries these; the findings.
fn try_all(
    cell: &Cell,
    faults: &[Fault],
    until: Instant,
) -> (BTreeMap<Outcome, usize>, Vec<String>) {
    let (mut outcomes, mut findings) = (BTreeMap::new(), Vec::new());
    for fault in faults {
        if Instant::now() > until {
            break;
        }
        match catch_unwind(AssertUnwindSafe(|| try_fault(cell, fault))) {
            Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
            Err(panic) => {
                let why = panic.downcast_ref::<String>().cloned();
                let why =
                    why.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                findings.push(format!("{fault}: {}", why.unwrap_or_default()));
                println!("FINDING {}", findings.last().expect("pushed"));
                clean(cell);
            }
        }
    }
    (outcomes, findings)
}

/// After a finding: as if nothing had been.
fn clean(cell: &Cell) {
    for line in strays() {
        if let Some(pid) = line.split(' ').next().and_then(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    pause();
    let _ = catch_unwind(AssertUnwindSafe(|| Pilot::start(cell).hang_up()));
    for folder in [EXECUTE, "/run/sailplane/leases"] {
        for name in names_in(folder) {
            let _ = fs::remove_dir_all(format!("{folder}/{name}"));
            let _ = fs::remove_file(format!("{folder}/{name}"));
        }
    }
}

fn report(outcomes: &BTreeMap<Outcome, usize>, findings: &[String]) {
    let tried: usize = outcomes.values().sum::<usize>() + findings.len();
    println!("{tried} faults, {} findings", findings.len());
    for (outcome, times) in outcomes {
        println!("{times:6} {outcome:?}");
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn s11_k10_a_launch_that_fails_anywhere_is_refused_and_leaves_nothing() {
    in_cell(|cell| {
        let all = matrix(cell, Scene::default());
        let budget = Duration::from_secs(40);
        // Every step of the switch itself in one way, and an even sample of the rest in other ways each time.
        let turn = usize::try_from(std::process::id()).expect("small");
        let sample: Vec<_> = all
            .iter()
            .enumerate()
            .filter(|(number, fault)| match fault.victim {
                Victim::Agent => fault.what == "retval=0" || (number + turn).is_multiple_of(9),
                _ => (number + turn).is_multiple_of(43),
            })
            .map(|(_, fault)| fault.clone())
            .collect();
        let (outcomes, findings) = try_all(cell, &sample, Instant::now() + budget);
        report(&outcomes, &findings);
        let kinds: BTreeSet<_> = outcomes
            .keys()
            .map(std::mem::discriminant)
            .map(|kind| format!("{kind:?}"))
            .collect();
        assert!(kinds.len() > 2, "{outcomes:?}");
    });
}

#[test]
#[ignore = "takes half an hour: cargo xtask faults"]
fn s11_k10_all_faults() {
    in_cell(|cell| {
        let wanted = std::env::var("SAILPLANE_FAULTS").unwrap_or_default();
        let (parts, words): (Vec<&str>, Vec<&str>) = wanted
            .split_whitespace()
            .partition(|word| word.starts_with("part="));
        let scene = Scene {
            ready: words.contains(&"ready"),
        };
        scene.furnish(cell);
        let all = matrix(cell, scene);
        println!("{} faults in all", all.len());
        let chosen = all
            .into_iter()
            .filter(|fault| words.iter().all(|word| fault.to_string().contains(word)));
        // `part=2/10`: every tenth, from the second on.
        let part = parts.iter().find_map(|part| {
            let (part, of) = part.strip_prefix("part=")?.split_once('/')?;
            Some((part.parse::<usize>().ok()?, of.parse::<usize>().ok()?))
        });
        let (first, step) = part.unwrap_or((1, 1));
        let chosen: Vec<_> = chosen.skip(first - 1).step_by(step).collect();
        let (outcomes, findings) =
            try_all(cell, &chosen, Instant::now() + Duration::from_secs(7200));
        report(&outcomes, &findings);
    });
}
