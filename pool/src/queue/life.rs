//! What happens to a job: a state machine over its ad, without clock, disk or lock.
//!
//! The attributes are those that HTCondor's schedd and shadow set (`htcondor:src/condor_schedd.V6/schedd.cpp`,
//! `htcondor:src/condor_shadow.V6.1/baseshadow.cpp`).

use classad::{ClassAd, Expr, Value};

use super::edit::Edit;
use super::policy::{self, AtExit, System, Why, code};
use super::run::{AfterRun, RunOutcome, RunRecord, Status};
use crate::user_log::{Cpu, Ended, Event, usage_ad};

/// Attributes of the slot that every job remembers (`SYSTEM_JOB_MACHINE_ATTRS`).
const MACHINE_ATTRS: [&str; 2] = ["Cpus", "SlotWeight"];

/// Longest memory of former slots' attributes that a job may ask for.
const MAX_MACHINE_HISTORY: i64 = 20;

/// Attributes that say where a job runs now; gone when it does not.
const WHERE: [&str; 8] = [
    "PublicClaimId",
    "RemoteSlotID",
    "ShadowBday",
    "TransferringInput",
    "TransferringOutput",
    "TransferQueued",
    "DelegatedProxyExpiration",
    "LastJobLeaseRenewal",
];

/// The job begins a run.
pub(super) fn start(edit: &mut Edit, run: &RunRecord, now: i64) {
    edit.enter(Status::Running, now);
    if edit.int("JobStartDate") == 0 {
        edit.set("JobStartDate", now);
    }
    if let Some(before) = edit.ad().get("JobCurrentStartDate").cloned() {
        edit.set("JobLastStartDate", before);
    }
    edit.set("JobCurrentStartDate", now);
    edit.set("ShadowBday", now);
    edit.add("NumShadowStarts", 1);
    edit.add("JobRunCount", 1);
    edit.add("NumJobMatches", 1);
    edit.set("LastMatchTime", now);
    edit.set("CurrentHosts", 1);
    edit.set("RemoteHost", run.slot.as_str());
    edit.set("StartdIpAddr", run.startd.as_str());
    edit.set("PublicClaimId", run.claim_id.public());
    edit.set("LastJobLeaseRenewal", now);
    if let Some(id) = run.slot_ad.int("SlotID") {
        edit.set("RemoteSlotID", id);
    }
    for usage in ["RemoteUserCpu", "RemoteSysCpu"] {
        edit.set(usage, 0.0);
    }
    remember_machine(edit, &run.slot_ad);
}

/// `MachineAttr<Name>0` is of this slot, `...1` of the one before.
fn remember_machine(edit: &mut Edit, slot: &ClassAd) {
    let wanted = edit.ad().string("JobMachineAttrs").unwrap_or_default();
    let depth = edit.ad().int("JobMachineAttrsHistoryLength").unwrap_or(1);
    let depth = depth.clamp(0, MAX_MACHINE_HISTORY);
    let own = wanted.split([',', ' ']).filter(|name| !name.is_empty());
    for name in MACHINE_ATTRS.into_iter().chain(own) {
        for back in (1..depth).rev() {
            let older = edit.ad().get(&format!("MachineAttr{name}{}", back - 1));
            if let Some(value) = older.cloned() {
                edit.set(format!("MachineAttr{name}{back}"), value);
            }
        }
        if depth > 0 {
            let value = Expr::literal(slot.eval(name));
            edit.set(format!("MachineAttr{name}0"), value);
        }
    }
}

/// Progress of a run. What is not the run's to say is left out.
pub(super) fn update(edit: &mut Edit, attributes: &ClassAd, now: i64) {
    for (name, value) in attributes.iter() {
        let name = name.as_str();
        if is(name, "JobStatus") {
            let wanted = value.as_literal().and_then(|value| value.as_int());
            if let Some(status) = wanted.and_then(Status::from_number)
                && status.is_active()
                && edit.status().is_active()
                && status != edit.status()
            {
                edit.enter(status, now);
            }
            continue;
        }
        if let Some(total) = cumulative(name) {
            let new = value.as_literal().and_then(|value| value.as_real());
            let Some(new) = new else { continue };
            let added = new - edit.real(name);
            // A counter that went back is that of a new process.
            edit.add_real(total, if added >= 0.0 { added } else { new });
        } else if !may_report(name) {
            continue;
        }
        edit.set(name, value);
        round_size(edit, name, value);
    }
}

/// `ImageSize` and the like are rounded up, so that jobs stay of few autoclusters; the exact value is in `..._RAW`
/// (`SCHEDD_ROUND_ATTR_*`, 25 percent of the leading digit's magnitude).
fn round_size(edit: &mut Edit, name: &str, value: &Expr) {
    if let Some((raw, rounded)) = rounded(name, value) {
        edit.set(name, rounded);
        edit.set(format!("{name}_RAW"), raw);
    }
}

/// The exact and the rounded value of an attribute that is rounded.
pub(super) fn rounded(name: &str, value: &Expr) -> Option<(i64, i64)> {
    const SIZES: [&str; 6] = [
        "NumCkpts",
        "ImageSize",
        "DiskUsage",
        "ExecutableSize",
        "ResidentSetSize",
        "ProportionalSetSizeKb",
    ];
    if !SIZES.iter().any(|size| is(name, size)) {
        return None;
    }
    let raw = value.as_literal().and_then(|value| value.as_int())?;
    if raw <= 0 {
        return Some((raw, raw));
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "sizes in KiB are far below 2^52, and cut to whole numbers on purpose, as the schedd does"
    )]
    let rounded = {
        let exact = raw as f64;
        // The power of ten nearest to it; cut towards zero.
        let magnitude = ((exact / 5.0).log10() + 1.0) as i32;
        let step = 10_f64.powi(magnitude) * 0.25;
        ((exact / step).ceil() * step) as i64
    };
    Some((raw, rounded))
}

fn cumulative(name: &str) -> Option<&'static str> {
    if is(name, "RemoteUserCpu") {
        Some("CumulativeRemoteUserCpu")
    } else if is(name, "RemoteSysCpu") {
        Some("CumulativeRemoteSysCpu")
    } else {
        None
    }
}

fn is(name: &str, other: &str) -> bool {
    name.eq_ignore_ascii_case(other)
}

/// False for attributes by which a job would change whose it is, or what the queue keeps about it.
fn may_report(name: &str) -> bool {
    const KEPT: [&str; 22] = [
        "ClusterId",
        "ProcId",
        "Owner",
        "User",
        "OsUser",
        "NTDomain",
        "GlobalJobId",
        "QDate",
        "AcctGroup",
        "AccountingGroup",
        "AcctGroupUser",
        "JobPrio",
        "EnteredCurrentStatus",
        "LastJobStatus",
        "CompletionDate",
        "HoldReason",
        "HoldReasonCode",
        "HoldReasonSubCode",
        "MyType",
        "TargetType",
        "CumulativeRemoteUserCpu",
        "CumulativeRemoteSysCpu",
    ];
    !cedar::is_private(name) && !KEPT.iter().any(|kept| is(name, kept))
}

/// Where a job goes when something ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// It stays in the queue, with the status in its ad.
    Stays,
    /// It leaves the queue for the history.
    Leaves,
}

/// The end of a run, and what is to be told of it.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) after: AfterRun,
    pub(super) next: Next,
    pub(super) events: Vec<Event>,
}

/// Bytes that a run transferred, as its last report says.
#[derive(Debug, Clone, Copy, Default)]
struct Bytes {
    sent: f64,
    received: f64,
}

/// The run of a job is over.
pub(super) fn finish(edit: &mut Edit, outcome: &RunOutcome, system: &System, now: i64) -> Finished {
    let status = edit.status();
    let report = match outcome {
        RunOutcome::Exited { ad, .. }
        | RunOutcome::Evicted { ad, .. }
        | RunOutcome::Hold { ad, .. } => ad.clone(),
        RunOutcome::NotStarted { .. } | RunOutcome::ReconnectFailed { .. } => ClassAd::new(),
    };
    let bytes = last_report(edit, report, now);
    let ended = note_exit(edit, outcome);
    end_of_run(edit, now);
    let ran = !matches!(outcome, RunOutcome::NotStarted { .. });
    let told = Told { bytes, ended };
    if status == Status::Removed {
        let mut events = Vec::new();
        if ran {
            events.push(told.evicted(edit, None, 0, false));
        }
        events.push(aborted(edit));
        return removed(edit, events, now);
    }
    match outcome {
        RunOutcome::Exited { .. } => exited(edit, told, status, system, now),
        RunOutcome::Hold {
            code,
            subcode,
            reason,
            ..
        } => {
            let why = Why {
                reason: reason.clone(),
                code: *code,
                subcode: *subcode,
            };
            let mut events = vec![told.evicted(edit, Some(reason), *code, false)];
            if status != Status::Held {
                hold(edit, &why, now);
            }
            events.push(held_event(edit));
            Finished {
                after: after_hold(edit),
                next: Next::Stays,
                events,
            }
        }
        RunOutcome::Evicted { reason, code, .. } => {
            edit.set("VacateReason", reason.as_str());
            edit.set("VacateReasonCode", i64::from(*code));
            edit.set("LastVacateTime", now);
            // As in the logs of a real shadow: only failures have a reason there.
            let event = told.evicted(edit, None, 0, false);
            back(edit, status, vec![event], now)
        }
        RunOutcome::ReconnectFailed { reason } => {
            edit.set("VacateReason", reason.as_str());
            edit.set("LastVacateTime", now);
            back(edit, status, Vec::new(), now)
        }
        RunOutcome::NotStarted { reason } => {
            edit.set("LastRejMatchReason", reason.as_str());
            edit.set("LastRejMatchTime", now);
            back(edit, status, Vec::new(), now)
        }
    }
}

/// Takes in what the starter said at the end. Its bytes are those of this run; the job's are the sums.
fn last_report(edit: &mut Edit, mut report: ClassAd, now: i64) -> Bytes {
    // The end of a run cannot change what somebody else decided meanwhile.
    report.remove("JobStatus");
    let mut bytes = |name: &str| {
        let run = report.real(name).unwrap_or(0.0).max(0.0);
        if report.remove(name).is_some() {
            edit.add_real(name, run);
        }
        run
    };
    let bytes = Bytes {
        sent: bytes("BytesSent"),
        received: bytes("BytesRecvd"),
    };
    update(edit, &report, now);
    bytes
}

/// Writes down how the process ended.
fn note_exit(edit: &mut Edit, outcome: &RunOutcome) -> Option<Ended> {
    let RunOutcome::Exited {
        status,
        coredump,
        ad,
    } = outcome
    else {
        return None;
    };
    let mut ended = Ended::from_wait_status(*status);
    edit.set("JobCoreDumped", *coredump);
    if !ad.contains("NumJobCompletions") {
        edit.add("NumJobCompletions", 1);
    }
    match &mut ended {
        Ended::Exit(code) => {
            edit.set("ExitBySignal", false);
            edit.set("ExitCode", i64::from(*code));
            edit.clear("ExitSignal");
        }
        Ended::Signal { signal, core } => {
            edit.set("ExitBySignal", true);
            edit.set("ExitSignal", i64::from(*signal));
            edit.clear("ExitCode");
            if *coredump {
                *core = edit.ad().string("JobCoreFileName");
                if core.is_none() {
                    *core = Some(String::new());
                }
            }
        }
    }
    Some(ended)
}

/// Adds up the time of the run and forgets where it was.
fn end_of_run(edit: &mut Edit, now: i64) {
    let began = edit.int("ShadowBday");
    if began > 0 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a run of 2^52 seconds does not happen"
        )]
        let wall = (now - began).max(0) as f64;
        edit.set("LastRemoteWallClockTime", wall);
        edit.add_real("RemoteWallClockTime", wall);
        let weight = edit.ad().real("MachineAttrSlotWeight0").unwrap_or(1.0);
        edit.add_real("CumulativeSlotTime", wall * weight);
    }
    edit.rename("RemoteHost", "LastRemoteHost");
    edit.rename("StartdIpAddr", "LastStartdIpAddr");
    for name in WHERE {
        edit.clear(name);
    }
    edit.set("CurrentHosts", 0);
}

fn exited(edit: &mut Edit, told: Told, status: Status, system: &System, now: i64) -> Finished {
    match policy::at_exit(edit.ad(), system, now) {
        AtExit::Leave => {
            edit.set("CompletionDate", now);
            edit.set("JobFinishedHookDone", now);
            edit.enter(Status::Completed, now);
            for name in ["HoldReason", "HoldReasonCode", "HoldReasonSubCode"] {
                edit.clear(name);
            }
            Finished {
                after: AfterRun::Completed,
                next: where_to(edit, now),
                events: vec![told.terminated(edit)],
            }
        }
        AtExit::Requeue(reason) => {
            edit.set("RequeueReason", reason.as_str());
            let event = told.evicted(edit, Some(&reason), 0, true);
            back(edit, status, vec![event], now)
        }
        AtExit::Hold(why) => {
            let mut events = vec![told.evicted(edit, Some(&why.reason), why.code, false)];
            if status != Status::Held {
                hold(edit, &why, now);
            }
            events.push(held_event(edit));
            Finished {
                after: after_hold(edit),
                next: Next::Stays,
                events,
            }
        }
    }
}

/// Back into the queue: held if somebody held it meanwhile, else idle.
fn back(edit: &mut Edit, status: Status, mut events: Vec<Event>, now: i64) -> Finished {
    let after = if status == Status::Held {
        events.push(held_event(edit));
        after_hold(edit)
    } else {
        edit.enter(Status::Idle, now);
        AfterRun::Idle
    };
    Finished {
        after,
        next: Next::Stays,
        events,
    }
}

fn removed(edit: &Edit, events: Vec<Event>, now: i64) -> Finished {
    Finished {
        after: AfterRun::Removed,
        next: where_to(edit, now),
        events,
    }
}

/// Whether a job that is through stays in the queue, because its `LeaveJobInQueue` says so.
pub(super) fn where_to(edit: &Edit, now: i64) -> Next {
    if edit.eval("LeaveJobInQueue", now).as_bool() == Some(true) {
        Next::Stays
    } else {
        Next::Leaves
    }
}

fn after_hold(edit: &Edit) -> AfterRun {
    let why = reason_of_hold(edit.ad());
    AfterRun::Held {
        reason: why.reason,
        code: why.code,
        subcode: why.subcode,
    }
}

fn reason_of_hold(job: &ClassAd) -> Why {
    let small = |name| {
        let value = job.int(name).unwrap_or(0);
        i32::try_from(value).unwrap_or(0)
    };
    Why {
        reason: job.string("HoldReason").unwrap_or_default(),
        code: small("HoldReasonCode"),
        subcode: small("HoldReasonSubCode"),
    }
}

/// Puts a job on hold.
pub(super) fn hold(edit: &mut Edit, why: &Why, now: i64) {
    edit.rename("ReleaseReason", "LastReleaseReason");
    edit.set("HoldReason", why.reason.as_str());
    edit.set("HoldReasonCode", i64::from(why.code));
    edit.set("HoldReasonSubCode", i64::from(why.subcode));
    edit.add("NumHolds", 1);
    if why.code != code::USER_REQUEST {
        edit.add("NumSystemHolds", 1);
    }
    edit.enter(Status::Held, now);
}

/// Lets a held job go on.
pub(super) fn release(edit: &mut Edit, reason: &str, now: i64) {
    edit.set("ReleaseReason", reason);
    for (from, to) in [
        ("HoldReason", "LastHoldReason"),
        ("HoldReasonCode", "LastHoldReasonCode"),
        ("HoldReasonSubCode", "LastHoldReasonSubCode"),
    ] {
        edit.rename(from, to);
    }
    edit.enter(Status::Idle, now);
}

/// Marks a job as removed; it leaves when it does not run (any more).
pub(super) fn remove(edit: &mut Edit, reason: &str, now: i64) {
    for (from, to) in [
        ("HoldReason", "LastHoldReason"),
        ("HoldReasonCode", "LastHoldReasonCode"),
        ("HoldReasonSubCode", "LastHoldReasonSubCode"),
    ] {
        edit.rename(from, to);
    }
    edit.set("RemoveReason", reason);
    edit.enter(Status::Removed, now);
}

/// The log's word about a hold.
pub(super) fn held_event(edit: &Edit) -> Event {
    let why = reason_of_hold(edit.ad());
    Event::Held {
        reason: Some(why.reason),
        code: why.code,
        subcode: why.subcode,
    }
}

/// The log's word about a removal.
pub(super) fn aborted(edit: &Edit) -> Event {
    Event::Aborted {
        reason: edit.ad().string("RemoveReason"),
        toe: nested(edit.ad(), "ToE"),
    }
}

fn nested(ad: &ClassAd, name: &str) -> Option<ClassAd> {
    match ad.eval(name) {
        Value::ClassAd(nested) => Some(*nested),
        _ => None,
    }
}

/// What the log tells about a run.
struct Told {
    bytes: Bytes,
    ended: Option<Ended>,
}

impl Told {
    fn evicted(&self, edit: &Edit, reason: Option<&str>, code: i32, requeued: bool) -> Event {
        Event::Evicted {
            reason: reason.map(str::to_owned),
            code,
            subcode: 0,
            requeued: self.ended.clone().filter(|_| requeued),
            remote: cpu(edit, "RemoteUserCpu", "RemoteSysCpu"),
            local: Cpu::default(),
            sent: self.bytes.sent,
            received: self.bytes.received,
            usage: usage_ad(edit.ad()),
        }
    }

    fn terminated(&self, edit: &Edit) -> Event {
        Event::Terminated {
            ended: self.ended.clone().unwrap_or(Ended::Exit(0)),
            run_remote: cpu(edit, "RemoteUserCpu", "RemoteSysCpu"),
            run_local: Cpu::default(),
            total_remote: cpu(edit, "CumulativeRemoteUserCpu", "CumulativeRemoteSysCpu"),
            total_local: Cpu::default(),
            sent: self.bytes.sent,
            received: self.bytes.received,
            total_sent: edit.real("BytesSent"),
            total_received: edit.real("BytesRecvd"),
            usage: usage_ad(edit.ad()),
            toe: nested(edit.ad(), "ToE"),
        }
    }
}

fn cpu(edit: &Edit, user: &str, system: &str) -> Cpu {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "cut to whole seconds on purpose; the cast saturates"
    )]
    let seconds = |name| edit.real(name).max(0.0) as u64;
    Cpu {
        user: seconds(user),
        system: seconds(system),
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
