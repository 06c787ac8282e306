//! Programs of the site before and after each payload.

use std::fs;
use std::time::{Duration, Instant};

use crate::cell::{in_cell, names_in, put};
use crate::client::Pilot;

const LINES: &str = "prologue = /opt/sailplane/before\nprologue_timeout = 2\n\
    epilogue = /opt/sailplane/after\nepilogue_user = alice\n";

fn hook(name: &str, script: &str) {
    put(
        format!("/opt/sailplane/{name}"),
        &format!("#!/bin/sh\n{script}\n"),
        0o755,
    );
}

#[test]
fn hooks_run_before_and_after_a_payload_as_somebody_else() {
    in_cell(|cell| {
        cell.configure(LINES);
        hook(
            "before",
            "id -u >/tmp/before; env | grep SAILPLANE_ | sort >>/tmp/before",
        );
        hook("after", "id -u >/tmp/after; sleep 1000 & exit 1");
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let before = fs::read_to_string("/tmp/before").expect("it has run");
        let sandbox = opened.sandbox_path().display();
        let uid = opened.uid;
        let wanted = format!(
            "65534\nSAILPLANE_ACCOUNT=uid{uid}\nSAILPLANE_GID={uid}\nSAILPLANE_HOOK=prologue\n\
             SAILPLANE_IDENTITY=/CN=Bob\nSAILPLANE_JOB=1.0\nSAILPLANE_SANDBOX={sandbox}\nSAILPLANE_UID={uid}\n"
        );
        assert_eq!(before, wanted);
        pilot.run(opened.payload, "test ! -e /tmp/after");
        // What it says or leaves does not hold up the close.
        pilot.close(opened.payload);
        let after = fs::read_to_string("/tmp/after").expect("it has run");
        assert_eq!(after, format!("{}\n", cell.alice));
        assert_eq!(pilot.hang_up(), Some(0));
        assert!(cell.log().contains("hook.epilogue"), "{}", cell.log());
    });
}

#[test]
fn a_payload_that_the_prologue_does_not_allow_is_refused_and_leaves_nothing() {
    in_cell(|cell| {
        cell.configure(LINES);
        hook("after", "true");
        let mut pilot = Pilot::start(cell);
        for (script, words, later) in [
            (
                "echo no scratch space >&2; exit 3",
                "status 3: no scratch space",
                false,
            ),
            ("exit 75", "status 75", true),
            ("sleep 1000", "longer than it may", false),
        ] {
            hook("before", script);
            let start = Instant::now();
            let refusal = pilot.try_open("accept 600 full /CN=Bob").expect_err(script);
            assert_eq!(
                (refusal.code.as_str(), refusal.may_succeed_later),
                ("hook.prologue", later)
            );
            assert!(refusal.message.contains(words), "{}", refusal.message);
            assert!(start.elapsed() < Duration::from_secs(8));
        }
        hook("before", "true");
        let opened = pilot.open();
        pilot.close(opened.payload);
        assert!(names_in(crate::cell::EXECUTE).is_empty());
        assert!(names_in("/run/sailplane/leases").is_empty());
    });
}
