//! How long a launch takes. Prints its figures; fails only on what is out of all proportion, because
//! a test machine may be busy. For figures that mean something:
//! `cargo test --profile setuid -p sailplane-switch --test it speed -- --nocapture`.

use std::time::{Duration, Instant};

use launch_protocol::agent::Reply;
use launch_protocol::exec::ExecRequest;

use crate::cell::{CONF, in_cell, put};
use crate::client::{Pilot, readable};

const LAUNCHES: usize = 60;

/// A job slot is not refilled at once; what the next launch needs is ready by then.
const PAUSE: Duration = Duration::from_millis(60);

fn middle(name: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let middle = times[times.len() / 2];
    let (low, high) = (times[times.len() / 10], times[times.len() * 9 / 10]);
    println!(
        "{name:40} n={} p50={middle:?} p10={low:?} p90={high:?}",
        times.len()
    );
    middle
}

#[test]
fn a_launch_is_quick() {
    in_cell(|cell| {
        // Dynamic accounts only, so that one can be taken while the verifier works.
        let text = std::fs::read_to_string(CONF).expect("there");
        let text: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with("gridmap"))
            .collect();
        put(CONF, &text.join("\n"), 0o644);
        let mut pilot = Pilot::start(cell);
        launches(&mut pilot, "after a pause", PAUSE);
        launches(&mut pilot, "at once", Duration::ZERO);
    });
}

fn launches(pilot: &mut Pilot, when: &str, pause: Duration) {
    let mut times: [Vec<Duration>; 6] = Default::default();
    for _ in 0..LAUNCHES {
        readable(&pilot.socket().0, pause);
        let start = Instant::now();
        let opened = pilot.open();
        let at_open = start.elapsed();
        let (_, agent) = pilot.try_spawn(opened.payload).expect("spawns");
        let at_spawn = start.elapsed();
        assert_eq!(agent.reply().0, Reply::Ready);
        let at_ready = start.elapsed();
        let request = ExecRequest {
            path: "/bin/true".into(),
            argv: vec![b"true".to_vec()],
            ..ExecRequest::default()
        };
        let running = agent.exec(&request).expect("runs");
        let at_exec = start.elapsed();
        assert_eq!(running.output(), "");
        pilot.event();
        pilot.event();
        let at_end = start.elapsed();
        pilot.close(opened.payload);
        let all = start.elapsed();
        let steps = [
            at_open,
            at_spawn - at_open,
            at_ready - at_spawn,
            at_exec - at_ready,
            at_exec,
            all - at_end,
        ];
        for (list, step) in times.iter_mut().zip(steps) {
            list.push(step);
        }
    }
    let [open, spawn, ready, exec, total, close] = times;
    let named = |step: &str| format!("{when}: {step}");
    middle(&named("open"), open);
    middle(&named("spawn, to the reply"), spawn);
    middle(&named("agent ready"), ready);
    middle(&named("exec, to the payload"), exec);
    let total = middle(&named("open to the payload running"), total);
    middle(&named("close"), close);
    assert!(total < Duration::from_millis(200), "{total:?}");
}
