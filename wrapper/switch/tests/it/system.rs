//! Requirements S2, S3, S21, K8, and pilots that misbehave.

use std::os::fd::AsRawFd as _;
use std::process::Command as Program;
use std::time::Duration;

use launch_protocol::broker::{Answer, Command, SignalScope};

use crate::cell::{EXECUTE, groups_of, in_cell, names_in, processes_of};
use crate::client::{Pilot, eventually, pipe_with};

#[test]
fn s3_the_program_is_linked_to_nothing_but_the_c_library() {
    let program = env!("CARGO_BIN_EXE_sailplane-switch");
    let output = Program::new("readelf")
        .args(["-d", program])
        .output()
        .expect("readelf runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let needed: Vec<_> = text
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .collect();
    assert!(!needed.is_empty(), "{text}");
    for line in needed {
        let known = ["[libc.so.6]", "[libgcc_s.so.1]", "[ld-linux"];
        assert!(known.iter().any(|name| line.contains(name)), "{line}");
    }
    assert!(
        !text.contains("(RPATH)") && !text.contains("(RUNPATH)"),
        "{text}"
    );
}

#[test]
fn s2_s21_the_root_process_is_single_threaded_and_loads_no_plug_in() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let mapped = pilot.try_open("accept 3600 full /CN=Alice").expect("opens");
        pilot.run(mapped.payload, "true");
        let read = |what| {
            std::fs::read_to_string(format!("/proc/{}/{what}", pilot.id())).expect("readable")
        };
        assert!(read("status").contains("Threads:\t1\n"));
        for line in read("maps").lines().filter(|line| line.contains(".so")) {
            let known = ["/libc.so.6", "/libgcc_s.so.1", "/ld-linux"];
            assert!(known.iter().any(|name| line.contains(name)), "{line}");
        }
        assert!(read("status").contains("Uid:\t0\t0\t0\t0"));
        assert!(read("status").contains("Gid:\t0\t0\t0\t0"));
        assert!(read("status").contains("Groups:\t \n"));
    });
}

#[test]
fn k8_a_suspended_payload_stands_still_and_can_be_killed() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let busy = "setsid sh -c 'while :; do :; done' & echo ready; while :; do :; done";
        let running = pilot.begin(opened.payload, busy);
        assert_eq!(running.line(), "ready");
        let cpu = |pilot: &mut Pilot| {
            let usage = pilot.usage(opened.payload);
            usage.user_usec + usage.system_usec
        };
        eventually("some work", Duration::from_secs(10), || {
            cpu(&mut pilot) > 20_000
        });
        pilot.signal(opened.payload, libc::SIGSTOP, SignalScope::All);
        let mut before = u64::MAX;
        eventually("standing still", Duration::from_secs(10), || {
            let now = cpu(&mut pilot);
            std::mem::replace(&mut before, now) == now
        });
        pilot.signal(opened.payload, libc::SIGCONT, SignalScope::All);
        eventually("more work", Duration::from_secs(10), || {
            cpu(&mut pilot) > before + 20_000
        });
        pilot.signal(opened.payload, libc::SIGSTOP, SignalScope::All);
        pilot.kill_to_the_end(opened.payload);
        // The group is not suspended any more.
        assert_eq!(pilot.run(opened.payload, "echo alive").0, "alive\n");
        pilot.close(opened.payload);
    });
}

#[test]
fn a_pilot_that_asks_and_does_not_read_is_treated_as_gone() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, "echo ready; sleep 1000");
        assert_eq!(running.line(), "ready");
        let socket = pilot.socket.take().expect("open");
        let mut id = 1000;
        eventually("the broker's end", Duration::from_secs(30), || {
            for _ in 0..100 {
                id += 1;
                let command = Command::Kill { payload: 999 };
                let request = launch_protocol::broker::Request { id, command };
                socket.send_now(&request.encode().expect("valid"));
            }
            pilot.monitor.try_wait().expect("a child").is_some()
        });
        assert!(processes_of(opened.uid).is_empty());
        assert!(groups_of(pilot.id()).is_empty() && names_in(EXECUTE).is_empty());
    });
}

#[test]
fn too_many_openings_at_once_are_put_off() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let hanging: Vec<_> = (0..40).map(|_| pipe_with("hang")).collect();
        let ids: Vec<_> = hanging
            .iter()
            .map(|pipe| {
                let command = Command::open("x", EXECUTE);
                pilot.send(command, &[pipe.as_raw_fd()])
            })
            .collect();
        let (id, answer, _) = pilot.reply();
        let Answer::Refused(refusal) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(
            (id, refusal.code.as_str(), refusal.may_succeed_later),
            (ids[32], "open.busy", true)
        );
        // Hanging up in the middle of all that.
        assert_eq!(pilot.hang_up(), Some(0));
        assert!(names_in("/run/sailplane/leases").is_empty());
    });
}

#[test]
fn requests_before_the_greeting_end_the_channel() {
    in_cell(|cell| {
        let mut pilot = crate::client::Start::usual(cell).start();
        pilot.send(Command::Kill { payload: 1 }, &[]);
        assert_eq!(pilot.end(), Some(0));
    });
}

#[test]
fn m9_every_decision_is_one_line_that_cannot_be_forged() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let pipe = pipe_with("accept 3600 full /CN=Eve\" uid=0 \\ x");
        let command = Command::open("7.0\",\"uid\":0,\"x\":\"", EXECUTE);
        let (answer, _) = pilot.ask(command, &[pipe.as_raw_fd()]);
        assert!(matches!(answer, Answer::Opened(_)), "{answer:?}");
        pilot.try_open("reject proxy.expired").expect_err("refused");
        pilot.hang_up();
        let log = cell.log();
        let opened: Vec<_> = log
            .lines()
            .filter(|line| line.contains("\"event\":\"open\",\"verdict\":\"accepted\""))
            .collect();
        assert_eq!(opened.len(), 1, "{log}");
        let line = opened[0];
        assert!(
            line.contains(r#""job":"7.0\",\"uid\":0,\"x\":\"","#),
            "{line}"
        );
        assert!(
            line.contains(r#""identity":"/CN=Eve\" uid=0 \\ x","#),
            "{line}"
        );
        assert!(
            line.contains(&format!(
                "\"caller_uid\":{},\"caller\":\"pilot\"",
                cell.pilot
            )),
            "{line}"
        );
        assert!(
            log.contains(r#""event":"open","verdict":"refused""#)
                && log.contains(r#""code":"proxy.expired""#),
            "{log}"
        );
    });
}
