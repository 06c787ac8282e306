//! The text of an event (`htcondor:src/condor_utils/condor_event.cpp`, `formatBody` of each, as 23.9.6 writes them).

use std::fmt::Write;

use classad::ClassAd;

use super::event::{Cpu, Ended, Event, TransferStep};
use super::form::DateForm;
use super::usage;
use crate::JobId;

/// The longest text of a user's or a reason that goes into one line.
const LONGEST_LINE: usize = 8191;

/// The text of one event, with the line of dots that ends it.
#[must_use]
pub fn format(event: &Event, job: JobId, time: &jiff::Zoned, form: DateForm) -> String {
    let mut out = String::with_capacity(256);
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "{:03} ({:03}.{:03}.000) {} ",
        event.number(),
        job.cluster,
        job.proc,
        form.date(time)
    );
    body(event, &mut out);
    out.push_str("...\n");
    out
}

/// A text that must not be mistaken for the next line of an event.
fn one_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if c == '\n' || c == '\r' { ' ' } else { c })
        .collect();
    if line.len() > LONGEST_LINE {
        let end = (0..=LONGEST_LINE)
            .rev()
            .find(|&at| line.is_char_boundary(at))
            .unwrap_or(0);
        line.truncate(end);
    }
    line
}

fn body(event: &Event, out: &mut String) {
    let _ = match event {
        Event::Submit {
            host,
            notes,
            user_notes,
        } => {
            let _ = writeln!(out, "Job submitted from host: {host}");
            for note in [notes, user_notes].into_iter().flatten() {
                let _ = writeln!(out, "    {}", one_line(note));
            }
            Ok(())
        }
        Event::Execute {
            host,
            slot,
            properties,
        } => {
            let _ = writeln!(out, "Job executing on host: {host}");
            if let Some(slot) = slot {
                let _ = writeln!(out, "\tSlotName: {slot}");
            }
            sorted(properties, "\t", out);
            Ok(())
        }
        Event::Evicted { .. } => {
            evicted(event, out);
            Ok(())
        }
        Event::Terminated { .. } => {
            terminated(event, out);
            Ok(())
        }
        Event::ImageSize {
            image_kb,
            memory_mb,
            resident_kb,
            proportional_kb,
        } => {
            let _ = writeln!(out, "Image size of job updated: {image_kb}");
            for (value, what) in [
                (memory_mb, "MemoryUsage of job (MB)"),
                (resident_kb, "ResidentSetSize of job (KB)"),
                (proportional_kb, "ProportionalSetSize of job (KB)"),
            ] {
                if let Some(value) = value {
                    let _ = writeln!(out, "\t{value}  -  {what}");
                }
            }
            Ok(())
        }
        Event::ShadowException {
            message,
            sent,
            received,
        } => {
            let _ = writeln!(out, "Shadow exception!\n\t{}", one_line(message));
            run_bytes(*sent, *received, out);
            Ok(())
        }
        Event::Generic { text } => writeln!(out, "{}", one_line(text)),
        Event::Aborted { reason, toe } => {
            out.push_str("Job was aborted.\n");
            indented(reason.as_deref(), out);
            end_told(toe.as_ref(), out);
            Ok(())
        }
        Event::Suspended { processes } => writeln!(
            out,
            "Job was suspended.\n\tNumber of processes actually suspended: {processes}"
        ),
        Event::Unsuspended => writeln!(out, "Job was unsuspended."),
        Event::Held {
            reason,
            code,
            subcode,
        } => {
            out.push_str("Job was held.\n");
            indented(Some(reason.as_deref().unwrap_or("Reason unspecified")), out);
            writeln!(out, "\tCode {code} Subcode {subcode}")
        }
        Event::Released { reason } => {
            out.push_str("Job was released.\n");
            indented(reason.as_deref(), out);
            Ok(())
        }
        Event::RemoteError {
            daemon,
            host,
            message,
            critical,
            code,
            subcode,
        } => {
            let kind = if *critical { "Error" } else { "Message" };
            let _ = writeln!(out, "{kind} from {daemon} on {host}:");
            for line in message.lines() {
                let _ = writeln!(out, "\t{line}");
            }
            if *code != 0 {
                let _ = writeln!(out, "\tCode {code} Subcode {subcode}");
            }
            Ok(())
        }
        Event::Disconnected {
            reason,
            startd_name,
            startd,
        } => writeln!(
            out,
            "Job disconnected, attempting to reconnect\n    {}\n    Trying to reconnect to {startd_name} {startd}",
            one_line(reason)
        ),
        Event::Reconnected {
            startd_name,
            startd,
            starter,
        } => writeln!(
            out,
            "Job reconnected to {startd_name}\n    startd address: {startd}\n    starter address: {starter}"
        ),
        Event::ReconnectFailed {
            reason,
            startd_name,
        } => writeln!(
            out,
            "Job reconnection failed\n    {}\n    Can not reconnect to {startd_name}, rescheduling job",
            one_line(reason)
        ),
        Event::JobAdInformation { ad } => {
            out.push_str("Job ad information event triggered.\n");
            sorted(ad, "", out);
            Ok(())
        }
        Event::FileTransfer {
            step,
            queue_seconds,
            host,
        } => {
            let _ = writeln!(out, "{}", step_text(*step));
            if let Some(seconds) = queue_seconds {
                let _ = writeln!(out, "\tSeconds spent in queue: {seconds}");
            }
            if let Some(host) = host {
                let _ = writeln!(out, "\tTransferring to host: {host}");
            }
            Ok(())
        }
    };
}

/// Attributes by name, a line each.
fn sorted(ad: &ClassAd, indent: &str, out: &mut String) {
    let mut lines: Vec<(String, String)> = ad
        .iter()
        .map(|(name, expr)| {
            let line = format!("{indent}{} = {}\n", name.as_str(), expr.to_old());
            (name.as_str().to_ascii_lowercase(), line)
        })
        .collect();
    lines.sort();
    for (_, line) in lines {
        out.push_str(&line);
    }
}

fn indented(text: Option<&str>, out: &mut String) {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        let _ = writeln!(out, "\t{}", one_line(text));
    }
}

/// What time the processors spent, as `Usr 0 00:00:01, Sys 0 00:00:00`.
pub(super) fn cpu(cpu: Cpu) -> String {
    let span = |seconds: u64| {
        format!(
            "{} {:02}:{:02}:{:02}",
            seconds / 86_400,
            seconds / 3600 % 24,
            seconds / 60 % 60,
            seconds % 60
        )
    };
    format!("Usr {}, Sys {}", span(cpu.user), span(cpu.system))
}

fn run_bytes(sent: f64, received: f64, out: &mut String) {
    let _ = writeln!(out, "\t{sent:.0}  -  Run Bytes Sent By Job");
    let _ = writeln!(out, "\t{received:.0}  -  Run Bytes Received By Job");
}

/// By itself with a status, or by a signal with or without a core file.
fn ending(ended: &Ended, out: &mut String) {
    let _ = match ended {
        Ended::Exit(status) => writeln!(out, "\t(1) Normal termination (return value {status})"),
        Ended::Signal { signal, core } => {
            let _ = writeln!(out, "\t(0) Abnormal termination (signal {signal})");
            match core {
                Some(core) => writeln!(out, "\t(1) Corefile in: {}", one_line(core)),
                None => writeln!(out, "\t(0) No core file"),
            }
        }
    };
}

fn evicted(event: &Event, out: &mut String) {
    let Event::Evicted {
        reason,
        requeued,
        remote,
        local,
        sent,
        received,
        usage,
        ..
    } = event
    else {
        return;
    };
    out.push_str("Job was evicted.\n\t");
    out.push_str(if requeued.is_some() {
        "(0) Job terminated and was requeued\n"
    } else {
        "(0) CPU times\n"
    });
    for (spent, whose) in [(remote, "Run Remote Usage"), (local, "Run Local Usage")] {
        let _ = writeln!(out, "\t\t{}  -  {whose}", cpu(*spent));
    }
    run_bytes(*sent, *received, out);
    if let Some(ended) = requeued {
        ending(ended, out);
    }
    indented(reason.as_deref(), out);
    if let Some(usage) = usage {
        out.push_str(&usage::table(usage));
    }
}

fn terminated(event: &Event, out: &mut String) {
    let Event::Terminated {
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
    } = event
    else {
        return;
    };
    out.push_str("Job terminated.\n");
    ending(ended, out);
    for (spent, whose) in [
        (run_remote, "Run Remote Usage"),
        (run_local, "Run Local Usage"),
        (total_remote, "Total Remote Usage"),
        (total_local, "Total Local Usage"),
    ] {
        let _ = writeln!(out, "\t\t{}  -  {whose}", cpu(*spent));
    }
    run_bytes(*sent, *received, out);
    let _ = writeln!(out, "\t{total_sent:.0}  -  Total Bytes Sent By Job");
    let _ = writeln!(out, "\t{total_received:.0}  -  Total Bytes Received By Job");
    if let Some(usage) = usage {
        out.push_str(&usage::table(usage));
    }
    end_told(toe.as_ref(), out);
}

/// The ticket of execution: who ended the job (`htcondor:src/condor_utils/ToE.cpp`, `writeToString`).
fn end_told(toe: Option<&ClassAd>, out: &mut String) {
    let Some(toe) = toe else {
        return;
    };
    let when = toe
        .int("When")
        .and_then(|when| jiff::Timestamp::from_second(when).ok())
        .map(|when| when.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .unwrap_or_default();
    let how = toe.int("HowCode").unwrap_or(-1);
    let _ = if how == 0 {
        let end = match toe.bool("ExitBySignal") {
            Some(true) => toe
                .int("ExitSignal")
                .map(|signal| format!(" with signal {signal}")),
            Some(false) => toe
                .int("ExitCode")
                .map(|code| format!(" with exit-code {code}")),
            None => None,
        };
        writeln!(
            out,
            "\n\tJob terminated of its own accord at {when}{}.",
            end.unwrap_or_default()
        )
    } else {
        writeln!(
            out,
            "\n\tJob terminated by {} at {when} (using method {how}: {}).",
            one_line(&toe.string("Who").unwrap_or_default()),
            one_line(&toe.string("How").unwrap_or_default())
        )
    };
}

fn step_text(step: TransferStep) -> &'static str {
    match step {
        TransferStep::InputQueued => "Entered queue to transfer input files",
        TransferStep::InputStarted => "Started transferring input files",
        TransferStep::InputFinished => "Finished transferring input files",
        TransferStep::OutputQueued => "Entered queue to transfer output files",
        TransferStep::OutputStarted => "Started transferring output files",
        TransferStep::OutputFinished => "Finished transferring output files",
    }
}
