//! The steps of a good launch, as they are counted before each of them is made to fail.

use std::collections::BTreeMap;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::conversation::Conversation;
use super::tracer::{self, Tracer};
use super::{NEVER, PATIENCE, Scene, Victim, front, waiting, who};
use crate::cell::Cell;
use crate::client::{Pilot, eventually};
use crate::strace::{self, traced};

/// A call, how many of it come before the first that counts, and how many there are with those.
pub(super) type Step = (String, usize, usize);

/// For each victim the calls and how many of each.
pub(super) fn steps(cell: &Cell, scene: Scene) -> BTreeMap<Victim, Vec<Step>> {
    let mut all = traced_steps(cell, scene);
    for victim in [Victim::Names, Victim::Verifier, Victim::Guardian] {
        all.insert(victim, attached_steps(cell, scene, victim));
    }
    if !scene.ready {
        all.insert(Victim::Front, front::steps(cell));
    }
    all
}

/// Of those who are there when the pilot is greeted, and of whom they start.
fn attached_steps(cell: &Cell, scene: Scene, victim: Victim) -> Vec<Step> {
    tracer::forget();
    let mut pilot = Pilot::start(cell);
    scene.prepare(&mut pilot);
    eventually("the victim", PATIENCE, || who(&pilot, victim).is_some());
    let tracer = Tracer::attach("-ff", who(&pilot, victim).expect("lives"));
    let mut conversation = Conversation {
        pilot: &mut pilot,
        owner: scene.owner(),
    };
    if victim == Victim::Guardian {
        let (_, done) = conversation.open_and_run(cell).expect("opens");
        assert_eq!(done, Ok(()));
        let monitor = Pid::from_raw(pilot.id().cast_signed());
        kill(monitor, Signal::SIGKILL).expect("killed");
    } else {
        assert_eq!(conversation.launch(cell), Ok(()));
    }
    pilot.hang_up();
    tracer.join();
    let most = tracer::most_of_each().into_iter();
    let most = most.filter(|(name, _)| !NEVER.contains(&name.as_str()));
    most.map(|(name, all)| (name, 0, all)).collect()
}

/// Of those who are traced from their first instruction.
fn traced_steps(cell: &Cell, scene: Scene) -> BTreeMap<Victim, Vec<Step>> {
    let count = |processes: Vec<&strace::Process>, from: &dyn Fn(&strace::Process) -> usize| {
        let mut most = BTreeMap::<String, usize>::new();
        for process in processes {
            let mut own = BTreeMap::<String, usize>::new();
            for call in process.calls.iter().skip(from(process)) {
                *own.entry(call.name.clone()).or_default() += 1;
            }
            for (name, number) in own {
                let all = most.entry(name).or_default();
                *all = number.max(*all);
            }
        }
        let calls = most
            .into_iter()
            .filter(|(name, _)| !NEVER.contains(&name.as_str()));
        calls
            .map(|(name, all)| (name, 0, all))
            .collect::<Vec<Step>>()
    };
    let mut pilot = traced(cell, "-s 64").start();
    pilot.greet();
    scene.prepare(&mut pilot);
    eventually("a waiting child", PATIENCE, || {
        waiting(pilot.id()).is_some()
    });
    let agent = waiting(pilot.id()).expect("waits");
    let broker = pilot.broker();
    let launched = Conversation {
        pilot: &mut pilot,
        owner: scene.owner(),
    }
    .launch(cell);
    assert_eq!(launched, Ok(()));
    pilot.hang_up();
    let all = strace::read_all(pilot.id());
    let (monitor, broker) = (&all[&pilot.id()], &all[&broker]);
    // The broker greets over a socket that it was given, after its first questions to the monitor.
    let is_gift = |call: &strace::Call| call.arguments.contains("SCM_RIGHTS");
    let gift = broker.calls.iter().rposition(is_gift).unwrap_or(0);
    let is_hello =
        |call: &strace::Call| call.name == "sendmsg" && !call.arguments.starts_with("0,");
    let hello = broker.calls.iter().skip(gift).position(is_hello);
    let hello = gift + hello.unwrap_or(0);
    // Before the greeting the monitor has started its guardian.
    let is_child = |call: &strace::Call| ["clone", "fork", "vfork"].contains(&call.name.as_str());
    let is_guardian = |call: &strace::Call| {
        let child = call
            .result
            .split(' ')
            .next()
            .and_then(|pid| pid.parse::<u32>().ok());
        let child = child
            .filter(|_| is_child(call))
            .and_then(|pid| all.get(&pid));
        child.is_some_and(|child| {
            let named = |call: &strace::Call| call.arguments.contains("sailplane-guard");
            child.calls.iter().any(named)
        })
    };
    let greeted = monitor
        .calls
        .iter()
        .position(is_guardian)
        .expect("a guardian");
    let is_order = |call: &strace::Call| call.name.starts_with("recv");
    let ordered = |process: &strace::Process| process.calls.iter().position(is_order).unwrap_or(0);
    let is_last = |call: &strace::Call| call.name == "execve" && call.arguments.contains("/bin/sh");
    let mut agents = strace::Process {
        pid: agent,
        calls: all[&agent].calls.clone(),
    };
    let end = agents
        .calls
        .iter()
        .position(is_last)
        .expect("became the payload");
    agents.calls.truncate(end + 1);
    let known = [monitor.pid, broker.pid, agent];
    let others: Vec<_> = all
        .values()
        .filter(|process| !known.contains(&process.pid))
        .collect();
    let mut started = strace::Process {
        pid: monitor.pid,
        calls: monitor.calls[..greeted].to_vec(),
    };
    // The loader's steps are the C library's matter, and there are many.
    let own = started
        .calls
        .iter()
        .position(|call| call.name == "close_range")
        .expect("cleans up");
    let skipped: BTreeMap<String, usize> =
        started.calls[..own]
            .iter()
            .fold(BTreeMap::new(), |mut all, call| {
                *all.entry(call.name.clone()).or_default() += 1;
                all
            });
    started.calls.retain(|call| call.name != "rt_sigaction");
    let mut first = count(vec![&started], &|_| 0);
    for (name, before, _) in &mut first {
        *before = skipped.get(name).copied().unwrap_or(0);
    }
    BTreeMap::from([
        (Victim::Start, first),
        (Victim::Monitor, count(vec![monitor], &|_| greeted)),
        (Victim::Broker, count(vec![broker], &|_| hello)),
        (Victim::Agent, count(vec![&agents], &ordered)),
        (Victim::Everybody, count(others, &|_| 0)),
    ])
}
