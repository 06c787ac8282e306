//! Requirement S6: what the helper believes, and what it does not.

use std::os::unix::fs::symlink;

use launch_protocol::VERSION;
use launch_protocol::broker::{Answer, Command};

use crate::cell::{CONF, Cell, EXECUTE, in_cell, own, put};
use crate::client::{Pilot, Start};

/// The code with which the broker refuses to start, and its words.
fn refusal_at_start(cell: &Cell) -> (String, String) {
    let mut pilot = Start::usual(cell).start();
    match pilot.ask(Command::Hello { version: VERSION }, &[]).0 {
        Answer::Refused(refusal) => {
            assert_eq!(pilot.end(), Some(202));
            assert!(pilot.last_words().contains(&refusal.message));
            (refusal.code, refusal.message)
        }
        other => panic!("started: {other:?}"),
    }
}

#[test]
fn s6_a_weakened_configuration_is_refused() {
    in_cell(|cell| {
        let cases: [(&str, u32, u32, &str); 6] = [
            (CONF, 0, 0o664, "conf.writable"),
            (CONF, 0, 0o646, "conf.writable"),
            (CONF, cell.pilot, 0o644, "conf.owner"),
            ("/etc/sailplane", 0, 0o775, "conf.writable"),
            ("/etc/sailplane", cell.pilot, 0o755, "conf.owner"),
            ("/etc", 0, 0o1777, "conf.writable"),
        ];
        for (path, owner, mode, wanted) in cases {
            own(path, owner, mode);
            let (code, words) = refusal_at_start(cell);
            assert_eq!(code, wanted, "{path} {owner} {mode:o}");
            assert!(words.contains(path), "{words}");
            own(path, 0, if path == CONF { 0o644 } else { 0o755 });
        }
        Pilot::start(cell);
    });
}

#[test]
fn s6_a_missing_or_strange_configuration_is_refused() {
    in_cell(|cell| {
        std::fs::remove_file(CONF).expect("removed");
        assert_eq!(refusal_at_start(cell).0, "conf.missing");
        std::fs::create_dir(CONF).expect("made");
        assert_eq!(refusal_at_start(cell).0, "conf.path");
        std::fs::remove_dir(CONF).expect("removed");
        // A link of the pilot's is not followed, one of root's is, to where the rule holds too.
        put("/scratch/pilot/switch.conf", "[switch]\n", 0o644);
        own("/scratch/pilot/switch.conf", cell.pilot, 0o644);
        symlink("/scratch/pilot/switch.conf", CONF).expect("linked");
        let (code, words) = refusal_at_start(cell);
        assert_eq!(code, "conf.owner");
        assert!(words.contains("/scratch/pilot "), "{words}");
        std::fs::remove_file(CONF).expect("removed");
        cell.configure("");
        std::fs::rename(CONF, "/etc/sailplane/real.conf").expect("renamed");
        symlink("real.conf", CONF).expect("linked");
        Pilot::start(cell);
    });
}

#[test]
fn s6_a_bad_line_is_named() {
    in_cell(|cell| {
        cell.configure("target_uid_min = many\n");
        let (code, words) = refusal_at_start(cell);
        assert_eq!(code, "conf.invalid");
        assert!(
            words.starts_with("switch.conf:8: target_uid_min must be"),
            "{words}"
        );
    });
}

#[test]
fn s6_weakened_programs_and_trust_anchors_are_refused() {
    in_cell(|cell| {
        for path in [
            "/opt/sailplane/sailplane-job",
            "/opt/sailplane/sailplane-verify",
            "/opt/sailplane",
            "/etc/grid-security/certificates",
            "/etc/grid-security",
            "/etc/sailplane/gridmap",
        ] {
            let is_file = std::fs::metadata(path).expect("there").is_file();
            own(path, 0, if is_file { 0o666 } else { 0o777 });
            let (code, words) = refusal_at_start(cell);
            assert_eq!(code, "conf.writable", "{path}");
            assert!(words.contains(path), "{words}");
            own(path, 0, 0o755);
        }
    });
}

#[test]
fn s6_a_map_file_weakened_later_stops_mapping() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        own("/etc/sailplane/gridmap", 0, 0o666);
        let refusal = pilot
            .try_open("accept 3600 full /CN=Alice")
            .expect_err("refused");
        assert_eq!(refusal.code, "conf.writable");
        put("/etc/sailplane/gridmap", "\"/CN=Alice\n", 0o644);
        let refusal = pilot
            .try_open("accept 3600 full /CN=Bob")
            .expect_err("refused");
        assert_eq!(refusal.code, "policy.syntax");
        std::fs::remove_file("/etc/sailplane/gridmap").expect("removed");
        let refusal = pilot
            .try_open("accept 3600 full /CN=Bob")
            .expect_err("refused");
        assert_eq!(refusal.code, "conf.missing");
        // A change counts at once.
        put("/etc/sailplane/gridmap", "\"/CN=Bob\" alice\n", 0o644);
        let opened = pilot.try_open("accept 3600 full /CN=Bob").expect("opens");
        assert_eq!(opened.uid, cell.alice);
    });
}

#[test]
fn s9_a_hostile_execute_directory_is_refused() {
    in_cell(|cell| {
        let (pilot_uid, alice) = (cell.pilot, cell.alice);
        std::fs::create_dir_all("/scratch/pilot/real").expect("made");
        own("/scratch/pilot/real", pilot_uid, 0o755);
        symlink("/scratch/pilot/real", "/scratch/pilot/link").expect("linked");
        symlink("/etc", "/scratch/pilot/etc").expect("linked");
        for (dir, owner, mode) in [
            ("/scratch/open", pilot_uid, 0o777),
            ("/scratch/group", pilot_uid, 0o775),
            ("/scratch/alices", alice, 0o755),
            ("/scratch/sticky", 0, 0o1777),
        ] {
            std::fs::create_dir_all(dir).expect("made");
            own(dir, owner, mode);
        }
        std::fs::create_dir_all("/scratch/open/below").expect("made");
        own("/scratch/open/below", pilot_uid, 0o755);
        put("/scratch/file", "", 0o644);
        let mut pilot = Pilot::start(cell);
        for (dir, wanted) in [
            ("/scratch/open", "execdir.writable"),
            ("/scratch/open/below", "execdir.writable"),
            ("/scratch/group", "execdir.writable"),
            ("/scratch/alices", "execdir.owner"),
            ("/scratch/pilot/link", "execdir.link"),
            ("/scratch/pilot/etc", "execdir.link"),
            ("/scratch/file", "execdir.kind"),
            ("/scratch/missing", "execdir.missing"),
            ("/scratch/../etc", "execdir.name"),
            ("scratch/pilot", "execdir.name"),
            ("/scratch/pi\nlot", "execdir.name"),
            ("/etc", "execdir.not_allowed"),
            ("/scratchy", "execdir.not_allowed"),
        ] {
            let refusal = pilot
                .try_open_in("accept 3600 full /CN=Bob", dir)
                .expect_err(dir);
            assert_eq!(refusal.code, wanted, "{dir}");
        }
        for dir in [
            EXECUTE,
            "/scratch/pilot/real",
            "/scratch/sticky",
            "/scratch",
        ] {
            let opened = pilot
                .try_open_in("accept 3600 full /CN=Bob", dir)
                .expect(dir);
            assert!(opened.sandbox_path().starts_with(dir));
            pilot.close(opened.payload);
        }
    });
}

#[test]
fn the_first_directory_that_cannot_be_searched_is_named() {
    in_cell(|cell| {
        std::fs::create_dir_all("/scratch/pilot/closed/deep").expect("made");
        own("/scratch/pilot/closed", cell.pilot, 0o700);
        own("/scratch/pilot/closed/deep", cell.pilot, 0o755);
        let mut pilot = Pilot::start(cell);
        let dir = "/scratch/pilot/closed/deep";
        let opened = pilot
            .try_open_in("accept 3600 full /CN=Bob", dir)
            .expect("opens");
        let (_, agent) = pilot.try_spawn(opened.payload).expect("spawns");
        let (launch_protocol::agent::Reply::Trouble { errno, message }, _) = agent.reply() else {
            panic!("no trouble")
        };
        assert_eq!(errno, libc::EACCES);
        let wanted = format!(
            "it may not search /scratch/pilot/closed (owner uid {}, group {0}, mode 0700)",
            cell.pilot
        );
        assert!(message.contains(&wanted), "{message}");
    });
}
