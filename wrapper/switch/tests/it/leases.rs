//! Pool accounts that other software leases too (requirements M4 to M7), seen from outside: several brokers, an external
//! writer, names that differ in case.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;

use launch_protocol::broker::{Answer, Command, Reply};

use crate::cell::{Cell, EXECUTE, in_cell, names_in, own, put};
use crate::client::{Pilot, pipe_with};

const POOL: &str = "/etc/grid-security/gridmapdir";

/// So many accounts `pool00` and up, and people `/CN=User 0` and up who are mapped to them.
fn pool(cell: &Cell, accounts: u32, people: u32) {
    let mut passwd = fs::read_to_string("/etc/passwd").expect("there");
    let mut map = String::from("\"/CN=USER 0\" .pool\n");
    for number in 0..accounts {
        let uid = cell.first + 70 + number;
        passwd.push_str(&format!(
            "pool{number:02}:x:{uid}:{uid}::/home/pool{number:02}:/bin/sh\n"
        ));
        put(format!("{POOL}/pool{number:02}"), "", 0o644);
        let home = format!("/home/pool{number:02}");
        fs::create_dir_all(&home).expect("a home");
        own(&home, uid, 0o700);
    }
    for number in 0..people {
        map.push_str(&format!("\"/CN=User {number}\" .pool\n"));
    }
    put("/etc/passwd", &passwd, 0o644);
    put("/etc/sailplane/gridmap", &map, 0o644);
    own(POOL, 0, 0o755);
    cell.configure(&format!(
        "gridmap = /etc/sailplane/gridmap\ngridmapdir = {POOL}\n"
    ));
}

/// Accounts with a second name, and how many names each has.
fn leases() -> Vec<(String, u64)> {
    names_in(POOL)
        .into_iter()
        .filter(|name| name.starts_with("pool"))
        .map(|name| {
            let links = fs::metadata(format!("{POOL}/{name}"))
                .expect("there")
                .nlink();
            (name, links)
        })
        .collect()
}

fn person(number: u32) -> String {
    format!("accept 3600 full /CN=User {number}")
}

#[test]
fn m4_fifty_requests_at_once_over_ten_accounts() {
    in_cell(|cell| {
        pool(cell, 10, 50);
        let mut pilots: Vec<_> = (0..5).map(|_| Pilot::start(cell)).collect();
        // All of them are on their way before any answer is read.
        let mut credentials = Vec::new();
        for number in 0..50 {
            let pilot = &mut pilots[number as usize % 5];
            let pipe = pipe_with(&person(number));
            pilot.send(Command::open("1.0", EXECUTE), &[pipe.as_raw_fd()]);
            credentials.push(pipe);
        }
        let (mut uids, mut refused) = (Vec::new(), 0);
        for pilot in &pilots {
            for _ in 0..10 {
                let (packet, _) = pilot.socket().receive().expect("answers");
                match Reply::decode(&packet).expect("a reply").answer {
                    Answer::Opened(opened) => {
                        assert!(opened.account.starts_with("pool"), "{opened:?}");
                        uids.push(opened.uid);
                    }
                    Answer::Refused(refusal) => {
                        assert!(refusal.may_succeed_later, "{refusal:?}");
                        refused += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        let different: BTreeSet<_> = uids.iter().collect();
        assert_eq!((uids.len(), different.len(), refused), (10, 10, 40));
        assert!(
            leases().iter().all(|(_, links)| *links == 2),
            "{:?}",
            leases()
        );
        // The lease stays with the person when the payload and the pilot are gone.
        for pilot in &mut pilots {
            pilot.hang_up();
        }
        assert!(
            leases().iter().all(|(_, links)| *links == 2),
            "{:?}",
            leases()
        );
    });
}

#[test]
fn m5_two_names_that_differ_in_case_are_not_one() {
    in_cell(|cell| {
        pool(cell, 3, 2);
        let mut pilot = Pilot::start(cell);
        let first = pilot.try_open(&person(0)).expect("opens");
        assert!(
            names_in(POOL).contains(&"%2fcn%3duser%200".to_owned()),
            "{:?}",
            names_in(POOL)
        );
        let refusal = pilot
            .try_open("accept 3600 full /CN=USER 0")
            .expect_err("another person");
        assert!(!refusal.may_succeed_later, "{refusal:?}");
        pilot.close(first.payload);
        // And the person still has the same account, also with another pilot.
        let mut other = Pilot::start(cell);
        assert_eq!(other.try_open(&person(0)).expect("opens").uid, first.uid);
    });
}

#[test]
fn m5_a_lease_that_other_software_has_made_counts() {
    in_cell(|cell| {
        pool(cell, 3, 3);
        fs::hard_link(format!("{POOL}/pool02"), format!("{POOL}/%2fcn%3duser%201"))
            .expect("linked");
        fs::hard_link(
            format!("{POOL}/pool00"),
            format!("{POOL}/%2fo%3delsewhere%2fcn%3dothers"),
        )
        .expect("linked");
        let mut pilot = Pilot::start(cell);
        assert_eq!(pilot.try_open(&person(1)).expect("opens").account, "pool02");
        assert_eq!(pilot.try_open(&person(0)).expect("opens").account, "pool01");
        assert!(
            pilot
                .try_open(&person(2))
                .expect_err("none is free")
                .may_succeed_later
        );
        // An account with three names is nobody's: somebody has made a mistake.
        fs::hard_link(format!("{POOL}/pool01"), format!("{POOL}/%2fcn%3dintruder"))
            .expect("linked");
        let mut next = Pilot::start(cell);
        next.try_open(&person(0))
            .expect_err("two leases of one account");
    });
}

#[test]
fn m4_a_writer_beside_us_never_gets_an_account_that_we_have() {
    in_cell(|cell| {
        pool(cell, 6, 40);
        let script = format!(
            "import os\nos.chdir('{POOL}')\nmine = set()\nfor n in range(400):\n for a in range(6):\n  f = f'pool{{a:02}}'\n  \
             if os.stat(f).st_nlink == 1:\n   l = f'%2fexternal%3d{{n}}'\n   try: os.link(f, l)\n   except FileExistsError: continue\n   \
             if os.stat(f).st_nlink != 2: os.unlink(l)\n   else: os.unlink(l) if n % 2 else mine.add(f)\nprint(' '.join(sorted(mine)))"
        );
        let writer = std::process::Command::new("python3")
            .args(["-Sc", &script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("starts");
        let mut pilot = Pilot::start(cell);
        let mut ours = BTreeSet::new();
        for number in 0..40 {
            if let Ok(opened) = pilot.try_open(&person(number)) {
                assert!(
                    ours.insert(opened.account.clone()),
                    "{} twice",
                    opened.account
                );
            }
        }
        let theirs = writer.wait_with_output().expect("ends").stdout;
        let theirs = String::from_utf8_lossy(&theirs).into_owned();
        let both: Vec<_> = theirs
            .split_whitespace()
            .filter(|name| ours.contains(*name))
            .collect();
        assert!(both.is_empty(), "ours {ours:?}, theirs {theirs}");
        assert!(
            leases().iter().all(|(_, links)| *links <= 2),
            "{:?}",
            leases()
        );
    });
}

#[test]
fn m6_an_account_that_does_not_exist_or_is_in_use_is_not_leased() {
    in_cell(|cell| {
        pool(cell, 2, 3);
        put(format!("{POOL}/pool77"), "", 0o644);
        put(format!("{POOL}/other01"), "", 0o644);
        let mut squatter = std::process::Command::new("setpriv")
            .arg(format!("--reuid={}", cell.first + 70))
            .args(["--clear-groups", "sleep", "60"])
            .spawn()
            .expect("starts");
        crate::client::eventually("the squatter", crate::client::PATIENCE, || {
            !crate::cell::processes_of(cell.first + 70).is_empty()
        });
        let mut pilot = Pilot::start(cell);
        assert_eq!(pilot.try_open(&person(0)).expect("opens").account, "pool01");
        pilot
            .try_open(&person(1))
            .expect_err("one is in use, one does not exist");
        squatter.kill().expect("killed");
        squatter.wait().expect("reaped");
        let links = |name: &str| {
            fs::metadata(format!("{POOL}/{name}"))
                .expect("there")
                .nlink()
        };
        assert_eq!((links("pool77"), links("other01")), (1, 1));
    });
}
