//! Every step of the privileged path can fail: `strace` makes it, one step at a time, in every process of a launch, by an
//! error, by a pretended success or by a signal. Whatever happens, the outcome is a refusal or a correct launch: never a
//! payload with another identity, never something left after the next broker's start (requirements S11, K2, K10).
//!
//! A sample runs with the other tests; `cargo xtask faults` runs them all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command as Program, Stdio};
use std::time::{Duration, Instant};

use launch_protocol::VERSION;
use launch_protocol::agent;
use launch_protocol::broker::{Answer, Command, Reply};
use launch_protocol::exec::ExecRequest;

use crate::cell::{Cell, EXECUTE, children, groups_of, in_cell, names_in, processes_of};
use crate::client::{Pilot, Socket, Start, eventually, pipe_with, readable};
use crate::strace::{self, traced};
use crate::strays::strays;

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
    /// Everybody that the monitor starts after the greeting, and itself.
    Everybody,
}

/// One failure.
#[derive(Clone, Debug)]
struct Fault {
    victim: Victim,
    call: String,
    /// Which one of these calls, from 1.
    when: usize,
    /// As `strace` takes it: `error=EPERM`, `retval=0`, `signal=KILL`.
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {}#{} {}",
            self.victim, self.call, self.when, self.what
        )
    }
}

impl Fault {
    fn options(&self) -> String {
        format!(
            "-e trace={0} -e inject={0}:{1}:when={2}",
            self.call, self.what, self.when
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
}

/// No answer takes longer: ten seconds for a servant that hangs, and a little.
const PATIENCE: Duration = Duration::from_secs(14);

/// What the payload says about itself, in one write.
const WHO: &str = "exec python3 -Sc '
import os
s = dict(l.split(\":\\t\", 1) for l in open(\"/proc/self/status\").read().splitlines() if \":\\t\" in l)
os.write(1, (\" \".join([s[\"Uid\"], s[\"Gid\"], s[\"Groups\"], s[\"CapEff\"], s[\"CapPrm\"], s[\"CapInh\"], s[\"CapAmb\"]]) + \"\\n\").encode())
os.write(1, os.getcwd().encode() + b\" \" + \" \".join(sorted(os.listdir(\"/proc/self/fd\"))).encode() + b\"\\n\")'";

/// Is this what the payload must say, as far as it came? The failure may have hit the payload's own interpreter.
fn judge(cell: &Cell, sandbox: &str, text: &str) -> Result<(), Outcome> {
    let (uid, none) = (cell.alice, "0".repeat(16));
    let ids = format!("{uid}\t{uid}\t{uid}\t{uid}");
    let expected = |groups: &str| format!("{ids} {ids} {groups}  {none} {none} {none} {none}");
    let (all, fewer) = (
        expected(&format!("{uid} {}", uid + 1)),
        expected(&uid.to_string()),
    );
    let mut lines = text
        .lines()
        .filter(|line| line.starts_with(|first: char| first.is_ascii_digit() || first == '/'));
    let has_fewer = match lines.next() {
        None => return Err(Outcome::Killed),
        Some(line) => {
            assert!(
                line == all || line == fewer,
                "ANOTHER IDENTITY: {text:?} instead of {all:?}"
            );
            line == fewer
        }
    };
    match lines.next() {
        None => return Err(Outcome::Killed),
        Some(line) => assert_eq!(line, format!("{sandbox} 0 1 2 3"), "ANOTHER PLACE"),
    }
    if has_fewer {
        Err(Outcome::FewerGroups)
    } else {
        Ok(())
    }
}

/// A conversation in which anything may be missing.
struct Conversation<'a> {
    pilot: &'a mut Pilot,
}

impl Conversation<'_> {
    fn ask(
        &mut self,
        command: Command,
        credential: Option<&str>,
    ) -> Result<(Answer, Option<fs::File>), Outcome> {
        let pipe = credential.map(pipe_with);
        let descriptors: Vec<_> = pipe.iter().map(|pipe| pipe.as_raw_fd()).collect();
        let wanted = self.pilot.send(command, &descriptors);
        loop {
            let (packet, files) = receive(self.pilot.socket())?;
            let reply = Reply::decode(&packet).expect("a reply");
            if let (0, Answer::Refused(refusal)) = (reply.id, &reply.answer) {
                return Err(Outcome::Refused(refusal.code.clone()));
            }
            if reply.id == wanted {
                return match reply.answer {
                    Answer::Refused(refusal) => Err(Outcome::Refused(refusal.code)),
                    answer => Ok((answer, files.into_iter().next())),
                };
            }
            assert_eq!(reply.id, 0, "{reply:?}");
        }
    }

    /// A launch of Alice's; her output.
    fn launch(&mut self, cell: &Cell) -> Result<(), Outcome> {
        let open = Command::open("1.0", EXECUTE);
        let (Answer::Opened(opened), _) = self.ask(open, Some("accept 3600 full /CN=Alice"))?
        else {
            panic!("not opened")
        };
        assert_eq!((opened.uid, opened.gid), (cell.alice, cell.alice));
        let payload = opened.payload;
        let sandbox = opened.sandbox.expect("a sandbox");
        let done = self.run(cell, payload, &sandbox.display().to_string());
        let closed = self.ask(Command::Close { payload }, None).map(drop);
        if done.is_err() { done } else { closed }
    }

    fn run(&mut self, cell: &Cell, payload: u32, sandbox: &str) -> Result<(), Outcome> {
        let (Answer::Spawned { .. }, Some(socket)) =
            self.ask(Command::SpawnAgent { payload }, None)?
        else {
            panic!("not spawned")
        };
        let agent = Socket(socket.into());
        let reply = |agent: &Socket| -> Result<_, Outcome> {
            let (packet, files) = receive(agent)?;
            Ok((
                agent::Reply::decode(&packet).expect("a reply"),
                files.into_iter().next(),
            ))
        };
        match reply(&agent)?.0 {
            agent::Reply::Ready => {}
            agent::Reply::Trouble { .. } => return Err(Outcome::Refused("agent".into())),
            other => panic!("{other:?}"),
        }
        let request = ExecRequest {
            path: "/bin/sh".into(),
            argv: vec![b"sh".to_vec(), b"-c".to_vec(), WHO.into()],
            env: vec![b"PATH=/usr/bin:/bin".to_vec()],
            ..ExecRequest::default()
        };
        let mut file = tempfile::tempfile_in("/tmp").expect("a file");
        file.write_all(&request.encode().expect("valid"))
            .expect("written");
        let null = fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .expect("null");
        let (mut output, write) = std::io::pipe().expect("pipe");
        let descriptors = [
            file.as_raw_fd(),
            null.as_raw_fd(),
            write.as_raw_fd(),
            write.as_raw_fd(),
        ];
        agent.send(&agent::Request::Exec.encode().expect("valid"), &descriptors);
        drop(write);
        let (agent::Reply::ExecStarting, Some(mut report)) = reply(&agent)? else {
            return Err(Outcome::Refused("exec".into()));
        };
        let (mut failure, mut text) = (Vec::new(), String::new());
        assert!(readable(&report, PATIENCE), "the exec report never ends");
        report.read_to_end(&mut failure).expect("readable");
        if !failure.is_empty() {
            return Err(Outcome::Refused("exec".into()));
        }
        assert!(readable(&output, PATIENCE), "the payload never ends");
        output.read_to_string(&mut text).expect("readable");
        judge(cell, sandbox, &text)
    }
}

fn receive(socket: &Socket) -> Result<(Vec<u8>, Vec<fs::File>), Outcome> {
    if !readable(&socket.0, PATIENCE) {
        return Err(Outcome::Ended("no answer"));
    }
    socket.receive().ok_or(Outcome::Ended("end of channel"))
}

/// A tracer that has attached itself.
struct Tracer(Child);

impl Tracer {
    fn attach(options: &str, pid: u32) -> Self {
        let mut strace = Program::new("strace")
            .args(options.split(' '))
            .args(["-o", "/run/fault", "-p", &pid.to_string()])
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("strace starts");
        // "Process N attached" on its standard error.
        let mut stderr = strace.stderr.take().expect("a pipe");
        if readable(&stderr, Duration::from_secs(5)) {
            let _ = stderr.read(&mut [0; 256]);
        }
        // Kept open, for what it says later.
        std::mem::forget(stderr);
        Self(strace)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It ends with whom it traces; if not, it must let go.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The child that waits for the next payload.
fn waiting(monitor: u32) -> Option<u32> {
    let nests = children(monitor, "sailplane-switch");
    nests.into_iter().find(|pid| {
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        group.contains(&format!("/sailplane-{monitor}-"))
    })
}

/// One launch with one failure in it.
fn try_fault(cell: &Cell, fault: &Fault) -> Outcome {
    let mut pilot = match fault.victim {
        Victim::Start => traced(cell, &fault.options()).start(),
        _ => Start::usual(cell).start(),
    };
    let monitor = pilot.id();
    let mut conversation = Conversation { pilot: &mut pilot };
    let hello = conversation.ask(Command::Hello { version: VERSION }, None);
    let outcome = if hello.is_err() {
        assert!(
            !matches!(hello, Err(Outcome::Ended("no answer"))),
            "it hangs at its start"
        );
        Outcome::NoBroker
    } else {
        let tracer = match fault.victim {
            Victim::Start => None,
            Victim::Monitor => Some(Tracer::attach(&fault.options(), monitor)),
            Victim::Broker => {
                let broker = conversation.pilot.broker();
                Some(Tracer::attach(&fault.options(), broker))
            }
            Victim::Everybody => Some(Tracer::attach(&format!("-f {}", fault.options()), monitor)),
            Victim::Agent => {
                eventually("a waiting child", PATIENCE, || waiting(monitor).is_some());
                waiting(monitor).map(|pid| Tracer::attach(&fault.options(), pid))
            }
        };
        let outcome = match conversation.launch(cell) {
            Ok(()) => Outcome::Ran,
            Err(outcome) => outcome,
        };
        assert!(outcome != Outcome::Ended("no answer"), "nobody answers");
        pilot.socket = None;
        let start = Instant::now();
        while pilot.monitor.try_wait().expect("a child").is_none() {
            if start.elapsed() > Duration::from_secs(35) {
                pilot.monitor.kill().expect("killed");
                panic!("it does not end");
            }
            pause();
        }
        drop(tracer);
        outcome
    };
    drop(pilot);
    // Whatever is left, the next one finds it.
    let mut next = Pilot::start(cell);
    let other = next.id();
    assert_eq!(next.hang_up(), Some(0), "the next one's end");
    drop(next);
    let left = || {
        let mut left = names_in(EXECUTE);
        left.extend(names_in("/run/sailplane/leases"));
        left.extend(
            [monitor, other]
                .into_iter()
                .flat_map(groups_of)
                .map(|path| path.display().to_string()),
        );
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
    outcome
}

/// Lets others work for a moment.
fn pause() {
    let _ = nix::poll::poll(&mut [], 5_u8);
}

/// The steps of a good launch: for each victim the calls and how many of each.
fn steps(cell: &Cell) -> BTreeMap<Victim, Vec<(String, usize)>> {
    let count = |processes: Vec<&strace::Process>, from: &dyn Fn(&strace::Process) -> usize| {
        let mut most = BTreeMap::<String, usize>::new();
        for process in processes {
            let mut own = BTreeMap::<String, usize>::new();
            for call in process.calls.iter().skip(from(process)) {
                *own.entry(call.name.clone()).or_default() += 1;
            }
            for (name, number) in own {
                let all = most.entry(name).or_default();
                *all = number.max(*all);
            }
        }
        let calls = most
            .into_iter()
            .filter(|(name, _)| !NEVER.contains(&name.as_str()));
        calls.collect::<Vec<_>>()
    };
    let mut pilot = traced(cell, "-s 64").start();
    pilot.greet();
    eventually("a waiting child", PATIENCE, || {
        waiting(pilot.id()).is_some()
    });
    let agent = waiting(pilot.id()).expect("waits");
    let broker = pilot.broker();
    let launched = Conversation { pilot: &mut pilot }.launch(cell);
    assert_eq!(launched, Ok(()));
    pilot.hang_up();
    let all = strace::read_all(pilot.id());
    let (monitor, broker) = (&all[&pilot.id()], &all[&broker]);
    // The broker greets over a socket that it was given, after its first questions to the monitor.
    let is_gift = |call: &strace::Call| call.arguments.contains("SCM_RIGHTS");
    let gift = broker.calls.iter().rposition(is_gift).unwrap_or(0);
    let is_hello =
        |call: &strace::Call| call.name == "sendmsg" && !call.arguments.starts_with("0,");
    let hello = broker.calls.iter().skip(gift).position(is_hello);
    let hello = gift + hello.unwrap_or(0);
    // Before the greeting the monitor has started its guardian.
    let is_child = |call: &strace::Call| ["clone", "fork", "vfork"].contains(&call.name.as_str());
    let is_guardian = |call: &strace::Call| {
        let child = call
            .result
            .split(' ')
            .next()
            .and_then(|pid| pid.parse::<u32>().ok());
        let child = child
            .filter(|_| is_child(call))
            .and_then(|pid| all.get(&pid));
        child.is_some_and(|child| {
            let named = |call: &strace::Call| call.arguments.contains("sailplane-guard");
            child.calls.iter().any(named)
        })
    };
    let greeted = monitor
        .calls
        .iter()
        .position(is_guardian)
        .expect("a guardian");
    let is_order = |call: &strace::Call| call.name.starts_with("recv");
    let ordered = |process: &strace::Process| process.calls.iter().position(is_order).unwrap_or(0);
    let is_last = |call: &strace::Call| call.name == "execve" && call.arguments.contains("/bin/sh");
    let mut agents = strace::Process {
        pid: agent,
        calls: all[&agent].calls.clone(),
    };
    let end = agents
        .calls
        .iter()
        .position(is_last)
        .expect("became the payload");
    agents.calls.truncate(end + 1);
    let known = [monitor.pid, broker.pid, agent];
    let others: Vec<_> = all
        .values()
        .filter(|process| !known.contains(&process.pid))
        .collect();
    let mut started = strace::Process {
        pid: monitor.pid,
        calls: monitor.calls[..greeted].to_vec(),
    };
    // The loader's steps are the C library's matter, and there are many.
    let own = started
        .calls
        .iter()
        .position(|call| call.name == "close_range")
        .expect("cleans up");
    let skipped: BTreeMap<String, usize> =
        started.calls[..own]
            .iter()
            .fold(BTreeMap::new(), |mut all, call| {
                *all.entry(call.name.clone()).or_default() += 1;
                all
            });
    started.calls.retain(|call| call.name != "rt_sigaction");
    let first = count(vec![&started], &|_| 0);
    SKIPPED.with(|cell| *cell.borrow_mut() = skipped);
    BTreeMap::from([
        (Victim::Start, first),
        (Victim::Monitor, count(vec![monitor], &|_| greeted)),
        (Victim::Broker, count(vec![broker], &|_| hello)),
        (Victim::Agent, count(vec![&agents], &ordered)),
        (Victim::Everybody, count(others, &|_| 0)),
    ])
}

thread_local! {
    /// Calls of each name that the loader makes before the program begins.
    static SKIPPED: std::cell::RefCell<BTreeMap<String, usize>> = const { std::cell::RefCell::new(BTreeMap::new()) };
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

fn matrix(cell: &Cell) -> Vec<Fault> {
    let mut all = Vec::new();
    for (victim, calls) in steps(cell) {
        for (call, times) in calls {
            let first = match victim {
                Victim::Start => {
                    SKIPPED.with(|skipped| skipped.borrow().get(&call).copied().unwrap_or(0))
                }
                _ => 0,
            };
            for when in first + 1..=times {
                for what in ways(&call).iter().chain(&["signal=KILL", "signal=TERM"]) {
                    all.push(Fault {
                        victim,
                        call: call.clone(),
                        when,
                        what: (*what).to_owned(),
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
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
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
        let all = matrix(cell);
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
#[ignore = "takes twenty minutes: cargo xtask faults"]
fn s11_k10_all_faults() {
    in_cell(|cell| {
        let wanted = std::env::var("SAILPLANE_FAULTS").unwrap_or_default();
        let words: Vec<&str> = wanted.split_whitespace().collect();
        let all = matrix(cell);
        println!("{} faults in all", all.len());
        let chosen: Vec<_> = all
            .into_iter()
            .filter(|fault| words.iter().all(|word| fault.to_string().contains(word)))
            .collect();
        let (outcomes, findings) =
            try_all(cell, &chosen, Instant::now() + Duration::from_secs(7200));
        report(&outcomes, &findings);
    });
}
