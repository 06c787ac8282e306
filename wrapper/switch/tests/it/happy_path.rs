//! What a pilot does all day.

use std::os::unix::fs::MetadataExt as _;

use crate::cell::{EXECUTE, groups_of, in_cell, names_in};
use crate::client::Pilot;

#[test]
fn a_payload_runs_under_its_own_account_and_leaves_nothing() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot.open();
        assert!(cell.is_dynamic(opened.uid));
        assert_eq!(opened.identity, "/CN=Bob");
        let facts = std::fs::metadata(opened.sandbox_path()).expect("a sandbox");
        assert_eq!(
            (facts.uid(), facts.gid(), facts.mode() & 0o7777),
            (opened.uid, opened.gid, 0o700)
        );

        let (output, status) = pilot.run(opened.payload, "id -u; id -G; pwd; touch left; exit 3");
        let wanted = format!(
            "{0}\n{0}\n{1}\n",
            opened.uid,
            opened.sandbox_path().display()
        );
        assert_eq!((output, status), (wanted, 3 << 8));
        assert!(!groups_of(pilot.id()).is_empty());
        let usage = pilot.usage(opened.payload);
        assert_eq!(usage.processes, 0);
        assert!(
            usage.user_usec + usage.system_usec > 0 && usage.wall_usec > 0,
            "{usage:?}"
        );
        assert!(usage.memory_peak_bytes > 0, "{usage:?}");

        pilot.close(opened.payload);
        assert!(names_in(EXECUTE).is_empty());
        assert!(names_in("/run/sailplane/leases").is_empty());
        assert_eq!(pilot.hang_up(), Some(0));
        assert!(groups_of(pilot.id()).is_empty());
        let log = cell.log();
        for wanted in [
            "\"verdict\":\"accepted\",\"caller_uid\":",
            "\"identity\":\"/CN=Bob\"",
            "\"event\":\"close\"",
            "\"outcome\":\"clean\"",
        ] {
            assert!(log.contains(wanted), "{wanted}: {log}");
        }
    });
}

#[test]
fn m2_a_mapped_identity_gets_its_account_and_groups() {
    in_cell(|cell| {
        let mut pilot = Pilot::start(cell);
        let opened = pilot
            .try_open("accept 3600 limited /CN=Alice")
            .expect("opens");
        assert_eq!(
            (opened.uid, opened.gid, opened.limited),
            (cell.alice, cell.alice, true)
        );
        assert_eq!(opened.account, "alice");
        let (output, _) = pilot.run(opened.payload, "id -u; id -G");
        assert_eq!(
            output,
            format!("{0}\n{0} {1}\n", cell.alice, cell.alice + 1)
        );
        pilot.close(opened.payload);
    });
}
