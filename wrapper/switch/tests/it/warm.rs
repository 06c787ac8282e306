//! What is kept ready for the next payload, and for how long.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use launch_protocol::agent::Reply;
use launch_protocol::broker::{Answer, Command, Purpose};

use crate::cell::{EXECUTE, groups_of, in_cell};
use crate::client::{Agent, Pilot, eventually, pipe_with};

const SOON: Duration = Duration::from_secs(10);

/// Names of the monitor's children, but its guardian and the broker.
fn waiting(pilot: &Pilot) -> Vec<String> {
    let children = format!("/proc/{0}/task/{0}/children", pilot.id());
    let children = fs::read_to_string(children).expect("the monitor lives");
    let mut names: Vec<_> = children
        .split_whitespace()
        .map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default())
        .map(|name| name.trim().to_owned())
        .filter(|name| !["", "sailplane-guard", "sailplane-broke"].contains(&name.as_str()))
        .collect();
    names.sort();
    names
}

fn is_warm(pilot: &Pilot) -> bool {
    let names = waiting(pilot);
    ["sailplane-switc", "sailplane-verif"]
        .iter()
        .all(|wanted| names.iter().any(|name| name == wanted))
}

fn is_cold(pilot: &Pilot) -> bool {
    waiting(pilot).is_empty() && groups_of(pilot.id()).is_empty()
}

fn launch(pilot: &mut Pilot) {
    let opened = pilot.open();
    assert_eq!(pilot.run(opened.payload, "echo up").0, "up\n");
    pilot.close(opened.payload);
}

#[test]
fn a_pilot_without_jobs_keeps_no_verifier_and_no_group() {
    in_cell(|cell| {
        cell.configure("warm_time = 2\n");
        let mut pilot = Pilot::start(cell);
        eventually("a verifier at the start", SOON, || is_warm(&pilot));
        eventually("nothing waits any more", SOON, || is_cold(&pilot));
        launch(&mut pilot);
        eventually("ready for the next", SOON, || is_warm(&pilot));
        launch(&mut pilot);
        eventually("nothing waits any more", SOON, || is_cold(&pilot));
        pilot.prepare();
        eventually("ready for the announced one", SOON, || is_warm(&pilot));
        launch(&mut pilot);
        assert_eq!(pilot.hang_up(), Some(0));
        assert!(groups_of(pilot.id()).is_empty());
    });
}

#[test]
fn an_agent_comes_with_the_payload_if_it_is_wanted() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        for credential in ["accept 600 full /CN=Alice", "accept 600 full /CN=Bob"] {
            let file = pipe_with(credential);
            let mut command = Command::open("1.0", EXECUTE);
            if let Command::Open { agent, .. } = &mut command {
                *agent = true;
            }
            let (Answer::Opened(opened), Some(socket)) = pilot.ask(command, &[file.as_raw_fd()])
            else {
                panic!("no agent beside the answer")
            };
            let agent = Agent::of(socket);
            assert_eq!(agent.reply().0, Reply::Ready);
            assert!(opened.agent.is_some());
            let busy = pilot.try_spawn(opened.payload).err().expect("it has one");
            assert_eq!(busy.code, "agent.busy");
            drop(agent);
            assert!(matches!(pilot.event(), Answer::Exited { .. }));
            let payload = opened.payload;
            assert_eq!(pilot.event(), Answer::Empty { payload });
            // Another one is asked for as ever.
            assert_eq!(pilot.run(payload, "echo $$").1, 0);
            pilot.close(payload);
        }
        // None that would be told to end at once: a payload is told that ahead.
        let file = pipe_with("accept 20 full /CN=Alice");
        let mut command = Command::open("1.0", EXECUTE);
        if let Command::Open { agent, .. } = &mut command {
            *agent = true;
        }
        let (Answer::Opened(opened), None) = pilot.ask(command, &[file.as_raw_fd()]) else {
            panic!("an agent that is to end at once")
        };
        let payload = opened.payload;
        assert_eq!(pilot.event(), Answer::Expiring { payload });
        drop(pilot.spawn(payload));
        pilot.close(payload);
        // None for whom nothing will run.
        let file = pipe_with("accept 600 full /CN=Alice");
        let mut command = Command::open("1.0", EXECUTE);
        if let Command::Open { agent, purpose, .. } = &mut command {
            (*agent, *purpose) = (true, Purpose::VerifyOnly);
        }
        let (answer, socket) = pilot.ask(command, &[file.as_raw_fd()]);
        assert!(matches!(answer, Answer::Opened(it) if it.agent.is_none()) && socket.is_none());
        assert_eq!(pilot.hang_up(), Some(0));
    });
}
