use super::*;
use crate::queue::policy::System;

const NOW: i64 = 1_700_000_000;

fn running(text: &str) -> Edit {
    let ad = ClassAd::parse_old(&format!(
        "JobStatus = 2\nShadowBday = {}\nRemoteHost = \"slot1@n\"\nMachineAttrSlotWeight0 = 2\n{text}",
        NOW - 60
    ));
    Edit::new(ad.unwrap())
}

fn exited(status: i32, ad: &str) -> RunOutcome {
    RunOutcome::Exited {
        status,
        coredump: false,
        ad: ClassAd::parse_old(ad).unwrap(),
    }
}

fn evicted() -> RunOutcome {
    RunOutcome::Evicted {
        reason: "drained".to_owned(),
        code: 1014,
        ad: ClassAd::new(),
    }
}

fn after(edit: &mut Edit, outcome: &RunOutcome) -> (AfterRun, Next, Vec<u16>) {
    let done = finish(edit, outcome, &System::default(), NOW);
    let events = done.events.iter().map(Event::number).collect();
    (done.after, done.next, events)
}

#[test]
fn time_and_usage_add_up_over_runs() {
    let mut edit = running(
        "RemoteWallClockTime = 100.0\nRemoteUserCpu = 3.0\nCumulativeRemoteUserCpu = 10.0\nBytesSent = 5.0",
    );
    let outcome = exited(0, "RemoteUserCpu = 4.5\nBytesSent = 7.0");
    assert_eq!(
        after(&mut edit, &outcome),
        (AfterRun::Completed, Next::Leaves, vec![5])
    );
    let real = |name: &str| edit.ad().real(name).unwrap();
    assert_eq!(real("RemoteWallClockTime"), 160.0);
    assert_eq!(real("CumulativeSlotTime"), 120.0);
    assert_eq!(real("CumulativeRemoteUserCpu"), 11.5);
    assert_eq!(real("BytesSent"), 12.0);
    assert_eq!(
        edit.ad().string("LastRemoteHost").as_deref(),
        Some("slot1@n")
    );
    assert_eq!(edit.int("CompletionDate"), NOW);
    assert_eq!(edit.int("NumJobCompletions"), 1);
}

#[test]
fn a_signal_is_not_an_exit_code() {
    let mut edit = running("ExitCode = 0");
    after(&mut edit, &exited(9, ""));
    assert_eq!(edit.ad().bool("ExitBySignal"), Some(true));
    assert_eq!(edit.ad().int("ExitSignal"), Some(9));
    assert!(!edit.ad().contains("ExitCode"));
}

#[test]
fn a_job_that_ended_while_it_was_being_held_has_ended() {
    let mut edit = running("JobStatus = 5\nHoldReason = \"wait\"\nHoldReasonCode = 1");
    assert_eq!(
        after(&mut edit, &exited(0, "")),
        (AfterRun::Completed, Next::Leaves, vec![5])
    );
    assert!(!edit.ad().contains("HoldReason"));
    // Its policy wants it back, so the hold stands.
    let mut edit =
        running("JobStatus = 5\nHoldReason = \"wait\"\nHoldReasonCode = 1\nOnExitRemove = false");
    let (end, _, events) = after(&mut edit, &exited(0, ""));
    assert!(matches!(end, AfterRun::Held { code: 1, .. }), "{end:?}");
    assert_eq!(events, [4, 12]);
}

#[test]
fn a_removed_job_leaves_however_its_run_ended() {
    for outcome in [exited(0, ""), evicted()] {
        let mut edit = running("JobStatus = 3\nRemoveReason = \"enough\"");
        assert_eq!(
            after(&mut edit, &outcome),
            (AfterRun::Removed, Next::Leaves, vec![4, 9])
        );
        assert_eq!(edit.status(), Status::Removed);
    }
}

#[test]
fn an_evicted_job_waits_for_its_next_run() {
    let mut edit = running("");
    assert_eq!(
        after(&mut edit, &evicted()),
        (AfterRun::Idle, Next::Stays, vec![4])
    );
    assert_eq!(edit.int("VacateReasonCode"), 1014);
    assert!(!edit.ad().contains("ShadowBday"));
}

#[test]
fn a_report_cannot_change_what_is_not_the_run_s() {
    let mut edit = running("Owner = \"alice\"\nHoldReasonCode = 1");
    let report = ClassAd::parse_old(
        "Owner = \"root\"\nJobStatus = 4\nClaimId = \"x\"\nHoldReasonCode = 3\nImageSize = 43\nMyResult = 7",
    );
    update(&mut edit, &report.unwrap(), NOW);
    assert_eq!(edit.ad().string("Owner").as_deref(), Some("alice"));
    assert_eq!(edit.status(), Status::Running);
    assert!(!edit.ad().contains("ClaimId"));
    assert_eq!(edit.int("HoldReasonCode"), 1);
    assert_eq!(edit.int("MyResult"), 7);
    assert_eq!((edit.int("ImageSize"), edit.int("ImageSize_RAW")), (45, 43));
    let output = ClassAd::parse_old("JobStatus = 6").unwrap();
    update(&mut edit, &output, NOW);
    assert_eq!(edit.status(), Status::TransferringOutput);
}

#[test]
fn sizes_are_rounded_as_by_the_schedd() {
    // By the formula of SetAttribute (htcondor:src/condor_schedd.V6/qmgmt.cpp).
    for (raw, round) in [
        (0, 0),
        (1, 1),
        (43, 45),
        (1152, 1250),
        (600, 750),
        (4800, 5000),
    ] {
        assert_eq!(rounded("DiskUsage", &Expr::from(raw)), Some((raw, round)));
    }
    assert_eq!(rounded("Other", &Expr::from(43)), None);
}

#[test]
fn the_slots_of_former_runs_are_remembered_if_wanted() {
    let mut edit = running(
        "MachineAttrCpus0 = 1\nJobMachineAttrs = \"Site\"\nJobMachineAttrsHistoryLength = 2",
    );
    let run = RunRecord {
        claim_id: cedar::ClaimId::parse("<h:1>#1#2#secret").unwrap(),
        slot: "slot2@n".to_owned(),
        startd: "<h:1>".to_owned(),
        slot_ad: ClassAd::parse_old("Cpus = 8\nSite = \"X\"").unwrap(),
    };
    start(&mut edit, &run, NOW);
    assert_eq!(
        (edit.int("MachineAttrCpus0"), edit.int("MachineAttrCpus1")),
        (8, 1)
    );
    assert_eq!(edit.ad().string("MachineAttrSite0").as_deref(), Some("X"));
    assert!(!edit.ad().to_old().contains("secret"));
}
