//! Credentials that end, that are renewed, and the pilot's own; payloads without a sandbox.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use launch_protocol::broker::{Answer, Command, OpenLimits, Purpose, SignalScope};
use nix::poll::poll;

use crate::cell::{Cell, EXECUTE, in_cell, names_in, processes_of};
use crate::client::{Pilot, pipe_with};

/// Payloads get a warning two seconds after they were opened with 60 seconds left.
const SOON: &str = "kill_before_expiry = 58\nkill_grace = 1\n";

fn pilot(cell: &Cell, lines: &str) -> Pilot {
    cell.configure(lines);
    Pilot::start(cell)
}

fn renew(pilot: &mut Pilot, payload: u32, credential: &str) -> Result<i64, String> {
    let pipe = pipe_with(credential);
    let proxy = None;
    match pilot
        .ask(Command::Renew { payload, proxy }, &[pipe.as_raw_fd()])
        .0
    {
        Answer::Renewed { not_after } => Ok(not_after),
        Answer::Refused(refusal) => Err(refusal.code),
        other => panic!("{other:?}"),
    }
}

#[test]
fn k6_a_payload_is_warned_and_killed_before_its_credential_ends() {
    in_cell(|cell| {
        let mut pilot = pilot(cell, SOON);
        let opened = pilot.try_open("accept 60 full /CN=Bob").expect("opens");
        let start = Instant::now();
        let script = "trap 'echo warned' TERM; echo ready; while :; do sleep 0.1; done";
        let running = pilot.begin(opened.payload, script);
        assert_eq!(running.line(), "ready");
        let payload = opened.payload;
        assert_eq!(pilot.event(), Answer::Expiring { payload });
        assert!(start.elapsed() >= Duration::from_millis(1500));
        // The shell may also tell of the `sleep` that was warned with it.
        while running.line() != "warned" {}
        assert_eq!(pilot.event(), Answer::KilledForExpiry { payload });
        let Answer::Exited { wait_status, .. } = pilot.event() else {
            panic!("no exit")
        };
        assert_eq!(wait_status & 0x7f, libc_kill());
        assert_eq!(pilot.event(), Answer::Empty { payload });
        assert!(processes_of(opened.uid).is_empty());
        // What it has left can still be fetched: the credential is valid for another minute.
        assert_eq!(pilot.run(payload, "echo fetched").0, "fetched\n");
        pilot.close(payload);
    });
}

fn libc_kill() -> i32 {
    nix::sys::signal::Signal::SIGKILL as i32
}

#[test]
fn k6_nothing_is_started_any_more_with_a_credential_that_has_ended() {
    in_cell(|cell| {
        let mut pilot = pilot(cell, "kill_before_expiry = 0\nkill_grace = 0\n");
        let opened = pilot.try_open("accept 2 full /CN=Bob").expect("opens");
        let payload = opened.payload;
        assert_eq!(pilot.event(), Answer::Expiring { payload });
        assert_eq!(pilot.event(), Answer::KilledForExpiry { payload });
        let refusal = pilot.try_spawn(payload).map(|_| ()).expect_err("expired");
        assert_eq!(refusal.code, "proxy.expired");
        assert!(renew(&mut pilot, payload, "accept 600 full /CN=Bob").is_ok());
        assert_eq!(pilot.run(payload, "echo again").0, "again\n");
        pilot.close(payload);
    });
}

#[test]
fn k6_a_renewed_credential_of_the_same_owner_moves_the_deadline_and_no_other_does() {
    in_cell(|cell| {
        let mut pilot = pilot(cell, SOON);
        let opened = pilot.try_open("accept 60 full /CN=Bob").expect("opens");
        let payload = opened.payload;
        let running = pilot.begin(payload, "echo ready; exec sleep 1000");
        assert_eq!(running.line(), "ready");
        for (credential, code) in [
            ("accept 7200 full /CN=Eve", "renew.identity"),
            ("accept 7200 full /CN=bob", "renew.identity"),
            ("reject proxy.expired", "proxy.expired"),
            ("accept -5 full /CN=Bob", "proxy.expired"),
            ("kill", "verifier.died"),
        ] {
            let outcome = renew(&mut pilot, payload, credential);
            assert_eq!(outcome, Err(code.to_owned()), "{credential}");
        }
        let not_after = renew(&mut pilot, payload, "accept 7200 full /CN=Bob").expect("the same");
        assert!(not_after >= opened.not_after + 7000);
        // Well beyond the old deadline.
        let _ = poll(&mut [], 3500_u16);
        assert_eq!(processes_of(opened.uid).len(), 1);
        // A shorter one brings it back.
        renew(&mut pilot, payload, "accept 58 full /CN=Bob").expect("the same");
        assert_eq!(pilot.event(), Answer::Expiring { payload });
        pilot.close(payload);
        let unknown = renew(&mut pilot, payload, "accept 58 full /CN=Bob");
        assert_eq!(unknown, Err("payload.unknown".to_owned()));
    });
}

#[test]
fn k5_killing_needs_no_valid_credential() {
    in_cell(|cell| {
        let mut pilot = pilot(cell, "kill_before_expiry = 0\nkill_grace = 86400\n");
        let opened = pilot.try_open("accept 2 full /CN=Bob").expect("opens");
        let payload = opened.payload;
        let running = pilot.begin(payload, "trap '' TERM; echo ready; sleep 1000; sleep 1000");
        assert_eq!(running.line(), "ready");
        std::fs::remove_file("/etc/sailplane/gridmap").expect("there");
        pilot.signal(payload, libc_kill(), SignalScope::All);
        pilot.close(payload);
        assert!(processes_of(opened.uid).is_empty());
    });
}

#[test]
fn a_renewed_credential_reaches_the_sandbox_of_a_running_payload() {
    in_cell(|cell| {
        let mut pilot = pilot(cell, "");
        let opened = pilot.open();
        let payload = opened.payload;
        let running = pilot.begin(payload, "echo ready; exec sleep 1000");
        assert_eq!(running.line(), "ready");
        let mut file = tempfile::tempfile_in("/tmp").expect("a file");
        let credential = "accept 7200 full /CN=Bob";
        std::io::Write::write_all(&mut file, credential.as_bytes()).expect("written");
        std::io::Seek::rewind(&mut file).expect("rewound");
        let command = Command::Renew {
            payload,
            proxy: Some("x509up".into()),
        };
        let (answer, _) = pilot.ask(command, &[file.as_raw_fd()]);
        assert!(matches!(answer, Answer::Renewed { .. }), "{answer:?}");
        let copy = opened.sandbox_path().join("x509up");
        assert_eq!(std::fs::read_to_string(&copy).expect("there"), credential);
        let facts = std::fs::metadata(&copy).expect("there");
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!((facts.uid(), facts.mode() & 0o7777), (opened.uid, 0o600));
        pilot.close(payload);
    });
}

#[test]
fn the_pilots_own_credential_is_asked_for_where_the_site_wants_it() {
    in_cell(|cell| {
        let mut pilot = pilot(cell, "credential_required = pilot+user\n");
        let refusal = pilot
            .try_open("accept 600 full /CN=Bob")
            .expect_err("alone");
        assert_eq!(refusal.code, "pilot.missing");
        let mut present = |credential: &str| {
            let pipe = pipe_with(credential);
            pilot.ask(Command::Present, &[pipe.as_raw_fd()]).0
        };
        assert!(matches!(present("reject proxy.x"), Answer::Refused(_)));
        let Answer::Presented { identity, .. } = present("accept 600 full /CN=Pilot") else {
            panic!("refused")
        };
        assert_eq!(identity, "/CN=Pilot");
        // A refused one leaves the earlier in force.
        assert!(matches!(present("reject proxy.x"), Answer::Refused(_)));
        pilot.open();
        let pipe = pipe_with("accept 1 full /CN=Pilot");
        pilot.ask(Command::Present, &[pipe.as_raw_fd()]);
        let _ = poll(&mut [], 2100_u16);
        let refusal = pilot.try_open("accept 600 full /CN=Bob").expect_err("over");
        assert_eq!(refusal.code, "pilot.missing");
    });
}

#[test]
fn a_payload_needs_no_sandbox() {
    in_cell(|cell| {
        let mut pilot = pilot(cell, "");
        let pipe = pipe_with("accept 600 full /CN=Bob");
        let command = Command::Open {
            job_label: "1.0".into(),
            execute_dir: None,
            slot_account: None,
            purpose: Purpose::Run,
            limits: OpenLimits::default(),
            agent: false,
        };
        let (answer, _) = pilot.ask(command, &[pipe.as_raw_fd()]);
        let Answer::Opened(opened) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!((opened.sandbox, opened.lease.as_str()), (None, "dynamic"));
        let (output, status) = pilot.run(opened.payload, "pwd; id -u; touch /tmp/left");
        assert_eq!((output, status), (format!("/\n{}\n", opened.uid), 0));
        pilot.close(opened.payload);
        assert!(!std::path::Path::new("/tmp/left").exists());
        assert!(names_in(EXECUTE).is_empty());
        assert!(names_in("/run/sailplane/leases").is_empty());
    });
}

#[test]
fn k2_payloads_outlive_a_closed_channel_by_the_configured_grace() {
    in_cell(|cell| {
        let mut pilot = pilot(cell, "orphan_grace = 2\n");
        let opened = pilot.open();
        let running = pilot.begin(opened.payload, "echo ready; exec sleep 1000");
        assert_eq!(running.line(), "ready");
        let start = Instant::now();
        pilot.socket = None;
        let _ = poll(&mut [], 1000_u16);
        assert_eq!(processes_of(opened.uid).len(), 1);
        assert_eq!(pilot.end(), Some(0));
        assert!(start.elapsed() >= Duration::from_millis(1900));
        assert!(processes_of(opened.uid).is_empty());
        assert!(names_in(EXECUTE).is_empty());
    });
}
