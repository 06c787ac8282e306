//! The broker for payloads under the pilot's own account, as a process, with the real agent and real payloads.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use launch_protocol::broker::SignalScope;
use launch_protocol::exec::ExecRequest;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sailplane::broker::own::{Entrance, OwnAccount};
use sailplane::broker::{
    Broker, BrokerError, ExecError, Payload, PayloadEvent, PayloadEvents, Wanted, memfd,
};

const PATIENCE: Duration = Duration::from_secs(20);

struct Place {
    broker: Broker,
    execute: tempfile::TempDir,
}

impl Place {
    async fn make() -> Self {
        let execute = tempfile::tempdir().unwrap();
        let broker = broker().await;
        Self { broker, execute }
    }

    async fn open(&self) -> (Payload, PayloadEvents) {
        let nothing = memfd::sealed("credential", b"").unwrap();
        self.broker
            .open(Wanted::new("job", self.execute.path()), &nothing)
            .await
            .unwrap()
    }

    fn sandboxes(&self) -> usize {
        fs::read_dir(self.execute.path()).unwrap().count()
    }

    async fn until_swept(&self) {
        until("the sandboxes to go", || self.sandboxes() == 0).await;
    }
}

async fn broker() -> Broker {
    let tests = std::env::current_exe().unwrap();
    let agent = tests
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/agent");
    assert!(agent.exists(), "cargo test builds {}", agent.display());
    let own = OwnAccount {
        agent,
        ca_directory: None,
        entrance: Entrance::Open,
    };
    let program = PathBuf::from(env!("CARGO_BIN_EXE_sailplane"));
    let (broker, hello) = Broker::start_own(&program, &own).await.unwrap();
    assert_eq!(hello.tracking, "subreaper");
    broker
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

/// Becomes a shell that runs `script`.
async fn start(payload: &Payload, script: &str) -> Result<u32, ExecError> {
    run(payload, "/bin/sh", &["sh", "-c", script]).await
}

async fn run(payload: &Payload, program: &str, arguments: &[&str]) -> Result<u32, ExecError> {
    let (agent, pid) = payload.spawn_agent().await.unwrap();
    let request = ExecRequest {
        path: program.into(),
        argv: arguments.iter().map(|a| a.as_bytes().to_vec()).collect(),
        env: vec![b"PATH=/usr/bin:/bin".to_vec()],
        cwd: payload.sandbox().to_owned(),
        umask: 0o022,
        ..ExecRequest::default()
    };
    let null = || {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap()
            .into()
    };
    agent
        .exec(&request, [null(), null(), null()])
        .await
        .map(|()| pid)
}

async fn next(events: &mut PayloadEvents) -> PayloadEvent {
    tokio::time::timeout(PATIENCE, events.next())
        .await
        .expect("an event")
        .expect("the broker lives")
}

/// A number of seconds to sleep that no other process sleeps.
fn marker() -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("600.{}{number:03}", std::process::id())
}

fn sleepers(marker: &str) -> Vec<i32> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            line.split(|byte| *byte == 0)
                .any(|word| word == marker.as_bytes())
                .then_some(pid)
        })
        .collect()
}

fn parent(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, tail) = stat.rsplit_once(')').unwrap();
    tail.split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_payload_from_open_to_close() {
    let place = Place::make().await;
    let (payload, mut events) = place.open().await;
    let sandbox = payload.sandbox().to_owned();
    assert_eq!(payload.facts().not_after, i64::MAX);
    let word = marker();
    // Two left behind: one in a session of its own, one whose parent is gone.
    let script = format!("setsid sleep {word} & (sleep {word} &) ; echo made > file; exit 3");
    start(&payload, &script).await.unwrap();
    assert_eq!(
        next(&mut events).await,
        PayloadEvent::Exited {
            wait_status: 3 << 8
        }
    );
    until("both sleepers", || sleepers(&word).len() == 2).await;
    assert_eq!(payload.usage().await.unwrap().processes, 2);
    payload.kill().await.unwrap();
    assert_eq!(next(&mut events).await, PayloadEvent::Empty);
    assert!(sleepers(&word).is_empty());
    // A second agent finds what the payload made.
    let (mut agent, _) = payload.spawn_agent().await.unwrap();
    let entries = agent.list(Path::new("")).await.unwrap();
    assert_eq!(entries.len(), 1);
    drop(agent);
    payload.close().await.unwrap();
    assert!(!sandbox.exists());
}

#[tokio::test]
async fn a_program_that_cannot_start_is_named() {
    let place = Place::make().await;
    let (payload, mut events) = place.open().await;
    let Err(ExecError::Failed(failure)) = run(&payload, "/no/such/program", &["x"]).await else {
        panic!("it started");
    };
    assert_eq!(failure.errno, 2);
    assert!(failure.message.contains("/no/such/program"));
    assert!(matches!(
        next(&mut events).await,
        PayloadEvent::Exited { .. }
    ));
    assert_eq!(next(&mut events).await, PayloadEvent::Empty);
    payload.close().await.unwrap();
    assert_eq!(place.sandboxes(), 0);
}

#[tokio::test]
async fn payloads_do_not_share_their_end() {
    let place = Place::make().await;
    let (one, mut of_one) = place.open().await;
    let (two, mut of_two) = place.open().await;
    let (first, second) = (marker(), marker());
    start(&one, &format!("sleep {first} & wait")).await.unwrap();
    start(&two, &format!("sleep {second} & wait"))
        .await
        .unwrap();
    until("both to sleep", || {
        sleepers(&first).len() + sleepers(&second).len() >= 2
    })
    .await;
    one.kill().await.unwrap();
    assert_eq!(
        next(&mut of_one).await,
        PayloadEvent::Exited { wait_status: 9 }
    );
    assert_eq!(next(&mut of_one).await, PayloadEvent::Empty);
    one.close().await.unwrap();
    assert!(!sleepers(&second).is_empty());
    assert!(two.sandbox().exists());
    two.signal(libc::SIGTERM, SignalScope::Leader)
        .await
        .unwrap();
    assert_eq!(
        next(&mut of_two).await,
        PayloadEvent::Exited { wait_status: 15 }
    );
    two.close().await.unwrap();
    assert!(sleepers(&second).is_empty());
}

#[tokio::test]
async fn time_and_memory_of_the_dead_are_counted() {
    let place = Place::make().await;
    let (payload, mut events) = place.open().await;
    start(
        &payload,
        "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done",
    )
    .await
    .unwrap();
    next(&mut events).await;
    next(&mut events).await;
    let usage = payload.usage().await.unwrap();
    assert!(usage.user_usec > 0, "{usage:?}");
    assert!(usage.memory_peak_bytes > 0, "{usage:?}");
    assert_eq!(usage.processes, 0);
    payload.close().await.unwrap();
}

#[test]
fn without_the_pilot_nothing_is_left() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let word = marker();
    let pilot = runtime();
    let (place, payload) = pilot.block_on(async {
        let place = Place::make().await;
        let (payload, _events) = place.open().await;
        start(&payload, &format!("setsid sleep {word} & sleep {word}"))
            .await
            .unwrap();
        until("both to sleep", || sleepers(&word).len() >= 2).await;
        (place, payload)
    });
    // The socket ends as by the pilot's death: nothing is closed before.
    drop(pilot);
    let Place { broker, execute } = place;
    drop((payload, broker));
    runtime().block_on(async {
        until("the sleepers to die", || sleepers(&word).is_empty()).await;
        until("the sandbox to go", || {
            fs::read_dir(execute.path()).unwrap().count() == 0
        })
        .await;
    });
}

#[tokio::test]
async fn a_killed_keeper_takes_its_payload_along() {
    let place = Place::make().await;
    let (payload, mut events) = place.open().await;
    let word = marker();
    let pid = start(
        &payload,
        &format!("setsid sleep {word} & sleep {word} & wait"),
    )
    .await
    .unwrap();
    until("both to sleep", || sleepers(&word).len() >= 2).await;
    let keeper = parent(pid.cast_signed());
    kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
    assert_eq!(
        next(&mut events).await,
        PayloadEvent::Exited { wait_status: 9 }
    );
    assert_eq!(next(&mut events).await, PayloadEvent::Empty);
    assert!(sleepers(&word).is_empty());
    place.until_swept().await;
    assert!(matches!(
        payload.usage().await,
        Err(BrokerError::Refused(_))
    ));
    // Others are not affected.
    let (next_payload, _) = place.open().await;
    next_payload.close().await.unwrap();
}

#[tokio::test]
async fn a_broken_credential_is_refused_in_the_jobs_name() {
    let place = Place::make().await;
    let bad = memfd::sealed("credential", b"no proxy").unwrap();
    let error = place
        .broker
        .open(Wanted::new("job", place.execute.path()), &bad)
        .await
        .map(drop)
        .unwrap_err();
    assert_eq!(
        error.class(),
        launch_protocol::broker::RefusalClass::Job,
        "{error}"
    );
    assert_eq!(place.sandboxes(), 0);
}
