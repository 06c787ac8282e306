//! What a payload sees of the machine when the site isolates it, and that all else stays as it is.

use std::fs;
use std::path::Path;
use std::time::Duration;

use launch_protocol::broker::{Answer, SignalScope};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cell::{EXECUTE, children, groups_of, in_cell, names_in, own, processes_of, put};
use crate::client::{Pilot, eventually};

const SOON: Duration = Duration::from_secs(10);

fn assert_nothing_left(monitor: u32, uid: u32) {
    assert_eq!(processes_of(uid), Vec::<u32>::new());
    assert_eq!(groups_of(monitor), Vec::<std::path::PathBuf>::new());
    assert_eq!(names_in(EXECUTE), Vec::<String>::new());
    assert_eq!(names_in("/run/sailplane/leases"), Vec::<String>::new());
}

/// Processes called `sailplane-job` that run as nobody: first ones of somebody's numbers.
fn first_processes(monitor: u32) -> usize {
    let is_first = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.contains("Uid:\t65534")
    };
    let jobs = children(monitor, "sailplane-job");
    jobs.into_iter().filter(is_first).count()
}

#[test]
fn s21_a_payload_sees_its_own_processes_only() {
    in_cell(|cell| {
        cell.configure("private_pid = yes\n");
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let mut other = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("starts");
        // Asked without starting anything, so that the answer is exact.
        let script = format!(
            "cd /proc; echo [0-9]*; echo $$; read name <1/comm; echo $name; \
             kill -0 {} 2>/dev/null || echo unseen",
            other.id()
        );
        let (output, status) = pilot.run(opened.payload, &script);
        assert_eq!(
            (output.as_str(), status),
            ("1 2\n2\nsailplane-job\nunseen\n", 0)
        );
        // Everything else is as without.
        let (output, _) = pilot.run(opened.payload, "id -u; ulimit -Hn >/dev/null; pwd");
        let wanted = format!("{}\n{}\n", opened.uid, opened.sandbox_path().display());
        assert_eq!(output, wanted);
        pilot.close(opened.payload);
        other.kill().expect("killed");
        other.wait().expect("reaped");
        assert_eq!(pilot.hang_up(), Some(0));
        assert_nothing_left(pilot.id(), opened.uid);
    });
}

#[test]
fn k7_exit_codes_signals_and_usage_are_the_payloads_own_in_its_own_numbers() {
    in_cell(|cell| {
        cell.configure("private_pid = yes\n");
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        for (script, wanted) in [
            ("exit 0", 0),
            ("exit 3", 3 << 8),
            ("exit 255", 255 << 8),
            ("kill -TERM $$; sleep 10", libc::SIGTERM),
            ("kill -KILL $$; sleep 10", libc::SIGKILL),
        ] {
            let (_, status) = pilot.run(opened.payload, script);
            assert_eq!(status & !0x80, wanted, "{script}");
        }
        // An orphan is counted, waited for, and reaped by the first process.
        let script = "(setsid python3 -c '
import time
while time.process_time() < 0.3: pass
' &) ; exit 7";
        let (_, status) = pilot.run(opened.payload, script);
        assert_eq!(status, 7 << 8);
        let usage = pilot.usage(opened.payload);
        assert!(usage.user_usec + usage.system_usec > 280_000, "{usage:?}");
        assert_eq!(usage.processes, 0);
        pilot.close(opened.payload);
        eventually("the first processes end", SOON, || {
            // One waits with the nest that is ready for the next payload.
            first_processes(pilot.id()) <= 1
        });
        assert_eq!(pilot.hang_up(), Some(0));
        assert_nothing_left(pilot.id(), opened.uid);
    });
}

#[test]
fn k5_signals_and_kills_reach_a_payload_with_its_own_numbers() {
    in_cell(|cell| {
        cell.configure("private_pid = yes\n");
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let script = "(setsid sleep 1000 &); exec python3 -c '
import os, signal
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b\"got\\n\"))
os.write(1, b\"up\\n\")
while True: signal.pause()
'";
        let running = pilot.begin(opened.payload, script);
        assert_eq!(running.line(), "up");
        pilot.signal(opened.payload, libc::SIGUSR1, SignalScope::Leader);
        assert_eq!(running.line(), "got");
        pilot.kill(opened.payload);
        assert!(matches!(
            pilot.event(),
            Answer::Exited { wait_status: 9, .. }
        ));
        assert!(matches!(pilot.event(), Answer::Empty { .. }));
        assert_eq!(processes_of(opened.uid), Vec::<u32>::new());
        pilot.close(opened.payload);
        assert_eq!(pilot.hang_up(), Some(0));
        assert_nothing_left(pilot.id(), opened.uid);
    });
}

#[test]
fn k2_the_monitors_death_is_the_payloads_with_its_own_numbers() {
    in_cell(|cell| {
        cell.configure("private_pid = yes\nprivate_tmp = yes\n");
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let script =
            "echo x >/tmp/file; (setsid sleep 1000 &); (setsid sleep 1001 &); echo up; sleep 1002";
        let running = pilot.begin(opened.payload, script);
        assert_eq!(running.line(), "up");
        // Everything of root's, so that nobody is left to clean up: the kernel must do it.
        let list = format!("/proc/{0}/task/{0}/children", pilot.id());
        let list = fs::read_to_string(list).expect("readable");
        for pid in list.split_whitespace() {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            if status.contains("Uid:\t0\t") {
                let _ = kill(
                    Pid::from_raw(pid.parse().expect("a number")),
                    Signal::SIGKILL,
                );
            }
        }
        let monitor = Pid::from_raw(pilot.id().cast_signed());
        kill(monitor, Signal::SIGKILL).expect("sent");
        assert_eq!(pilot.end(), None);
        eventually("all of it dies", SOON, || {
            processes_of(opened.uid).is_empty()
        });
        // And the next broker removes what is left, the private /tmp included.
        let mut next = Pilot::start(cell);
        assert_eq!(next.hang_up(), Some(0));
        assert_nothing_left(pilot.id(), opened.uid);
    });
}

#[test]
fn a_payload_has_its_own_tmp() {
    in_cell(|cell| {
        cell.configure("private_tmp = yes\n");
        fs::write("/tmp/outside", "").expect("written");
        fs::write("/var/tmp/outside", "").expect("written");
        let mut pilot = Pilot::start(cell);
        let (one, two) = (pilot.open(), pilot.open());
        let script = "ls -A /tmp /var/tmp; echo mine >/tmp/a; echo too >/var/tmp/b; mkdir -m 0 /tmp/c; \
            cat /tmp/a /var/tmp/b; ls /tmp";
        let (output, status) = pilot.run(one.payload, script);
        assert_eq!(
            (output.as_str(), status),
            ("/tmp:\n\n/var/tmp:\nmine\ntoo\na\nc\n", 0)
        );
        // It stays until the payload is closed, and no other payload sees it.
        assert_eq!(pilot.run(one.payload, "cat /tmp/a").0, "mine\n");
        let (output, _) = pilot.run(two.payload, "ls -A /tmp /var/tmp");
        assert_eq!(output, "/tmp:\n\n/var/tmp:\n");
        assert_eq!(names_in("/tmp"), ["outside"]);
        assert_eq!(names_in("/var/tmp"), ["outside"]);
        // Nor anybody else.
        let dirs = names_in(EXECUTE);
        assert_eq!(dirs.len(), 6, "{dirs:?}");
        for name in &dirs {
            use std::os::unix::fs::MetadataExt as _;
            let facts = fs::metadata(Path::new(EXECUTE).join(name)).expect("there");
            assert_eq!(facts.mode() & 0o7777, 0o700, "{name}");
        }
        pilot.close(one.payload);
        assert_eq!(names_in(EXECUTE).len(), 3);
        assert_eq!(pilot.hang_up(), Some(0));
        assert_nothing_left(pilot.id(), one.uid);
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
        assert!(!mounts.contains(EXECUTE), "{mounts}");
    });
}

#[test]
fn s9_a_pilot_cannot_exchange_the_directory_behind_the_payloads_tmp() {
    in_cell(|cell| {
        cell.configure("private_tmp = yes\n");
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        fs::create_dir("/scratch/bait").expect("made");
        own("/scratch/bait", opened.uid, 0o755);
        let tmp = format!("{}.tmp", opened.sandbox_path().display());
        fs::rename(&tmp, format!("{tmp}.away")).expect("the pilot may");
        std::os::unix::fs::symlink("/scratch/bait", &tmp).expect("linked");
        // The first agent is made when the payload is opened, and may have been quicker than we.
        let message = loop {
            let (_, agent) = pilot.try_spawn(opened.payload).expect("spawns");
            match agent.reply().0 {
                launch_protocol::agent::Reply::Trouble { message, .. } => break message,
                other => assert_eq!(other, launch_protocol::agent::Reply::Ready),
            }
            drop(agent);
            pilot.event();
            pilot.event();
        };
        assert!(message.contains("/tmp"), "{message}");
        assert!(names_in("/scratch/bait").is_empty());
    });
}

#[test]
fn a_payload_runs_in_another_root_directory() {
    in_cell(|cell| {
        cell.configure("chroot = /image\nprivate_tmp = yes\nprivate_pid = yes\n");
        for dir in [
            "tmp",
            "var/tmp",
            "proc",
            "dev",
            "etc",
            "scratch",
            "usr",
            "root-only",
        ] {
            fs::create_dir_all(format!("/image/{dir}")).expect("made");
        }
        put("/image/etc/where", "image\n", 0o644);
        put("/image/scratch/covered", "", 0o644);
        own("/image/root-only", 0, 0o700);
        // The image's programs are the machine's.
        let bind = nix::mount::MsFlags::MS_BIND | nix::mount::MsFlags::MS_REC;
        let none = None::<&str>;
        nix::mount::mount(Some("/usr"), "/image/usr", none, bind, none).expect("bound");
        for dir in ["bin", "lib", "lib64"] {
            if let Ok(target) = fs::read_link(format!("/{dir}")) {
                std::os::unix::fs::symlink(target, format!("/image/{dir}")).expect("linked");
            }
        }
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let script = "cat /etc/where; pwd; ls -A .. /scratch; echo x >file; ls /proc/1/comm; \
            : >/tmp/t; ls /root-only 2>/dev/null || echo closed; ls /opt 2>/dev/null || echo no opt";
        let (output, status) = pilot.run(opened.payload, script);
        let sandbox = opened.sandbox_path().display().to_string();
        let name = opened
            .sandbox_path()
            .file_name()
            .expect("a name")
            .to_string_lossy();
        let wanted = format!(
            "image\n{sandbox}\n..:\n{name}\n\n/scratch:\npilot\n/proc/1/comm\nclosed\nno opt\n"
        );
        assert_eq!((output, status), (wanted, 0));
        assert!(opened.sandbox_path().join("file").exists());
        assert!(names_in("/image/tmp").is_empty());
        pilot.close(opened.payload);
        assert_eq!(pilot.hang_up(), Some(0));
        assert_nothing_left(pilot.id(), opened.uid);
    });
}

#[test]
fn s6_another_root_directory_that_is_not_roots_alone_is_refused() {
    in_cell(|cell| {
        cell.configure("chroot = /image\n");
        fs::create_dir("/image").expect("made");
        own("/image", cell.pilot, 0o755);
        let mut pilot = Pilot::start(cell);
        let Ok(opened) = pilot.try_open("accept 3600 full /CN=Bob") else {
            return;
        };
        let (_, agent) = pilot.try_spawn(opened.payload).expect("spawns");
        assert!(matches!(
            agent.reply().0,
            launch_protocol::agent::Reply::Trouble { .. }
        ));
    });
}
