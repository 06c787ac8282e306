//! An event as an ad, which event 028 tells together with attributes of the job
//! (`htcondor:src/condor_utils/condor_event.cpp`, `toClassAd` of each).

use classad::{ClassAd, Expr, Value};

use super::event::{Cpu, Ended, Event, TransferStep};
use super::form::DateForm;
use super::format::cpu;
use crate::JobId;

/// The ad of an event.
pub(super) fn event_ad(event: &Event, job: JobId, time: &jiff::Zoned, form: DateForm) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("MyType", my_type(event));
    ad.insert("EventTypeNumber", i64::from(event.number()));
    ad.insert("EventTime", form.in_ad(time).as_str());
    ad.insert("Cluster", i64::from(job.cluster));
    ad.insert("Proc", i64::from(job.proc));
    ad.insert("Subproc", 0);
    fill(event, &mut ad);
    ad
}

/// Event 028 for `event`: its ad and the attributes of the job that `wanted` names.
pub(super) fn information(
    event: &Event,
    job: &ClassAd,
    wanted: &str,
    id: JobId,
    time: &jiff::Zoned,
    form: DateForm,
) -> Event {
    let mut ad = event_ad(event, id, time, form);
    for name in wanted
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|name| !name.is_empty())
    {
        let value = job.eval(name);
        if matches!(
            value,
            Value::Boolean(_) | Value::Integer(_) | Value::Real(_) | Value::String(_)
        ) {
            ad.insert(name, Expr::literal(value));
        }
    }
    ad.insert("TriggerEventTypeNumber", i64::from(event.number()));
    ad.insert("TriggerEventTypeName", trigger(event));
    ad.insert("EventTypeNumber", 28);
    Event::JobAdInformation { ad }
}

fn fill(event: &Event, ad: &mut ClassAd) {
    match event {
        Event::Submit {
            host,
            notes,
            user_notes,
        } => {
            ad.insert("SubmitHost", host.as_str());
            text(ad, "LogNotes", notes.as_deref());
            text(ad, "UserNotes", user_notes.as_deref());
        }
        Event::Execute {
            host,
            slot,
            properties,
        } => {
            ad.insert("ExecuteHost", host.as_str());
            text(ad, "SlotName", slot.as_deref());
            if !properties.is_empty() {
                nested(ad, "ExecuteProps", properties);
            }
        }
        Event::Evicted {
            reason,
            code,
            subcode,
            requeued,
            remote,
            local,
            sent,
            received,
            usage,
        } => {
            ad.insert("Checkpointed", false);
            ad.insert("TerminatedAndRequeued", requeued.is_some());
            spent(ad, "RunRemoteUsage", *remote);
            spent(ad, "RunLocalUsage", *local);
            ad.insert("SentBytes", *sent);
            ad.insert("ReceivedBytes", *received);
            match requeued {
                Some(ended) => ending(ad, ended),
                None => ad.insert("TerminatedNormally", false),
            }
            text(ad, "Reason", reason.as_deref());
            if *code != 0 {
                ad.insert("ReasonCode", i64::from(*code));
                ad.insert("ReasonSubCode", i64::from(*subcode));
            }
            if let Some(usage) = usage {
                ad.update(usage);
            }
        }
        Event::Terminated {
            ended,
            run_remote,
            run_local,
            total_remote,
            total_local,
            sent,
            received,
            total_sent,
            total_received,
            usage,
            toe,
        } => {
            if let Some(usage) = usage {
                ad.update(usage);
            }
            ending(ad, ended);
            spent(ad, "RunRemoteUsage", *run_remote);
            spent(ad, "RunLocalUsage", *run_local);
            spent(ad, "TotalRemoteUsage", *total_remote);
            spent(ad, "TotalLocalUsage", *total_local);
            ad.insert("SentBytes", *sent);
            ad.insert("ReceivedBytes", *received);
            ad.insert("TotalSentBytes", *total_sent);
            ad.insert("TotalReceivedBytes", *total_received);
            if let Some(toe) = toe {
                nested(ad, "ToE", toe);
            }
        }
        Event::ImageSize {
            image_kb,
            memory_mb,
            resident_kb,
            proportional_kb,
        } => {
            ad.insert("Size", *image_kb);
            number(ad, "MemoryUsage", *memory_mb);
            number(ad, "ResidentSetSize", *resident_kb);
            number(ad, "ProportionalSetSize", *proportional_kb);
        }
        _ => fill_small(event, ad),
    }
}

fn fill_small(event: &Event, ad: &mut ClassAd) {
    match event {
        Event::ShadowException {
            message,
            sent,
            received,
        } => {
            ad.insert("Message", message.as_str());
            ad.insert("SentBytes", *sent);
            ad.insert("ReceivedBytes", *received);
        }
        Event::Generic { text } => ad.insert("Info", text.as_str()),
        Event::Aborted { reason, toe } => {
            text(ad, "Reason", reason.as_deref());
            if let Some(toe) = toe {
                nested(ad, "ToE", toe);
            }
        }
        Event::Suspended { processes } => ad.insert("NumberOfPIDs", i64::from(*processes)),
        Event::Held {
            reason,
            code,
            subcode,
        } => {
            text(ad, "HoldReason", reason.as_deref());
            ad.insert("HoldReasonCode", i64::from(*code));
            ad.insert("HoldReasonSubCode", i64::from(*subcode));
        }
        Event::Released { reason } => text(ad, "Reason", reason.as_deref()),
        Event::RemoteError {
            daemon,
            host,
            message,
            critical,
            code,
            subcode,
        } => {
            ad.insert("Daemon", daemon.as_str());
            ad.insert("ExecuteHost", host.as_str());
            ad.insert("ErrorMsg", message.as_str());
            if !critical {
                ad.insert("CriticalError", 0);
            }
            if *code != 0 {
                ad.insert("HoldReasonCode", i64::from(*code));
                ad.insert("HoldReasonSubCode", i64::from(*subcode));
            }
        }
        Event::Disconnected {
            reason,
            startd_name,
            startd,
        } => {
            ad.insert("StartdAddr", startd.as_str());
            ad.insert("StartdName", startd_name.as_str());
            ad.insert("DisconnectReason", reason.as_str());
            ad.insert(
                "EventDescription",
                "Job disconnected, attempting to reconnect",
            );
        }
        Event::Reconnected {
            startd_name,
            startd,
            starter,
        } => {
            ad.insert("StartdAddr", startd.as_str());
            ad.insert("StartdName", startd_name.as_str());
            ad.insert("StarterAddr", starter.as_str());
            ad.insert("EventDescription", "Job reconnected");
        }
        Event::ReconnectFailed {
            reason,
            startd_name,
        } => {
            ad.insert("StartdName", startd_name.as_str());
            ad.insert("Reason", reason.as_str());
            ad.insert(
                "EventDescription",
                "Job reconnect impossible: rescheduling job",
            );
        }
        Event::FileTransfer {
            step,
            queue_seconds,
            host,
        } => {
            ad.insert("Type", step_number(*step));
            number(
                ad,
                "QueueingDelay",
                queue_seconds.and_then(|seconds| i64::try_from(seconds).ok()),
            );
            text(ad, "Host", host.as_deref());
        }
        _ => {}
    }
}

fn text(ad: &mut ClassAd, name: &str, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        ad.insert(name, value);
    }
}

fn number(ad: &mut ClassAd, name: &str, value: Option<i64>) {
    if let Some(value) = value {
        ad.insert(name, value);
    }
}

fn spent(ad: &mut ClassAd, name: &str, value: Cpu) {
    ad.insert(name, cpu(value).as_str());
}

fn nested(ad: &mut ClassAd, name: &str, value: &ClassAd) {
    ad.insert(name, Expr::literal(Value::ClassAd(Box::new(value.clone()))));
}

fn ending(ad: &mut ClassAd, ended: &Ended) {
    match ended {
        Ended::Exit(status) => {
            ad.insert("TerminatedNormally", true);
            ad.insert("ReturnValue", i64::from(*status));
        }
        Ended::Signal { signal, core } => {
            ad.insert("TerminatedNormally", false);
            ad.insert("TerminatedBySignal", i64::from(*signal));
            text(ad, "CoreFile", core.as_deref());
        }
    }
}

/// `htcondor:src/condor_utils/condor_event.h`, `FileTransferEventType`.
fn step_number(step: TransferStep) -> i64 {
    match step {
        TransferStep::InputQueued => 1,
        TransferStep::InputStarted => 2,
        TransferStep::InputFinished => 3,
        TransferStep::OutputQueued => 4,
        TransferStep::OutputStarted => 5,
        TransferStep::OutputFinished => 6,
    }
}

fn my_type(event: &Event) -> &'static str {
    names(event).0
}

fn trigger(event: &Event) -> &'static str {
    names(event).1
}

/// The type of the event's ad, and what HTCondor calls the event.
fn names(event: &Event) -> (&'static str, &'static str) {
    match event {
        Event::Submit { .. } => ("SubmitEvent", "ULOG_SUBMIT"),
        Event::Execute { .. } => ("ExecuteEvent", "ULOG_EXECUTE"),
        Event::Evicted { .. } => ("JobEvictedEvent", "ULOG_JOB_EVICTED"),
        Event::Terminated { .. } => ("JobTerminatedEvent", "ULOG_JOB_TERMINATED"),
        Event::ImageSize { .. } => ("JobImageSizeEvent", "ULOG_IMAGE_SIZE"),
        Event::ShadowException { .. } => ("ShadowExceptionEvent", "ULOG_SHADOW_EXCEPTION"),
        Event::Generic { .. } => ("GenericEvent", "ULOG_GENERIC"),
        Event::Aborted { .. } => ("JobAbortedEvent", "ULOG_JOB_ABORTED"),
        Event::Suspended { .. } => ("JobSuspendedEvent", "ULOG_JOB_SUSPENDED"),
        Event::Unsuspended => ("JobUnsuspendedEvent", "ULOG_JOB_UNSUSPENDED"),
        Event::Held { .. } => ("JobHeldEvent", "ULOG_JOB_HELD"),
        Event::Released { .. } => ("JobReleaseEvent", "ULOG_JOB_RELEASED"),
        Event::RemoteError { .. } => ("RemoteErrorEvent", "ULOG_REMOTE_ERROR"),
        Event::Disconnected { .. } => ("JobDisconnectedEvent", "ULOG_JOB_DISCONNECTED"),
        Event::Reconnected { .. } => ("JobReconnectedEvent", "ULOG_JOB_RECONNECTED"),
        Event::ReconnectFailed { .. } => ("JobReconnectFailedEvent", "ULOG_JOB_RECONNECT_FAILED"),
        Event::JobAdInformation { .. } => ("JobAdInformationEvent", "ULOG_JOB_AD_INFORMATION"),
        Event::FileTransfer { .. } => ("FileTransferEvent", "ULOG_FILE_TRANSFER"),
    }
}
