//! Software, containers, GPUs.

use validation::Whose;

use crate::node::{Node, is_root, open};

#[test]
fn repositories_that_are_missing_empty_or_broken() {
    let failure = Node::new("cvmfs")
        .knob("SAILPLANE_CHECK_CVMFS", "no-such.example.org")
        .failure();
    assert!(
        failure
            .why
            .contains("/cvmfs/no-such.example.org is not there"),
        "{failure:?}"
    );
    assert_eq!(
        Node::new("cvmfs")
            .knob("SAILPLANE_CHECK_CVMFS", "../etc")
            .failure()
            .whose,
        Whose::Frontend
    );
    if !is_root() {
        return;
    }
    let root = "mkdir -p /cvmfs 2>/dev/null || true; mount -t tmpfs t /cvmfs; mkdir /cvmfs/a.example /cvmfs/b.example; echo x > /cvmfs/b.example/ok";
    // What is there to mount on must be there before: the namespace only hides it.
    let made = !std::path::Path::new("/cvmfs").exists();
    let node = |wanted: &str| {
        Node::new("cvmfs")
            .mounts()
            .broken(root)
            .knob("SAILPLANE_CHECK_CVMFS", wanted)
    };
    assert!(
        node("a.example")
            .failure()
            .why
            .contains("the directory is empty")
    );
    assert!(node("b.example").outcome().is_passed());
    assert!(
        node("b.example:7")
            .failure()
            .why
            .contains("does not tell its revision")
    );
    // The one file that every kernel has and that nobody can read from its start.
    let broken = node("b.example")
        .broken("touch /cvmfs/b.example/bad; mount --bind /proc/$$/mem /cvmfs/b.example/bad");
    let failure = broken.failure();
    assert!(
        failure.why.contains(
            "/cvmfs/b.example/bad of the CVMFS repository cannot be read: Input/output error"
        ),
        "{failure:?}"
    );
    let two = node("a.example b.example no.example").failure();
    assert!(
        two.why.ends_with("and 1 more of 3 repositories fail"),
        "{two:?}"
    );
    if made {
        // Ours, and empty.
        let _ = std::fs::remove_dir("/cvmfs");
    }
}

#[test]
fn containers_that_do_not_run() {
    let node = |program: &str| {
        Node::new("apptainer")
            .knob("SAILPLANE_CHECK_APPTAINER", "REQUIRED")
            .knob("SAILPLANE_CHECK_APPTAINER_PROGRAM", program)
    };
    assert!(
        node("/no/such/apptainer")
            .failure()
            .why
            .contains("/no/such/apptainer")
    );
    let folder = tempfile::tempdir().unwrap();
    let fake = folder.path().join("apptainer");
    let write = |text: &str| {
        std::fs::write(&fake, text).unwrap();
        open(&fake, 0o755);
    };
    write(
        "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'apptainer version 1.3.4'; exit; }\necho 'FATAL: no loop devices' >&2\nexit 255\n",
    );
    let path = fake.display().to_string();
    let failure = node(&path).failure();
    assert!(
        failure
            .why
            .ends_with("exit status 255: FATAL: no loop devices"),
        "{failure:?}"
    );
    // One that only runs what it is given, at the place of a real one.
    write(
        "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'apptainer version 1.3.4'; exit; }\nwhile [ \"$1\" != /bin/sh ]; do shift; done\nexec \"$@\"\n",
    );
    let outcome = node(&path).outcome();
    assert!(outcome.is_passed(), "{outcome:?}");
    assert_eq!(outcome.attributes[0].name(), "HAS_SINGULARITY");
}

#[test]
fn gpus_that_are_not_there() {
    let failure = Node::new("gpus").knob("SAILPLANE_CHECK_GPUS", 8).failure();
    assert!(failure.why.contains("8 were asked for"), "{failure:?}");
    let hidden = Node::new("gpus")
        .knob("SAILPLANE_CHECK_GPUS", 8)
        .env("CUDA_VISIBLE_DEVICES", "")
        .failure();
    assert_eq!(hidden.whose, Whose::Factory);
}
