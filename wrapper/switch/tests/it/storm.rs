//! Storms: many payloads cancelled at once, and processes killed at random.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use launch_protocol::broker::{Answer, Command, Reply};

use crate::cell::{Cell, EXECUTE, LIBEXEC, children, groups_of, in_cell, names_in, processes_of};
use crate::client::{PATIENCE, Pilot, Running, Start, eventually, pipe_with, readable};
use crate::strays::strays;

/// Reads what has arrived; counts by kind.
fn drain(pilot: &Pilot, patience: Duration, counts: &mut [usize; 4]) {
    while readable(&pilot.socket().0, patience) {
        let (packet, _) = pilot.socket().receive().expect("the broker is there");
        let at = match Reply::decode(&packet).expect("a reply").answer {
            Answer::Done => 0,
            Answer::Exited { .. } => 1,
            Answer::Empty { .. } => 2,
            Answer::Closed => 3,
            other => panic!("{other:?}"),
        };
        counts[at] += 1;
        if patience > Duration::ZERO {
            return;
        }
    }
}

/// Sends a request for each payload without waiting for answers, then waits for so many of that kind.
fn burst(
    pilot: &mut Pilot,
    payloads: &[u32],
    command: impl Fn(u32) -> Command,
    wanted: usize,
    counts: &mut [usize; 4],
) {
    for payload in payloads {
        pilot.send(command(*payload), &[]);
        drain(pilot, Duration::ZERO, counts);
    }
    let start = Instant::now();
    while counts[wanted] < payloads.len() {
        assert!(start.elapsed() < Duration::from_secs(120), "{counts:?}");
        drain(pilot, Duration::from_secs(10), counts);
    }
}

fn storm(cell: &Cell, many: usize) {
    let mut pilot = Pilot::start(cell);
    let start = Instant::now();
    let mut payloads = Vec::new();
    let mut running: Vec<Running> = Vec::new();
    for _ in 0..many {
        let opened = pilot.try_open("accept 3600 full /CN=Alice").expect("opens");
        running.push(pilot.begin(opened.payload, "sleep 1000 & exec sleep 1001"));
        payloads.push(opened.payload);
    }
    eventually("all of them", Duration::from_secs(60), || {
        processes_of(cell.alice).len() >= 2 * many
    });
    let launched = start.elapsed();
    // From here on nobody could authorise anything: no verifier, no policy, no configuration, no trust anchor.
    for name in names_in(LIBEXEC) {
        if name != "sailplane-switch" && name != "sailplane-job" {
            fs::remove_file(format!("{LIBEXEC}/{name}")).expect("removed");
        }
    }
    fs::remove_dir_all("/etc/sailplane").expect("removed");
    fs::remove_dir_all("/etc/grid-security").expect("removed");
    for name in ["sailplane-names", "sailplane-verify"] {
        for pid in children(pilot.id(), name) {
            let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("killed");
        }
    }
    let decisions = |cell: &Cell| {
        cell.log()
            .lines()
            .filter(|line| line.contains("open"))
            .count()
    };
    let before = decisions(cell);
    let mut counts = [0; 4];
    let start = Instant::now();
    burst(
        &mut pilot,
        &payloads,
        |payload| Command::Kill { payload },
        2,
        &mut counts,
    );
    let killed = start.elapsed();
    assert_eq!((counts[0], counts[1], counts[2]), (many, many, many));
    assert!(processes_of(cell.alice).is_empty());
    let start = Instant::now();
    burst(
        &mut pilot,
        &payloads,
        |payload| Command::Close { payload },
        3,
        &mut counts,
    );
    let closed = start.elapsed();
    assert_eq!(
        decisions(cell),
        before,
        "nothing is authorised when payloads are cancelled"
    );
    println!(
        "{many} payloads: launched in {launched:?}, cancelled in {killed:?}, cleaned up in {closed:?}, no authorisation"
    );
    assert_eq!(pilot.hang_up(), Some(0));
    drop(running);
    assert!(names_in(EXECUTE).is_empty() && names_in("/run/sailplane/leases").is_empty());
    assert!(groups_of(pilot.id()).is_empty());
    assert!(
        killed
            < Duration::from_secs(20)
                + Duration::from_millis(20) * u32::try_from(many).expect("few"),
        "{killed:?}"
    );
}

#[test]
fn k5_a_storm_of_cancellations_asks_nobody_and_is_quick() {
    in_cell(|cell| storm(cell, 100));
}

#[test]
#[ignore = "a thousand payloads: cargo xtask storm"]
fn k5_a_storm_of_a_thousand() {
    in_cell(|cell| storm(cell, 1000));
}

/// The caller's end of the channel closes with all of them running: the same, without being asked.
#[test]
fn k2_a_storm_of_orphans_is_cleaned_up() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let mut running = Vec::new();
        for _ in 0..60 {
            let opened = pilot.try_open("accept 3600 full /CN=Alice").expect("opens");
            running.push(pilot.begin(opened.payload, "sleep 1000 & exec sleep 1001"));
        }
        let start = Instant::now();
        assert_eq!(pilot.hang_up(), Some(0));
        println!("60 payloads of a pilot that is gone: {:?}", start.elapsed());
        assert!(processes_of(cell.alice).is_empty());
        assert!(names_in(EXECUTE).is_empty() && names_in("/run/sailplane/leases").is_empty());
        drop(running);
    });
}

/// The caller hangs up after each step of a launch, without waiting for what it has asked for.
#[test]
fn k2_a_caller_that_goes_at_any_step_leaves_nothing() {
    in_cell(|cell| {
        for step in 0..9 {
            for pause in [0_u8, 3] {
                let mut pilot = Start::usual(cell).start();
                launch_up_to(&mut pilot, step);
                let _ = nix::poll::poll(&mut [], pause);
                pilot.socket = None;
                assert_eq!(pilot.end(), Some(0), "step {step}");
                drop(pilot);
                eventually("the end of everybody", PATIENCE, || strays().is_empty());
                assert_eq!(names_in(EXECUTE), Vec::<String>::new(), "step {step}");
                assert_eq!(
                    names_in("/run/sailplane/leases"),
                    Vec::<String>::new(),
                    "step {step}"
                );
                assert!(processes_of(cell.alice).is_empty(), "step {step}");
            }
        }
    });
}

/// So many steps of a launch.
fn launch_up_to(pilot: &mut Pilot, steps: u32) {
    if steps == 0 {
        return;
    }
    pilot.greet();
    let credential = pipe_with("accept 3600 full /CN=Alice");
    if steps == 1 {
        pilot.send(Command::open("1.0", EXECUTE), &[credential.as_raw_fd()]);
        return;
    }
    let opened = pilot.try_open("accept 3600 full /CN=Alice").expect("opens");
    let payload = opened.payload;
    match steps {
        2 => {}
        3 => {
            pilot.send(Command::SpawnAgent { payload }, &[]);
        }
        4 => drop(pilot.try_spawn(payload)),
        5 => drop(pilot.spawn(payload)),
        6 => drop(pilot.begin(payload, "sleep 1000 & exec sleep 1001")),
        7 => {
            drop(pilot.begin(payload, "sleep 1000 & exec sleep 1001"));
            pilot.send(Command::Close { payload }, &[]);
        }
        _ => {
            pilot.run(payload, "mkdir -p a/b/c; chmod 0 a");
            pilot.send(Command::Close { payload }, &[]);
        }
    }
}

/// Whoever of the helper's processes dies, and whenever: after the next start nothing is left.
#[test]
fn k2_k10_killing_anybody_at_any_time_leaves_nothing() {
    in_cell(|cell| {
        let mut seed = u64::from(std::process::id()) | 1;
        println!("seed {seed}");
        let mut next = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for round in 0..20 {
            let mut pilot = Pilot::start(cell);
            let monitor = pilot.id();
            let opened = pilot.try_open("accept 3600 full /CN=Alice").expect("opens");
            let running = pilot.begin(
                opened.payload,
                "(setsid sleep 1000 &); echo up; exec sleep 1001",
            );
            assert_eq!(running.line(), "up");
            pilot.send(
                Command::SpawnAgent {
                    payload: opened.payload,
                },
                &[],
            );
            // Some or all of them, in any order, at once or over a few milliseconds.
            let mut victims = strays();
            let count = usize::try_from(next()).unwrap_or(1) % victims.len() + 1;
            for _ in 0..count {
                let at = usize::try_from(next()).unwrap_or(0) % victims.len();
                let victim = victims.swap_remove(at);
                let pid: i32 = victim
                    .split(' ')
                    .next()
                    .and_then(|pid| pid.parse().ok())
                    .expect("a number");
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
                let _ = nix::poll::poll(&mut [], u8::try_from(next() % 4).unwrap_or(0));
            }
            pilot.socket = None;
            pilot.end();
            drop(pilot);
            let mut after = Pilot::start(cell);
            after.hang_up();
            let left = || {
                let mut left = strays();
                left.extend(names_in(EXECUTE));
                left.extend(names_in("/run/sailplane/leases"));
                left.extend(
                    groups_of(monitor)
                        .iter()
                        .map(|path| path.display().to_string()),
                );
                left
            };
            let start = Instant::now();
            while !left().is_empty() {
                assert!(
                    start.elapsed() < Duration::from_secs(6),
                    "round {round}: {:?}",
                    left()
                );
                let _ = nix::poll::poll(&mut [], 5_u8);
            }
        }
    });
}
