//! Requirement G16: directories for the payload.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::cell::{Cell, in_cell};

fn make(cell: &Cell, options: &str) -> String {
    let said = cell.run(&format!("/opt/glite/sbin/mkgltempdir {options}"));
    assert_eq!((said.status, said.err.as_str()), (Some(0), ""), "{said:?}");
    said.out.trim_end().to_owned()
}

fn facts(path: &Path) -> (u32, u32) {
    let facts = std::fs::symlink_metadata(path).expect("there");
    (facts.uid(), facts.mode() & 0o7777)
}

#[test]
fn g16_a_directory_of_the_target_in_one_of_the_caller() {
    in_cell(|cell| {
        let made = make(cell, "");
        let made = Path::new(&made);
        assert!(made.starts_with("/tmp"));
        assert_eq!(facts(made), (cell.alice, 0o700));
        let parent = made.parent().expect("a parent");
        assert_eq!(facts(parent), (cell.pilot, 0o711));
        assert_eq!(
            facts(parent.parent().expect("another")),
            (cell.pilot, 0o711)
        );
        let path = made.display();
        // As frameworks use it: put something beside it, let the target fetch it, run it, take the output.
        let said = cell.run(&format!(
            "T=$(dirname {path}); printf '#!/bin/sh\\necho out >result; id -un' >$T/run.sh; chmod 755 $T/run.sh; \
             $GLEXEC /bin/cp $T/run.sh {path} && rm $T/run.sh && \
             $GLEXEC /bin/sh -c 'cd {path} && ./run.sh && cat result'"
        ));
        assert_eq!(
            (said.status, said.out.as_str()),
            (Some(0), "alice\nout\n"),
            "{said:?}"
        );
        let said = cell.run(&format!("/opt/glite/sbin/mkgltempdir -r {path}"));
        assert_eq!((said.status, said.err.as_str()), (Some(0), ""), "{said:?}");
        assert_eq!(std::fs::read_dir("/tmp").expect("there").count(), 0);
    });
}

#[test]
fn g16_whatever_the_payload_has_left_is_removed() {
    in_cell(|cell| {
        let path = make(cell, "-t 777 $PWD");
        // Deeper than any path can be long.
        let deep = "perl -e 'for (1..600) { mkdir \"d\" x 99; chdir \"d\" x 99 or die }'";
        let said = cell.run(&format!(
            "mkdir {path}/mine && echo x >{path}/mine/x; cat >left.sh <<'EOF'
             set -e; cd {path}; mkdir -p a/b/c; echo x >a/b/c/f; ln -s /etc/passwd l; mkfifo p
             chmod 000 a/b/c a/b a; {deep}; chmod 000 .
EOF
             chmod 644 left.sh; $GLEXEC /bin/sh $PWD/left.sh"
        ));
        assert_eq!(said.status, Some(0), "{said:?}");
        let said = cell.run(&format!("/opt/glite/sbin/mkgltempdir -r {path}"));
        assert_eq!((said.status, said.err.as_str()), (Some(0), ""), "{said:?}");
        assert!(!Path::new(&path).exists());
        assert!(std::fs::exists("/etc/passwd").expect("known"));
    });
}

#[test]
fn g16_what_it_did_not_make_is_not_removed() {
    in_cell(|cell| {
        crate::cell::make_dir("/scratch/alice/dir", cell.alice, 0o700);
        crate::cell::make_dir("/scratch/alice", cell.alice, 0o755);
        for path in ["/scratch/alice/dir", "/etc", "/", "/nowhere/x", "/tmp/x"] {
            let said = cell.run(&format!("/opt/glite/sbin/mkgltempdir -r {path}"));
            assert_eq!(said.status, Some(1), "{path}: {said:?}");
        }
        assert!(Path::new("/scratch/alice/dir").exists());
        // And a refusal of gLExec's is passed on, with nothing left behind.
        cell.credential("reject proxy.expired");
        let said = cell.run("/opt/glite/sbin/mkgltempdir /tmp");
        assert_eq!(
            (said.status, said.out.as_str()),
            (Some(201), ""),
            "{said:?}"
        );
        assert_eq!(std::fs::read_dir("/tmp").expect("there").count(), 0);
    });
}
