//! Payloads in accounts that are numbers, with enough of them for some to be made before anybody wants them (the usual cell
//! has too few).

use std::fs;
use std::time::{Duration, Instant};

use launch_protocol::broker::{Answer, Command};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cell::{EXECUTE, children, groups_of, in_cell, names_in};
use crate::client::{Pilot, eventually};
use crate::strays::strays;

const LEASES: &str = "/run/sailplane/leases";
const SOON: Duration = Duration::from_secs(10);

fn numbers(first: u32, count: u32) -> String {
    format!("dynamic_uids = {first}-{}\n", first + count - 1)
}

#[test]
fn k5_a_storm_on_payloads_that_were_made_ahead_asks_nobody() {
    const MANY: u32 = 300;
    in_cell(|cell| {
        // Beyond those of all cells.
        let first = 700_000_000 + std::process::id() % 1_000_000 * 1000;
        cell.configure(&numbers(first, MANY + 20));
        let mut pilot = Pilot::start(cell);
        let mut running = Vec::new();
        let mut payloads = Vec::new();
        for _ in 0..MANY {
            let opened = pilot.open();
            assert!((first..first + MANY + 20).contains(&opened.uid));
            running.push(pilot.begin(opened.payload, "exec sleep 1000"));
            payloads.push(opened.payload);
        }
        // From here on nobody could authorise anything.
        fs::remove_dir_all("/etc/sailplane").expect("removed");
        fs::remove_dir_all("/etc/grid-security").expect("removed");
        for name in ["sailplane-names", "sailplane-verify"] {
            fs::remove_file(format!("{}/{name}", crate::cell::LIBEXEC)).expect("removed");
            for pid in children(pilot.id(), name) {
                kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("killed");
            }
        }
        let decisions = || {
            cell.log()
                .lines()
                .filter(|line| line.contains("verdict"))
                .count()
        };
        let before = decisions();
        let start = Instant::now();
        let mut left = payloads.len();
        let mut next = payloads.iter();
        // A few on their way at any time: a pilot that does not read is taken for gone.
        let mut under_way = 0;
        while left > 0 {
            while under_way < 8
                && let Some(payload) = next.next()
            {
                pilot.send(Command::Close { payload: *payload }, &[]);
                under_way += 1;
            }
            let (_, answer, _) = pilot.reply();
            assert_eq!(answer, Answer::Closed);
            (left, under_way) = (left - 1, under_way - 1);
        }
        println!(
            "{MANY} payloads made ahead, cancelled and cleaned up in {:?}",
            start.elapsed()
        );
        assert_eq!(
            decisions(),
            before,
            "nothing is authorised when payloads are cancelled"
        );
        assert_eq!(pilot.hang_up(), Some(0));
        drop(running);
        eventually("the end of everybody", SOON, || strays().is_empty());
        assert!(names_in(EXECUTE).is_empty() && names_in(LEASES).is_empty());
        assert!(groups_of(pilot.id()).is_empty());
    });
}
