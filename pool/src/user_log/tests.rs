//! Our texts beside those of the real schedd and shadow of 23.9.6, recorded from a test pool in `pool/tests/user_log`.

use classad::ClassAd;
use condorconf::{Loader, MemoryFiles};
use jiff::Zoned;
use jiff::tz::TimeZone;

use super::ad::information;
use super::*;
use crate::JobId;

const PLAIN: &str = include_str!("../../tests/user_log/plain.log");
const SEGV: &str = include_str!("../../tests/user_log/segv.log");
const LONG: &str = include_str!("../../tests/user_log/long.log");
const MISS: &str = include_str!("../../tests/user_log/miss.log");
const REQUEUE: &str = include_str!("../../tests/user_log/requeue.log");
const LOST: &str = include_str!("../../tests/user_log/lost.log");

const SCHEDD: &str = "<127.0.0.1:39939?addrs=127.0.0.1-39939&alias=localhost.ulog.sailplane.test>";
const STARTD: &str =
    "<127.0.0.1:44099?addrs=127.0.0.1-44099&alias=localhost.ulog.sailplane.test&noUDP>";

fn ad(text: &str) -> ClassAd {
    ClassAd::parse_old(text).unwrap()
}

/// The time `time` (with milliseconds) of the day of the recording, in UTC.
fn at(time: &str) -> Zoned {
    let stamp: jiff::Timestamp = format!("2026-11-25T{time}Z").parse().unwrap();
    stamp.to_zoned(TimeZone::UTC)
}

/// Our text of the event stands in the real log.
#[track_caller]
fn is_in(log: &str, cluster: i32, proc: i32, time: &str, event: &Event) {
    let text = format(
        event,
        JobId::new(cluster, proc),
        &at(time),
        DateForm::default(),
    );
    assert!(log.contains(&text), "not in the real log:\n{text}");
}

fn slot(extra: &str, dir: u32) -> ClassAd {
    ad(&format!(
        "Memory = 8035\nCpus = 1\nDisk = 14318003\nGPUs = 0\n{extra}\nCondorScratchDir = \"/pool/execute/dir_{dir}\""
    ))
}

fn execute(slot_name: &str, properties: ClassAd) -> Event {
    Event::Execute {
        host: STARTD.to_owned(),
        slot: Some(format!("{slot_name}@localhost.ulog.sailplane.test")),
        properties,
    }
}

fn transfer(step: TransferStep) -> Event {
    Event::FileTransfer {
        step,
        queue_seconds: None,
        host: None,
    }
}

fn evicted(reason: Option<&str>, requeued: Option<Ended>, usage: Option<&str>) -> Event {
    Event::Evicted {
        reason: reason.map(str::to_owned),
        code: 0,
        subcode: 0,
        requeued,
        remote: Cpu::default(),
        local: Cpu::default(),
        sent: 0.0,
        received: 0.0,
        usage: usage.map(ad),
    }
}

fn terminated(ended: Ended, received: f64, usage: &str, toe: &str) -> Event {
    Event::Terminated {
        ended,
        run_remote: Cpu::default(),
        run_local: Cpu::default(),
        total_remote: Cpu::default(),
        total_local: Cpu::default(),
        sent: 0.0,
        received,
        total_sent: 0.0,
        total_received: received,
        usage: Some(ad(usage)),
        toe: Some(ad(toe)),
    }
}

fn plain_submit() -> Event {
    Event::Submit {
        host: SCHEDD.to_owned(),
        notes: Some("DAG Node: A".to_owned()),
        user_notes: Some("my notes".to_owned()),
    }
}

fn plain_terminated() -> Event {
    terminated(
        Ended::from_wait_status(0),
        0.0,
        "Cpus = 1\nCpusUsage = 0.0\nRequestCpus = 1\nDisk = 14318003\nDiskUsage = 14\nRequestDisk = 1024\n\
         GPUs = 0\nMemory = 8035\nMemoryUsage = 2\nRequestMemory = 32\nTimeExecuteUsage = 1\nTimeSlotBusyUsage = 2",
        "Who = \"itself\"\nHow = \"OF_ITS_OWN_ACCORD\"\nHowCode = 0\nWhen = 1795633497\nExitBySignal = false\nExitCode = 0",
    )
}

#[test]
fn a_job_that_ends_by_itself() {
    is_in(PLAIN, 1, 0, "19:04:55.330", &plain_submit());
    is_in(
        PLAIN,
        1,
        0,
        "19:04:55.521",
        &transfer(TransferStep::InputFinished),
    );
    is_in(
        PLAIN,
        1,
        0,
        "19:04:56",
        &execute("slot1", slot("OpSys = \"LINUX\"", 15187)),
    );
    let size = Event::ImageSize {
        image_kb: 2588,
        memory_mb: Some(2),
        resident_kb: Some(1528),
        proportional_kb: None,
    };
    is_in(PLAIN, 1, 0, "19:04:57", &size);
    is_in(
        PLAIN,
        1,
        0,
        "19:04:57",
        &transfer(TransferStep::OutputFinished),
    );
    is_in(PLAIN, 1, 0, "19:04:57", &plain_terminated());
}

#[test]
fn a_job_that_dies_by_a_signal() {
    let started = Event::FileTransfer {
        step: TransferStep::InputStarted,
        queue_seconds: None,
        host: Some(STARTD.replace("44099", "41727")),
    };
    is_in(SEGV, 2, 0, "19:04:56", &started);
    let event = terminated(
        Ended::from_wait_status(11),
        24.0,
        "Cpus = 1\nCpusUsage = 0.0\nRequestCpus = 1\nDisk = 14318003\nDiskUsage = 14\nRequestDisk = 1\n\
         GPUs = 0\nMemory = 8035\nMemoryUsage = 5\nRequestMemory = 1\nTimeExecuteUsage = 0\nTimeSlotBusyUsage = 1",
        "HowCode = 0\nWhen = 1795633497\nExitBySignal = true\nExitSignal = 11",
    );
    is_in(SEGV, 2, 0, "19:04:57", &event);
}

#[test]
fn vacated_held_released_suspended_and_removed() {
    let usage = "Cpus = 1\nCpusUsage = 0.0\nRequestCpus = 1\nDisk = 14318003\nDiskUsage = 14\nRequestDisk = 45\n\
                 GPUs = 0\nMemory = 8035\nMemoryUsage = 2\nRequestMemory = 1\nTimeExecuteUsage = 20\nTimeSlotBusyUsage = 21";
    is_in(LONG, 4, 0, "19:05:17", &evicted(None, None, Some(usage)));
    // A fraction moves the whole numbers of its column to the left.
    let fraction = usage
        .replace("CpusUsage = 0.0", "CpusUsage = 0.0012")
        .replace("= 20", "= 19")
        .replace("= 21", "= 20");
    is_in(
        LONG,
        4,
        1,
        "19:05:17",
        &evicted(None, None, Some(&fraction)),
    );
    let held = Event::Held {
        reason: Some("my reason (by user alice)".to_owned()),
        code: 1,
        subcode: 5,
    };
    is_in(LONG, 4, 1, "19:05:17", &held);
    let released = Event::Released {
        reason: Some("via condor_release (by user alice)".to_owned()),
    };
    is_in(LONG, 4, 1, "19:05:20", &released);
    is_in(LONG, 4, 0, "19:05:20", &Event::Suspended { processes: 1 });
    let aborted = Event::Aborted {
        reason: Some("via condor_rm (by user alice)".to_owned()),
        toe: Some(ad(
            "Who = \"<127.0.0.1:43429>\"\nHow = \"DEACTIVATE_CLAIM\"\nHowCode = 1\nWhen = 1795633517",
        )),
    };
    is_in(LONG, 4, 2, "19:05:17", &aborted);
}

#[test]
fn failures_of_the_execute_side() {
    let error = Event::RemoteError {
        daemon: "starter".to_owned(),
        host: "slot3@localhost.ulog.sailplane.test".to_owned(),
        message: "Failed to transfer files: SHADOW at 127.0.0.1 failed to send file(s) to <127.0.0.1:39783>: |Error: reading from file /pool/submit/t/nothere: (errno 2) No such file or directory; STARTER failed to receive file(s) from <127.0.0.1:36863>".to_owned(),
        critical: true,
        code: 13,
        subcode: 2,
    };
    is_in(MISS, 3, 0, "19:04:56", &error);
    is_in(
        REQUEUE,
        5,
        0,
        "19:15:20",
        &evicted(
            Some("The job attribute OnExitRemove expression 'NumJobStarts > 1' evaluated to FALSE"),
            Some(Ended::Exit(3)),
            None,
        ),
    );
}

#[test]
fn lost_and_found() {
    let name = "slot2@localhost.ulog.sailplane.test".to_owned();
    let lost = Event::Disconnected {
        reason: "Local schedd and job shadow died, schedd now running again".to_owned(),
        startd_name: name.clone(),
        startd: STARTD.to_owned(),
    };
    is_in(LOST, 6, 0, "19:15:39.070", &lost);
    let found = Event::Reconnected {
        startd_name: name.clone(),
        startd: STARTD.to_owned(),
        starter: STARTD.replace("44099", "37647"),
    };
    is_in(LOST, 6, 0, "19:15:39.174", &found);
    let failed = Event::ReconnectFailed {
        reason: "Job not found at execution machine".to_owned(),
        startd_name: name,
    };
    is_in(LOST, 6, 0, "19:15:49", &failed);
    // What event 028 tells of them.
    let job = ad("Cmd = \"/bin/sleep\"");
    for (event, time) in [(lost, "19:15:39.070"), (found, "19:15:39.174")] {
        let id = JobId::new(6, 0);
        let more = information(&event, &job, "Cmd", id, &at(time), DateForm::default());
        is_in(LOST, 6, 0, time, &more);
    }
}

#[test]
fn attributes_of_the_job_are_told_with_each_event() {
    let job = ad("Cmd = \"/bin/sleep\"\nOwner = \"alice\"\nRequestMemory = 32\nOther = 1");
    for (event, time) in [
        (plain_submit(), "19:04:55.330"),
        (transfer(TransferStep::InputFinished), "19:04:55.521"),
        (plain_terminated(), "19:04:57.664"),
    ] {
        let id = JobId::new(1, 0);
        let wanted = "Cmd,Owner,RequestMemory,Nope";
        let more = information(&event, &job, wanted, id, &at(time), DateForm::default());
        // The real one prints nested ads in an order of its own.
        let text = format(&more, id, &at(time), DateForm::default());
        for line in text.lines().filter(|line| !line.starts_with("ToE")) {
            assert!(PLAIN.contains(&format!("{line}\n")), "{line}");
        }
        assert!(text.contains("TriggerEventTypeName = "));
    }
}

#[test]
fn dates_follow_the_knob() {
    let event = Event::Unsuspended;
    let time = at("19:04:55.330").with_time_zone(TimeZone::fixed(jiff::tz::offset(1)));
    for (knob, expected) in [
        (
            "",
            "011 (012.003.000) 2026-11-25 20:04:55 Job was unsuspended.\n...\n",
        ),
        (
            "ISO_DATE, SUB_SECOND, UTC",
            "011 (012.003.000) 2026-11-25 19:04:55.330Z Job was unsuspended.\n...\n",
        ),
        (
            "LEGACY",
            "011 (012.003.000) 11/25 20:04:55 Job was unsuspended.\n...\n",
        ),
    ] {
        let files = MemoryFiles::new();
        let text = format!("DEFAULT_USERLOG_FORMAT_OPTIONS = {knob}\n");
        let config = Loader::new(&files).read_text("x", &text).finish().unwrap();
        let form = DateForm::from_config(&config).unwrap();
        assert_eq!(format(&event, JobId::new(12, 3), &time, form), expected);
    }
    let files = MemoryFiles::new();
    let config = Loader::new(&files)
        .read_text("x", "DEFAULT_USERLOG_FORMAT_OPTIONS = XML\n")
        .finish()
        .unwrap();
    assert!(
        DateForm::from_config(&config)
            .unwrap_err()
            .to_string()
            .contains("XML")
    );
}

#[test]
fn a_text_with_line_ends_cannot_forge_an_event() {
    let held = Event::Held {
        reason: Some("x\n...\n005 (001.000.000) 2026-11-25 20:04:55 Job terminated.".to_owned()),
        code: 1,
        subcode: 0,
    };
    let text = format(
        &held,
        JobId::new(1, 0),
        &at("00:00:00"),
        DateForm::default(),
    );
    assert_eq!(text.matches("\n...\n").count(), 1, "{text}");
}

#[test]
fn a_jobs_usage_is_taken_from_its_ad() {
    let job = ad(
        "ProvisionedResources = \"Cpus Disk GPUs\"\nCpusProvisioned = 2\nRequestCpus = 1 + 1\nCpusUsage = 1.25\n\
         DiskProvisioned = 100\nDiskUsage = 7\nGPUsProvisioned = 1\nAssignedGPUs = \"CUDA0\"\nActivationDuration = 9\n\
         RequestMemory = 5",
    );
    let usage = usage_ad(&job).unwrap();
    assert_eq!(usage.int("RequestCpus"), Some(2));
    assert!(!usage.contains("RequestMemory"));
    let expected = "\tPartitionable Resources :    Usage  Request Allocated Assigned\n\
                    \t   Cpus                 :     1.25        2         2 \n\
                    \t   Disk (KB)            :     7                   100 \n\
                    \t   GPUs                 :                           1 \"CUDA0\"\n\
                    \t   TimeSlotBusy (s)     :     9                       \n";
    assert_eq!(usage::table(&usage), expected);
}
