//! The site's policy through the whole helper: it counts from the next launch on, and what it let
//! happen can be found again.

use std::fs;
use std::process::Command as Program;

use launch_protocol::broker::{Answer, Opened, RefusalClass};

use crate::cell::{Cell, LIBEXEC, in_cell, put};
use crate::client::{Pilot, Start};

const BANS: &str = "/etc/sailplane/bans";

fn open_for(pilot: &mut Pilot, who: &str) -> Result<Opened, String> {
    let credential = format!("accept 600 full {who}");
    pilot
        .try_open(&credential)
        .map_err(|refusal| format!("{} {}", refusal.code, refusal.message))
}

fn code(outcome: Result<Opened, String>) -> String {
    let text = outcome.expect_err("refused");
    text.split(' ').next().unwrap_or_default().to_owned()
}

#[test]
fn m1_a_ban_counts_from_the_next_launch_on_while_the_broker_runs() {
    in_cell(|cell| {
        put(BANS, "# nobody\n", 0o644);
        cell.configure(&format!("ban_lists = {BANS}\n"));
        let mut pilot = Pilot::start(cell);
        open_for(&mut pilot, "/CN=Bob").expect("opens");
        for (line, by) in [
            ("dn \"/CN=B*\"\n", "ban.dn"),
            ("ca \"/CN=Test CA\"\n", "ban.ca"),
            ("fqan \"/vo/*\"\n", "ban.fqan"),
        ] {
            put(BANS, line, 0o644);
            assert_eq!(code(open_for(&mut pilot, "/CN=Bob|/vo/Role=x")), by);
            put(BANS, "# nobody\n", 0o644);
            open_for(&mut pilot, "/CN=Bob|/vo/Role=x").expect("opens again");
        }
    });
}

#[test]
fn m1_s6_a_policy_file_that_is_missing_broken_or_not_roots_stops_every_launch() {
    in_cell(|cell| {
        put(BANS, "# nobody\n", 0o644);
        cell.configure(&format!("ban_lists = {BANS}\n"));
        let mut pilot = Pilot::start(cell);
        fs::remove_file(BANS).expect("removed");
        assert_eq!(code(open_for(&mut pilot, "/CN=Bob")), "conf.missing");
        put(BANS, "who\n", 0o644);
        let why = open_for(&mut pilot, "/CN=Bob").expect_err("refused");
        assert!(
            why.starts_with("policy.syntax") && why.contains("bans:1"),
            "{why}"
        );
        put(BANS, "# nobody\n", 0o666);
        assert_eq!(code(open_for(&mut pilot, "/CN=Bob")), "conf.writable");
        put(BANS, "# nobody\n", 0o644);
        // The gridmap, which this one does not even need.
        put("/etc/sailplane/gridmap", "\"broken\n", 0o644);
        assert_eq!(code(open_for(&mut pilot, "/CN=Bob")), "policy.syntax");
    });
}

#[test]
fn g10_a_changed_configuration_counts_at_the_next_launch() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        open_for(&mut pilot, "/CN=Bob").expect("opens");
        cell.configure("credential_required = pilot+user\n");
        assert_eq!(code(open_for(&mut pilot, "/CN=Bob")), "pilot.missing");
        cell.configure("user_white_list = somebody\n");
        assert_eq!(code(open_for(&mut pilot, "/CN=Bob")), "caller.not_listed");
        cell.configure("unknown_key = 1\n");
        let why = open_for(&mut pilot, "/CN=Bob").expect_err("refused");
        assert!(why.contains("unknown key unknown_key"), "{why}");
        cell.configure("");
        open_for(&mut pilot, "/CN=Bob").expect("opens again");
    });
}

#[test]
fn g11_a_map_that_names_a_caller_stops_the_start() {
    in_cell(|cell| {
        put("/etc/sailplane/gridmap", "\"/CN=P\" pilot\n", 0o644);
        let mut broker = Start::usual(cell).start();
        let Answer::Refused(refusal) = broker.reply().1 else {
            panic!("it starts");
        };
        assert_eq!(refusal.code, "conf.listed_target");
        assert_eq!(refusal.class, RefusalClass::SitePermanent);
        assert_eq!(broker.end(), Some(202));
    });
}

#[test]
fn m8_m10_attributes_decide_account_and_groups() {
    in_cell(|cell| {
        put(
            "/etc/sailplane/vomsmap",
            "\"/vo*\" toor\n\"/vo/Role=prod\" alice\n",
            0o644,
        );
        put("/etc/sailplane/groupmap", "\"/vo/*\" lab\n", 0o644);
        cell.configure(
            "vomsdir = /etc/grid-security/certificates\nvomsmap = /etc/sailplane/vomsmap\n\
             groupmapfile = /etc/sailplane/groupmap\n",
        );
        let mut pilot = Pilot::start(cell);
        let opened = open_for(&mut pilot, "/CN=Bob|/vo/Role=prod").expect("opens");
        assert_eq!((opened.uid, opened.gid), (cell.alice, cell.alice + 1));
        let (groups, _) = pilot.run(opened.payload, "id -G");
        assert_eq!(groups.trim(), (cell.alice + 1).to_string());
        pilot.close(opened.payload);
        // No line but the one with a wildcard in the name of the VO: a number, as for everybody.
        let opened = open_for(&mut pilot, "/CN=Bob|/vouch").expect("opens");
        assert!(cell.is_dynamic(opened.uid));
    });
}

fn trace(words: &[&str]) -> (String, Option<i32>) {
    let output = Program::new(format!("{LIBEXEC}/sailplane-switch"))
        .arg("--trace")
        .args(words)
        .output()
        .expect("runs");
    let text = [output.stdout, output.stderr].concat();
    (
        String::from_utf8_lossy(&text).into_owned(),
        output.status.code(),
    )
}

#[test]
fn m9_root_finds_out_who_was_which_uid() {
    in_cell(|cell: &Cell| {
        let mut pilot = Pilot::start(cell);
        let opened = open_for(&mut pilot, "/CN=Bob|/vo/Role=x").expect("opens");
        pilot.close(opened.payload);
        let alice = open_for(&mut pilot, "/CN=Alice").expect("opens");
        pilot.hang_up();
        let (text, status) = trace(&["--uid", &opened.uid.to_string()]);
        assert_eq!(status, Some(0), "{text}");
        assert!(
            text.contains("/CN=Bob") && text.contains("attributes /vo/Role=x"),
            "{text}"
        );
        assert!(
            !text.contains("/CN=Alice") && !text.contains("no end recorded"),
            "{text}"
        );
        let (text, _) = trace(&["--dn", "/CN=Alice", "--format", "json"]);
        assert!(text.contains(&format!("\"uid\":{}", alice.uid)), "{text}");
        let (_, status) = trace(&["--dn", "/CN=Nobody"]);
        assert_eq!(status, Some(1));
        // For nobody else, whatever the set-uid bit says.
        let line = format!("{LIBEXEC}/sailplane-switch --trace --uid 1; echo $?");
        let script = [
            "--reuid",
            &cell.pilot.to_string(),
            "--clear-groups",
            "sh",
            "-c",
            &line,
        ]
        .map(str::to_owned);
        let output = Program::new("setpriv").args(script).output().expect("runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "203");
    });
}
