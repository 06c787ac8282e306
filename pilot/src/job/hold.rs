//! How a job that cannot go on is reported: the codes of HTCondor's hold reasons and the event that carries them.

use classad::ClassAd;

use super::clock::{Moment, iso_utc};

/// Hold reason codes that an execute side uses (`htcondor:src/condor_includes/condor_holdcodes.h`; protocol page 03,
/// section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldCode {
    /// The proxy is missing, does not verify, or ends too soon.
    CorruptedCredential = 4,
    /// The payload's program could not be started.
    FailedToCreateProcess = 6,
    /// Standard output or error could not be opened.
    UnableToOpenOutput = 7,
    /// Standard input could not be opened.
    UnableToOpenInput = 8,
    /// A go-ahead of the file transfer was refused or malformed.
    InvalidTransferGoAhead = 18,
    /// An output file could not be sent.
    TransferOutputError = 12,
    /// An input file could not be received.
    TransferInputError = 13,
    /// The sandbox could not be made or used.
    IwdError = 14,
    /// The policy of the execute side wants it held (`WANT_HOLD`).
    StartdHeldJob = 21,
    /// No account for this identity, or the identity is refused.
    FailedToAccessUserAccount = 23,
    /// The sandbox could not be handed to the account.
    SandboxHandOver = 28,
    /// The input is larger than the pilot accepts.
    MaxTransferInputSizeExceeded = 32,
    /// The output is larger than the submit side accepts.
    MaxTransferOutputSizeExceeded = 33,
    /// The job used more memory or disk than it may.
    JobOutOfResources = 34,
}

/// An order to put the job on hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// `HoldReasonCode`.
    pub code: HoldCode,
    /// `HoldReasonSubCode`, usually an errno.
    pub subcode: i32,
    /// `HoldReason`, one line.
    pub reason: String,
    /// The node is at fault, and another job would fare no better on it.
    pub node: bool,
}

impl Hold {
    /// A hold whose reason is made one line.
    pub fn new(code: HoldCode, subcode: i32, reason: impl AsRef<str>) -> Self {
        Self {
            code,
            subcode,
            reason: one_line(reason.as_ref()),
            node: false,
        }
    }

    /// One that a disk of the node is at fault of, if the error number says that: full, broken, or not to be written.
    #[must_use]
    pub fn of_disk(mut self) -> Self {
        self.node = [libc::ENOSPC, libc::EIO, libc::EROFS, libc::ESTALE].contains(&self.subcode);
        self
    }

    /// The event that makes the shadow hold the job.
    #[must_use]
    pub fn event(&self, now: Moment) -> ClassAd {
        let mut ad = remote_error(&self.reason, now);
        ad.insert("HoldReasonCode", self.code as i32);
        ad.insert("HoldReasonSubCode", self.subcode);
        ad
    }
}

/// The event that makes the shadow give the job back to the queue, not held (a remote error without a hold code).
#[must_use]
pub fn requeue_event(reason: &str, now: Moment) -> ClassAd {
    remote_error(&one_line(reason), now)
}

/// A line for the job's log that changes nothing (`htcondor:src/condor_utils/condor_event.h`, `GenericEvent`).
#[must_use]
pub fn notice_event(text: &str, now: Moment) -> ClassAd {
    /// What the event holds, with the NUL behind it.
    const LONGEST: usize = 511;
    let mut ad = event("GenericEvent", 8, now);
    let mut info = String::with_capacity(LONGEST);
    for c in one_line(text).chars() {
        if info.len() + c.len_utf8() > LONGEST {
            break;
        }
        info.push(c);
    }
    ad.insert("Info", info);
    ad
}

fn event(kind: &str, number: i64, now: Moment) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("MyType", kind);
    ad.insert("EventTypeNumber", number);
    ad.insert(
        "EventTime",
        format!(
            "{}.{:03}Z",
            iso_utc(now.unix()),
            now.since_epoch.subsec_millis()
        ),
    );
    ad
}

fn remote_error(reason: &str, now: Moment) -> ClassAd {
    let mut ad = event("RemoteErrorEvent", 21, now);
    ad.insert("Daemon", "starter");
    ad.insert("ErrorMsg", reason);
    ad
}

/// Text that may stand in an attribute of the job: no line breaks or other control characters (a newline makes the
/// schedd drop the whole update), no backslash before a quote, at most about 4000 bytes.
#[must_use]
pub fn one_line(text: &str) -> String {
    const LONGEST: usize = 4000;
    let mut line = String::with_capacity(text.len().min(LONGEST));
    for c in text.trim().chars() {
        if line.len() >= LONGEST {
            line.push_str("...");
            break;
        }
        match c {
            c if c.is_control() => {
                if !line.ends_with(' ') {
                    line.push(' ');
                }
            }
            '"' => line.push('\''),
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Moment = Moment {
        monotonic: Duration::ZERO,
        since_epoch: Duration::from_millis(1_795_349_406_099),
    };

    #[test]
    fn a_hold_carries_code_subcode_and_one_line() {
        let ad = Hold::new(
            HoldCode::FailedToCreateProcess,
            2,
            "cannot run\n  \"/x\": no such file\r\n",
        )
        .event(NOW);
        assert_eq!(ad.string("MyType").as_deref(), Some("RemoteErrorEvent"));
        assert_eq!(ad.int("EventTypeNumber"), Some(21));
        assert_eq!(
            ad.string("EventTime").as_deref(),
            Some("2026-11-22T12:10:06.099Z")
        );
        assert_eq!(
            ad.string("ErrorMsg").as_deref(),
            Some("cannot run   '/x': no such file")
        );
        assert_eq!(
            (ad.int("HoldReasonCode"), ad.int("HoldReasonSubCode")),
            (Some(6), Some(2))
        );
    }

    #[test]
    fn a_requeue_has_no_hold_code() {
        let ad = requeue_event("no free account", NOW);
        assert!(!ad.contains("HoldReasonCode") && !ad.contains("HoldReasonSubCode"));
    }

    #[test]
    fn endless_texts_are_cut() {
        assert!(one_line(&"\u{e9}\n".repeat(100_000)).len() < 4100);
    }
}
