//! Payloads in namespaces of their own attack the pilot, its files, and each other. As an ordinary account: the tests
//! of root start themselves again under one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use launch_protocol::broker::{RefusalClass, SignalScope};
use sailplane::broker::own::{Entrance, OwnAccount};
use sailplane::broker::{Broker, BrokerError, Payload, PayloadEvent, PayloadEvents, Wanted, memfd};

use crate::programs::{self, PATIENCE, next, start};

/// The account that root's tests take; nobody has it.
const ACCOUNT: &str = "61777";

/// Where the programs are that this account can execute.
const PROGRAMS: &str = "SAILPLANE_TEST_PROGRAMS";

/// In the environment of the pilot, as a token might be.
const SECRET: &str = "PILOT_SECRET";

/// True if the test is to go on here; otherwise it has been run under an ordinary account.
fn as_ordinary(test: &str) -> bool {
    if !nix::unistd::geteuid().is_root() {
        return true;
    }
    let folder = programs::for_everybody();
    let status = Command::new("setpriv")
        .args([
            "--reuid",
            ACCOUNT,
            "--regid",
            ACCOUNT,
            "--clear-groups",
            "--",
        ])
        .arg(folder.path().join("it"))
        .args(["--exact", &format!("enclosed::{test}"), "--nocapture"])
        .env(PROGRAMS, folder.path())
        .env(SECRET, "known-to-the-pilot")
        .env("HOME", "/nonexistent")
        .current_dir("/")
        .status()
        .expect("setpriv runs");
    assert!(status.success(), "the test under uid {ACCOUNT}: {status}");
    false
}

fn built() -> (PathBuf, PathBuf) {
    match std::env::var_os(PROGRAMS).map(PathBuf::from) {
        Some(folder) => (folder.join("sailplane"), folder.join("agent")),
        None => (env!("CARGO_BIN_EXE_sailplane").into(), programs::agent()),
    }
}

/// A pilot's folder with secrets, and a broker.
struct Pilot {
    broker: Broker,
    folder: tempfile::TempDir,
}

impl Pilot {
    #[expect(clippy::print_stderr, reason = "a test that shows nothing says why")]
    /// `None` where the node makes no namespaces for ordinary accounts: then there is nothing to attack, and the pilot
    /// says so.
    async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        for name in ["execute", "tokens", "log"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("tokens/pilot"), "the pilot's token").unwrap();
        fs::write(folder.path().join("proxy"), "the pilot's proxy").unwrap();
        let (program, agent) = built();
        let own = OwnAccount {
            agent,
            ca_directory: None,
            entrance: Entrance::Namespaces {
                hide: vec![folder.path().to_owned(), "/nonexistent".into(), "/".into()],
            },
        };
        match Broker::start_own(&program, &own).await {
            Ok((broker, hello)) => {
                assert!(hello.features.contains(&"private-pid".to_owned()));
                Some(Self { broker, folder })
            }
            Err(BrokerError::Refused(refusal)) => {
                assert_eq!(refusal.code, "isolation.none");
                assert_eq!(refusal.class, RefusalClass::SitePermanent);
                eprintln!("no namespaces here: {}", refusal.message);
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn open(&self) -> (Payload, PayloadEvents) {
        let nothing = memfd::sealed("credential", b"").unwrap();
        let execute = self.folder.path().join("execute");
        self.broker
            .open(Wanted::new("job", &execute), &nothing)
            .await
            .unwrap()
    }

    /// Runs a shell script to its end; gives what it printed.
    async fn run(&self, script: &str) -> String {
        let (payload, mut events) = self.open().await;
        start(&payload, script).await;
        let exited = next(&mut events).await;
        assert!(matches!(exited, PayloadEvent::Exited { .. }), "{exited:?}");
        assert_eq!(next(&mut events).await, PayloadEvent::Empty);
        let said = fs::read_to_string(payload.sandbox().join("out")).unwrap();
        payload.close().await.unwrap();
        said
    }
}

#[tokio::test]
async fn a_payload_neither_sees_nor_signals_the_pilot() {
    if !as_ordinary("a_payload_neither_sees_nor_signals_the_pilot") {
        return;
    }
    let Some(pilot) = Pilot::start().await else {
        return;
    };
    let own = std::process::id();
    let said = pilot
        .run(&format!(
            "echo pid $$; id -u; \
             kill -0 {own} 2>/dev/null && echo SIGNALLED; \
             test -e /proc/{own} && echo SEEN; \
             ls /proc | grep -c '^[0-9]'; \
             cat /proc/[0-9]*/environ 2>/dev/null | grep -c known-to-the-pilot; \
             kill -9 1; kill -STOP 1; kill -9 -1; echo unreachable"
        ))
        .await;
    let lines: Vec<&str> = said.lines().collect();
    assert_ne!(lines[0], "pid 1", "a small init is the first process");
    assert_eq!(lines[1], nix::unistd::geteuid().to_string());
    let processes: u32 = lines[2].parse().unwrap();
    assert!(processes < 8, "{said}");
    assert_eq!(lines[3], "0", "no environment of the pilot: {said}");
    assert!(
        !said.contains("SIGNALLED") && !said.contains("SEEN"),
        "{said}"
    );
    // It killed itself with `kill -9 -1`, or the shell went on: the keeper lived to say so.
}

#[tokio::test]
async fn a_payload_cannot_look_into_its_keeper() {
    if !as_ordinary("a_payload_cannot_look_into_its_keeper") {
        return;
    }
    let Some(pilot) = Pilot::start().await else {
        return;
    };
    let said = pilot
        .run(
            "for f in environ mem maps; do cat /proc/1/$f >/dev/null 2>&1 && echo READ $f; done; \
             ls /proc/1/fd >/dev/null 2>&1 && echo LISTED; \
             ls /proc/1/root/ >/dev/null 2>&1 && echo ROOT; \
             readlink /proc/1/ns/mnt >/dev/null 2>&1 && echo NS; \
             nsenter -t 1 -m true 2>/dev/null && echo ENTERED; \
             grep -E 'CapEff|CapPrm|NoNewPrivs' /proc/self/status; \
             ls /proc/self/fd | wc -l",
        )
        .await;
    for bad in ["READ", "LISTED", "ROOT", "NS\n", "ENTERED"] {
        assert!(!said.contains(bad), "{bad}: {said}");
    }
    assert!(said.contains("CapEff:\t0000000000000000"), "{said}");
    assert!(said.contains("CapPrm:\t0000000000000000"), "{said}");
    assert!(said.contains("NoNewPrivs:\t1"), "{said}");
    // 0 to 2, and that of the directory itself.
    assert_eq!(said.lines().last(), Some("4"), "{said}");
}

#[tokio::test]
async fn a_payload_does_not_find_the_pilots_files() {
    if !as_ordinary("a_payload_does_not_find_the_pilots_files") {
        return;
    }
    let Some(pilot) = Pilot::start().await else {
        return;
    };
    let folder = pilot.folder.path().display();
    let proxy = PathBuf::from(format!("/tmp/x509up_test_{}", std::process::id()));
    fs::write(&proxy, "a proxy in /tmp").unwrap();
    let attack = format!(
        "cat {folder}/tokens/pilot {folder}/proxy {} 2>&1; \
         find {folder} /tmp /var/tmp -type f ! -path '*/job/*' 2>/dev/null; \
         mount | grep -c {folder}",
        proxy.display()
    );
    // Once as it is, once as root of namespaces of its own making.
    let own_namespaces = format!(
        "{attack}; unshare -Urm sh -c \"umount -l {folder}; umount -l /tmp; umount -l {folder}/execute; {attack}\""
    );
    let said = pilot.run(&own_namespaces).await;
    fs::remove_file(&proxy).unwrap();
    for secret in ["the pilot's token", "the pilot's proxy", "a proxy in /tmp"] {
        assert!(!said.contains(secret), "{secret}: {said}");
    }
    assert!(said.contains("No such file"), "{said}");
}

#[tokio::test]
async fn payloads_do_not_see_each_other() {
    if !as_ordinary("payloads_do_not_see_each_other") {
        return;
    }
    let Some(pilot) = Pilot::start().await else {
        return;
    };
    let (victim, mut of_victim) = pilot.open().await;
    start(
        &victim,
        "echo 'the proxy of Alice' > proxy.pem; echo shared > /tmp/alice; echo shared > /dev/shm/alice; \
         ipcmk -M 64 >/dev/null; touch ready; exec sleep 345.678",
    )
    .await;
    let sandbox = victim.sandbox().to_owned();
    let ready = async {
        while !sandbox.join("ready").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.unwrap();
    let said = pilot
        .run(&format!(
            "cat {0}/proxy.pem 2>&1; ls {0} 2>&1; ls -d {0}/../*; cat /tmp/alice /dev/shm/alice 2>&1; \
             tail -n +2 /proc/sysvipc/shm | wc -l; \
             cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'sleep 345[.]678' | head -1; \
             pkill -f 345.678 ; echo done",
            sandbox.display()
        ))
        .await;
    assert!(
        !said.contains("the proxy of Alice") && !said.contains("shared"),
        "{said}"
    );
    assert!(said.contains("\n0\n"), "no shared memory: {said}");
    victim
        .signal(libc::SIGTERM, SignalScope::Leader)
        .await
        .unwrap();
    assert_eq!(
        next(&mut of_victim).await,
        PayloadEvent::Exited { wait_status: 15 },
        "it lived until it was told to end"
    );
    victim.close().await.unwrap();
}

#[tokio::test]
async fn what_a_payload_makes_comes_out_and_nothing_else_is_left() {
    if !as_ordinary("what_a_payload_makes_comes_out_and_nothing_else_is_left") {
        return;
    }
    let Some(pilot) = Pilot::start().await else {
        return;
    };
    let (payload, mut events) = pilot.open().await;
    // Detached in every way; a tree that its owner may not enter; and a crowd.
    start(
        &payload,
        "echo made > file; mkdir -p a/b; touch a/b/c; chmod 0 a; touch /tmp/left /var/tmp/left; \
         setsid setsid sleep 345.679 & (trap '' TERM HUP; sleep 345.679) & \
         i=0; while [ $i -lt 50 ]; do sleep 345.679 & i=$((i+1)); done; exit 3",
    )
    .await;
    assert_eq!(
        next(&mut events).await,
        PayloadEvent::Exited {
            wait_status: 3 << 8
        }
    );
    let usage = payload.usage().await.unwrap();
    assert!(usage.processes >= 50, "{usage:?}");
    payload.kill().await.unwrap();
    assert_eq!(next(&mut events).await, PayloadEvent::Empty);
    let (mut agent, _) = payload.spawn_agent().await.unwrap();
    let (mut file, ..) = agent.open_read(Path::new("file")).await.unwrap();
    let mut content = String::new();
    std::io::Read::read_to_string(&mut file, &mut content).unwrap();
    assert_eq!(content, "made\n");
    drop(agent);
    payload.close().await.unwrap();
    let left = fs::read_dir(pilot.folder.path().join("execute")).unwrap();
    assert_eq!(left.count(), 0);
    assert!(!Path::new("/tmp/left").exists());
}

#[tokio::test]
async fn k8_a_payload_in_namespaces_rests_and_goes_on() {
    if !as_ordinary("k8_a_payload_in_namespaces_rests_and_goes_on") {
        return;
    }
    let Some(pilot) = Pilot::start().await else {
        return;
    };
    let (payload, _events) = pilot.open().await;
    start(&payload, "while :; do echo x >> ticks; sleep 0.02; done").await;
    let ticks = || fs::metadata(payload.sandbox().join("ticks")).map_or(0, |facts| facts.len());
    let pause = || tokio::time::sleep(Duration::from_millis(200));
    pause().await;
    payload
        .signal(libc::SIGSTOP, SignalScope::All)
        .await
        .unwrap();
    let rests = ticks();
    pause().await;
    assert!(ticks() <= rests + 2, "it rests");
    let rests = ticks();
    payload
        .signal(libc::SIGCONT, SignalScope::All)
        .await
        .unwrap();
    pause().await;
    assert!(ticks() > rests, "it goes on");
    payload.close().await.unwrap();
}

#[tokio::test]
async fn a_renewed_proxy_comes_in() {
    if !as_ordinary("a_renewed_proxy_comes_in") {
        return;
    }
    let Some(pilot) = Pilot::start().await else {
        return;
    };
    let (payload, _events) = pilot.open().await;
    start(
        &payload,
        "echo old > proxy; touch ready; exec sleep 345.677",
    )
    .await;
    let sandbox = payload.sandbox().to_owned();
    let ready = async {
        while !sandbox.join("ready").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.unwrap();
    let renewed = memfd::sealed("credential", b"").unwrap();
    let end = payload
        .renew(Some(Path::new("proxy")), &renewed)
        .await
        .unwrap();
    assert_eq!(end, i64::MAX);
    assert_eq!(fs::read(sandbox.join("proxy")).unwrap(), b"");
    let garbage = memfd::sealed("credential", b"no proxy").unwrap();
    assert!(matches!(
        payload.renew(Some(Path::new("proxy")), &garbage).await,
        Err(BrokerError::Refused(refusal)) if refusal.class == RefusalClass::Job
    ));
    // Tokens are put there as they are, several at once; what cannot be written leaves the rest alone.
    let token = |content| memfd::sealed("credential", content).unwrap();
    let one = payload.replace(Path::new("proxy"), token(b"a token"));
    let other = payload.replace(Path::new("other"), token(b"another"));
    let outside = payload.replace(Path::new("../x"), token(b"a third"));
    let (one, other, outside) = tokio::join!(one, other, outside);
    one.unwrap();
    other.unwrap();
    assert!(matches!(outside, Err(BrokerError::Refused(refusal)) if refusal.code == "renew.write"));
    assert_eq!(fs::read(sandbox.join("proxy")).unwrap(), b"a token");
    assert_eq!(fs::read(sandbox.join("other")).unwrap(), b"another");
    payload.close().await.unwrap();
}

#[tokio::test]
async fn a_dead_pilot_leaves_nothing() {
    if !as_ordinary("a_dead_pilot_leaves_nothing") {
        return;
    }
    let Some(pilot) = Pilot::start().await else {
        return;
    };
    let (payload, _events) = pilot.open().await;
    start(&payload, "setsid sleep 345.676 & exec sleep 345.676").await;
    let Pilot { broker, folder } = pilot;
    std::mem::forget(payload);
    drop(broker);
    let gone = async {
        while fs::read_dir(folder.path().join("execute")).unwrap().count() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // The payload holds the broker; its end is that of the runtime. Here the router is told by hand.
    drop(tokio::time::timeout(Duration::from_millis(200), gone).await);
}
