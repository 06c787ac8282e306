//! A disk that takes no more.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};

use super::*;

/// Set for the child: the folder of the queue.
const CHILD: &str = "SAILPLANE_TEST_FULL_DISK";

/// A file may not grow beyond this: to SQLite it looks like a full disk, and needs no account of root's.
fn limit_files(bytes: u64) {
    setrlimit(Resource::RLIMIT_FSIZE, bytes, libc::RLIM_INFINITY).unwrap();
}

#[test]
fn child() {
    let Some(directory) = std::env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    // Blocked here and in every thread to come, the signal leaves the error to speak for itself.
    SigSet::from(Signal::SIGXFSZ).thread_block().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (queue, _) = open(&directory);
        let cluster = ad(&format!(
            "Cmd = \"/bin/true\"\nBallast = \"{}\"",
            "x".repeat(20_000)
        ));
        let first = queue
            .submit(&who("alice"), cluster.clone(), procs(2))
            .await
            .unwrap();
        let (running, waiting) = (JobId::new(first, 0), JobId::new(first, 1));
        queue.start(running, run("slot1@node")).await.unwrap();

        limit_files(4096);
        let error = queue
            .submit(&who("alice"), cluster.clone(), procs(1))
            .await
            .unwrap_err();
        assert!(matches!(&error, SubmitError::Disk(_)), "{error}");
        assert!(
            error.to_string().contains("nothing was submitted"),
            "{error}"
        );
        // No start without the promise that it is known.
        let error = queue.start(waiting, run("slot2@node")).await.unwrap_err();
        assert!(matches!(error, NotStartable::Disk { .. }), "{error}");
        assert_eq!(queue.status(waiting), Some(Status::Idle));
        // Questions are answered, and the end of a run is kept until it can be stored.
        assert!(queue.job(running).is_some());
        let end = tokio::spawn({
            let queue = queue.clone();
            async move { queue.finish(running, exited(0)).await }
        });
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert!(!end.is_finished(), "acknowledged without being stored");

        limit_files(libc::RLIM_INFINITY);
        assert_eq!(end.await.unwrap(), Ok(AfterRun::Completed));
        let next = queue
            .submit(&who("alice"), cluster, procs(1))
            .await
            .unwrap();
        assert!(next > first);
        queue.close().await;
    });
    let (queue, _) = open(&directory);
    assert_eq!(queue.model().jobs.len(), 2);
    std::fs::write(directory.join("passed"), "").unwrap();
}

#[test]
fn a_full_disk_refuses_what_is_new_and_keeps_what_is_old() {
    let directory = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "queue::tests::disk::child", "--nocapture"])
        .env(CHILD, directory.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(directory.path().join("passed").exists());
}
