//! What a job asks for and what the site allows of it.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use launch_protocol::agent::{Reply, Request};
use launch_protocol::exec::{ExecRequest, ExecStep, IoClass, IoPriority, Limit, UNLIMITED};

use crate::cell::{Cell, in_cell, names_in, own};
use crate::client::{Agent, Pilot};

fn shell(script: &str) -> ExecRequest {
    ExecRequest {
        path: "/bin/sh".into(),
        argv: vec![b"sh".to_vec(), b"-c".to_vec(), script.into()],
        env: vec![b"PATH=/usr/bin:/bin".to_vec()],
        umask: 0o022,
        ..ExecRequest::default()
    }
}

fn output(pilot: &mut Pilot, payload: u32, request: &ExecRequest) -> String {
    let agent = pilot.spawn(payload);
    let running = agent
        .exec(request)
        .unwrap_or_else(|failure| panic!("{failure:?}"));
    let text = running.output();
    pilot.event();
    pilot.event();
    text
}

#[test]
fn a_job_gets_the_priorities_and_processors_it_asks_for() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let request = ExecRequest {
            ionice: Some(IoPriority {
                class: IoClass::BestEffort,
                level: 6,
            }),
            processors: vec![0],
            nice: 3,
            ..shell("ionice; grep Cpus_allowed_list /proc/self/status; nice")
        };
        let text = output(&mut pilot, opened.payload, &request);
        assert_eq!(text, "best-effort: prio 6\nCpus_allowed_list:\t0\n3\n");
        let request = ExecRequest {
            ionice: Some(IoPriority {
                class: IoClass::Idle,
                level: 0,
            }),
            ..shell("ionice")
        };
        assert_eq!(output(&mut pilot, opened.payload, &request), "idle\n");
        let request = ExecRequest {
            processors: vec![8000],
            ..shell("true")
        };
        let Err(failure) = pilot.spawn(opened.payload).exec(&request) else {
            panic!("there is no such processor")
        };
        assert_eq!(failure.step, ExecStep::Limits);
        assert!(failure.message.contains("8000"), "{}", failure.message);
    });
}

#[test]
fn no_job_gets_more_than_the_site_allows() {
    in_cell(|cell| {
        cell.configure("limits = nofile=200 fsize=1M core=4096\nnice_min = 5\n");
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let limit = |resource, soft| Limit {
            resource,
            soft,
            hard: UNLIMITED,
        };
        let request = ExecRequest {
            nice: 1,
            core_limit: Some(UNLIMITED),
            rlimits: vec![
                limit(libc::RLIMIT_NOFILE, UNLIMITED),
                limit(libc::RLIMIT_CPU, 77),
            ],
            ..shell(
                "ulimit -Sn; ulimit -Hn; ulimit -Ht; ulimit -St; ulimit -Hf; ulimit -Hc; nice; \
                 ulimit -n 201 2>/dev/null || echo capped",
            )
        };
        let text = output(&mut pilot, opened.payload, &request);
        // Files are counted in blocks of 512 bytes here, core files too.
        assert_eq!(text, "200\n200\nunlimited\n77\n2048\n8\n6\ncapped\n");
    });
}

#[test]
fn s12_s15_a_payload_has_no_terminal_and_cannot_type_into_one() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let script = "python3 -c '
import fcntl, os, pty, termios
try: open(\"/dev/tty\"); print(\"a terminal\")
except OSError: print(\"none\")
print(sorted(int(n) for n in os.listdir(\"/proc/self/fd\"))[:3])
'";
        let (text, _) = pilot.run(opened.payload, script);
        assert_eq!(text, "none\n[0, 1, 2]\n");
        // A terminal on standard input is not the controlling one unless that was asked for, so that
        // nothing can be typed into it.
        let pty = nix::pty::openpty(None, None).expect("a terminal");
        let typist = "python3 -c '
import fcntl, os, termios
try: fcntl.ioctl(0, termios.TIOCSTI, b\"x\"); print(\"typed\")
except OSError as error: print(\"refused\")
try: os.close(os.open(\"/dev/tty\", os.O_RDWR)); print(\"controls\")
except OSError: print(\"does not control\")
'";
        for (terminal, wanted) in [(false, "refused\ndoes not control\n"), (true, "controls\n")] {
            let agent = pilot.spawn(opened.payload);
            let request = ExecRequest {
                terminal,
                ..shell(typist)
            };
            let running = agent.exec_on(&request, pty.slave.as_raw_fd());
            let text = running
                .unwrap_or_else(|failure| panic!("{failure:?}"))
                .output();
            assert!(text.ends_with(wanted), "{terminal}: {text}");
            pilot.event();
            pilot.event();
        }
    });
}

#[test]
fn s13_programs_behind_links_can_be_forbidden() {
    in_cell(|cell| {
        cell.configure("prohibit_exec_via_symlink = yes\n");
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let program = fs::canonicalize("/bin/sh").expect("there");
        symlink(&program, opened.sandbox_path().join("link")).expect("linked");
        let request = ExecRequest {
            path: "link".into(),
            ..shell("echo ran")
        };
        let Err(failure) = pilot.spawn(opened.payload).exec(&request) else {
            panic!("runs")
        };
        assert_eq!((failure.errno, failure.step), (libc::ELOOP, ExecStep::Exec));
        assert!(
            failure.message.contains("it is a link"),
            "{}",
            failure.message
        );
        pilot.event();
        pilot.event();
        let request = ExecRequest {
            path: program,
            ..shell("echo ran")
        };
        assert_eq!(output(&mut pilot, opened.payload, &request), "ran\n");
    });
}

#[test]
fn memory_and_process_limits_hold_where_there_are_controllers() {
    in_cell(|cell| {
        cell.configure("memory_limit = 64M\nprocess_limit = 20\n");
        let mut pilot = Pilot::start(cell);
        let features = pilot.hello.clone().expect("greeted").features;
        let has = |name: &str| features.iter().any(|feature| feature == name);
        let opened = pilot.open();
        if has("memory-limit") {
            let script = "python3 -c 'x = bytearray(b\"x\") * (256 << 20); print(len(x))'; echo $?";
            let (text, _) = pilot.run(opened.payload, script);
            assert_eq!(text.lines().last(), Some("137"), "{text}");
            let usage = pilot.usage(opened.payload);
            assert!(usage.oom_kills >= Some(1), "{usage:?}");
            assert!(usage.memory_peak_bytes <= 64 << 20, "{usage:?}");
        }
        if has("pids-limit") {
            let script = "python3 -c '
import os, time
n = 0
try:
    while n < 100:
        if os.fork() == 0: time.sleep(1); os._exit(0)
        n += 1
except OSError: pass
print(n)'";
            let (text, _) = pilot.run(opened.payload, script);
            let started: u32 = text.trim().parse().expect("a number");
            assert!((10..20).contains(&started), "{started}");
        }
        pilot.close(opened.payload);
    });
}

fn put_proxy(agent: &Agent, path: &str, make_dir: bool) -> Reply {
    let mut file = tempfile::tempfile_in("/tmp").expect("a file");
    file.write_all(b"secret").expect("written");
    let request = Request::PutProxy {
        path: path.into(),
        make_dir,
    };
    let packet = request.encode().expect("valid");
    agent.socket.send(&packet, &[file.as_raw_fd()]);
    agent.reply().0
}

fn refused(reply: Reply) -> String {
    match reply {
        Reply::Failed { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

fn home(cell: &Cell, uid: u32) -> String {
    let home = format!("/scratch/home-{}", cell.first);
    fs::create_dir(&home).expect("made");
    own(&home, uid, 0o700);
    home
}

#[test]
fn g6_the_credentials_copy_is_private_and_replaces_only_its_own() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let home = home(cell, opened.uid);
        let agent = pilot.spawn(opened.payload);
        let path = format!("{home}/x509");
        for _ in 0..2 {
            let reply = put_proxy(&agent, &path, false);
            assert_eq!(
                reply,
                Reply::ProxyPut {
                    path: path.clone().into()
                }
            );
            let facts = fs::metadata(&path).expect("there");
            assert_eq!((facts.uid(), facts.mode() & 0o7777), (opened.uid, 0o600));
            assert_eq!(fs::read_to_string(&path).expect("readable"), "secret");
        }
        let Reply::ProxyPut { path: unique } =
            put_proxy(&agent, &format!("{home}/new/proxy.XXXXXX"), true)
        else {
            panic!("not put")
        };
        assert!(unique.starts_with(format!("{home}/new")) && !unique.ends_with("proxy.XXXXXX"));
        let mode = fs::metadata(format!("{home}/new")).expect("there").mode();
        assert_eq!(mode & 0o7777, 0o700);
        // Somebody else's file, a link, a directory, are left alone.
        fs::write(format!("{home}/roots"), "keep").expect("written");
        symlink("/etc/passwd", format!("{home}/link")).expect("linked");
        for name in ["roots", "link", "new"] {
            let message = refused(put_proxy(&agent, &format!("{home}/{name}"), false));
            assert!(message.contains("left alone"), "{message}");
        }
        assert_eq!(
            fs::read_to_string(format!("{home}/roots")).expect("there"),
            "keep"
        );
        // Directories that others can write, or that are others'.
        fs::set_permissions(&home, fs::Permissions::from_mode(0o770)).expect("mode");
        for path in [
            path.as_str(),
            "/tmp/proxy",
            "/scratch/proxy",
            "relative",
            "/no/where/x",
        ] {
            refused(put_proxy(&agent, path, false));
        }
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("mode");
        assert_eq!(names_in(&home), ["link", "new", "roots", "x509"]);
    });
}

#[test]
fn g6_a_full_disk_leaves_the_old_copy_and_nothing_else() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let home = home(cell, opened.uid);
        let none = None::<&str>;
        let options = Some("size=8k,mode=755");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(none, home.as_str(), Some("tmpfs"), flags, options).expect("mounted");
        own(&home, opened.uid, 0o700);
        let agent = pilot.spawn(opened.payload);
        let path = format!("{home}/x509");
        assert!(matches!(
            put_proxy(&agent, &path, false),
            Reply::ProxyPut { .. }
        ));
        fs::write(format!("{home}/fill"), vec![0; 4096]).expect("fits");
        let message = refused(put_proxy(&agent, &path, false));
        assert!(message.contains("No space left"), "{message}");
        assert_eq!(fs::read_to_string(&path).expect("still there"), "secret");
        assert_eq!(names_in(&home), ["fill", "x509"]);
        drop(agent);
        pilot.hang_up();
        nix::mount::umount(home.as_str()).expect("unmounted");
    });
}

#[test]
fn g13_the_callers_directory_is_kept_if_the_account_may_enter_it() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        fs::create_dir("/scratch/open").expect("made");
        own("/scratch/open", cell.pilot, 0o755);
        fs::create_dir("/scratch/closed").expect("made");
        own("/scratch/closed", cell.pilot, 0o700);
        for (here, wanted) in [
            ("/scratch/open", "/scratch/open\n"),
            ("/scratch/closed", "/\n"),
        ] {
            let dir = fs::File::open(here).expect("opened");
            let agent = pilot.spawn(opened.payload);
            let running = agent.exec_here(&shell("pwd"), dir.as_raw_fd());
            let text = running
                .unwrap_or_else(|failure| panic!("{failure:?}"))
                .output();
            assert_eq!(text, wanted);
            pilot.event();
            pilot.event();
        }
    });
}
