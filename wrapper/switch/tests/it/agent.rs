//! The agent: nothing it opens lies outside of the sandbox, and what it becomes starts clean.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use launch_protocol::agent::{Entry, EntryKind, Reply, Request};
use launch_protocol::exec::{ExecFailure, ExecRequest, ExecStep, Limit, UNLIMITED};

use crate::cell::{in_cell, own, put};
use crate::client::{Agent, Pilot};

fn failure(reply: (Reply, Option<File>)) -> (i32, String) {
    match reply {
        (Reply::Failed { errno, message }, None) => (errno, message),
        (other, _) => panic!("not refused: {other:?}"),
    }
}

fn create(agent: &Agent, path: &str, mode: u32, text: &str) {
    let (reply, file) = agent.ask(&Request::Create {
        path: path.into(),
        mode,
    });
    assert_eq!(reply, Reply::Opened, "{path}");
    file.expect("a file")
        .write_all(text.as_bytes())
        .expect("writable");
}

fn read(agent: &Agent, path: impl Into<PathBuf>, follow: bool) -> Result<String, i32> {
    match agent.ask(&Request::OpenRead {
        path: path.into(),
        follow,
    }) {
        (Reply::OpenedRead { size, .. }, Some(mut file)) => {
            let mut text = String::new();
            file.read_to_string(&mut text).expect("readable");
            assert_eq!(size, text.len() as u64);
            Ok(text)
        }
        other => Err(failure(other).0),
    }
}

fn list(agent: &Agent, path: &str) -> Vec<Entry> {
    let mut all = Vec::new();
    agent.socket.send(
        &Request::List { path: path.into() }.encode().expect("valid"),
        &[],
    );
    loop {
        let (Reply::Entries { entries, more }, None) = agent.reply() else {
            panic!("no entries")
        };
        all.extend(entries);
        if !more {
            all.sort_by(|a, b| a.name.cmp(&b.name));
            return all;
        }
    }
}

#[test]
fn files_go_in_and_out() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let agent = pilot.spawn(opened.payload);
        assert_eq!(
            agent
                .ask(&Request::MakeDir {
                    path: "a".into(),
                    mode: 0o750
                })
                .0,
            Reply::Done
        );
        create(&agent, "a/b", 0o755, "hello");
        create(&agent, "a/b", 0o640, "again");
        let facts = std::fs::metadata(opened.sandbox_path().join("a/b")).expect("there");
        assert_eq!((facts.uid(), facts.mode() & 0o7777), (opened.uid, 0o640));
        let facts = std::fs::metadata(opened.sandbox_path().join("a")).expect("there");
        assert_eq!(facts.mode() & 0o7777, 0o750);
        assert_eq!(read(&agent, "a/b", false).as_deref(), Ok("again"));
        assert_eq!(
            read(&agent, opened.sandbox_path().join("a/b"), true).as_deref(),
            Ok("again")
        );
        assert_eq!(
            agent
                .ask(&Request::SetMode {
                    path: "a/b".into(),
                    mode: 0o500
                })
                .0,
            Reply::Done
        );
        let entries = list(&agent, "a");
        assert_eq!(
            (entries.len(), entries[0].size, entries[0].mode),
            (1, 5, 0o500)
        );
        assert!(entries[0].ctime_ns >= entries[0].mtime_ns && entries[0].mtime_ns > 0);
        assert_eq!(
            agent.ask(&Request::Remove { path: "a/b".into() }).0,
            Reply::Done
        );
        assert_eq!(
            agent.ask(&Request::Remove { path: "a".into() }).0,
            Reply::Done
        );
        assert!(list(&agent, "").is_empty());
        assert_eq!(
            failure(agent.ask(&Request::MakeDir {
                path: "x/y".into(),
                mode: 0o700
            }))
            .0,
            libc::ENOENT
        );
        drop(agent);
        pilot.close(opened.payload);
    });
}

#[test]
fn no_path_leads_out_of_the_sandbox() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        put("/scratch/secret", "secret", 0o644);
        std::fs::create_dir("/scratch/world").expect("made");
        own("/scratch/world", 0, 0o777);
        let inside = |name: &str| opened.sandbox_path().join(name);
        symlink("/scratch/secret", inside("absolute")).expect("linked");
        symlink("../../secret", inside("relative")).expect("linked");
        symlink("/scratch/world", inside("dir")).expect("linked");
        symlink("/proc/self/root", inside("magic")).expect("linked");
        symlink("/proc/self/fd/3", inside("fd")).expect("linked");
        symlink("real", inside("good")).expect("linked");
        put(inside("real"), "real", 0o644);
        let agent = pilot.spawn(opened.payload);
        for path in [
            "/scratch/secret",
            "../../secret",
            "absolute",
            "relative",
            "dir/../secret",
            "magic/scratch/secret",
            "fd",
            "/etc/passwd",
            "x/../../../secret",
            "/",
        ] {
            for follow in [true, false] {
                assert!(read(&agent, path, follow).is_err(), "{path} {follow}");
            }
        }
        assert_eq!(read(&agent, "good", true).as_deref(), Ok("real"));
        assert_eq!(read(&agent, "good", false), Err(libc::ELOOP));
        for path in [
            "/scratch/world/x",
            "../x",
            "dir/x",
            "absolute",
            "good",
            "..",
            ".",
            "",
            "/tmp/x",
        ] {
            let path = PathBuf::from(path);
            failure(agent.ask(&Request::Create {
                path: path.clone(),
                mode: 0o644,
            }));
            if path != Path::new("absolute") && path != Path::new("good") {
                failure(agent.ask(&Request::MakeDir {
                    path: path.clone(),
                    mode: 0o755,
                }));
                failure(agent.ask(&Request::Remove { path: path.clone() }));
            }
            failure(agent.ask(&Request::SetMode { path, mode: 0o777 }));
        }
        for path in ["..", "/scratch", "dir", "magic"] {
            failure(agent.ask(&Request::List { path: path.into() }));
        }
        let (errno, message) = failure(agent.ask(&Request::OpenRead {
            path: "../../secret".into(),
            follow: true,
        }));
        assert_eq!(
            (errno, message.as_str()),
            (
                libc::EXDEV,
                "cannot read ../../secret: it leads out of the sandbox"
            )
        );
        assert!(crate::cell::names_in("/scratch/world").is_empty());
        let kinds: Vec<_> = list(&agent, ".")
            .into_iter()
            .map(|e| (e.name, e.kind))
            .collect();
        assert!(kinds.contains(&("good".into(), EntryKind::LinkToFile)));
        assert!(kinds.contains(&("absolute".into(), EntryKind::Other)));
        assert!(kinds.contains(&("dir".into(), EntryKind::Other)));
    });
}

#[test]
fn a_racing_link_never_leads_out() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        std::fs::create_dir("/scratch/world").expect("made");
        own("/scratch/world", 0, 0o777);
        put("/scratch/world/file", "outside", 0o644);
        let sandbox = opened.sandbox_path().to_owned();
        std::fs::create_dir(sandbox.join("d")).expect("made");
        put(sandbox.join("d/file"), "inside", 0o644);
        symlink("/scratch/world", sandbox.join("l")).expect("linked");
        own(sandbox.join("d"), opened.uid, 0o755);
        // Somebody exchanges directory and link as fast as possible.
        let mut racer = std::process::Command::new("python3")
            .arg("-c")
            .arg(format!(
                "import os\nos.chdir('{}')\nwhile True:\n os.rename('d','t');os.rename('l','d')\n \
                 os.rename('d','l');os.rename('t','d')",
                sandbox.display()
            ))
            .spawn()
            .expect("starts");
        let agent = pilot.spawn(opened.payload);
        let mut inside = 0;
        for _ in 0..3000 {
            match agent.ask(&Request::OpenRead {
                path: "d/file".into(),
                follow: true,
            }) {
                (Reply::OpenedRead { .. }, Some(mut file)) => {
                    let mut text = String::new();
                    file.read_to_string(&mut text).expect("readable");
                    assert_eq!(text, "inside");
                    inside += 1;
                }
                (Reply::Failed { .. }, None) => {}
                (other, _) => panic!("{other:?}"),
            }
            let made = agent.ask(&Request::Create {
                path: "d/new".into(),
                mode: 0o600,
            });
            assert!(matches!(made.0, Reply::Opened | Reply::Failed { .. }));
        }
        racer.kill().expect("killed");
        racer.wait().expect("reaped");
        assert!(inside > 0);
        assert_eq!(crate::cell::names_in("/scratch/world"), ["file"]);
    });
}

#[test]
fn what_is_no_regular_file_is_neither_read_nor_waited_for() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        pilot.run(
            opened.payload,
            "mkfifo fifo; mkdir dir; python3 -c \"
import socket; socket.socket(socket.AF_UNIX).bind('socket')\"",
        );
        let agent = pilot.spawn(opened.payload);
        for path in ["fifo", "dir", "socket"] {
            assert!(read(&agent, path, true).is_err(), "{path}");
            failure(agent.ask(&Request::Create {
                path: path.into(),
                mode: 0o644,
            }));
        }
        let kinds: Vec<_> = list(&agent, "")
            .into_iter()
            .map(|entry| entry.kind)
            .collect();
        assert_eq!(
            kinds,
            [EntryKind::Directory, EntryKind::Other, EntryKind::Other]
        );
    });
}

#[test]
fn a_long_listing_comes_in_several_packets() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let script =
            "i=0; while [ $i -lt 1500 ]; do : >file-with-a-rather-long-name-$i; i=$((i+1)); done";
        pilot.run(opened.payload, script);
        let agent = pilot.spawn(opened.payload);
        assert_eq!(list(&agent, ".").len(), 1500);
    });
}

#[test]
fn s12_s11_a_payload_starts_clean() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        // Read by the shell itself: while it starts another program it may block signals.
        let script = r#"ls /proc/$$/fd; while IFS= read -r line; do printf '%s\n' "$line"; done </proc/$$/status
            ps -o pid=,sid=,pgid= -p $$; cat /proc/$$/oom_score_adj"#;
        let (output, _) = pilot.run(opened.payload, script);
        assert!(output.starts_with("0\n1\n2\nName:"), "{output}");
        let uid = opened.uid;
        for wanted in [
            &format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}"),
            &format!("Gid:\t{uid}\t{uid}\t{uid}\t{uid}"),
            "Groups:\t \n",
            "NoNewPrivs:\t1",
            "CapInh:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            "SigBlk:\t0000000000000000",
            "SigIgn:\t0000000000000000",
            "Threads:\t1",
        ] {
            assert!(output.contains(wanted), "{wanted}: {output}");
        }
        let ids: Vec<_> = output
            .lines()
            .rev()
            .nth(1)
            .expect("a line")
            .split_whitespace()
            .collect();
        assert!(
            ids[0] == ids[1] && ids[1] == ids[2],
            "own session and group: {ids:?}"
        );
    });
}

#[test]
fn no_set_uid_program_helps_a_payload() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        std::fs::copy("/bin/sh", "/opt/rootshell").expect("copied");
        std::fs::set_permissions("/opt/rootshell", PermissionsExt::from_mode(0o4755))
            .expect("mode");
        let script =
            "/opt/rootshell -p -c 'id -u'; cp /bin/sh mine; chmod 6755 mine; ./mine -p -c 'id -u'";
        let (output, _) = pilot.run(opened.payload, script);
        assert_eq!(output, format!("{0}\n{0}\n", opened.uid));
    });
}

fn exec_failure(pilot: &mut Pilot, payload: u32, request: &ExecRequest) -> ExecFailure {
    let agent = pilot.spawn(payload);
    let Err(failure) = agent.exec(request) else {
        panic!("runs")
    };
    let launch_protocol::broker::Answer::Exited { wait_status, .. } = pilot.event() else {
        panic!("no exit")
    };
    assert_eq!(wait_status, 127 << 8);
    pilot.event();
    failure
}

#[test]
fn s14_a_failed_exec_says_why() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let setup = "echo '#!/no/such/interpreter -x' >script; printf '#!/bin/sh\\r\\necho\\r\\n' >windows; \
            echo nothing >text; : >empty; cp /bin/true plain; head -c 3000 /bin/true >damaged; \
            printf '\\177ELF\\002\\001\\001' >foreign; head -c 100 /dev/zero >>foreign; \
            sed 's|/lib64/ld-linux-x86-64|/lib64/no-linux-x86-64|' /bin/true >loader; mkdir dir locked; \
            cp /bin/true locked/x; chmod 755 script windows text empty damaged foreign loader; \
            chmod 644 plain; chmod 000 locked";
        pilot.run(opened.payload, setup);
        for (path, errno, wanted) in [
            ("missing", libc::ENOENT, "No such file or directory"),
            (
                "script",
                libc::ENOENT,
                "its interpreter /no/such/interpreter does not exist",
            ),
            (
                "windows",
                libc::ENOENT,
                "carriage return, so its interpreter /bin/sh is not found",
            ),
            (
                "loader",
                libc::ENOENT,
                "its program loader /lib64/no-linux-x86-64.so.2 does not exist",
            ),
            (
                "text",
                libc::ENOEXEC,
                "neither a program for this machine nor a script",
            ),
            ("empty", libc::ENOEXEC, "the file is empty"),
            (
                "foreign",
                libc::ENOEXEC,
                "another kind of machine, or damaged",
            ),
            ("plain", libc::EACCES, "not executable for uid"),
            ("dir", libc::EACCES, "it is a directory"),
            ("locked/x", libc::EACCES, "may not search locked (owner uid"),
            ("text/x", libc::ENOTDIR, "Not a directory"),
        ] {
            let request = ExecRequest {
                path: path.into(),
                argv: vec![b"x".to_vec()],
                ..Default::default()
            };
            let failure = exec_failure(&mut pilot, opened.payload, &request);
            assert_eq!(
                (failure.errno, failure.step),
                (errno, ExecStep::Exec),
                "{path}: {failure:?}"
            );
            assert!(
                failure.message.contains(wanted),
                "{path}: {}",
                failure.message
            );
        }
        let big = ExecRequest {
            path: "/bin/true".into(),
            argv: vec![b"true".to_vec(), vec![b'x'; 200_000]],
            ..Default::default()
        };
        let failure = exec_failure(&mut pilot, opened.payload, &big);
        assert_eq!(failure.errno, libc::E2BIG);
        assert!(
            failure.message.contains("the longest 200000 bytes"),
            "{}",
            failure.message
        );
        let lost = ExecRequest {
            path: "/bin/true".into(),
            cwd: "nowhere".into(),
            ..Default::default()
        };
        let failure = exec_failure(&mut pilot, opened.payload, &lost);
        assert_eq!(
            (failure.errno, failure.step),
            (libc::ENOENT, ExecStep::WorkingDirectory)
        );
    });
}

#[test]
fn an_exec_request_is_carried_out_to_the_letter() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        pilot.run(opened.payload, "mkdir sub");
        let agent = pilot.spawn(opened.payload);
        let request = ExecRequest {
            path: "/bin/sh".into(),
            argv: vec![
                b"name".to_vec(),
                b"-c".to_vec(),
                b"echo \"$0 $1\"; pwd; umask; nice; ulimit -Sn; ulimit -Hn; ulimit -Sc; /usr/bin/env".to_vec(),
                b"-n \"'$x\n*".to_vec(),
                b"\xff;rm -rf /".to_vec(),
            ],
            env: vec![b"A=b c".to_vec(), b"N=\n".to_vec()],
            cwd: "sub".into(),
            umask: 0o027,
            nice: 7,
            core_limit: Some(UNLIMITED),
            rlimits: vec![Limit { resource: libc::RLIMIT_NOFILE, soft: 100, hard: UNLIMITED }],
            ..ExecRequest::default()
        };
        let output = agent.exec(&request).expect("runs").output();
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(&lines[..2], ["-n \"'$x", "* \u{fffd};rm -rf /"], "{output}");
        assert_eq!(
            lines[2],
            opened.sandbox_path().join("sub").to_string_lossy()
        );
        assert_eq!(&lines[3..6], ["0027", "7", "100"], "{output}");
        assert!(output.contains("A=b c\n"), "{output}");
    });
}

#[test]
fn limits_of_the_caller_come_back() {
    in_cell(|cell| {
        let start = crate::client::Start {
            wrap: "ulimit -S -n 77; ulimit -S -t 1234; exec {}".to_owned(),
            ..crate::client::Start::usual(cell)
        };
        let mut pilot = start.start();
        pilot.greet();
        let opened = pilot.open();
        assert_eq!(
            pilot.run(opened.payload, "ulimit -Sn; ulimit -St").0,
            "77\n1234\n"
        );
    });
}
