//! Attacks from both sides of the helper: a hostile start (S1), hostile words (S5), and payloads that try to reach what is
//! not theirs (S12, S13, S15, S22, K4, K5, K11).

use std::fs;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::process::Command as Program;
use std::time::Duration;

use launch_protocol::agent::{Reply, Request};
use launch_protocol::broker::{Answer, Command};
use launch_protocol::exec::ExecRequest;

use crate::cell::{Cell, EXECUTE, LIBEXEC, children, in_cell, names_in, own, processes_of, put};
use crate::client::{Pilot, Start, eventually, pipe_with};

/// Sets the stage in Python, then becomes the helper: `{}` cannot do all of this from a shell.
fn staged(cell: &Cell, stage: &str, arguments: &str) -> Start {
    let script = format!(
        "import os, signal, resource, sys\n{stage}\nos.execve('{LIBEXEC}/sailplane-switch', {arguments}, env)\n"
    );
    put("/scratch/stage.py", &script, 0o644);
    Start {
        program: "/usr/bin/python3 -S /scratch/stage.py".to_owned(),
        // The shell only arranges descriptor 3; the words that follow are the stage's, not the helper's.
        ..Start::usual(cell)
    }
}

const USUAL: &str = "['sailplane-switch', '--broker']";

/// A pseudo-random number from a seed; enough to mix conditions.
fn mix(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// Conditions that a caller can leave behind for a program it starts.
const CONDITIONS: &[&str] = &[
    "os.umask(0o777)",
    "[signal.signal(n, signal.SIG_IGN) for n in range(1, 65) if n not in (9, 19, 32, 33)]",
    "signal.pthread_sigmask(signal.SIG_SETMASK, set(range(1, 65)) - {32, 33})",
    "signal.setitimer(signal.ITIMER_REAL, 0.4, 0.05)",
    "signal.setitimer(signal.ITIMER_VIRTUAL, 0.06, 0.01)",
    "signal.setitimer(signal.ITIMER_PROF, 0.06, 0.01)",
    "os.dup2(os.open('/etc/passwd', os.O_RDONLY), 700, inheritable=True)",
    "resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))",
    "resource.setrlimit(resource.RLIMIT_NOFILE, (16, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))",
    "resource.setrlimit(resource.RLIMIT_NPROC, (1, resource.getrlimit(resource.RLIMIT_NPROC)[1]))",
    "resource.setrlimit(resource.RLIMIT_CORE, (resource.getrlimit(resource.RLIMIT_CORE)[1],) * 2)",
    "resource.setrlimit(resource.RLIMIT_CPU, (1, resource.getrlimit(resource.RLIMIT_CPU)[1]))",
    "resource.setrlimit(resource.RLIMIT_STACK, (1 << 18, resource.getrlimit(resource.RLIMIT_STACK)[1]))",
    "os.mkdir('/tmp/gone'); os.chmod('/tmp/gone', 0o700); os.chdir('/tmp/gone'); os.rmdir('/tmp/gone')",
    "os.close(0)",
    "os.close(1)",
    "os.close(2)",
    "os.setpgid(0, 0)",
    "os.nice(5)",
    "env.update({f'BIG{n}': 'x' * 120000 for n in range(17)})",
    "env.update({'LD_PRELOAD': '/tmp/evil.so', 'PATH': '/tmp', 'RUST_BACKTRACE': 'full', 'HOME': '/tmp', 'TMPDIR': '/tmp'})",
];

fn works(cell: &Cell, start: Start, what: &str) {
    let mut pilot = start.start();
    pilot.greet();
    let status = fs::read_to_string(format!("/proc/{}/status", pilot.id())).expect("readable");
    for wanted in [
        "SigIgn:\t0000000000000000",
        "Uid:\t0\t0\t0\t0",
        "Umask:\t0077",
    ] {
        assert!(status.contains(wanted), "{what}: {wanted}: {status}");
    }
    let opened = pilot.open();
    // Read by the shell itself: while it starts another program it may block signals.
    // Built into the shell, all of it: the limit on processes may be the pilot's. The loop outlasts a timer.
    let script = "umask; set -- /proc/$$/fd/*; echo $#; trap; export -p; i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done; \
        while read -r line; do case $line in Sig[BI]*) echo \"$line\";; esac; done </proc/$$/status";
    let (output, status) = pilot.run(opened.payload, script);
    let none = "0000000000000000";
    let place = opened.sandbox.as_ref().expect("a sandbox").display();
    let wanted = format!(
        "0022\n4\nexport PATH='/usr/bin:/bin'\nexport PWD='{place}'\nSigBlk:\t{none}\nSigIgn:\t{none}\n"
    );
    assert_eq!((output, status), (wanted, 0), "{what}");
    pilot.close(opened.payload);
    assert_eq!(pilot.hang_up(), Some(0), "{what}");
    assert!(cell.is_dynamic(opened.uid));
    assert_eq!(names_in("/tmp"), Vec::<String>::new(), "{what}");
}

#[test]
fn s1_each_condition_of_the_start_changes_nothing() {
    in_cell(|cell| {
        for condition in CONDITIONS {
            println!("{condition}");
            works(
                cell,
                staged(cell, &format!("env = {{}}\n{condition}"), USUAL),
                condition,
            );
        }
    });
}

#[test]
fn s1_random_combinations_of_conditions_change_nothing() {
    in_cell(|cell| {
        let mut seed = u64::from(std::process::id()) | 1;
        println!("seed {seed}");
        for _ in 0..12 {
            let mut lines = String::from("env = {}\n");
            for condition in CONDITIONS {
                // With a small stack the kernel itself refuses a big environment.
                let clash = lines.contains("RLIMIT_STACK") && condition.contains("BIG");
                if mix(&mut seed).is_multiple_of(3) && !clash {
                    lines.push_str(condition);
                    lines.push('\n');
                }
            }
            works(cell, staged(cell, &lines, USUAL), &lines);
        }
    });
}

#[test]
fn s1_no_arguments_at_all_is_a_refusal() {
    in_cell(|cell| {
        for arguments in [
            "['sailplane-switch']",
            "['sailplane-switch', '']",
            "['x' * 100000, '-c', 'id']",
        ] {
            let mut pilot = staged(cell, "env = {}", arguments).start();
            let status = pilot.end();
            assert!(
                matches!(status, Some(201..=203)),
                "{arguments}: {status:?} {}",
                pilot.last_words()
            );
        }
        // Python does not let argv be empty; the kernel, before 5.18, does.
        let program = "import ctypes\nlibc = ctypes.CDLL(None)\nnone = (ctypes.c_char_p * 1)(None)\n\
            libc.execve(b'/opt/sailplane/sailplane-switch', none, none)\n";
        put("/scratch/empty.py", program, 0o644);
        let mut pilot = Start {
            program: "/usr/bin/python3 -S /scratch/empty.py".to_owned(),
            ..Start::usual(cell)
        }
        .start();
        let status = pilot.end();
        assert!(matches!(status, Some(201..=203)), "{status:?}");
        assert!(pilot.last_words().contains("sailplane"));
    });
}

#[test]
fn s5_s10_hostile_words_stay_words() {
    in_cell(|cell| {
        own(EXECUTE, cell.pilot, 0o755);
        let hostile = [
            "a'b",
            "$(touch /tmp/x)",
            "`id`",
            "a\";id;\"",
            "-rf",
            "--",
            "a b",
            "%s%n",
            "../x",
            "*",
            "~",
            "\\",
        ];
        let mut pilot = Pilot::start(cell);
        for word in hostile {
            let dir = format!("{EXECUTE}/{word}").replace("../", "__");
            fs::create_dir_all(&dir).expect("made");
            own(&dir, cell.pilot, 0o755);
            let mut command = Command::open(word, &dir);
            if let Command::Open { job_label, .. } = &mut command {
                *job_label = word.to_owned();
            }
            let pipe = pipe_with("accept 3600 full /CN=Bob");
            match pilot.ask(command, &[pipe.as_raw_fd()]).0 {
                Answer::Opened(opened) => {
                    assert!(
                        opened
                            .sandbox
                            .as_ref()
                            .expect("a sandbox")
                            .starts_with(&dir)
                    );
                    assert_eq!(pilot.run(opened.payload, "echo fine").0, "fine\n");
                    pilot.close(opened.payload);
                }
                Answer::Refused(refusal) => {
                    assert!(refusal.code.starts_with("execdir."), "{word}: {refusal:?}")
                }
                other => panic!("{other:?}"),
            }
            let _ = fs::remove_dir(&dir);
        }
        // Arguments arrive as they were sent, whatever is in them.
        let opened = pilot.open();
        let words: Vec<Vec<u8>> = hostile
            .iter()
            .map(|word| word.as_bytes().to_vec())
            .collect();
        let mut argv = vec![b"printf".to_vec(), b"%s\\n".to_vec()];
        argv.extend(words);
        argv.push(b"a\nb".to_vec());
        argv.push(vec![0xff, 1, 0x1b]);
        let agent = pilot.spawn(opened.payload);
        let request = ExecRequest {
            path: "/usr/bin/printf".into(),
            argv,
            ..ExecRequest::default()
        };
        let output = agent.exec(&request).expect("runs").output();
        assert_eq!(output, hostile.join("\n") + "\na\nb\n\u{fffd}\u{1}\u{1b}\n");
        assert!(names_in("/tmp").is_empty());
        pilot.hang_up();
        for line in cell.log().lines() {
            assert!(
                line.len() < 4096 && line.bytes().all(|byte| (32..127).contains(&byte)),
                "{line:?}"
            );
        }
    });
}

#[test]
fn s12_nothing_of_the_helper_or_the_pilot_is_open_in_a_payload() {
    in_cell(|cell| {
        let secret = fs::File::open("/etc/passwd").expect("open");
        let _ = nix::fcntl::fcntl(&secret, nix::fcntl::FcntlArg::F_DUPFD(200));
        let mut pilot = Pilot::start(cell);
        let (one, two) = (pilot.open(), pilot.open());
        let other = pilot.begin(two.payload, "sleep 1000");
        let script = "for fd in /proc/$$/fd/*; do readlink $fd; done";
        let (output, _) = pilot.run(one.payload, script);
        for line in output.lines() {
            let plain = line.starts_with("/dev/null")
                || line.starts_with("pipe:")
                || line.starts_with("/proc/");
            assert!(plain, "{output}");
        }
        drop(other);
    });
}

#[test]
fn s13_what_is_executed_is_judged_as_the_account() {
    in_cell(|cell| {
        put("/scratch/roots", "#!/bin/sh\necho ran\n", 0o700);
        put("/scratch/pilots", "#!/bin/sh\necho ran\n", 0o700);
        own("/scratch/pilots", cell.pilot, 0o700);
        put("/scratch/closed/everyones", "#!/bin/sh\necho ran\n", 0o755);
        own("/scratch/closed", 0, 0o700);
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let sandbox = opened.sandbox.clone().expect("a sandbox");
        symlink("/scratch/roots", sandbox.join("link")).expect("linked");
        for path in [
            "/scratch/roots",
            "/scratch/pilots",
            "/scratch/closed/everyones",
            "link",
            "/scratch",
            "/dev/null",
            "/proc/self/mem",
        ] {
            let agent = pilot.spawn(opened.payload);
            let request = ExecRequest {
                path: path.into(),
                argv: vec![b"x".to_vec()],
                ..ExecRequest::default()
            };
            let failure = agent
                .exec(&request)
                .map(|running| running.output())
                .expect_err(path);
            assert_eq!(failure.errno, libc::EACCES, "{path}: {failure:?}");
            pilot.event();
            pilot.event();
        }
    });
}

/// A payload with a terminal on its standard input tries to type for whoever shares it.
#[test]
fn s15_a_payload_cannot_type_into_the_terminal_of_its_caller() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let agent = pilot.spawn(opened.payload);
        let pair = nix::pty::openpty(None, None).expect("a terminal");
        let script = "import fcntl, termios, os, sys\n\
            try: os.close(os.open('/dev/tty', os.O_RDWR)); print('has a terminal')\n\
            except OSError: print('no terminal')\n\
            for fd in (0,):\n for c in b'id\\n':\n  try: fcntl.ioctl(fd, termios.TIOCSTI, bytes([c])); print('typed')\n  except OSError as e: print('refused')\n\
            sys.stdout.flush()";
        let request = ExecRequest {
            path: "/usr/bin/python3".into(),
            argv: vec![b"python3".to_vec(), b"-Sc".to_vec(), script.into()],
            ..ExecRequest::default()
        };
        let mut file = tempfile::tempfile_in("/tmp").expect("a file");
        std::io::Write::write_all(&mut file, &request.encode().expect("valid")).expect("written");
        let (mut output, write) = std::io::pipe().expect("pipe");
        let descriptors = [
            file.as_raw_fd(),
            pair.slave.as_raw_fd(),
            write.as_raw_fd(),
            write.as_raw_fd(),
        ];
        agent
            .socket
            .send(&Request::Exec.encode().expect("valid"), &descriptors);
        drop(write);
        assert_eq!(agent.reply().0, Reply::ExecStarting);
        let mut text = String::new();
        output.read_to_string(&mut text).expect("readable");
        assert_eq!(text, "no terminal\nrefused\nrefused\nrefused\n");
    });
}

#[test]
fn s22_a_credential_is_in_no_argument_environment_log_file_or_memory() {
    in_cell(|cell| {
        put("/etc/sailplane/gridmap", "\"/CN=Alice\" alice\n", 0o644);
        let mut pilot = Pilot::start(cell);
        // Something of the credential that the identity, which is logged, does not have.
        let credential = format!("accept 3600 {} /CN=Alice", "K3Y".repeat(400));
        let opened = pilot.try_open(&credential);
        let payload = opened.expect("opens").payload;
        let running = pilot.begin(payload, "echo up; sleep 1000");
        assert_eq!(running.line(), "up");
        let needle = "K3Y".repeat(20).into_bytes();
        let found = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        let children = format!("/proc/{0}/task/{0}/children", pilot.id());
        let mut all: Vec<u32> = fs::read_to_string(children)
            .expect("readable")
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect();
        all.push(pilot.id());
        for pid in all {
            for what in ["cmdline", "environ"] {
                let bytes = fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
                assert!(!found(&bytes), "{what} of {pid}");
            }
            assert!(!memory_has(pid, &found), "memory of {pid}");
        }
        pilot.close(payload);
        pilot.hang_up();
        assert!(!found(cell.log().as_bytes()));
        for folder in ["/run", "/tmp", "/scratch", "/var"] {
            let grep = Program::new("grep")
                .args(["-rl", "K3YK3YK3Y", folder])
                .output()
                .expect("runs");
            assert!(
                grep.stdout.is_empty(),
                "{}",
                String::from_utf8_lossy(&grep.stdout)
            );
        }
    });
}

fn memory_has(pid: u32, found: &dyn Fn(&[u8]) -> bool) -> bool {
    use std::os::unix::fs::FileExt as _;
    let Ok(memory) = fs::File::open(format!("/proc/{pid}/mem")) else {
        return false;
    };
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    maps.lines()
        .filter(|line| line.contains(" rw"))
        .any(|line| {
            let Some((from, rest)) = line.split_once('-') else {
                return false;
            };
            let to = rest.split(' ').next().unwrap_or_default();
            let (Ok(from), Ok(to)) = (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16))
            else {
                return false;
            };
            let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0).min(64 << 20)];
            memory
                .read_at(&mut bytes, from)
                .is_ok_and(|length| found(&bytes[..length]))
        })
}

#[test]
fn s22_no_process_of_the_helper_can_leave_a_core() {
    in_cell(|cell| {
        let pilot = Pilot::start(cell);
        for process in [pilot.id(), pilot.broker()] {
            let limits = fs::read_to_string(format!("/proc/{process}/limits")).expect("readable");
            let core = limits
                .lines()
                .find(|line| line.starts_with("Max core file size"))
                .expect("listed");
            assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
            // Not dumpable: its entries below /proc are root's and nobody else's.
            let facts = fs::metadata(format!("/proc/{process}/environ")).expect("there");
            assert_eq!(facts.uid(), 0, "{process}");
        }
        let _ = cell;
    });
}

#[test]
fn k1_neither_caller_nor_payload_can_attach_to_anybody() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        // The name service, too.
        pilot.prepare();
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, "echo up; sleep 1000");
        assert_eq!(running.line(), "up");
        let list = format!("/proc/{0}/task/{0}/children", pilot.id());
        let list = fs::read_to_string(list).expect("readable");
        let mut all: Vec<&str> = list.split_whitespace().collect();
        let monitor = pilot.id().to_string();
        all.push(&monitor);
        for name in ["sailplane-broker", "sailplane-names", "sailplane-verify"] {
            assert_eq!(children(pilot.id(), name).len(), 1, "{name}");
        }
        let script = format!(
            "import ctypes, os, signal\nlibc = ctypes.CDLL(None, use_errno=True)\n\
             for pid in [{}]:\n\
             \x20if pid in (os.getpid(), os.getppid()): continue\n\
             \x20for sig in (0, 9, 15, 19):\n\
             \x20\x20try: os.kill(pid, sig); print('signalled', pid)\n\
             \x20\x20except (PermissionError, ProcessLookupError): pass\n\
             \x20for request in (16, 0x4206):\n\
             \x20\x20if libc.ptrace(request, pid, 0, 0) == 0: print('attached', pid)\n\
             \x20for name in ('mem', 'environ', 'maps', 'syscall', 'stack', 'fd/3', 'root/etc', 'cwd/etc'):\n\
             \x20\x20try: os.close(os.open(f'/proc/{{pid}}/{{name}}', os.O_RDONLY)); print('opened', pid, name)\n\
             \x20\x20except OSError: pass\n\
             \x20try: os.open(f'/proc/{{pid}}/oom_score_adj', os.O_WRONLY); print('scored', pid)\n\
             \x20except OSError: pass\nprint('done')",
            all.join(", ")
        );
        put("/scratch/attack.py", &script, 0o644);
        // As the pilot, and as another payload.
        let attack = Program::new("setpriv")
            .args([
                format!("--reuid={}", cell.pilot),
                format!("--regid={}", cell.pilot),
            ])
            .args(["--clear-groups", "python3", "-S", "/scratch/attack.py"])
            .output()
            .expect("runs");
        assert_eq!(String::from_utf8_lossy(&attack.stdout), "done\n");
        let other = pilot.open();
        assert_eq!(
            pilot.run(other.payload, "python3 -S /scratch/attack.py").0,
            "done\n"
        );
        assert!(!processes_of(opened.uid).is_empty());
    });
}

#[test]
fn k4_a_payload_that_forks_at_once_is_in_its_group() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let (output, _) = pilot.run(
            opened.payload,
            "cat /proc/self/cgroup & (setsid cat /proc/self/cgroup &) ; wait; sleep 0.1",
        );
        let wanted = format!("/sailplane-{}-", pilot.id());
        let groups: Vec<_> = output
            .lines()
            .filter(|line| line.starts_with("0::"))
            .collect();
        assert!(
            groups.len() == 2 && groups.iter().all(|line| line.contains(&wanted)),
            "{output}"
        );
        pilot.close(opened.payload);
    });
}

#[test]
fn k5_kill_needs_no_valid_credential_and_hits_no_number() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, "echo up; exec sleep 1000");
        assert_eq!(running.line(), "up");
        // The trust anchors and the map are gone, the verifier too.
        for path in ["/etc/grid-security", "/etc/sailplane"] {
            fs::remove_dir_all(path).expect("removed");
        }
        fs::remove_file(format!("{LIBEXEC}/sailplane-verify")).expect("removed");
        pilot.kill(opened.payload);
        assert!(matches!(
            pilot.event(),
            Answer::Exited { wait_status: 9, .. }
        ));
        eventually("the payload's end", Duration::from_secs(5), || {
            processes_of(opened.uid).is_empty()
        });
        // A signal to a payload that has ended reaches nobody, whoever has its number now.
        pilot.event();
        pilot.kill(opened.payload);
        pilot.signal(
            opened.payload,
            libc::SIGKILL,
            launch_protocol::broker::SignalScope::Leader,
        );
        pilot.signal(
            opened.payload,
            libc::SIGKILL,
            launch_protocol::broker::SignalScope::All,
        );
        pilot.close(opened.payload);
        assert_eq!(pilot.hang_up(), Some(0));
    });
}

#[test]
fn k11_results_are_read_through_descriptors_that_lead_nowhere_else() {
    in_cell(|cell| {
        put("/scratch/pilot.key", "secret", 0o600);
        own("/scratch/pilot.key", cell.pilot, 0o600);
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        // What a hostile payload leaves as its output: links of every kind, a device's name, a pipe.
        let script = "ln -s /scratch/pilot.key out; ln -s /etc/passwd passwd; ln -s /proc/self/mem mem; mkfifo pipe; \
            ln /scratch/pilot.key hard 2>/dev/null; mkdir d; ln -s /etc d/etc; ln -s out chain; echo fine >fine";
        pilot.run(opened.payload, script);
        let agent = pilot.spawn(opened.payload);
        for path in [
            "out",
            "passwd",
            "mem",
            "pipe",
            "chain",
            "d/etc/passwd",
            "hard",
            "d/../../../pilot.key",
            "/scratch/pilot.key",
        ] {
            for follow in [true, false] {
                let (reply, file) = agent.ask(&Request::OpenRead {
                    path: path.into(),
                    follow,
                });
                assert!(
                    matches!(reply, Reply::Failed { .. }) && file.is_none(),
                    "{path}: {reply:?}"
                );
            }
        }
        let (Reply::OpenedRead { .. }, Some(file)) = agent.ask(&Request::OpenRead {
            path: "fine".into(),
            follow: false,
        }) else {
            panic!("not opened")
        };
        // The agent works as the account: what it opens, the account could have read.
        assert_eq!(file.metadata().expect("facts").uid(), opened.uid);
    });
}
