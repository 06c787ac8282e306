//! The two drivers against each other.

use std::fs;
use std::path::Path;
use std::time::Duration;

use zeroize::Zeroizing;

use super::super::download::{self, DownloadError, Downloaded, Opened, StorageError, download};
use super::super::select::{Item, ItemKind};
use super::super::testing::{Directory, pipe, tree};
use super::super::upload::{self, Uploaded, upload};
use super::super::{DelegationKeys, SandboxPath};

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Place(Directory, Zeroizing<Vec<u8>>);

impl Opened for Place {
    type Sandbox = Directory;

    fn sandbox(&mut self) -> &mut Directory {
        &mut self.0
    }
}

pub(super) struct Limits {
    pub(super) memory: u64,
    pub(super) disk: u64,
}

/// Sends `items` from one directory to another.
pub(super) async fn transfer(
    items: Vec<Item>,
    from: &Path,
    to: Directory,
    limits: Limits,
) -> (
    Uploaded,
    Result<Downloaded<Place>, DownloadError<&'static str>>,
) {
    let staging = tempfile::tempdir().unwrap();
    let keys = DelegationKeys::lazy();
    let executable = SandboxPath::parse("job.sh").unwrap();
    let proxy = SandboxPath::parse("proxy.pem").unwrap();
    let (mut sender, mut receiver) = pipe();
    let mut source = Directory::new(from);
    let up = upload(
        &mut sender,
        &mut source,
        upload::Request {
            items: &items,
            bytes: 0,
            is_final: true,
            patience: PATIENCE,
            from: "10.0.0.1",
            to: "<10.0.0.2:9618>",
        },
    );
    let down = download(
        &mut receiver,
        download::Request {
            executable: Some(&executable),
            proxy: Some(&proxy),
            keys: &keys,
            staging_directory: staging.path(),
            staging_memory: limits.memory,
            staging_disk: limits.disk,
            patience: PATIENCE,
        },
        |credential: Zeroizing<Vec<u8>>| async move {
            if credential.starts_with(b"bad") {
                Err("refused")
            } else {
                Ok(Place(to, credential))
            }
        },
    );
    let (uploaded, downloaded) = tokio::join!(up, down);
    (uploaded.unwrap(), downloaded)
}

pub(super) fn file(name: &str) -> Item {
    Item {
        name: name.into(),
        kind: ItemKind::File {
            path: name.into(),
            size: 0,
        },
    }
}

fn directory(name: &str, mode: u32) -> Item {
    Item {
        name: name.into(),
        kind: ItemKind::Directory { mode },
    }
}

const ROOMY: Limits = Limits {
    memory: 1 << 20,
    disk: 1 << 20,
};

fn source() -> tempfile::TempDir {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("proxy.pem"), "good proxy").unwrap();
    fs::write(from.path().join("job.sh"), "#!/bin/sh\n").unwrap();
    fs::write(from.path().join("empty"), "").unwrap();
    fs::write(from.path().join("large"), vec![7; 700_001]).unwrap();
    fs::create_dir(from.path().join("d")).unwrap();
    fs::write(from.path().join("d/inner"), "inner").unwrap();
    from
}

#[tokio::test]
async fn a_sandbox_arrives_as_it_was_sent() {
    let from = source();
    let to = tempfile::tempdir().unwrap();
    let items = vec![
        file("proxy.pem"),
        directory("d", 0o555),
        file("d/inner"),
        file("empty"),
        file("large"),
        file("job.sh"),
    ];
    let (uploaded, downloaded) =
        transfer(items, from.path(), Directory::new(to.path()), ROOMY).await;
    assert!(uploaded.unsent.is_none() && uploaded.theirs.is_success());
    let Downloaded {
        opened,
        bytes,
        files,
    } = downloaded.unwrap();
    assert_eq!(&opened.1[..], b"good proxy");
    assert_eq!((bytes, files), (700_001 + 10 + 10 + 5, 5));
    let wanted = [
        ("d", 0o555, None),
        ("d/inner", 0o644, Some(b"inner".to_vec())),
        ("empty", 0o644, Some(vec![])),
        ("job.sh", 0o755, Some(b"#!/bin/sh\n".to_vec())),
        ("large", 0o644, Some(vec![7; 700_001])),
        ("proxy.pem", 0o600, Some(b"good proxy".to_vec())),
    ];
    let found = tree(to.path());
    fs::set_permissions(
        to.path().join("d"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    assert_eq!(found.len(), wanted.len());
    for (found, (name, mode, content)) in found.into_iter().zip(wanted) {
        assert_eq!(
            (found.0.as_str(), found.1, found.2 == content),
            (name, mode, true),
            "{name}"
        );
    }
}

#[tokio::test]
async fn what_comes_before_the_credential_waits_in_memory_and_on_disk() {
    let from = source();
    let items = || {
        vec![
            directory("d", 0o755),
            file("d/inner"),
            file("large"),
            file("job.sh"),
            file("proxy.pem"),
        ]
    };
    for limits in [
        ROOMY,
        Limits {
            memory: 1000,
            disk: 1 << 20,
        },
    ] {
        let to = tempfile::tempdir().unwrap();
        let (uploaded, downloaded) =
            transfer(items(), from.path(), Directory::new(to.path()), limits).await;
        downloaded.unwrap();
        assert!(uploaded.theirs.is_success());
        assert_eq!(fs::read(to.path().join("large")).unwrap(), vec![7; 700_001]);
        assert_eq!(tree(to.path()).len(), 5);
    }
    let to = tempfile::tempdir().unwrap();
    let small = Limits {
        memory: 1000,
        disk: 700_000,
    };
    let (uploaded, downloaded) =
        transfer(items(), from.path(), Directory::new(to.path()), small).await;
    assert!(matches!(
        downloaded.unwrap_err(),
        DownloadError::Storage(StorageError::TooMuchBeforeCredential { .. })
    ));
    assert_eq!(uploaded.theirs.result, -1);
    assert_eq!(
        tree(to.path()),
        [],
        "nothing of a refused job reaches a sandbox"
    );
}

#[tokio::test]
async fn without_the_credential_nothing_is_stored() {
    let from = source();
    let to = tempfile::tempdir().unwrap();
    let (uploaded, downloaded) = transfer(
        vec![file("job.sh")],
        from.path(),
        Directory::new(to.path()),
        ROOMY,
    )
    .await;
    assert!(matches!(
        downloaded.unwrap_err(),
        DownloadError::NoCredential(_)
    ));
    assert!(!uploaded.theirs.is_success());
    let (_, downloaded) = transfer(vec![], from.path(), Directory::new(to.path()), ROOMY).await;
    assert!(matches!(
        downloaded.unwrap_err(),
        DownloadError::NoCredential(_)
    ));
    assert_eq!(tree(to.path()), []);
}

#[tokio::test]
async fn a_refused_credential_is_the_reason_even_when_more_fails() {
    let from = source();
    fs::write(from.path().join("proxy.pem"), "bad proxy").unwrap();
    let to = tempfile::tempdir().unwrap();
    let items = vec![file("proxy.pem"), file("large"), file("job.sh")];
    let (uploaded, downloaded) =
        transfer(items, from.path(), Directory::new(to.path()), ROOMY).await;
    assert!(matches!(
        downloaded.unwrap_err(),
        DownloadError::Open("refused")
    ));
    assert!(
        !uploaded.theirs.is_success(),
        "the dialogue is completed all the same"
    );
}

#[tokio::test]
async fn a_full_disk_is_reported_with_the_file_and_everything_is_consumed() {
    let from = source();
    let to = tempfile::tempdir().unwrap();
    let mut sandbox = Directory::new(to.path());
    sandbox.full_at = Some("large".into());
    let items = vec![file("proxy.pem"), file("large"), file("job.sh")];
    let (uploaded, downloaded) = transfer(items, from.path(), sandbox, ROOMY).await;
    let DownloadError::Storage(error) = downloaded.unwrap_err() else {
        panic!("not a storage error")
    };
    assert_eq!(error.errno(), libc::ENOSPC);
    assert!(error.to_string().contains("large"), "{error}");
    let hold = uploaded.theirs.hold.unwrap();
    assert_eq!(
        (uploaded.theirs.result, hold.code, hold.subcode),
        (-1, 13, i64::from(libc::ENOSPC))
    );
    assert!(hold.reason.contains("large"));
}

#[tokio::test]
async fn a_missing_output_is_reported_and_the_others_arrive() {
    let from = source();
    let to = tempfile::tempdir().unwrap();
    let items = vec![file("proxy.pem"), file("missing.txt"), file("job.sh")];
    let (uploaded, downloaded) =
        transfer(items, from.path(), Directory::new(to.path()), ROOMY).await;
    let unsent = uploaded.unsent.unwrap();
    assert_eq!(unsent.errno, libc::ENOENT);
    assert!(unsent.message.contains("missing.txt"), "{}", unsent.message);
    let hold = uploaded.ours.hold.unwrap();
    assert_eq!((uploaded.ours.result, hold.code, hold.subcode), (-1, 13, 2));
    assert!(hold.reason.starts_with(
        "STARTER at 10.0.0.1 failed to send file(s) to <10.0.0.2:9618>: |Error: reading"
    ));
    assert!(matches!(downloaded.unwrap_err(), DownloadError::Shadow(_)));
    assert!(to.path().join("job.sh").exists());
}
