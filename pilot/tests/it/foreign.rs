//! A site's own gLExec, played by a script of root's that changes the account with `setpriv`. The real ones are called in
//! the end-to-end tests.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use launch_protocol::broker::{RefusalClass, RefusedBy, SignalScope};
use sailplane::broker::own::{Entrance, OwnAccount};
use sailplane::broker::{Broker, BrokerError, Payload, PayloadEvent, PayloadEvents, Wanted, memfd};

use crate::programs::{self, PATIENCE, next, start};

/// The account of the payloads; nobody has it.
const ACCOUNT: u32 = 61_778;

/// What gLExec asks of its caller, then the switch.
const CHECKS: &str = "test -f \"$GLEXEC_CLIENT_CERT\" || exit 201\n\
    test \"$GLEXEC_TARGET_PROXY\" = /dev/null || exit 201\n\
    test -e \"${0%/*}/expired\" && { echo 'glexec: over [proxy.expired, will not succeed]' >&2; exit 201; }\n\
    echo \"$*\" >> \"${0%/*}/calls\"\n";
const SWITCH: &str = "setpriv --reuid 61778 --regid 61778 --clear-groups --";

struct Site {
    broker: Broker,
    folder: tempfile::TempDir,
    execute: tempfile::TempDir,
}

impl Site {
    /// `None` where the tests cannot change accounts.
    async fn start(rest: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let folder = programs::for_everybody();
        let glexec = folder.path().join("glexec");
        fs::write(&glexec, format!("#!/bin/sh\n{CHECKS}{rest}\n")).unwrap();
        fs::set_permissions(&glexec, fs::Permissions::from_mode(0o755)).unwrap();
        let execute = tempfile::tempdir().unwrap();
        fs::set_permissions(execute.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let own = OwnAccount {
            agent: folder.path().join("agent"),
            ca_directory: None,
            entrance: Entrance::Glexec {
                program: glexec,
                pilot_proxy: None,
            },
        };
        let program = folder.path().join("sailplane");
        let (broker, hello) = Broker::start_own(&program, &own).await.unwrap();
        assert!(hello.mapping.contains("glexec"), "{}", hello.mapping);
        Some(Self {
            broker,
            folder,
            execute,
        })
    }

    async fn open(&self) -> Result<(Payload, PayloadEvents), BrokerError> {
        let nothing = memfd::sealed("credential", b"").unwrap();
        let wanted = Wanted::new("job", self.execute.path());
        self.broker.open(wanted, &nothing).await
    }

    /// Arguments of the calls so far.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    fn is_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.execute.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

async fn made(path: &Path) {
    let wait = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("a file");
}

async fn a_life(rest: &str) {
    let Some(site) = Site::start(rest).await else {
        return;
    };
    let (payload, mut events) = site.open().await.unwrap();
    assert_eq!(
        (payload.facts().uid, payload.facts().gid),
        (ACCOUNT, ACCOUNT)
    );
    let facts = fs::metadata(payload.sandbox()).unwrap();
    assert_eq!((facts.uid(), facts.mode() & 0o7777), (ACCOUNT, 0o700));
    start(
        &payload,
        "id -u; id -G; ls /proc/self/fd | wc -l; setsid sleep 346.1 & echo done; exit 3",
    )
    .await;
    assert_eq!(
        next(&mut events).await,
        PayloadEvent::Exited {
            wait_status: 3 << 8
        }
    );
    payload.kill().await.unwrap();
    assert_eq!(next(&mut events).await, PayloadEvent::Empty);
    let (mut agent, _) = payload.spawn_agent().await.unwrap();
    let (mut file, ..) = agent.open_read(Path::new("out")).await.unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut file, &mut said).unwrap();
    assert_eq!(said, "61778\n61778\n4\ndone\n");
    drop(agent);
    let _ = next(&mut events).await;
    payload.close().await.unwrap();
    site.is_clean();
    assert_eq!(site.calls().len(), 1, "one call is all: {:?}", site.calls());
}

#[tokio::test]
async fn a_helper_that_replaces_itself() {
    a_life(&format!("exec {SWITCH} \"$@\"")).await;
}

#[tokio::test]
async fn g14_a_helper_that_lingers() {
    a_life(&format!("{SWITCH} \"$@\"; exit $?")).await;
}

/// A helper with servants of its own, under other accounts, is not taken for a payload that will not end.
#[tokio::test]
async fn a_helper_that_is_many_processes() {
    let servants = "setpriv --reuid 61779 --regid 61779 --clear-groups -- sh -c 'sh -c \"sleep 3 & wait\" & wait' &";
    a_life(&format!("{servants}\n{SWITCH} \"$@\"; exit $?")).await;
}

#[tokio::test]
async fn refusals_are_typed() {
    for (rest, class, who, word) in [
        (
            "echo no such user >&2; exit 203",
            RefusalClass::Job,
            RefusedBy::Mapping,
            "no such user",
        ),
        (
            "exit 201",
            RefusalClass::Job,
            RefusedBy::Credential,
            "without a word",
        ),
        (
            "echo broken >&2; exit 202",
            RefusalClass::SitePermanent,
            RefusedBy::Helper,
            "broken",
        ),
        (
            "exit 126",
            RefusalClass::SiteTransient,
            RefusedBy::Helper,
            "before",
        ),
        (
            "echo 'glexec: busy [pool.empty, may succeed later]' >&2; exit 203",
            RefusalClass::SiteTransient,
            RefusedBy::Mapping,
            "busy",
        ),
        // It does not change the account.
        (
            "exec \"$@\"",
            RefusalClass::SiteTransient,
            RefusedBy::Helper,
            "",
        ),
    ] {
        let Some(site) = Site::start(rest).await else {
            return;
        };
        let Err(BrokerError::Refused(refusal)) = site.open().await.map(drop) else {
            panic!("{rest}: opened");
        };
        assert_eq!(
            (refusal.class, refusal.who),
            (class, who),
            "{rest}: {refusal:?}"
        );
        assert!(
            refusal.message.contains(word),
            "{rest}: {}",
            refusal.message
        );
        site.is_clean();
    }
}

#[tokio::test]
async fn k5_an_expired_credential_takes_no_control_away() {
    let Some(site) = Site::start(&format!("exec {SWITCH} \"$@\"")).await else {
        return;
    };
    let (payload, mut events) = site.open().await.unwrap();
    start(
        &payload,
        "trap '' TERM; touch ready; while :; do sleep 1; done",
    )
    .await;
    made(&payload.sandbox().join("ready")).await;
    fs::write(site.folder.path().join("expired"), "").unwrap();
    payload
        .signal(libc::SIGSTOP, SignalScope::All)
        .await
        .unwrap();
    payload
        .signal(libc::SIGCONT, SignalScope::All)
        .await
        .unwrap();
    payload.kill().await.unwrap();
    assert_eq!(
        next(&mut events).await,
        PayloadEvent::Exited { wait_status: 9 }
    );
    assert_eq!(next(&mut events).await, PayloadEvent::Empty);
    // The output still comes out: the agent needs no further call.
    let (mut agent, _) = payload.spawn_agent().await.unwrap();
    assert!(agent.open_read(Path::new("ready")).await.is_ok());
    drop(agent);
    let _ = next(&mut events).await;
    payload.close().await.unwrap();
    site.is_clean();
    assert_eq!(site.calls().len(), 1);
}

#[tokio::test]
async fn a_payload_that_kills_its_keeper_is_killed_all_the_same() {
    let Some(site) = Site::start(&format!("exec {SWITCH} \"$@\"")).await else {
        return;
    };
    let (payload, mut events) = site.open().await.unwrap();
    // The keeper is its parent. What it leaves ignores what it can, and is nobody's child.
    start(
        &payload,
        "echo x > file; setsid sh -c 'trap \"\" TERM HUP; sleep 346.2' & sleep 0.3; kill -9 $PPID; sleep 346.2",
    )
    .await;
    assert!(matches!(
        next(&mut events).await,
        PayloadEvent::Exited { .. }
    ));
    assert_eq!(next(&mut events).await, PayloadEvent::Empty);
    let sleepers = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.starts_with(b"sleep\x00346.2"))
    });
    assert_eq!(sleepers.count(), 0, "they were killed by another call");
    assert!(
        site.calls()
            .iter()
            .any(|call| call.contains("payload-killer"))
    );
    payload.close().await.unwrap();
    site.is_clean();
}

#[tokio::test]
async fn a_renewed_proxy_reaches_the_other_account() {
    let Some(site) = Site::start(&format!("exec {SWITCH} \"$@\"")).await else {
        return;
    };
    let (payload, _events) = site.open().await.unwrap();
    start(&payload, "echo old > proxy; touch ready; exec sleep 346.3").await;
    made(&payload.sandbox().join("ready")).await;
    let renewed = memfd::sealed("credential", b"").unwrap();
    payload
        .renew(Some(Path::new("proxy")), &renewed)
        .await
        .unwrap();
    let facts = fs::metadata(payload.sandbox().join("proxy")).unwrap();
    assert_eq!((facts.uid(), facts.len()), (ACCOUNT, 0));
    let token = memfd::sealed("credential", b"a token").unwrap();
    payload.replace(Path::new("t.use"), token).await.unwrap();
    let facts = fs::metadata(payload.sandbox().join("t.use")).unwrap();
    assert_eq!((facts.uid(), facts.mode() & 0o7777), (ACCOUNT, 0o600));
    payload.close().await.unwrap();
    site.is_clean();
}
