//! The site's programs before and after a payload, when they do not do as they should.

use std::fs;
use std::time::{Duration, Instant};

use launch_protocol::broker::RefusalClass;

use crate::cell::{Cell, EXECUTE, groups_of, in_cell, names_in, own, processes_of, put};
use crate::client::{Pilot, eventually};

const SOON: Duration = Duration::from_secs(10);
const NOBODY: u32 = 65_534;

/// Two programs of the site and what else is configured.
fn furnish(cell: &Cell, prologue: &str, epilogue: &str, lines: &str) {
    put(
        "/opt/site/prologue",
        &format!("#!/bin/sh\n{prologue}\n"),
        0o755,
    );
    put(
        "/opt/site/epilogue",
        &format!("#!/bin/sh\n{epilogue}\n"),
        0o755,
    );
    fs::create_dir_all("/var/site").expect("made");
    own("/var/site", NOBODY, 0o777);
    cell.configure(&format!(
        "prologue = /opt/site/prologue\nepilogue = /opt/site/epilogue\n{lines}"
    ));
}

fn said(name: &str) -> String {
    fs::read_to_string(format!("/var/site/{name}")).unwrap_or_default()
}

fn assert_nothing_left(monitor: u32) {
    assert_eq!(groups_of(monitor), Vec::<std::path::PathBuf>::new());
    assert_eq!(names_in(EXECUTE), Vec::<String>::new());
    assert_eq!(names_in("/run/sailplane/leases"), Vec::<String>::new());
}

#[test]
fn a_prologue_that_fails_refuses_the_payload_in_its_own_words() {
    in_cell(|cell| {
        for (script, code, class, wanted) in [
            (
                "echo the scratch disk is bad >&2; exit 1",
                "hook.prologue",
                RefusalClass::SitePermanent,
                "status 1: the scratch disk is bad",
            ),
            (
                "echo not now >&2; exit 75",
                "hook.prologue",
                RefusalClass::SiteTransient,
                "status 75: not now",
            ),
            (
                "kill -9 $$",
                "hook.prologue",
                RefusalClass::SitePermanent,
                "killed by signal 9",
            ),
            (
                "printf '\\033[2Jx\\n' >&2; exit 2",
                "hook.prologue",
                RefusalClass::SitePermanent,
                "status 2: \\u{1b}[2Jx",
            ),
        ] {
            furnish(cell, script, "echo after >>/var/site/after", "");
            let mut pilot = Pilot::start(cell);
            let refusal = pilot
                .try_open("accept 3600 full /CN=Bob")
                .expect_err("refused");
            assert_eq!((refusal.code.as_str(), refusal.class), (code, class));
            assert!(refusal.message.contains(wanted), "{}", refusal.message);
            eventually("it is taken down", SOON, || names_in(EXECUTE).is_empty());
            assert_eq!(pilot.hang_up(), Some(0));
            assert_nothing_left(pilot.id());
        }
        assert_eq!(said("after"), "after\n".repeat(4));
    });
}

#[test]
fn a_hook_ends_at_its_limit_with_everything_it_has_started() {
    in_cell(|cell| {
        let script = "trap '' TERM; (setsid sleep 1000 &); (setsid sleep 1001 &); sleep 1002";
        furnish(cell, script, "true", "prologue_timeout = 1\n");
        let before = processes_of(NOBODY).len();
        let mut pilot = Pilot::start(cell);
        let start = Instant::now();
        let refusal = pilot
            .try_open("accept 3600 full /CN=Bob")
            .expect_err("refused");
        assert!(
            refusal.message.contains("longer than it may"),
            "{}",
            refusal.message
        );
        assert!(start.elapsed() >= Duration::from_secs(1));
        assert_eq!(pilot.hang_up(), Some(0));
        assert_nothing_left(pilot.id());
        let sleeping = |pid: &u32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name == "sleep\n"
        };
        let left: Vec<_> = processes_of(NOBODY).into_iter().filter(sleeping).collect();
        assert_eq!(left, Vec::<u32>::new(), "{before} before");
    });
}

#[test]
fn s6_a_hook_that_others_can_write_or_that_would_be_root_is_refused() {
    in_cell(|cell| {
        furnish(cell, "true", "true", "");
        own("/opt/site/prologue", cell.pilot, 0o755);
        let mut pilot = Pilot::start(cell);
        let refusal = pilot
            .try_open("accept 3600 full /CN=Bob")
            .expect_err("refused");
        assert_eq!(refusal.code, "hook.prologue");
        drop(pilot);
        furnish(cell, "true", "true", "prologue_user = root\n");
        own("/opt/site/prologue", 0, 0o755);
        let mut pilot = Pilot::start(cell);
        let refusal = pilot
            .try_open("accept 3600 full /CN=Bob")
            .expect_err("refused");
        assert_eq!(refusal.code, "hook.prologue");
    });
}

#[test]
fn k2_a_pilot_that_goes_while_the_prologue_runs_leaves_nothing() {
    in_cell(|cell| {
        furnish(cell, "echo began >/var/site/began; sleep 1000", "true", "");
        let mut pilot = Pilot::start(cell);
        pilot.send_open("accept 3600 full /CN=Bob");
        eventually("the prologue", SOON, || !said("began").is_empty());
        assert_eq!(pilot.hang_up(), Some(0));
        assert_nothing_left(pilot.id());
    });
}
