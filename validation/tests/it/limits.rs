//! Limits of the kernel and of batch systems.

use std::path::Path;

use validation::Whose;

use crate::node::{Node, is_root};

#[test]
fn few_descriptors() {
    let failure = Node::new("open-files")
        .env("LIMITS", "ulimit -n 64;")
        .failure();
    assert!(failure.why.contains("64 files open"), "{failure:?}");
    let failure = Node::new("open-files")
        .env("LIMITS", "ulimit -Sn 64;")
        .failure();
    assert!(failure.hint.contains("ulimit -n 1024"), "{failure:?}");
}

#[test]
fn few_processes() {
    if !is_root() {
        return;
    }
    let failure = Node::new("processes")
        .stranger()
        .env("LIMITS", "prlimit --pid $$ --nproc=40:40;")
        .failure();
    assert!(
        failure.why.contains("limit of 40 (ulimit -u)"),
        "{failure:?}"
    );
    if Path::new("/sys/fs/cgroup/pids").is_dir() {
        let group = format!("/sys/fs/cgroup/pids/validation-test-{}", std::process::id());
        let failure = Node::new("processes")
            .broken(&format!(
                "mkdir -p {group}; echo 30 > {group}/pids.max; echo $$ > {group}/cgroup.procs"
            ))
            .failure();
        std::fs::remove_dir(&group).unwrap();
        assert!(
            failure.why.contains(&format!("{group}/pids.max")),
            "{failure:?}"
        );
    }
}

/// A group of its own with a limit, whichever kind of control groups the node has; `None`: it has none that we may use.
fn group(controller: &str, old: &[(&str, &str)], new: &[(&str, &str)]) -> Option<(String, String)> {
    let name = format!("validation-test-{controller}-{}", std::process::id());
    let (folder, values) = if Path::new("/sys/fs/cgroup").join(controller).is_dir() {
        (format!("/sys/fs/cgroup/{controller}/{name}"), old)
    } else {
        let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").ok()?;
        controllers
            .split_whitespace()
            .find(|one| *one == controller)?;
        (format!("/sys/fs/cgroup/{name}"), new)
    };
    let mut prelude = format!("mkdir -p {folder}; ");
    for (file, value) in values {
        prelude.push_str(&format!("echo {value} > {folder}/{file}; "));
    }
    prelude.push_str(&format!("echo $$ > {folder}/cgroup.procs"));
    Some((folder, prelude))
}

#[test]
fn little_memory() {
    if !is_root() {
        return;
    }
    let limit = [("memory.limit_in_bytes", "134217728")];
    let Some((folder, prelude)) = group("memory", &limit, &[("memory.max", "134217728")]) else {
        println!("left out: no control groups for memory");
        return;
    };
    let failure = Node::new("memory").broken(&prelude).failure();
    assert!(
        failure.why.contains("128 MiB") && failure.why.contains(&folder),
        "{failure:?}"
    );
    let failure = Node::new("memory-offered")
        .offers(1, 2048)
        .broken(&prelude)
        .failure();
    std::fs::remove_dir(&folder).unwrap();
    assert_eq!(failure.whose, Whose::Factory);
    assert!(
        failure.hint.contains("MEMORY to at most 128"),
        "{failure:?}"
    );
}

#[test]
fn a_quota_of_cores() {
    if !is_root() {
        return;
    }
    let quota = [
        ("cpu.cfs_period_us", "100000"),
        ("cpu.cfs_quota_us", "50000"),
    ];
    let Some((folder, prelude)) = group("cpu", &quota, &[("cpu.max", "50000 100000")]) else {
        println!("left out: no control groups for processors");
        return;
    };
    if Path::new("/sys/fs/cgroup/cpu").is_dir()
        && !Path::new("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").exists()
        && std::fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .contains("cgroup rw,cpu")
    {
        // The root has none on some kernels; a group below it tells.
        let probe = format!("{folder}-probe");
        std::fs::create_dir(&probe).unwrap();
        let has = Path::new(&probe).join("cpu.cfs_quota_us").exists();
        std::fs::remove_dir(&probe).unwrap();
        if !has {
            println!("left out: this kernel has no quota of processors");
            return;
        }
    }
    let failure = Node::new("cpus").offers(1, 64).broken(&prelude).failure();
    std::fs::remove_dir(&folder).unwrap();
    assert!(
        failure.why.ends_with("gives it 0.5") && failure.why.contains(&folder),
        "{failure:?}"
    );
}

#[test]
fn words_of_batch_systems() {
    let slurm = |check| Node::new(check).env("SLURM_JOB_ID", 77).offers(4, 8192);
    let failure = slurm("cpus").env("SLURM_CPUS_ON_NODE", 1).failure();
    assert!(failure.why.contains("4 cores"), "{failure:?}");
    let failure = slurm("memory-offered")
        .env("SLURM_MEM_PER_NODE", 1000)
        .failure();
    assert!(
        failure.why.contains("SLURM_MEM_PER_NODE") && failure.whose == Whose::Factory,
        "{failure:?}"
    );
    let failure = slurm("batch-system").env("SLURM_JOB_END_TIME", 1).failure();
    assert!(
        failure.why.contains("in 0 s (SLURM_JOB_END_TIME)"),
        "{failure:?}"
    );
    let failure = Node::new("batch-system")
        .env("PBS_JOBID", "1.s")
        .env("PBS_WALLTIME", 60)
        .failure();
    assert!(
        failure.why.contains("in 60 s (PBS_WALLTIME)"),
        "{failure:?}"
    );
}

#[test]
fn no_user_namespaces() {
    if !is_root() {
        return;
    }
    // In a user namespace of the test's own, so that the node keeps its.
    let outcome = Node::new("user-namespaces")
        .knob("SAILPLANE_CHECK_USER_NAMESPACES", "REQUIRED")
        .env("LIMITS", "")
        .outcome();
    let prelude = "exec unshare --user --map-root-user sh -c 'echo 0 > /proc/sys/user/max_user_namespaces; exec \"$EXE\" --exact node::child --nocapture'";
    let failure = Node::new("user-namespaces")
        .knob("SAILPLANE_CHECK_USER_NAMESPACES", "REQUIRED")
        .broken(prelude)
        .failure();
    assert!(
        failure.why.contains("user.max_user_namespaces is 0"),
        "{failure:?}"
    );
    assert!(
        outcome
            .failure()
            .is_none_or(|failure| !failure.why.contains("max_user_namespaces"))
    );
}
