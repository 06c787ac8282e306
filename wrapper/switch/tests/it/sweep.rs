//! Requirement K3, last tier: a machine without any cgroup2 mount.

use std::time::Duration;

use launch_protocol::broker::SignalScope;

use crate::cell::{EXECUTE, in_cell, names_in, processes_of};
use crate::client::{Pilot, eventually};

/// Takes every cgroup mount away from this cell.
fn without_cgroups() {
    nix::mount::umount2("/sys/fs/cgroup", nix::mount::MntFlags::MNT_DETACH).expect("unmounted");
}

const ESCAPE: &str = "(setsid sh -c 'sleep 1000 & sleep 1001' &) ; (sh -c '(sleep 1002 &)' &) ; \
    echo ready; exec sleep 1004";

#[test]
fn k3_without_cgroups_everything_is_still_found_and_killed() {
    in_cell(|cell| {
        without_cgroups();
        let mut pilot = Pilot::start(cell);
        let hello = pilot.hello.clone().expect("greeted");
        assert_eq!(
            (hello.tracking.as_str(), hello.memory_source.as_str()),
            ("sweep", "proc")
        );
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, ESCAPE);
        assert_eq!(running.line(), "ready");
        eventually("five sleeps", Duration::from_secs(5), || {
            processes_of(opened.uid).len() >= 4
        });
        let usage = pilot.usage(opened.payload);
        assert!(
            usage.processes >= 4 && usage.memory_peak_bytes > 0,
            "{usage:?}"
        );
        pilot.signal(opened.payload, libc::SIGSTOP, SignalScope::All);
        pilot.signal(opened.payload, libc::SIGCONT, SignalScope::All);
        pilot.kill_to_the_end(opened.payload);
        assert!(processes_of(opened.uid).is_empty());
        assert_eq!(pilot.run(opened.payload, "echo again").0, "again\n");
        pilot.close(opened.payload);
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, ESCAPE);
        assert_eq!(running.line(), "ready");
        assert_eq!(pilot.hang_up(), Some(0));
        assert!(processes_of(opened.uid).is_empty());
        assert!(names_in(EXECUTE).is_empty());
        assert!(names_in("/run/sailplane/leases").is_empty());
    });
}

#[test]
fn k3_without_cgroups_a_mapped_account_runs_one_payload_at_a_time() {
    in_cell(|cell| {
        without_cgroups();
        let mut pilot = Pilot::start(cell);
        let first = pilot.try_open("accept 3600 full /CN=Alice").expect("opens");
        let refusal = pilot
            .try_open("accept 3600 full /CN=Alice")
            .expect_err("busy");
        assert_eq!(
            (refusal.code.as_str(), refusal.may_succeed_later),
            ("lease.busy", true)
        );
        let mut squatter = std::process::Command::new("setpriv")
            .arg(format!("--reuid={}", cell.alice))
            .args(["--clear-groups", "sleep", "1000"])
            .spawn()
            .expect("starts");
        let running = pilot.begin(first.payload, ESCAPE);
        assert_eq!(running.line(), "ready");
        pilot.close(first.payload);
        assert!(
            squatter.try_wait().expect("a child").is_none(),
            "what is not ours lives on"
        );
        squatter.kill().expect("killed");
        squatter.wait().expect("reaped");
        assert!(pilot.try_open("accept 3600 full /CN=Alice").is_ok());
    });
}

/// Processes that are never there when one looks: each forks its successor, in a session of its own, and ends.
const COMETS: &str = "exec python3 -Sc '
import os
for n in range(12):
    if os.fork() == 0:
        os.setsid()
        while True:
            if os.fork(): os._exit(0)
            try: os.setsid()
            except OSError: pass
os.write(1, b\"up\\n\")
import time
time.sleep(1000)
'";

fn kill_comets(pilot: &mut Pilot, credential: &str) {
    let opened = pilot.try_open(credential).expect("opens");
    let running = pilot.begin(opened.payload, COMETS);
    assert_eq!(running.line(), "up");
    let start = std::time::Instant::now();
    pilot.kill_to_the_end(opened.payload);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert!(processes_of(opened.uid).is_empty());
    pilot.close(opened.payload);
}

#[test]
fn k3_k5_what_forks_faster_than_one_looks_is_killed() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        assert_eq!(pilot.hello.as_ref().expect("greeted").tracking, "cgroup2");
        kill_comets(&mut pilot, "accept 3600 full /CN=Alice");
        kill_comets(&mut pilot, "accept 3600 full /CN=Bob");
    });
}

#[test]
fn k3_k5_what_forks_faster_than_one_looks_is_killed_without_cgroups_too() {
    in_cell(|cell| {
        without_cgroups();
        let mut pilot = Pilot::start(cell);
        assert_eq!(pilot.hello.as_ref().expect("greeted").tracking, "sweep");
        // An account of its own, for which the kernel can count; one that others use too is swept as well as can be.
        kill_comets(&mut pilot, "accept 3600 full /CN=Bob");
    });
}
