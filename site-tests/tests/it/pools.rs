//! The same jobs on pools that are set up differently.

use anyhow::ensure;
use sailplane_site_tests::{Play, Pool, PoolOptions, StageOptions, Submission, process, say, wait};

use crate::on_stage;

#[test]
fn a_pool_behind_one_shared_port() {
    let mut options = StageOptions::named("shared").slots(1);
    options.pool.shared_port = true;
    on_stage(options, |stage| {
        let submission = Submission::shell("alice", "cat in.txt")
            .file("in.txt", b"through the shared port\n", 0o644)
            .line("transfer_input_files = in.txt");
        let submitted = stage.submit(&submission)?;
        submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        ensure!(
            submitted.output()? == "through the shared port\n",
            "{}",
            submitted.output()?
        );
        Ok(())
    });
}

#[test]
fn pools_stand_side_by_side_and_leave_nothing() {
    if let Some(reason) = process::obstacle() {
        say(&format!("not run: {reason}"));
        return;
    }
    let raise = || {
        Pool::raise(&PoolOptions {
            name: "side".to_owned(),
            ..PoolOptions::default()
        })
    };
    let (one, two) = (raise().expect("a pool"), raise().expect("a second pool"));
    assert_ne!(one.collector_host(), two.collector_host());
    let folder = one.dir().to_owned();
    assert_eq!(one.daemons("condor_schedd").len(), 1);
    drop(one);
    let mark = folder.display().to_string();
    let left = process::find(|process| {
        std::fs::read(format!("/proc/{}/environ", process.pid))
            .is_ok_and(|environment| String::from_utf8_lossy(&environment).contains(&mark))
    });
    assert!(left.is_empty(), "{left:?}");
    assert!(!folder.exists());
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("the mount table");
    assert!(!mounts.contains(&mark));
    assert_eq!(
        two.daemons("condor_schedd").len(),
        1,
        "the other pool goes on"
    );
}
