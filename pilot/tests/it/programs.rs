//! Programs that other accounts can execute, and payloads that are shell scripts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use launch_protocol::exec::ExecRequest;
use sailplane::broker::{Payload, PayloadEvent, PayloadEvents};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The agent, built beside the tests.
pub(crate) fn agent() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let target = tests.parent().unwrap().parent().unwrap();
    let agent = target.join("examples/agent");
    assert!(agent.exists(), "cargo test builds {}", agent.display());
    agent
}

/// A folder that everybody can search, with these tests (`it`), the pilot (`sailplane`) and the agent (`agent`).
pub(crate) fn for_everybody() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (name, path) in [
        ("it", std::env::current_exe().unwrap()),
        ("sailplane", env!("CARGO_BIN_EXE_sailplane").into()),
        ("agent", agent()),
    ] {
        let copy = folder.path().join(name);
        if fs::hard_link(&path, &copy).is_err() {
            fs::copy(&path, &copy).unwrap();
        }
    }
    folder
}

/// Makes the payload a shell that runs `script`; what it prints is in the file `out` of its sandbox.
pub(crate) async fn start(payload: &Payload, script: &str) {
    let (mut agent, _) = payload.spawn_agent().await.unwrap();
    let output = agent.create(Path::new("out"), 0o644).await.unwrap();
    let request = ExecRequest {
        path: "/bin/sh".into(),
        argv: ["sh", "-c", script]
            .map(|word| word.as_bytes().to_vec())
            .into(),
        env: vec![b"PATH=/usr/sbin:/usr/bin:/bin".to_vec()],
        cwd: payload.sandbox().to_owned(),
        umask: 0o022,
        ..ExecRequest::default()
    };
    let null = fs::File::open("/dev/null").unwrap();
    let errors = output.try_clone().unwrap();
    agent
        .exec(&request, [null.into(), output.into(), errors.into()])
        .await
        .unwrap();
}

pub(crate) async fn next(events: &mut PayloadEvents) -> PayloadEvent {
    tokio::time::timeout(PATIENCE, events.next())
        .await
        .expect("an event")
        .expect("the broker lives")
}
