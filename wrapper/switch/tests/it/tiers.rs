//! Requirement K3: the same promises on hosts of each kind, made by hiding what this one has.

use std::fs;
use std::time::{Duration, Instant};

use launch_protocol::broker::{Answer, SignalScope};
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollTimeout, poll};

use crate::cell::{Cell, groups_of, in_cell, names_in, processes_of};
use crate::client::{Pilot, eventually};

/// Which hierarchies to hide, and what the helper then says it does.
const TIERS: [(&[&str], &str); 3] = [
    (&[], "cgroup2"),
    (&["cgroup2"], "freezer"),
    (&["cgroup2", "cgroup"], "sweep"),
];

/// Unmounts all hierarchies of these kinds in this cell.
fn hide(kinds: &[&str]) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
    for line in mounts.lines().rev() {
        let (left, right) = line.split_once(" - ").expect("a mount");
        let kind = right.split(' ').next().expect("a kind");
        if kinds.contains(&kind) {
            let point = left.split(' ').nth(4).expect("a mount point");
            umount2(point, MntFlags::MNT_DETACH).expect("unmounted");
        }
    }
}

/// What this machine can show of the tiers.
fn on_each_tier(test: impl Fn(&Cell, &str) + Send + Sync + Copy + 'static) {
    for (hidden, wanted) in TIERS {
        in_cell(move |cell| {
            hide(hidden);
            let found = Pilot::start(cell).hello.take().expect("greeted").tracking;
            if found == wanted {
                test(cell, wanted);
            } else {
                // A host without the old freezer has no second tier.
                assert_eq!((wanted, found.as_str()), ("freezer", "sweep"));
            }
        });
    }
}

/// Lets time pass, for what must not happen in it.
fn pass(milliseconds: u8) {
    let _ = poll(&mut [], PollTimeout::from(milliseconds));
}

fn assert_nothing_left(monitor: u32, uid: u32) {
    assert_eq!(processes_of(uid), Vec::<u32>::new());
    assert_eq!(groups_of(monitor), Vec::<std::path::PathBuf>::new());
    assert_eq!(names_in(crate::cell::EXECUTE), Vec::<String>::new());
}

/// A bomb that never stops by itself and ignores what can be ignored. Bounded, so that a failing test
/// does not take the machine down.
const BOMB: &str = "trap '' TERM HUP INT; exec python3 -c '
import os, resource, time
resource.setrlimit(resource.RLIMIT_NPROC, (400, 400))
os.write(1, b\"lit\\n\")
end = time.time() + 60
while time.time() < end:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: pass
'";

#[test]
fn k3_k5_a_fork_bomb_is_killed_on_each_tier() {
    on_each_tier(|cell, tier| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, BOMB);
        assert_eq!(running.line(), "lit");
        eventually("the bomb", Duration::from_secs(20), || {
            processes_of(opened.uid).len() > 100
        });
        let start = Instant::now();
        pilot.kill(opened.payload);
        assert!(matches!(
            pilot.event(),
            Answer::Exited { wait_status: 9, .. }
        ));
        assert!(matches!(pilot.event(), Answer::Empty { .. }));
        println!("{tier}: {:?}", start.elapsed());
        assert_eq!(processes_of(opened.uid), Vec::<u32>::new(), "{tier}");
        pilot.close(opened.payload);
        pilot.hang_up();
        assert_nothing_left(pilot.id(), opened.uid);
    });
}

#[test]
fn k4_a_program_that_forks_at_once_is_in_its_group_on_each_tier() {
    on_each_tier(|cell, tier| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let script = "(setsid sleep 1000 &); (setsid sleep 1001 &); echo up";
        let running = pilot.begin(opened.payload, script);
        assert_eq!(running.line(), "up");
        assert!(matches!(pilot.event(), Answer::Exited { .. }));
        eventually("both", Duration::from_secs(5), || {
            pilot.usage(opened.payload).processes == 2
        });
        let groups = processes_of(opened.uid).into_iter().map(|pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("alive");
            text.matches(&format!("sailplane-{}-", pilot.id())).count()
        });
        let least = usize::from(tier != "sweep");
        assert!(groups.into_iter().all(|count| count >= least), "{tier}");
        assert_eq!(pilot.hang_up(), Some(0));
        assert_nothing_left(pilot.id(), opened.uid);
    });
}

#[test]
fn k8_a_suspended_group_uses_no_time_and_can_be_killed_on_each_tier() {
    on_each_tier(|cell, tier| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let script = "(setsid sh -c 'while :; do :; done' &); echo up; while :; do :; done";
        let running = pilot.begin(opened.payload, script);
        assert_eq!(running.line(), "up");
        let mut time = || {
            let usage = pilot.usage(opened.payload);
            usage.user_usec + usage.system_usec
        };
        let first = time();
        eventually("some time", Duration::from_secs(10), || {
            time() > first + 50_000
        });
        pilot.signal(opened.payload, libc::SIGSTOP, SignalScope::All);
        pass(100);
        let mut time = || {
            let usage = pilot.usage(opened.payload);
            usage.user_usec + usage.system_usec
        };
        let stopped = time();
        pass(255);
        assert_eq!(time(), stopped, "{tier}");
        pilot.signal(opened.payload, libc::SIGCONT, SignalScope::All);
        let mut time = || {
            let usage = pilot.usage(opened.payload);
            usage.user_usec + usage.system_usec
        };
        eventually("more time", Duration::from_secs(10), || {
            time() > stopped + 50_000
        });
        pilot.signal(opened.payload, libc::SIGSTOP, SignalScope::All);
        pilot.kill(opened.payload);
        assert!(matches!(
            pilot.event(),
            Answer::Exited { wait_status: 9, .. }
        ));
        assert!(matches!(pilot.event(), Answer::Empty { .. }), "{tier}");
        pilot.close(opened.payload);
        pilot.hang_up();
        assert_nothing_left(pilot.id(), opened.uid);
    });
}

#[test]
fn k7_what_there_is_a_controller_for_is_counted() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let features = pilot.hello.clone().expect("greeted").features;
        let has = |name: &str| features.iter().any(|feature| feature == name);
        let opened = pilot.open();
        let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.5 & done; wait";
        assert_eq!(pilot.run(opened.payload, script).1, 0);
        let usage = pilot.usage(opened.payload);
        assert_eq!(
            usage.processes_peak.is_some(),
            has("pids-peak"),
            "{usage:?}"
        );
        if let Some(peak) = usage.processes_peak {
            assert!((10..20).contains(&peak), "{usage:?}");
        }
        assert_eq!(usage.io_read_bytes.is_some(), has("io-usage"), "{usage:?}");
        assert_eq!(usage.oom_kills.is_some(), has("memory-limit"), "{usage:?}");
        pilot.close(opened.payload);
    });
}
