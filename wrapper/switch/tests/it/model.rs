//! The model of the switch: who holds which identity at each step of each process of a launch, as a table, and the
//! real sequence as `strace` sees it (requirements S3, S11, S21).
//!
//! [`Credentials`] is the kernel's part: it replays, from the traced calls alone, what a process may do. The tables say
//! what it should be able to do after each step. A step that is not in the table, one in another order, or one with
//! another identity makes the test fail; so does any call of a process with a root id that [`ROOTS_CALLS`] does not list.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd as _;

use launch_protocol::broker::{Answer, Command, SignalScope};
use launch_protocol::monitor::{BROKER_UIDS, FIRST_BROKER_UID};

use crate::cell::{Cell, in_cell, put};
use crate::strace::{self, Call, Process, traced};

/// What a process may do, as far as the calls it has made tell.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Credentials {
    /// Real, effective, saved.
    uids: [u32; 3],
    gids: [u32; 3],
    groups: Vec<u32>,
    /// Permitted or inheritable capabilities are left.
    capable: bool,
    /// A capability could come back with a program's file.
    bounding: bool,
    no_new_privileges: bool,
}

impl Credentials {
    fn of_caller(pilot: u32) -> Self {
        Self {
            uids: [pilot, 0, 0],
            gids: [pilot; 3],
            groups: vec![pilot],
            capable: true,
            bounding: true,
            no_new_privileges: false,
        }
    }

    fn is_root(&self) -> bool {
        self.uids.contains(&0) || self.gids.contains(&0) || self.capable
    }

    /// Takes a call into account; the name of the step if the model has one for it.
    fn apply(&mut self, call: &Call) -> Option<String> {
        let words = || call.arguments.split(", ");
        let numbers = || {
            words()
                .map(|word| word.parse().expect("a number"))
                .collect::<Vec<u32>>()
        };
        if call.result == "?" {
            // Killed in it: the agent that nobody wanted, at the end of its payload.
            return None;
        }
        let done = call.result.starts_with('0');
        let refused = call.result.contains("EPERM");
        match (call.name.as_str(), done) {
            ("setgroups", true) => {
                let (_, list) = call.arguments.split_once(", ").expect("a list");
                let list = list.trim_start_matches('[').trim_end_matches(']');
                let numbers = list.split(", ").filter_map(|word| word.parse().ok());
                self.groups = numbers.collect();
                Some("setgroups".into())
            }
            ("setresgid", true) => {
                self.gids = numbers().try_into().expect("three");
                Some("setresgid".into())
            }
            ("setresuid", true) => {
                self.uids = numbers().try_into().expect("three");
                // The kernel takes effective and permitted ones away, not the inheritable ones.
                Some("setresuid".into())
            }
            ("setresuid" | "setresgid", false) if refused && call.arguments == "0, 0, 0" => {
                Some(format!("{} to root is refused", call.name))
            }
            ("capset", true) => {
                assert!(
                    call.arguments
                        .ends_with("{effective=0, permitted=0, inheritable=0}"),
                    "{call:?}"
                );
                self.capable = false;
                Some("capset to none".into())
            }
            ("prctl", _) if call.arguments.starts_with("PR_CAPBSET_DROP") => {
                // One for each capability; the first number that the kernel does not know ends it.
                let unknown = call.result.contains("EINVAL");
                assert!(done || unknown, "{call:?}");
                self.bounding &= !unknown;
                unknown.then(|| "bounding set emptied".into())
            }
            ("prctl", true) => match words().next().expect("an option") {
                "PR_CAP_AMBIENT" => Some("ambient set cleared".into()),
                "PR_SET_NO_NEW_PRIVS" => {
                    self.no_new_privileges = true;
                    Some("no_new_privs".into())
                }
                "PR_SET_PDEATHSIG" => {
                    assert_eq!(call.arguments, "PR_SET_PDEATHSIG, SIGKILL");
                    Some("parent-death signal".into())
                }
                "PR_SET_DUMPABLE"
                | "PR_SET_NAME"
                | "PR_SET_CHILD_SUBREAPER"
                | "PR_GET_NO_NEW_PRIVS" => None,
                other => panic!("no model of prctl {other}"),
            },
            ("getresuid" | "getresgid" | "capget", true) => {
                Some(format!("{} reads back", call.name))
            }
            // With nothing in the list one call is enough.
            ("getgroups", _) if !call.arguments.starts_with("0,") || call.result == "0" => {
                Some("getgroups reads back".into())
            }
            ("getppid", _) => Some("who is my parent".into()),
            ("setsid", _) => Some("setsid".into()),
            ("execve", true) => {
                let program = call.arguments.split('"').nth(1).expect("a path");
                let name = program.rsplit('/').next().expect("a name");
                Some(format!("execve {name}"))
            }
            ("keyctl", _)
                if call
                    .arguments
                    .starts_with("KEYCTL_JOIN_SESSION_KEYRING, NULL") =>
            {
                Some("keyring left".into())
            }
            // What children see of processes, not who they are.
            ("setns", _) if call.arguments.ends_with(", CLONE_NEWPID") => None,
            (
                "setuid" | "setgid" | "setreuid" | "setregid" | "setfsuid" | "setfsgid" | "keyctl"
                | "setns" | "chroot",
                _,
            ) => panic!("no model of {call:?}"),
            _ => None,
        }
    }

    /// In the words of the tables.
    fn words(&self, cell: &Cell, target: u32) -> String {
        let name = |id: u32| match id {
            0 => "root".to_owned(),
            65534 => "nobody".to_owned(),
            id if id == cell.pilot => "caller".to_owned(),
            id if id == target => "target".to_owned(),
            id if is_brokers(id) => "broker".to_owned(),
            id => id.to_string(),
        };
        let three = |ids: [u32; 3]| {
            if ids[0] == ids[1] && ids[1] == ids[2] {
                name(ids[0])
            } else {
                ids.map(name).join("/")
            }
        };
        let groups: Vec<_> = self.groups.iter().copied().map(name).collect();
        format!(
            "{} {} [{}] {}{}{}",
            three(self.uids),
            three(self.gids),
            groups.join(" "),
            if self.capable { "capable" } else { "-" },
            if self.bounding { "" } else { " bounded" },
            if self.no_new_privileges { " nnp" } else { "" }
        )
    }
}

/// A step and who the process is after it: uids, gids, groups, capabilities.
type Step = (&'static str, &'static str);

const CALLER: &str = "caller/root/root caller [caller] capable";
const ROOT: &str = "root root [] capable";
const BOUND: &str = "root root [] capable bounded";
const BROKERS: &str = "broker broker [] - bounded nnp";

/// The monitor, from its first instruction to its last.
const MONITOR: &[Step] = &[
    ("execve sailplane-switch", CALLER),
    ("getgroups reads back", CALLER),
    ("who is my parent", CALLER),
    ("setgroups", "caller/root/root caller [] capable"),
    ("setresgid", "caller/root/root root [] capable"),
    ("setresuid", ROOT),
    ("setsid", ROOT),
];

/// The guardian never becomes anybody else; it only outlives the monitor.
const GUARDIAN: &[Step] = &[("setsid", ROOT)];

/// The broker: a number that nobody else has, before its first instruction.
const BROKER: &[Step] = &[
    ("setsid", ROOT),
    ("keyring left", ROOT),
    ("bounding set emptied", BOUND),
    ("ambient set cleared", BOUND),
    ("setgroups", BOUND),
    ("setresgid", "root broker [] capable bounded"),
    ("setresuid", "broker broker [] capable bounded"),
    ("capset to none", "broker broker [] - bounded"),
    ("no_new_privs", BROKERS),
    ("getresuid reads back", BROKERS),
    ("getresgid reads back", BROKERS),
    ("getgroups reads back", BROKERS),
    ("capget reads back", BROKERS),
    ("setresuid to root is refused", BROKERS),
    ("setresgid to root is refused", BROKERS),
    ("parent-death signal", BROKERS),
    ("who is my parent", BROKERS),
    ("execve sailplane-broker", BROKERS),
];

/// The child in the payload's group, up to the agent: it waits for its order before it gives up root.
const AGENT: &[Step] = &[
    ("setsid", ROOT),
    ("keyring left", ROOT),
    ("bounding set emptied", BOUND),
    ("ambient set cleared", BOUND),
    ("parent-death signal", BOUND),
    ("who is my parent", BOUND),
    ("setgroups", "root root [target lab] capable bounded"),
    ("setresgid", "root target [target lab] capable bounded"),
    ("setresuid", "target target [target lab] capable bounded"),
    ("capset to none", "target target [target lab] - bounded"),
    ("no_new_privs", TARGET),
    ("getresuid reads back", TARGET),
    ("getresgid reads back", TARGET),
    ("getgroups reads back", TARGET),
    ("capget reads back", TARGET),
    ("setresuid to root is refused", TARGET),
    ("setresgid to root is refused", TARGET),
    ("parent-death signal", TARGET),
    ("who is my parent", TARGET),
    ("execve sailplane-job", TARGET),
];
const TARGET: &str = "target target [target lab] - bounded nnp";

/// What every child that works as somebody else does between its fork and its work: the switch itself.
const SWITCH: &[&str] = &[
    "keyring left",
    "bounding set emptied",
    "ambient set cleared",
    "setgroups",
    "setresgid",
    "setresuid",
    "capset to none",
    "no_new_privs",
    "getresuid reads back",
    "getresgid reads back",
    "getgroups reads back",
    "capget reads back",
    "setresuid to root is refused",
    "setresgid to root is refused",
];

/// What a child does that is to end with its parent.
const TIED: [&str; 2] = ["parent-death signal", "who is my parent"];

/// What the monitor, and a child that is still root, asks of the kernel once the loader has made it ready (requirement
/// S21), and nothing else: no network but the log's socket, no mount, no mapping of files.
const ROOTS_CALLS: &[&str] = &[
    // Memory, itself, the start.
    "brk",
    "mmap",
    "munmap",
    "mprotect",
    "getrandom",
    "getpid",
    "gettid",
    "getppid",
    "getuid",
    "getgid",
    "geteuid",
    "getgroups",
    "prlimit64",
    "prctl",
    "setsid",
    "umask",
    "chdir",
    "setitimer",
    "sched_getaffinity",
    "sigaltstack",
    "rt_sigaction",
    "rt_sigprocmask",
    "signalfd4",
    "eventfd2",
    "set_robust_list",
    "exit_group",
    // Children. What they execute they do not as root any more.
    "clone",
    "clone3",
    "wait4",
    "kill",
    // Descriptors and files.
    "close",
    "close_range",
    "dup2",
    "fcntl",
    "poll",
    "pipe2",
    "read",
    "write",
    "pwrite64",
    "lseek",
    "ftruncate",
    "newfstatat",
    "statx",
    "fstatfs",
    "readlink",
    "openat",
    "getdents64",
    "mkdir",
    "mkdirat",
    "chmod",
    "fchmod",
    "fchown",
    "flock",
    "rmdir",
    "unlinkat",
    "ioctl",
    // Sockets: pairs, and the log's.
    "socketpair",
    "sendmsg",
    "recvmsg",
    "recvfrom",
    "getsockopt",
    "socket",
    "connect",
    // The switch.
    "keyctl",
    "setgroups",
    "setresgid",
    "setresuid",
    "capset",
];

/// What depends on how things go: who is killed and who ends by itself, how full the heap is, which
/// kernel this is, and whether there is a system log.
const SOMETIMES: &[&str] = &[
    "sendto",
    "socket",
    "connect",
    "clone3",
    "fork",
    "vfork",
    "kill",
    "pidfd_open",
    "mremap",
    "madvise",
    "fstat",
    "rseq",
    "restart_syscall",
    "sched_getaffinity",
    "clock_gettime",
    "ioctl",
];

/// What comes with orders for a payload that runs.
const FOR_ORDERS: &[&str] = &["pidfd_open", "pidfd_send_signal"];

/// What comes with isolation and programs of the site.
const FOR_ISOLATION: &[&str] = &["mount", "unshare", "setns", "pidfd_open"];

/// What root may open: its own policy and records, the kernel's control files, and nothing of a library.
const ROOTS_FILES: &[&str] = &[
    "/dev/null",
    "/proc/",
    "/sys/fs/cgroup/",
    "/etc/sailplane",
    "/etc/grid-security",
    "/run/sailplane",
    "/var/log/",
    "/scratch",
    "/opt/",
];

/// Is this one of the numbers that brokers run under?
fn is_brokers(id: u32) -> bool {
    (FIRST_BROKER_UID..FIRST_BROKER_UID + BROKER_UIDS).contains(&id)
}

/// A launch under the tracer, with all that is done in the life of a payload.
fn trace(cell: &Cell) -> BTreeMap<u32, Process> {
    let mut pilot = traced(cell, "-s 300").start();
    pilot.greet();
    let opened = pilot.try_open("accept 3600 full /CN=Alice").expect("opens");
    pilot.run(
        opened.payload,
        "umask 0; mkdir -p a/b; chmod 0 a; /bin/true",
    );
    pilot.usage(opened.payload);
    pilot.close(opened.payload);
    let opened = pilot.open();
    pilot.run(opened.payload, "exit 3");
    pilot.close(opened.payload);
    assert_eq!(pilot.hang_up(), Some(0));
    strace::read_all(pilot.id())
}

/// The same with what else a payload may be asked to do, or have done to it.
fn trace_orders(cell: &Cell) -> BTreeMap<u32, Process> {
    let mut pilot = traced(cell, "-s 300").start();
    pilot.greet();
    pilot.prepare();
    let opened = pilot.open();
    let running = pilot.begin(opened.payload, "echo up; sleep 1000 & exec sleep 1001");
    assert_eq!(running.line(), "up");
    for scope in [SignalScope::Leader, SignalScope::All] {
        pilot.signal(opened.payload, libc::SIGUSR2, scope);
    }
    for signal in [libc::SIGSTOP, libc::SIGCONT] {
        pilot.signal(opened.payload, signal, SignalScope::All);
    }
    let mut renewed = tempfile::tempfile_in("/tmp").expect("a file");
    std::io::Write::write_all(&mut renewed, b"accept 7200 full /CN=Bob").expect("written");
    std::io::Seek::rewind(&mut renewed).expect("rewound");
    let command = Command::Renew {
        payload: opened.payload,
        proxy: Some("proxy".into()),
    };
    let (answer, _) = pilot.ask(command, &[renewed.as_raw_fd()]);
    assert!(matches!(answer, Answer::Renewed { .. }), "{answer:?}");
    pilot.try_open("reject proxy.expired").expect_err("refused");
    // Read anew by a fresh broker.
    cell.configure("kill_grace = 3\n");
    let other = pilot.open();
    pilot.close(other.payload);
    pilot.kill(opened.payload);
    pilot.close(opened.payload);
    assert_eq!(pilot.hang_up(), Some(0));
    strace::read_all(pilot.id())
}

/// A launch at a site that has programs of its own, and sets payloads apart.
fn trace_isolated(cell: &Cell) -> BTreeMap<u32, Process> {
    put("/opt/site/hook", "#!/bin/sh\nexit 0\n", 0o755);
    cell.configure(
        "private_tmp = yes\nprivate_pid = yes\nprologue = /opt/site/hook\nepilogue = /opt/site/hook\n\
         limits = nofile=512 core=0\n",
    );
    let mut pilot = traced(cell, "-s 300").start();
    pilot.greet();
    for name in ["Alice", "Bob"] {
        let credential = format!("accept 3600 full /CN={name}");
        let opened = pilot.try_open(&credential).expect("opens");
        pilot.run(opened.payload, "echo x >/tmp/x");
        pilot.close(opened.payload);
    }
    assert_eq!(pilot.hang_up(), Some(0));
    strace::read_all(pilot.id())
}

/// Plays the trace of one process; its children's starting points are added.
fn play(
    process: &Process,
    from: Credentials,
    children: &mut BTreeMap<u32, Credentials>,
) -> Vec<(String, Call, Credentials)> {
    let mut now = from;
    let mut steps = Vec::new();
    for call in &process.calls {
        let before = now.clone();
        if let Some(step) = now.apply(call) {
            steps.push((step, call.clone(), now.clone()));
        } else if ["clone", "clone3", "fork", "vfork"].contains(&call.name.as_str())
            && let Ok(child) = call.result.split(' ').next().unwrap_or_default().parse()
        {
            children.insert(child, before);
        }
    }
    steps
}

/// A process of the launch: the calls it made, and from where on it was who.
struct Played {
    process: Process,
    start: Credentials,
    steps: Vec<(String, Call, Credentials)>,
}

impl Played {
    fn has(&self, step: &str) -> bool {
        self.steps.iter().any(|(name, ..)| name == step)
    }

    fn table(&self, cell: &Cell) -> Vec<(String, String)> {
        let words = |who: &Credentials| {
            who.words(cell, cell.alice)
                .replace(&(cell.alice + 1).to_string(), "lab")
        };
        self.steps
            .iter()
            .map(|(step, _, who)| (step.clone(), words(who)))
            .collect()
    }
}

/// Everybody in the tree, parents first.
fn play_all(cell: &Cell, mut traces: BTreeMap<u32, Process>, monitor: u32) -> Vec<Played> {
    let mut starts = BTreeMap::from([(monitor, Credentials::of_caller(cell.pilot))]);
    let mut played = Vec::new();
    while let Some((pid, start)) = starts.pop_first() {
        let Some(process) = traces.remove(&pid) else {
            panic!("no trace of {pid}")
        };
        let steps = play(&process, start.clone(), &mut starts);
        played.push(Played {
            process,
            start,
            steps,
        });
    }
    assert!(traces.is_empty(), "nobody's children: {:?}", traces.keys());
    played
}

fn compare(what: &str, seen: &[(String, String)], model: &[Step]) {
    let seen: Vec<_> = seen
        .iter()
        .map(|(step, who)| (step.as_str(), who.as_str()))
        .collect();
    for (number, step) in model.iter().enumerate() {
        assert_eq!(
            seen.get(number),
            Some(step),
            "{what}, step {number}; all: {seen:#?}"
        );
    }
    assert_eq!(
        seen.len(),
        model.len(),
        "{what}: steps that the model does not have: {:#?}",
        &seen[model.len()..]
    );
}

#[test]
fn s11_the_real_sequence_is_the_models() {
    in_cell(|cell| {
        let traces = trace(cell);
        let monitor = *traces.keys().next().expect("the monitor's");
        let all = play_all(cell, traces, monitor);
        compare("the monitor", &all[0].table(cell), MONITOR);
        let mut seen = BTreeMap::<&str, u32>::new();
        for one in &all[1..] {
            let table = one.table(cell);
            let named = |words: &str| {
                one.process
                    .calls
                    .iter()
                    .any(|call| call.arguments.contains(words))
            };
            let role = if named("sailplane-guard") {
                compare("the guardian", &table, GUARDIAN);
                "guardian"
            } else if one.has("execve sailplane-broker") {
                let (switch, rest) = table.split_at(BROKER.len().min(table.len()));
                compare("the broker", switch, BROKER);
                assert!(rest.iter().all(|(_, who)| who == BROKERS), "{rest:#?}");
                "broker"
            } else if one.has("execve sailplane-job")
                && table.iter().any(|(_, who)| who == TARGET)
                && one.has("execve sh")
            {
                let (switch, rest) = table.split_at(AGENT.len().min(table.len()));
                compare("the agent", switch, AGENT);
                assert!(rest.iter().all(|(_, who)| who == TARGET), "{rest:#?}");
                "agent"
            } else {
                "other"
            };
            *seen.entry(role).or_default() += 1;
            // Whoever it is: the switch is complete and in order, or there is none.
            let steps: Vec<_> = one.steps.iter().collect();
            let begins = steps.iter().position(|(name, ..)| name == SWITCH[0]);
            let mut switch = steps.split_at(begins.unwrap_or_default()).1.to_vec();
            // Whoever waits for an order waits in between, tied to the monitor's life.
            if matches!(&switch[..], [_, _, _, tied, ..] if tied.0 == TIED[0]) {
                assert_eq!(
                    switch
                        .drain(3..5)
                        .map(|it| it.0.as_str())
                        .collect::<Vec<_>>(),
                    TIED
                );
            }
            let names: Vec<_> = switch.iter().map(|(name, ..)| name.as_str()).collect();
            if one.start.is_root() && names.contains(&"setresuid") {
                assert_eq!(names.get(..SWITCH.len()), Some(SWITCH), "{names:?}");
                let (_, _, after) = switch[SWITCH.len() - 1];
                assert!(
                    !after.is_root() && !after.bounding && after.no_new_privileges,
                    "{after:?}"
                );
                assert_eq!(
                    after.uids[0], after.gids[0],
                    "every account of this cell has its own group"
                );
                let uid = after.uids[0];
                let known =
                    [cell.alice, 65534].contains(&uid) || cell.is_dynamic(uid) || is_brokers(uid);
                assert!(known, "nobody else is ever switched to: {after:?}");
            }
        }
        for role in ["guardian", "broker", "agent"] {
            assert_eq!(seen.get(role), Some(&1), "{role}: {seen:?}");
        }
    });
}

#[test]
fn s11_no_program_is_executed_with_an_id_of_root() {
    in_cell(|cell| {
        let traces = trace(cell);
        let monitor = *traces.keys().next().expect("the monitor's");
        let mut programs = 0;
        for one in &play_all(cell, traces, monitor)[1..] {
            for (step, call, who) in one
                .steps
                .iter()
                .filter(|(step, ..)| step.starts_with("execve"))
            {
                assert!(
                    !who.is_root() && !who.bounding && who.no_new_privileges,
                    "{step} {call:?} {who:?}"
                );
                programs += 1;
            }
        }
        assert!(programs > 3, "{programs}");
    });
}

/// Every kind of call that root makes in these traces is listed, and every listed one is made.
fn judge_all(cell: &Cell, traces: BTreeMap<u32, Process>, further: &[&str]) {
    let monitor = *traces.keys().next().expect("the monitor's");
    let mut made = BTreeSet::new();
    for one in play_all(cell, traces, monitor) {
        let mut who = one.start.clone();
        // The loader and the C library's start: until the program has reset the signals it was given.
        let is_start =
            |call: &Call| call.name == "rt_sigaction" && call.arguments.starts_with("SIGPIPE");
        let ready = one.process.calls.iter().position(is_start).unwrap_or(0);
        for (number, call) in one.process.calls.iter().enumerate() {
            if who.is_root() {
                let loading = number < ready && one.process.pid == monitor;
                judge(&one, call, loading, further);
                made.extend((!loading).then(|| call.name.clone()));
            }
            who.apply(call);
        }
    }
    let unused: Vec<_> = ROOTS_CALLS
        .iter()
        .filter(|call| !made.contains(**call) && !SOMETIMES.contains(call))
        .collect();
    assert!(unused.is_empty(), "listed, but never made: {unused:?}");
}

#[test]
fn s21_s3_what_root_asks_of_the_kernel_is_on_the_list() {
    in_cell(|cell| judge_all(cell, trace(cell), &[]));
}

#[test]
fn s21_what_root_asks_for_orders_is_on_the_list() {
    in_cell(|cell| judge_all(cell, trace_orders(cell), FOR_ORDERS));
}

#[test]
fn s21_what_root_asks_to_isolate_is_on_the_list() {
    in_cell(|cell| judge_all(cell, trace_isolated(cell), FOR_ISOLATION));
}

/// Is this call one that root may make?
fn judge(one: &Played, call: &Call, loading: bool, further: &[&str]) {
    let pid = one.process.pid;
    if loading {
        // The C library and its helper are all that is ever loaded.
        if call.name == "openat" && !call.result.starts_with('-') {
            let known = ["/libc.so.6", "/libgcc_s.so.1", "/ld.so.cache"];
            assert!(
                known.iter().any(|name| call.arguments.contains(name)),
                "{call:?}"
            );
        }
        return;
    }
    let name = call.name.as_str();
    let mut known = ROOTS_CALLS.iter().chain(SOMETIMES).chain(further);
    assert!(known.any(|known| *known == name), "{pid}: {call:?}");
    let path = call.arguments.split('"').nth(1).unwrap_or_default();
    match name {
        "openat" | "openat2" | "mkdir" | "chmod" | "rmdir"
            if call.arguments.starts_with("AT_FDCWD") || path.starts_with('/') =>
        {
            let known = path == "/" || ROOTS_FILES.iter().any(|prefix| path.starts_with(prefix));
            assert!(known, "{pid}: {call:?}");
        }
        "socket" | "socketpair" => {
            assert!(call.arguments.starts_with("AF_UNIX"), "{pid}: {call:?}");
        }
        "connect" => assert!(call.arguments.contains("\"/dev/log\""), "{pid}: {call:?}"),
        "mmap" => assert!(
            call.arguments.contains("MAP_ANONYMOUS") && !call.arguments.contains("PROT_EXEC"),
            "{pid}: {call:?}"
        ),
        "mprotect" => assert!(!call.arguments.contains("PROT_EXEC"), "{pid}: {call:?}"),
        // Its own children, and the groups that they lead; never everybody.
        "kill" => assert!(!call.arguments.starts_with("-1,"), "{pid}: {call:?}"),
        _ => {}
    }
}
