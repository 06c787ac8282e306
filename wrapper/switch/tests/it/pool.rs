//! Pool accounts out of a gridmapdir (requirements M4 to M7), through the whole helper.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command as Program;

use launch_protocol::broker::{Answer, Command, OpenLimits, Opened, Purpose};

use crate::cell::{Cell, LIBEXEC, in_cell, own, put};
use crate::client::{Pilot, eventually, pipe_with};

const DIR: &str = "/etc/sailplane/gridmapdir";
const LINES: &str = "gridmap = /etc/sailplane/gridmap\ngridmapdir = /etc/sailplane/gridmapdir\ngridmapdir_min_idle = 3600\n";

/// Accounts `grid1` to `grid3`, files for those and for `grid0`, which does not exist.
fn furnish(cell: &Cell) {
    let mut passwd = fs::read_to_string("/etc/passwd").expect("there");
    for number in 1..4 {
        let uid = uid(cell, number);
        passwd.push_str(&format!(
            "grid{number}:x:{uid}:{uid}::/home/grid{number}:/bin/sh\n"
        ));
        fs::create_dir_all(format!("/home/grid{number}")).expect("a home");
        own(format!("/home/grid{number}"), uid, 0o700);
    }
    put("/etc/passwd", &passwd, 0o644);
    for number in 0..4 {
        put(format!("{DIR}/grid{number}"), "", 0o644);
    }
    let map =
        "\"/CN=Dora Ann\" .grid\n\"/CN=Emil\" .grid\n\"/CN=dora ann\" .grid\n\"/CN=Fay\" .grid\n";
    put("/etc/sailplane/gridmap", map, 0o644);
    cell.configure(LINES);
}

fn uid(cell: &Cell, number: u32) -> u32 {
    cell.first + 70 + number
}

fn open_for(pilot: &mut Pilot, name: &str) -> Result<Opened, String> {
    let credential = format!("accept 600 full /CN={name}");
    pilot.try_open(&credential).map_err(|refusal| refusal.code)
}

fn leases() -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(DIR)
        .expect("there")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains('%'))
        .collect();
    names.sort();
    names
}

#[test]
fn m4_m5_m6_an_identity_gets_one_account_and_keeps_it() {
    in_cell(|cell| {
        furnish(cell);
        let mut pilot = Pilot::start(cell);
        let first = open_for(&mut pilot, "Dora Ann").expect("opens");
        // grid0 comes first by age, but is in no password database.
        assert!(first.account.starts_with("grid") && first.account != "grid0");
        assert_eq!(first.lease, "pool %2fcn%3ddora%20ann");
        assert_eq!(leases(), ["%2fcn%3ddora%20ann"]);
        let facts = fs::metadata(format!("{DIR}/{}", first.account)).expect("there");
        let lease = fs::metadata(format!("{DIR}/%2fcn%3ddora%20ann")).expect("there");
        assert_eq!((facts.ino(), facts.nlink()), (lease.ino(), 2));
        let ids = pilot.run(first.payload, "id -un; id -G").0;
        assert_eq!(ids, format!("{}\n{}\n", first.account, first.gid));
        // The same again while it runs, another one for another.
        let second = open_for(&mut pilot, "Dora Ann").expect("opens");
        assert_eq!(second.account, first.account);
        let emil = open_for(&mut pilot, "Emil").expect("opens");
        assert_ne!(emil.account, first.account);
        // Lower-casing loses what tells these two apart.
        let other = open_for(&mut pilot, "dora ann").expect_err("not hers");
        assert_eq!(other, "pool.other_identity");
        for opened in [&first, &second, &emil] {
            pilot.close(opened.payload);
        }
        assert_eq!(leases().len(), 2);
    });
}

#[test]
fn m6_an_account_that_somebody_has_used_is_not_taken() {
    in_cell(|cell| {
        furnish(cell);
        put("/home/grid1/left", "", 0o644);
        let mut sleeper = Program::new("/bin/sleep");
        std::os::unix::process::CommandExt::uid(&mut sleeper, uid(cell, 2));
        let mut sleeper = sleeper.arg("1000").spawn().expect("sleep starts");
        let mut pilot = Pilot::start(cell);
        assert_eq!(
            open_for(&mut pilot, "Emil").expect("opens").account,
            "grid3"
        );
        assert_eq!(open_for(&mut pilot, "Fay").expect_err("none"), "pool.none");
        assert_eq!(leases(), ["%2fcn%3demil"]);
        sleeper.kill().expect("killed");
        sleeper.wait().expect("reaped");
        assert_eq!(open_for(&mut pilot, "Fay").expect("opens").account, "grid2");
    });
}

#[test]
fn m4_what_other_software_has_leased_is_respected() {
    in_cell(|cell| {
        furnish(cell);
        for (account, lease) in [("grid1", "%2fcn%3demil"), ("grid2", "%2fcn%3dsomebody")] {
            fs::hard_link(format!("{DIR}/{account}"), format!("{DIR}/{lease}")).expect("link");
        }
        let mut pilot = Pilot::start(cell);
        assert_eq!(
            open_for(&mut pilot, "Emil").expect("opens").account,
            "grid1"
        );
        assert_eq!(open_for(&mut pilot, "Fay").expect("opens").account, "grid3");
        // A lease that belongs to two is nobody's.
        fs::hard_link(format!("{DIR}/grid1"), format!("{DIR}/%2fcn%3dx")).expect("link");
        assert_eq!(
            open_for(&mut pilot, "Emil").expect_err("broken"),
            "pool.broken"
        );
    });
}

#[test]
fn m7_leases_end_only_when_the_administrator_says_so() {
    in_cell(|cell| {
        furnish(cell);
        let mut pilot = Pilot::start(cell);
        let emil = open_for(&mut pilot, "Emil").expect("opens");
        let fay = open_for(&mut pilot, "Fay").expect("opens");
        pilot.close(fay.payload);
        let release = || {
            let program = format!("{LIBEXEC}/sailplane-switch");
            let output = Program::new(program).arg("--release-leases").output();
            let output = output.expect("starts");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{output:?}");
            said
        };
        assert_eq!(release(), "0 leases released\n");
        // Long ago, as far as the file says.
        for lease in ["%2fcn%3demil", "%2fcn%3dfay"] {
            let file = fs::File::options()
                .write(true)
                .open(format!("{DIR}/{lease}"));
            let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
            file.expect("there").set_modified(old).expect("set");
        }
        // Emil's payload is still open.
        assert_eq!(release(), "1 leases released\n");
        assert_eq!(leases(), ["%2fcn%3demil"]);
        pilot.close(emil.payload);
        eventually(
            "touched at the end",
            std::time::Duration::from_secs(5),
            || fs::metadata(format!("{DIR}/%2fcn%3demil")).is_ok_and(|it| it.mtime() > 1000),
        );
        let mut caller = Program::new(format!("{LIBEXEC}/sailplane-switch"));
        std::os::unix::process::CommandExt::uid(&mut caller, cell.pilot);
        let output = caller.arg("--release-leases").output().expect("starts");
        assert_eq!(output.status.code(), Some(203));
    });
}

#[test]
fn an_account_can_be_asked_for_without_a_payload() {
    in_cell(|cell| {
        furnish(cell);
        let mut pilot = Pilot::start(cell);
        let mut ask = |purpose| {
            let pipe = pipe_with("accept 600 full /CN=Emil");
            let command = Command::Open {
                job_label: "1.0".into(),
                execute_dir: None,
                slot_account: None,
                purpose,
                limits: OpenLimits::default(),
                agent: false,
            };
            match pilot.ask(command, &[pipe.as_raw_fd()]).0 {
                Answer::Opened(opened) => Ok((opened.payload, opened.account)),
                Answer::Refused(refusal) => Err(refusal.code),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(ask(Purpose::VerifyOnly), Err("pool.none".to_owned()));
        assert!(leases().is_empty());
        let (payload, account) = ask(Purpose::GetAccount).expect("leased");
        assert_eq!((payload, leases().len()), (0, 1));
        assert_eq!(ask(Purpose::VerifyOnly), Ok((0, account)));
    });
}
