//! Attacks by who calls: from the account of a pilot that has been taken over, on the helper while it starts, on what it is
//! given, and on the sockets between.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::process::Command as Program;
use std::time::{Duration, Instant};

use launch_protocol::agent;
use launch_protocol::broker::{Answer, Command, Request};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::cell::{Cell, EXECUTE, LIBEXEC, groups_of, in_cell, names_in, own, processes_of, put};
use crate::client::{PATIENCE, Pilot, Start, eventually, null, pipe_with};
use crate::strays::strays;

/// What a script of the pilot's says.
fn as_pilot(cell: &Cell, program: &[&str]) -> (Option<i32>, String) {
    let output = Program::new("setpriv")
        .args([
            format!("--reuid={}", cell.pilot),
            format!("--regid={}", cell.pilot),
        ])
        .arg("--clear-groups")
        .args(program)
        .output()
        .expect("runs");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn assert_clean() {
    eventually("the end of everybody", Duration::from_secs(10), || {
        strays().is_empty()
    });
    assert_eq!(names_in(EXECUTE), Vec::<String>::new());
    assert_eq!(names_in("/run/sailplane/leases"), Vec::<String>::new());
}

/// Starts it by another path; the code of its refusal, or that a launch went well.
fn outcome(cell: &Cell, program: &str) -> String {
    let mut pilot = Start {
        program: program.to_owned(),
        ..Start::usual(cell)
    }
    .start();
    let version = launch_protocol::VERSION;
    let answer = pilot.ask(Command::Hello { version }, &[]).0;
    match answer {
        Answer::Hello(_) => {
            let opened = pilot.open();
            assert_eq!(
                pilot.run(opened.payload, "id -u").0,
                format!("{}\n", opened.uid)
            );
            pilot.close(opened.payload);
            assert_eq!(pilot.hang_up(), Some(0));
            "works".to_owned()
        }
        Answer::Refused(refusal) => {
            pilot.end();
            refusal.code
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn s6_the_helper_by_any_other_name_starts_no_programs_but_its_own() {
    in_cell(|cell| {
        let helper = format!("{LIBEXEC}/sailplane-switch");
        // A folder of the caller's with programs of the helper's names.
        let farm = format!("{EXECUTE}/farm");
        fs::create_dir_all(&farm).expect("made");
        for name in [
            "sailplane-broker",
            "sailplane-job",
            "sailplane-names",
            "sailplane-verify",
            "sailplane-glexec",
        ] {
            put(
                format!("{farm}/{name}"),
                "#!/bin/sh\nid >/tmp/evil\n",
                0o755,
            );
            own(format!("{farm}/{name}"), cell.pilot, 0o755);
        }
        own(&farm, cell.pilot, 0o755);
        symlink(&helper, format!("{farm}/sailplane-switch")).expect("linked");
        symlink(format!("{farm}/sailplane-switch"), format!("{farm}/again")).expect("linked");
        assert_eq!(outcome(cell, &format!("{farm}/again")), "works");
        // By a descriptor, which has no name of its own.
        let mut pilot = Start {
            program: "/proc/self/fd/9".to_owned(),
            wrap: format!("exec 9<{helper}; exec {{}}"),
            ..Start::usual(cell)
        }
        .start();
        pilot.greet();
        assert_eq!(pilot.hang_up(), Some(0));
        assert_eq!(names_in("/tmp"), Vec::<String>::new());
    });
}

#[test]
fn s6_a_hard_link_to_the_helper_is_refused() {
    in_cell(|cell| {
        // Where the kernel does not protect them, or root made one by mistake.
        for (folder, owner, mode) in [
            ("/opt/theirs", cell.pilot, 0o755),
            ("/opt/everybodys", 0, 0o1777),
        ] {
            fs::create_dir_all(folder).expect("made");
            own(folder, owner, mode);
            let link = format!("{folder}/sailplane-switch");
            fs::hard_link(format!("{LIBEXEC}/sailplane-switch"), &link).expect("linked");
            put(
                format!("{folder}/sailplane-broker"),
                "#!/bin/sh\nid >/tmp/evil\n",
                0o755,
            );
            assert!(fs::metadata(&link).expect("there").mode() & 0o4000 != 0);
            let code = outcome(cell, &link);
            assert!(code.starts_with("conf."), "{folder}: {code}");
            assert_eq!(names_in("/tmp"), Vec::<String>::new());
            fs::remove_dir_all(folder).expect("removed");
        }
    });
}

#[test]
fn k1_a_traced_helper_has_no_rights_and_says_so() {
    in_cell(|cell| {
        let (status, text) = as_pilot(
            cell,
            &[
                "strace",
                "-o",
                "/dev/null",
                &format!("{LIBEXEC}/sailplane-switch"),
                "/bin/id",
            ],
        );
        assert_eq!(status, Some(202), "{text}");
        assert!(text.contains("traced"), "{text}");
    });
}

/// Hard limits, which the helper may not be able to raise: it works or says why not, and nothing stays.
#[test]
fn s1_hard_limits_of_the_caller_end_in_a_launch_or_a_refusal() {
    in_cell(|cell| {
        for limit in [
            "NOFILE, (3, 3)",
            "NOFILE, (4, 4)",
            "NOFILE, (20, 20)",
            "FSIZE, (0, 0)",
            "AS, (1 << 22, 1 << 22)",
            "AS, (1 << 26, 1 << 26)",
            "DATA, (0, 0)",
            "NPROC, (0, 0)",
            "CPU, (1, 1)",
            "STACK, (1 << 16, 1 << 16)",
            "MEMLOCK, (0, 0)",
            "SIGPENDING, (0, 0)",
            "MSGQUEUE, (0, 0)",
            "CORE, (0, 0)",
            "RTPRIO, (0, 0)",
        ] {
            let stage = format!(
                "import os, resource\nresource.setrlimit(resource.RLIMIT_{limit})\n\
                 try: os.execve('{LIBEXEC}/sailplane-switch', ['sailplane-switch', '--broker'], {{}})\n\
                 except OSError: os._exit(201)\n"
            );
            put("/scratch/stage.py", &stage, 0o644);
            let mut pilot = Start {
                program: "/usr/bin/python3 -S /scratch/stage.py".to_owned(),
                ..Start::usual(cell)
            }
            .start();
            let request = Request {
                id: 1,
                command: Command::Hello {
                    version: launch_protocol::VERSION,
                },
            };
            pilot.socket().send(&request.encode().expect("valid"), &[]);
            let heard = pilot.socket().receive();
            let greeted = heard.is_some_and(|(packet, _)| {
                let reply = launch_protocol::broker::Reply::decode(&packet).expect("a reply");
                matches!(reply.answer, Answer::Hello(_))
            });
            if greeted {
                let opened = pilot.try_open("accept 600 full /CN=Bob");
                if let Ok(opened) = opened {
                    pilot
                        .try_spawn(opened.payload)
                        .map(drop)
                        .unwrap_or_default();
                    pilot.send(
                        Command::Close {
                            payload: opened.payload,
                        },
                        &[],
                    );
                }
                let status = pilot.hang_up();
                assert_eq!(status, Some(0), "{limit}");
            } else {
                pilot.socket = None;
                pilot.end();
            }
            assert_clean();
        }
    });
}

/// Until it has become root for good, its caller may signal it: it may end or stop, but leave nothing.
#[test]
fn k1_signals_at_any_moment_of_the_start_leave_nothing() {
    in_cell(|cell| {
        let script = format!(
            "import os, signal, socket, sys, time\n\
             for round in range(60):\n\
             \x20ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
             \x20pid = os.fork()\n\
             \x20if pid == 0:\n\
             \x20\x20os.dup2(theirs.fileno(), 3); os.set_inheritable(3, True)\n\
             \x20\x20os.execv('{LIBEXEC}/sailplane-switch', ['sailplane-switch', '--broker'])\n\
             \x20theirs.close()\n\
             \x20end = time.monotonic() + round * 0.0004\n\
             \x20number = [9, 15, 2, 19, 6, 11, 14, 24, 34][round % 9]\n\
             \x20while time.monotonic() < end:\n\
             \x20\x20try: os.kill(pid, number if number in (19, 34) else 18)\n\
             \x20\x20except PermissionError: break\n\
             \x20try: os.kill(pid, number); os.kill(pid, 18)\n\
             \x20except PermissionError: pass\n\
             \x20ours.close()\n\
             \x20os.waitpid(pid, 0)\n"
        );
        put("/scratch/storm.py", &script, 0o644);
        let (status, text) = as_pilot(
            cell,
            &["timeout", "60", "python3", "-S", "/scratch/storm.py"],
        );
        assert_eq!(status, Some(0), "{text}");
        assert_clean();
    });
}

#[test]
fn s7_what_is_no_credential_is_refused_whatever_it_is() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let open = |path: &str, flags| -> OwnedFd {
            nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).expect(path)
        };
        use nix::fcntl::OFlag;
        let sealed = memfd_create(c"x", MFdFlags::MFD_ALLOW_SEALING).expect("made");
        let (one, _other) = std::os::unix::net::UnixStream::pair().expect("made");
        one.shutdown(std::net::Shutdown::Both).expect("shut down");
        let strange: Vec<(&str, OwnedFd)> = vec![
            ("a directory", open("/etc", OFlag::O_RDONLY)),
            ("a path only", open("/etc/passwd", OFlag::O_PATH)),
            (
                "for writing only",
                open("/tmp", OFlag::O_TMPFILE | OFlag::O_WRONLY),
            ),
            ("the null device", open("/dev/null", OFlag::O_RDWR)),
            ("the caller's memory", open("/proc/self/mem", OFlag::O_RDWR)),
            ("an empty memory file", sealed),
            ("a socket", one.into()),
            ("a process", pidfd(std::process::id())),
            (
                "a list of events",
                nix::sys::epoll::Epoll::new(nix::sys::epoll::EpollCreateFlags::empty())
                    .expect("made")
                    .0,
            ),
        ];
        for (what, file) in &strange {
            let (answer, _) = pilot.ask(Command::open("1.0", EXECUTE), &[file.as_raw_fd()]);
            let Answer::Refused(refusal) = answer else {
                panic!("{what}: {answer:?}")
            };
            assert!(refusal.message.len() > 10, "{what}: {refusal:?}");
        }
        // It goes on as if nothing had been.
        let opened = pilot.open();
        assert_eq!(pilot.run(opened.payload, "echo fine").0, "fine\n");
        pilot.close(opened.payload);
        assert_eq!(pilot.hang_up(), Some(0));
        assert_clean();
    });
}

fn pidfd(pid: u32) -> OwnedFd {
    let text = "import os, sys, socket; s = socket.socket(fileno=0); \
        socket.send_fds(s, [b'x'], [os.pidfd_open(int(sys.argv[1]))])";
    let (ours, theirs) = nix::sys::socket::socketpair(
        nix::sys::socket::AddressFamily::Unix,
        nix::sys::socket::SockType::SeqPacket,
        None,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
    )
    .expect("sockets");
    let done = Program::new("python3")
        .args(["-Sc", text, &pid.to_string()])
        .stdin(theirs)
        .status();
    assert!(done.expect("runs").success());
    let (_, files) = crate::client::Socket(ours).receive().expect("sent");
    files.into_iter().next().expect("beside it").into()
}

#[test]
fn k2_packets_that_are_no_requests_end_the_channel_and_everything() {
    in_cell(|cell| {
        let good = Request {
            id: 9,
            command: Command::Kill { payload: 1 },
        };
        let good = good.encode().expect("valid");
        let file = null();
        let many = vec![file.as_raw_fd(); 253];
        let long = vec![0; launch_protocol::MAX_PACKET + 1];
        for (packet, beside) in [(&good, &many[..]), (&good, &many[..2]), (&long, &many[..0])] {
            let mut pilot = Pilot::start(cell);
            let opened = pilot.open();
            let running = pilot.begin(opened.payload, "echo up; exec sleep 1000");
            assert_eq!(running.line(), "up");
            pilot.socket().send(packet, beside);
            assert_eq!(pilot.end(), Some(0));
            assert!(processes_of(opened.uid).is_empty());
            assert_clean();
        }
        // A monitor and a broker that have been sent many descriptors hold none of them.
        let mut pilot = Pilot::start(cell);
        let count = |pid: u32| names_in(format!("/proc/{pid}/fd")).len();
        let before = (count(pilot.id()), count(pilot.broker()));
        for _ in 0..50 {
            pilot.try_open("reject proxy.expired").expect_err("refused");
        }
        eventually("no more descriptors than before", PATIENCE, || {
            count(pilot.id()) <= before.0 + 4 && count(pilot.broker()) <= before.1 + 4
        });
        assert_eq!(pilot.hang_up(), Some(0));
    });
}

#[test]
fn k2_an_agent_that_is_sent_nonsense_ends_and_takes_nobody_along() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let other = pilot.open();
        let running = pilot.begin(other.payload, "echo up; exec sleep 1000");
        assert_eq!(running.line(), "up");
        let file = null();
        let many = vec![file.as_raw_fd(); 253];
        let good = agent::Request::Exec.encode().expect("valid");
        let long = vec![7; launch_protocol::MAX_PACKET + 1];
        for (packet, beside) in [
            (&good, &many[..]),
            (&good, &many[..0]),
            (&good, &many[..3]),
            (&long, &many[..0]),
            (&vec![0xff; 100], &many[..1]),
        ] {
            let opened = pilot.open();
            let agent = pilot.spawn(opened.payload);
            agent.socket.send(packet, beside);
            let start = Instant::now();
            while let Some((packet, _)) = agent.socket.receive() {
                let reply = agent::Reply::decode(&packet).expect("a reply");
                let ran = matches!(reply, agent::Reply::ExecStarting);
                assert!(!ran && start.elapsed() < PATIENCE, "{reply:?}");
            }
            assert!(matches!(pilot.event(), Answer::Exited { .. }));
            assert_eq!(
                pilot.event(),
                Answer::Empty {
                    payload: opened.payload
                }
            );
            pilot.close(opened.payload);
        }
        assert_eq!(pilot.usage(other.payload).processes, 1);
        pilot.close(other.payload);
        assert_eq!(pilot.hang_up(), Some(0));
        assert_clean();
    });
}

#[test]
fn s9_a_place_that_is_exchanged_all_the_time_leads_nowhere() {
    in_cell(|cell| {
        let place = format!("{EXECUTE}/deep/er");
        fs::create_dir_all(&place).expect("made");
        own(format!("{EXECUTE}/deep"), cell.pilot, 0o755);
        own(&place, cell.pilot, 0o755);
        put("/scratch/roots/keep", "keep", 0o600);
        let script = format!(
            "import os, time\nos.chdir('{EXECUTE}')\nos.symlink('/scratch/roots', 'link')\n\
             os.symlink('/etc/sailplane', 'deep/link')\n\
             end = time.monotonic() + 4\n\
             while time.monotonic() < end:\n\
             \x20for one, other in (('deep', 'link'), ('deep/er', 'deep/link')):\n\
             \x20\x20for step in ((one, 'spare'), (other, one), (one, other), ('spare', one)):\n\
             \x20\x20\x20try: os.rename(*step)\n\
             \x20\x20\x20except OSError: pass\n"
        );
        put("/scratch/swap.py", &script, 0o644);
        let swapper = Program::new("setpriv")
            .args([
                format!("--reuid={}", cell.pilot),
                format!("--regid={}", cell.pilot),
            ])
            .args(["--clear-groups", "python3", "-S", "/scratch/swap.py"])
            .spawn();
        let mut swapper = swapper.expect("starts");
        let mut pilot = Pilot::start(cell);
        let start = Instant::now();
        let (mut opened, mut refused) = (0, 0);
        while start.elapsed() < Duration::from_secs(3) {
            match pilot.try_open_in("accept 600 full /CN=Alice", &place) {
                Ok(payload) => {
                    opened += 1;
                    let (answer, _) = pilot.ask(
                        Command::Close {
                            payload: payload.payload,
                        },
                        &[],
                    );
                    assert!(
                        matches!(answer, Answer::Closed | Answer::Refused(_)),
                        "{answer:?}"
                    );
                }
                Err(refusal) => {
                    refused += 1;
                    assert!(refusal.code.starts_with("execdir."), "{refusal:?}");
                }
            }
        }
        swapper.wait().expect("ends");
        println!("{opened} opened, {refused} refused");
        assert_eq!(names_in("/scratch/roots"), ["keep"]);
        assert!(
            !names_in("/etc/sailplane")
                .iter()
                .any(|name| name.starts_with("dir_"))
        );
        assert_eq!(pilot.hang_up(), Some(0));
        eventually("the end of everybody", Duration::from_secs(10), || {
            strays().is_empty()
        });
        assert!(groups_of(pilot.id()).is_empty());
        assert_eq!(names_in("/run/sailplane/leases"), Vec::<String>::new());
    });
}

#[test]
fn m3_accounts_with_a_root_number_of_any_kind_are_no_targets() {
    in_cell(|cell| {
        let passwd = fs::read_to_string("/etc/passwd").expect("there");
        let uid = cell.first + 70;
        let lines = format!(
            "rootgid:x:{uid}:0::/:/bin/sh\nbig:x:4294967295:{uid}::/:/bin/sh\nlast:x:4294967294:{uid}::/:/bin/sh\n\
             member:x:{}:{}::/:/bin/sh\nname with blank:x:{uid}:{uid}::/:/bin/sh\n-rf:x:{uid}:{uid}::/:/bin/sh\n",
            uid + 1,
            uid + 1
        );
        put("/etc/passwd", &(passwd + &lines), 0o644);
        let group = fs::read_to_string("/etc/group").expect("there");
        put(
            "/etc/group",
            &group.replace("root:x:0:", "root:x:0:member"),
            0o644,
        );
        put(
            "/etc/sailplane/gridmap",
            "\"/CN=A\" rootgid\n\"/CN=B\" big\n\"/CN=C\" last\n\"/CN=D\" member\n",
            0o644,
        );
        let mut pilot = Pilot::start(cell);
        for name in ["A", "B", "C", "D"] {
            let refusal = pilot
                .try_open(&format!("accept 600 full /CN={name}"))
                .expect_err(name);
            assert!(refusal.code.starts_with("map."), "{name}: {refusal:?}");
        }
        assert_eq!(pilot.hang_up(), Some(0));
        assert_clean();
    });
}

#[test]
fn s10_no_word_of_a_stranger_makes_a_line_of_the_log() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let evil = "x\",\"uid\":0,\"verdict\":\"accepted\"}";
        for (label, name) in [
            (evil.to_owned(), evil.to_owned()),
            (
                "\u{1b}[2J\u{202e}\u{7f}".to_owned(),
                "a\\b'c`d$(e)%n%s".to_owned(),
            ),
            ("l".repeat(200), "n".repeat(900)),
            (
                "{\"time\":1}".to_owned(),
                "/Role=x|/vo/Role=\"y\"".to_owned(),
            ),
        ] {
            let mut command = Command::open("1.0", EXECUTE);
            if let Command::Open { job_label, .. } = &mut command {
                *job_label = label;
            }
            let pipe = pipe_with(&format!("accept 600 full /CN={name}"));
            let request = Request { id: 77, command };
            // Some of these are not even encoded.
            let Ok(packet) = request.encode() else {
                continue;
            };
            pilot.socket().send(&packet, &[pipe.as_raw_fd()]);
            if let (_, Answer::Opened(opened), _) = pilot.reply() {
                pilot.close(opened.payload);
            }
        }
        assert_eq!(pilot.hang_up(), Some(0));
        for line in cell.log().lines() {
            assert!(
                line.starts_with("{\"time\":") && line.ends_with('}'),
                "{line}"
            );
            assert!(line.bytes().all(|byte| (32..127).contains(&byte)), "{line}");
            let python = Program::new("python3")
                .args(["-Sc", "import json, sys\nd = json.loads(sys.argv[1], object_pairs_hook=lambda p: p)\nassert len({k for k, _ in d}) == len(d), d\nassert ('uid', 0) not in d, d", line])
                .status();
            assert!(python.expect("runs").success(), "{line}");
        }
    });
}

#[test]
fn m9_every_launch_and_every_end_is_in_the_log() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let (mut opened, mut refused) = (0, 0);
        for round in 0..6 {
            match pilot.try_open(
                [
                    "accept 600 full /CN=Bob",
                    "reject proxy.expired",
                    "accept 600 full /CN=Toor",
                ][round % 3],
            ) {
                Ok(payload) => {
                    opened += 1;
                    pilot.run(payload.payload, "true");
                    pilot.close(payload.payload);
                }
                Err(_) => refused += 1,
            }
        }
        // One that ends with its pilot.
        pilot.open();
        opened += 1;
        assert_eq!(pilot.hang_up(), Some(0));
        let log = cell.log();
        let count = |words: &[&str]| {
            let has = |line: &&str| words.iter().all(|word| line.contains(word));
            log.lines().filter(has).count()
        };
        assert_eq!(
            count(&["\"event\":\"open\"", "\"accepted\""]),
            opened,
            "{log}"
        );
        assert_eq!(
            count(&["\"event\":\"open\"", "\"refused\"", "\"code\":"]),
            refused,
            "{log}"
        );
        assert_eq!(
            count(&["\"event\":\"close\"", "\"outcome\":\"clean\""]),
            opened,
            "{log}"
        );
        assert_eq!(
            (
                count(&["\"event\":\"leave\""]),
                count(&["\"event\":\"end\""])
            ),
            (1, 1),
            "{log}"
        );
    });
}
