//! Requirements S20, M1, M3: verifiers that fail, and accounts that must not be used.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use launch_protocol::broker::{Answer, Command, RefusalClass, RefusedBy};

use crate::cell::{DYNAMIC, EXECUTE, in_cell, own, processes_of, put};
use crate::client::{Pilot, eventually, pipe_with};

#[test]
fn s20_a_verifier_that_fails_is_a_refusal_and_nothing_else() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        for (credential, wanted) in [
            ("reject proxy.expired", "proxy.expired"),
            ("accept -5 full /CN=Bob", "proxy.expired"),
            ("exit 0", "verifier.died"),
            ("exit 7", "verifier.died"),
            ("exit 126", "verifier.died"),
            ("kill", "verifier.died"),
            ("bytes 1", "verifier.answer"),
            ("bytes 4096", "verifier.answer"),
            ("bytes 20000", "verifier.answer"),
            ("newline", "verifier.answer"),
            ("", "verifier.died"),
        ] {
            let refusal = pilot.try_open(credential).expect_err(credential);
            assert_eq!(refusal.code, wanted, "{credential}: {}", refusal.message);
        }
        let refusal = pilot.try_open("reject proxy.expired").expect_err("refused");
        assert_eq!(
            (refusal.class, refusal.who),
            (RefusalClass::Job, RefusedBy::Credential)
        );
        let opened = pilot.open();
        pilot.close(opened.payload);
        assert!(cell.log().contains("\"verdict\":\"refused\""));
    });
}

#[test]
fn s20_a_missing_verifier_is_the_sites_fault() {
    in_cell(|cell| {
        std::fs::set_permissions(
            "/opt/sailplane/sailplane-verify",
            std::os::unix::fs::PermissionsExt::from_mode(0o644),
        )
        .expect("set");
        let mut pilot = Pilot::start(cell);
        let refusal = pilot
            .try_open("accept 3600 full /CN=Bob")
            .expect_err("cannot be verified");
        let wanted = ("verifier.missing", RefusalClass::SitePermanent);
        assert_eq!((refusal.code.as_str(), refusal.class), wanted);
    });
}

#[test]
fn s20_a_hanging_verifier_holds_up_nobody_and_ends() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let hang = pipe_with("hang");
        let command = Command::open("slow", EXECUTE);
        let start = Instant::now();
        let slow = pilot.send(command, &[hang.as_raw_fd()]);
        let opened = pilot.open();
        assert_eq!(pilot.run(opened.payload, "echo hello").0, "hello\n");
        pilot.close(opened.payload);
        assert!(start.elapsed() < Duration::from_secs(5));
        let (id, answer, _) = pilot.reply();
        let Answer::Refused(refusal) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(
            (id, refusal.code.as_str(), refusal.may_succeed_later),
            (slow, "verifier.timeout", true)
        );
        let took = start.elapsed();
        assert!(
            took > Duration::from_secs(9) && took < Duration::from_secs(13),
            "{took:?}"
        );
    });
}

#[test]
fn s20_the_verifier_runs_as_nobody_with_one_socket() {
    in_cell(|cell| {
        let pilot = Pilot::start(cell);
        let mut verifier = None;
        eventually("a warm verifier", Duration::from_secs(5), || {
            let children = format!("/proc/{0}/task/{0}/children", pilot.id());
            let children = std::fs::read_to_string(children).expect("readable");
            verifier = children.split_whitespace().map(str::to_owned).find(|pid| {
                let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                name == "sailplane-verif\n"
            });
            verifier.is_some()
        });
        let pid = verifier.expect("found");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("readable");
        for wanted in [
            "Uid:\t65534\t65534\t65534\t65534",
            "Gid:\t65534\t65534\t65534\t65534",
            "Groups:\t \n",
            "NoNewPrivs:\t1",
            "CapPrm:\t0000000000000000",
            "CapBnd:\t0000000000000000",
        ] {
            assert!(status.contains(wanted), "{wanted}: {status}");
        }
        // While it is being loaded, one more is open at times.
        eventually("three descriptors", Duration::from_secs(5), || {
            crate::cell::names_in(format!("/proc/{pid}/fd")) == ["0", "1", "2"]
        });
        let links: Vec<_> = ["0", "1", "2"]
            .iter()
            .map(|fd| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).expect("link"))
            .collect();
        assert!(links[0].to_string_lossy().starts_with("socket:"));
        assert!(
            links[1].ends_with("dev/null") && links[2].ends_with("dev/null"),
            "{links:?}"
        );
        assert!(
            std::fs::read(format!("/proc/{pid}/environ"))
                .expect("readable")
                .is_empty()
        );
    });
}

#[test]
fn m3_root_system_accounts_callers_and_ghosts_are_refused() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        for (name, wanted) in [
            ("Toor", "map.account_unfit"),
            ("Daemon", "map.account_unfit"),
            ("Pilot", "map.account_unfit"),
            ("Ghost", "map.account_missing"),
        ] {
            let credential = format!("accept 3600 full /CN={name}");
            let refusal = pilot.try_open(&credential).expect_err(name);
            assert_eq!(
                (refusal.code.as_str(), refusal.who),
                (wanted, RefusedBy::Mapping),
                "{name}"
            );
        }
    });
}

#[test]
fn m3_without_dynamic_accounts_an_unknown_identity_has_none() {
    in_cell(|cell| {
        let text = std::fs::read_to_string(crate::cell::CONF).expect("there");
        let text: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with("dynamic"))
            .collect();
        put(crate::cell::CONF, &text.join("\n"), 0o644);
        let mut pilot = Pilot::start(cell);
        let refusal = pilot
            .try_open("accept 3600 full /CN=Bob")
            .expect_err("refused");
        assert_eq!(
            (refusal.code.as_str(), refusal.class),
            ("map.none", RefusalClass::Job)
        );
    });
}

#[test]
fn m4_a_dynamic_account_serves_one_payload_at_a_time() {
    in_cell(|cell| {
        // Two pilots share the range.
        let (mut one, mut two) = (Pilot::start(cell), Pilot::start(cell));
        let mut uids = Vec::new();
        let mut first = None;
        for turn in 0..DYNAMIC {
            let pilot = if turn % 2 == 0 { &mut one } else { &mut two };
            let opened = pilot.open();
            uids.push(opened.uid);
            first.get_or_insert(opened);
        }
        uids.sort_unstable();
        uids.dedup();
        assert_eq!(uids.len(), DYNAMIC as usize);
        assert!(uids.iter().all(|uid| cell.is_dynamic(*uid)));
        let refusal = two
            .try_open("accept 3600 full /CN=Bob")
            .expect_err("none free");
        assert_eq!(
            (refusal.code.as_str(), refusal.class),
            ("lease.none", RefusalClass::SiteTransient)
        );
        assert!(refusal.may_succeed_later);
        let first = first.expect("opened");
        one.close(first.payload);
        assert_eq!(two.open().uid, first.uid);
    });
}

#[test]
fn m6_a_dynamic_account_with_processes_or_an_entry_is_not_used() {
    in_cell(|cell| {
        // The second has a process, the third an entry in the password file.
        let mut passwd = std::fs::read_to_string("/etc/passwd").expect("there");
        passwd.push_str(&format!("carol:x:{0}:{0}::/:/bin/sh\n", cell.first + 2));
        put("/etc/passwd", &passwd, 0o644);
        let mut squatter = std::process::Command::new("setpriv")
            .arg(format!("--reuid={}", cell.first + 1))
            .args(["--clear-groups", "sleep", "60"])
            .spawn()
            .expect("starts");
        eventually("the squatter", Duration::from_secs(5), || {
            !processes_of(cell.first + 1).is_empty()
        });
        let mut pilot = Pilot::start(cell);
        let mut uids = vec![pilot.open().uid, pilot.open().uid];
        uids.sort_unstable();
        assert_eq!(uids, [cell.first, cell.first + 3]);
        assert_eq!(
            pilot
                .try_open("accept 3600 full /CN=Bob")
                .expect_err("none")
                .code,
            "lease.none"
        );
        assert!(
            squatter.try_wait().expect("a child").is_none(),
            "nobody else's process is killed"
        );
        squatter.kill().expect("killed");
        squatter.wait().expect("reaped");
        assert_eq!(pilot.open().uid, cell.first + 1);
    });
}

#[test]
fn s24_the_sandbox_is_private_to_its_account() {
    in_cell(|cell| {
        own(EXECUTE, cell.pilot, 0o755);
        let mut pilot = Pilot::start(cell);
        let (one, two) = (pilot.open(), pilot.open());
        pilot.run(one.payload, "umask 0; echo secret >file");
        let script = format!(
            "cat {0}/file || ls {0}; echo $?",
            one.sandbox_path().display()
        );
        let (output, _) = pilot.run(two.payload, &script);
        assert!(
            output.contains("Permission denied") && !output.contains("secret"),
            "{output}"
        );
    });
}
