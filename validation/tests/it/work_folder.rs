//! Disks.

use validation::Whose;

use crate::node::{Node, is_root, open};

#[test]
fn a_full_disk() {
    if !is_root() {
        return;
    }
    let full = "mount -t tmpfs -o size=24m t $W/execute; head -c 23m /dev/zero > $W/execute/fill";
    let failure = Node::new("work-space").mounts().broken(full).failure();
    assert_eq!(failure.whose, Whose::Site);
    assert!(
        failure.transient && failure.why.contains("MiB free of 24"),
        "{failure:?}"
    );
    assert!(failure.why.contains("tmpfs on"), "{failure:?}");
    let full = "mount -t tmpfs -o size=64k t $W/execute; head -c 64k /dev/zero > $W/execute/fill";
    let failure = Node::new("work-write").mounts().broken(full).failure();
    assert!(failure.why.ends_with("it is full"), "{failure:?}");
    let lean = Node::new("work-space")
        .mounts()
        .broken("mount -t tmpfs -o size=24m t $W/execute");
    assert!(lean.knob("SAILPLANE_CHECK_DISK", 20).outcome().is_passed());
}

#[test]
fn a_disk_without_inodes() {
    if !is_root() {
        return;
    }
    let few = "mount -t tmpfs -o size=64m,nr_inodes=20 t $W/execute";
    let failure = Node::new("work-space")
        .knob("SAILPLANE_CHECK_DISK", 1)
        .mounts()
        .broken(few)
        .failure();
    assert!(failure.why.contains("more files"), "{failure:?}");
}

#[test]
fn a_read_only_disk() {
    if !is_root() {
        return;
    }
    let failure = Node::new("work-write")
        .mounts()
        .broken("mount -t tmpfs -o ro t $W/execute")
        .failure();
    assert!(
        failure
            .why
            .ends_with("a file cannot be made: it is mounted read-only"),
        "{failure:?}"
    );
}

#[test]
fn a_disk_without_execution() {
    if !is_root() {
        return;
    }
    let failure = Node::new("work-exec")
        .mounts()
        .broken("mount -t tmpfs -o noexec t $W/execute")
        .failure();
    assert!(failure.why.ends_with("it is mounted noexec"), "{failure:?}");
}

#[test]
fn a_quota() {
    if !is_root() {
        return;
    }
    let quota = "mount -t tmpfs -o size=64m,usrquota,usrquota_block_hardlimit=1m t $W/execute || exit 0; chmod 1777 $W/execute";
    let supported = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t tmpfs -o usrquota t /mnt"])
        .output()
        .unwrap();
    if !supported.status.success() {
        println!("left out: this kernel's tmpfs has no quota");
        return;
    }
    let failure = Node::new("work-space")
        .knob("SAILPLANE_CHECK_DISK", 1)
        .mounts()
        .stranger()
        .broken(quota)
        .failure();
    assert!(failure.why.contains("quota"), "{failure:?}");
}

#[test]
fn somebody_elses_folder_and_none() {
    if is_root() {
        let failure = Node::new("work-write")
            .stranger()
            .broken("chmod 755 $W/execute")
            .failure();
        assert!(
            failure.why.contains("belongs to uid 0 and has mode 0755"),
            "{failure:?}"
        );
        let failure = Node::new("work-write")
            .stranger()
            .broken("mkdir -m 700 $W/x; mv $W/execute $W/x; ln -s x/execute $W/execute")
            .failure();
        assert!(
            failure.why.contains("Permission denied") || failure.why.contains("cannot be made"),
            "{failure:?}"
        );
    }
    let failure = Node::new("work-write").broken("rmdir $W/execute").failure();
    assert!(failure.why.ends_with("it is not there"), "{failure:?}");
}

#[test]
fn left_overs_of_earlier_pilots() {
    let node = Node::new("left-overs").broken("mkdir $W/execute/dir_4711 $W/execute/glide_Xy12Zz; touch -d '3 days ago' $W/execute/dir_4711");
    let failure = node.failure();
    assert!(
        failure.why.contains("1 entries") && failure.why.contains("dir_4711"),
        "{failure:?}"
    );
    assert!(
        Node::new("left-overs")
            .broken("mkdir $W/execute/dir_4711")
            .outcome()
            .is_passed()
    );
}

#[test]
fn a_healthy_folder() {
    for check in ["work-write", "work-exec"] {
        let node = Node::new(check);
        open(node.execute(), 0o755);
        let outcome = node.outcome();
        assert!(outcome.is_passed(), "{outcome:?}");
    }
}
