//! `sailplane-switch --sweep`: accounts that nobody uses have left nothing, and the others are not
//! touched.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use crate::cell::{Cell, EXECUTE, LIBEXEC, in_cell, names_in, own, processes_of, put};
use crate::client::{Pilot, eventually};

fn sweep(words: &[&str]) -> Output {
    Command::new(format!("{LIBEXEC}/sailplane-switch"))
        .arg("--sweep")
        .args(words)
        .output()
        .expect("starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs something as a uid, without any broker.
fn run_as(uid: u32, script: &str) {
    let status = Command::new("setpriv")
        .arg(format!("--reuid={uid}"))
        .arg(format!("--regid={uid}"))
        .args(["--clear-groups", "sh", "-c", script])
        .status()
        .expect("starts");
    assert!(status.success(), "{script}");
}

const LITTER: &str = "echo x >/tmp/x; mkdir -p /var/tmp/d/e; echo y >/var/tmp/d/e/y; chmod 0 /var/tmp/d; \
    echo z >/dev/shm/z; echo s >/tmp/shared/s; ipcmk -M 4096 >/dev/null; ipcmk -Q >/dev/null; \
    setsid sh -c 'trap \"\" TERM HUP; sleep 1000 & sleep 1001' >/dev/null 2>&1 &";

fn furnish(cell: &Cell) {
    fs::create_dir("/tmp/shared").expect("made");
    own("/tmp/shared", 0, 0o1777);
    put("/tmp/roots", "keep", 0o644);
    put("/tmp/shared/pilots", "keep", 0o644);
    own("/tmp/shared/pilots", cell.pilot, 0o644);
    fs::create_dir_all("/var/spool/cron/crontabs").expect("made");
    own("/var/spool/cron/crontabs", 0, 0o1730);
    for (name, uid) in [("orphan", cell.first), ("pilot", cell.pilot)] {
        let path = format!("/var/spool/cron/crontabs/{name}");
        put(&path, "* * * * * true\n", 0o600);
        own(&path, uid, 0o600);
    }
}

fn assert_only_others_are_left() {
    assert_eq!(names_in("/tmp"), ["roots", "shared"]);
    assert_eq!(names_in("/tmp/shared"), ["pilots"]);
    assert!(names_in("/var/tmp").is_empty() && names_in("/dev/shm").is_empty());
    assert_eq!(names_in("/var/spool/cron/crontabs"), ["pilot"]);
}

#[test]
fn k9_accounts_that_nobody_uses_have_left_nothing() {
    in_cell(|cell| {
        furnish(cell);
        run_as(cell.first, LITTER);
        eventually("its processes", Duration::from_secs(5), || {
            processes_of(cell.first).len() >= 3
        });
        let output = sweep(&[]);
        assert!(output.status.success(), "{output:?}");
        let said = text(&output);
        let name = format!("uid{}", cell.first);
        let line = said.lines().find(|line| line.starts_with(&name));
        let line = line.unwrap_or_else(|| panic!("{said}"));
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(words[2..], ["3", "6", "2", "1", "0"], "{said}");
        assert!(said.contains("4 accounts looked at, 0 in use"), "{said}");
        assert_eq!(processes_of(cell.first), Vec::<u32>::new());
        assert_only_others_are_left();
        let objects = fs::read_to_string("/proc/sysvipc/shm").expect("readable");
        assert!(!objects.contains(&cell.first.to_string()), "{objects}");
        // The second time there is nothing to say.
        let output = sweep(&["--format", "json"]);
        let wanted = "{\"looked_at\":4,\"in_use\":0,\"recovered\":0,\"swept\":[]}\n";
        assert_eq!(text(&output), wanted);
        assert!(names_in("/run/sailplane/leases").is_empty());
    });
}

#[test]
fn k9_what_is_in_use_is_not_touched() {
    in_cell(|cell| {
        furnish(cell);
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let script = "echo mine >/tmp/mine; echo up; sleep 1000";
        let running = pilot.begin(opened.payload, script);
        assert_eq!(running.line(), "up");
        let output = sweep(&["--pool"]);
        assert!(output.status.success(), "{output:?}");
        let said = text(&output);
        assert!(said.contains("1 in use"), "{said}");
        assert!(!said.contains(&format!("uid{} ", opened.uid)), "{said}");
        assert_eq!(fs::read_to_string("/tmp/mine").expect("there"), "mine\n");
        assert!(!processes_of(opened.uid).is_empty());
        pilot.close(opened.payload);
        // An account of the grid-mapfile is somebody's own: never swept.
        run_as(cell.alice, "echo alices >/tmp/alices");
        assert!(sweep(&["--pool"]).status.success());
        assert!(names_in("/tmp").contains(&"alices".to_owned()));
    });
}

#[test]
fn k10_the_sweeper_recovers_what_a_dead_broker_and_its_guardian_left() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, "(setsid sleep 1000 &); echo up; sleep 1000");
        assert_eq!(running.line(), "up");
        let children = format!("/proc/{0}/task/{0}/children", pilot.id());
        let children = fs::read_to_string(children).expect("readable");
        let own_pid = pilot.id().to_string();
        for pid in children.split_whitespace().chain([own_pid.as_str()]) {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            if status.contains("Uid:\t0\t") {
                let _ = Command::new("kill").args(["-9", pid]).status();
            }
        }
        assert_eq!(pilot.end(), None);
        let output = sweep(&["--format", "json"]);
        assert!(text(&output).contains("\"recovered\":1"), "{output:?}");
        assert_eq!(processes_of(opened.uid), Vec::<u32>::new());
        assert!(names_in(EXECUTE).is_empty());
        assert!(names_in("/run/sailplane/leases").is_empty());
    });
}

#[test]
fn only_root_sweeps_and_only_in_words_that_are_understood() {
    in_cell(|cell| {
        let as_pilot = Command::new("setpriv")
            .arg(format!("--reuid={}", cell.pilot))
            .arg(format!("--regid={}", cell.pilot))
            .arg("--clear-groups")
            .arg(format!("{LIBEXEC}/sailplane-switch"))
            .arg("--sweep")
            .output()
            .expect("starts");
        assert_eq!(as_pilot.status.code(), Some(203), "{as_pilot:?}");
        for words in [&["--nonsense"][..], &["--format"], &["--format", "xml"]] {
            assert_eq!(sweep(words).status.code(), Some(201), "{words:?}");
        }
    });
}
