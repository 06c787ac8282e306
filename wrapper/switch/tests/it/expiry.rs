//! The end of a credential is the end of its payload (requirement K6), and only the same person moves it.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use launch_protocol::broker::{Answer, Command, Refusal};

use crate::cell::{in_cell, processes_of, put};
use crate::client::{PATIENCE, Pilot, eventually, pipe_with};

fn renew(pilot: &mut Pilot, payload: u32, credential: &str) -> Result<i64, Refusal> {
    let pipe = pipe_with(credential);
    match pilot
        .ask(
            Command::Renew {
                payload,
                proxy: None,
            },
            &[pipe.as_raw_fd()],
        )
        .0
    {
        Answer::Renewed { not_after } => Ok(not_after),
        Answer::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    since.as_secs().cast_signed()
}

#[test]
fn k6_a_payload_is_killed_before_its_credential_ends() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let start = Instant::now();
        // A minute before the end is the default.
        let opened = pilot.try_open("accept 63 full /CN=Alice").expect("opens");
        let running = pilot.begin(
            opened.payload,
            "(setsid sleep 1000 &); echo up; trap '' TERM; while :; do sleep 1; done",
        );
        assert_eq!(running.line(), "up");
        eventually("the kill", PATIENCE, || processes_of(cell.alice).is_empty());
        let took = start.elapsed();
        assert!(
            took > Duration::from_secs(1) && took < Duration::from_secs(13),
            "{took:?}"
        );
        pilot.close(opened.payload);
    });
}

#[test]
fn k6_only_a_new_credential_of_the_same_person_moves_the_end() {
    in_cell(|cell| {
        put(
            "/etc/sailplane/gridmap",
            "\"/CN=Alice\" alice\n\"/CN=Alice's cousin\" alice\n",
            0o644,
        );
        let mut pilot = Pilot::start(cell);
        let start = Instant::now();
        let opened = pilot.try_open("accept 64 full /CN=Alice").expect("opens");
        let running = pilot.begin(opened.payload, "echo up; exec sleep 1000");
        assert_eq!(running.line(), "up");
        for (credential, code) in [
            ("accept 3600 full /CN=Bob", None),
            ("accept 3600 full /CN=Alice's cousin", None),
            ("accept 3600 full /CN=alice", None),
            ("accept -5 full /CN=Alice", Some("proxy.expired")),
            ("reject chain.pathlen", Some("chain.pathlen")),
            ("bytes 100", Some("verifier.answer")),
            ("kill", Some("verifier.died")),
        ] {
            let refusal = renew(&mut pilot, opened.payload, credential).expect_err(credential);
            assert!(
                code.is_none_or(|code| refusal.code == code),
                "{credential}: {refusal:?}"
            );
        }
        // None of them has moved it.
        eventually("the kill", PATIENCE, || processes_of(cell.alice).is_empty());
        let took = start.elapsed();
        assert!(
            took > Duration::from_secs(1) && took < Duration::from_secs(13),
            "{took:?}"
        );
        pilot.close(opened.payload);
        // The person's own does.
        let opened = pilot.try_open("accept 63 full /CN=Alice").expect("opens");
        let running = pilot.begin(opened.payload, "echo up; exec sleep 1000");
        assert_eq!(running.line(), "up");
        let end = renew(&mut pilot, opened.payload, "accept 3600 full /CN=Alice").expect("renewed");
        assert!((end - now() - 3600).abs() < 10, "{end}");
        let start = Instant::now();
        eventually("five seconds", PATIENCE, || {
            start.elapsed() > Duration::from_secs(5)
        });
        assert!(!processes_of(cell.alice).is_empty(), "lives on");
        // And one that ends sooner moves it back: what is valid is what was presented last.
        renew(&mut pilot, opened.payload, "accept 61 full /CN=Alice").expect("renewed");
        eventually("the kill", PATIENCE, || processes_of(cell.alice).is_empty());
        pilot.close(opened.payload);
    });
}

#[test]
fn k6_a_credential_that_has_hardly_any_time_left_starts_nothing_for_long() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        match pilot.try_open("accept 20 full /CN=Alice") {
            Err(refusal) => assert!(!refusal.may_succeed_later, "{refusal:?}"),
            Ok(opened) => {
                eventually("the kill", PATIENCE, || processes_of(cell.alice).is_empty());
                let _ = pilot.ask(
                    Command::Close {
                        payload: opened.payload,
                    },
                    &[],
                );
            }
        }
    });
}
