//! Why a job no longer runs, and what a starter said about it. Pure.

use classad::ClassAd;

/// Reasons in `job_exit` (`htcondor:src/condor_includes/exit.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// 100, 103 and 115: it ended by itself.
    Exited {
        /// It left a core file.
        coredump: bool,
    },
    /// 108: it could not be started.
    NotStarted,
    /// 114: its time had passed before it could start.
    MissedDeferralTime,
    /// 102 and 107: it was stopped.
    Evicted,
    /// Anything else, such as 4 and 44: the starter failed.
    Failed(i32),
}

/// Least reason of today's starters; those of older ones are smaller by this.
const OFFSET: i32 = 100;
/// Reasons of a starter that broke down.
const EXCEPTION: i32 = 4;
const DPRINTF_ERROR: i32 = 44;

impl ExitReason {
    /// Reads the code.
    #[must_use]
    pub fn from_code(code: i32) -> Self {
        let code = if (0..OFFSET).contains(&code) && ![EXCEPTION, DPRINTF_ERROR].contains(&code) {
            code + OFFSET
        } else {
            code
        };
        match code {
            100 | 115 => Self::Exited { coredump: false },
            103 => Self::Exited { coredump: true },
            102 | 107 => Self::Evicted,
            108 => Self::NotStarted,
            114 => Self::MissedDeferralTime,
            other => Self::Failed(other),
        }
    }
}

/// Hold codes (`htcondor:src/condor_utils/condor_holdcodes.h`).
pub mod hold {
    /// `CorruptedCredential`.
    pub const CORRUPTED_CREDENTIAL: i32 = 4;
    /// `TransferOutputError`; on the wire the receiving side's failure.
    pub const TRANSFER_OUTPUT_ERROR: i32 = 12;
    /// `TransferInputError`; on the wire the sending side's failure.
    pub const TRANSFER_INPUT_ERROR: i32 = 13;
    /// `MissedDeferredExecutionTime`.
    pub const MISSED_DEFERRED_EXECUTION_TIME: i32 = 20;
    /// `JobDurationExceeded`.
    pub const JOB_DURATION_EXCEEDED: i32 = 46;
    /// `JobExecuteExceeded`.
    pub const JOB_EXECUTE_EXCEEDED: i32 = 47;
}

/// Vacate codes: why a job went back to the queue.
pub mod vacate {
    /// `ShadowException`.
    pub const SHADOW_EXCEPTION: i32 = 1002;
    /// `JobNotStarted`.
    pub const JOB_NOT_STARTED: i32 = 1003;
    /// `UserVacateJob`.
    pub const USER_VACATE_JOB: i32 = 1004;
    /// `JobShouldRequeue`.
    pub const JOB_SHOULD_REQUEUE: i32 = 1005;
    /// `FailedToActivateClaim`.
    pub const FAILED_TO_ACTIVATE_CLAIM: i32 = 1006;
    /// `StarterError`.
    pub const STARTER_ERROR: i32 = 1007;
    /// `ReconnectFailed`.
    pub const RECONNECT_FAILED: i32 = 1008;
}

/// A starter's report of an error that ends the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteError {
    /// Who reports it.
    pub daemon: String,
    /// What went wrong.
    pub message: String,
    /// Whether the run is over by it.
    pub critical: bool,
    /// Hold code, 0: no hold.
    pub code: i32,
    /// Hold subcode.
    pub subcode: i32,
}

impl RemoteError {
    /// Reads the event ad of `ulog`; `None` if it is another event.
    #[must_use]
    pub fn read(ad: &ClassAd) -> Option<Self> {
        if ad.int("EventTypeNumber") != Some(21) {
            return None;
        }
        let code = |name: &str| {
            ad.int(name)
                .and_then(|code| i32::try_from(code).ok())
                .unwrap_or(0)
        };
        Some(Self {
            daemon: ad.string("Daemon").unwrap_or_else(|| "starter".to_owned()),
            message: ad.string("ErrorMsg").unwrap_or_default(),
            critical: ad.bool("CriticalError").unwrap_or(true),
            code: code("HoldReasonCode"),
            subcode: code("HoldReasonSubCode"),
        })
    }

    /// Code and reason of the hold or the requeueing, told by `slot` when the job had begun to run, or not. Failures of file
    /// transfer come from the starter with the code of the failing side; which of the two sandboxes it was depends on
    /// whether the job ran (`htcondor:src/condor_shadow.V6.1/baseshadow.cpp`, `improveReasonAttributes`).
    #[must_use]
    pub fn reason(&self, slot: &str, had_begun: bool, our_host: &str) -> (i32, String) {
        let plain = format!("Error from {slot}: {}", self.message);
        let their_end = match self.code {
            hold::TRANSFER_OUTPUT_ERROR => !had_begun,
            hold::TRANSFER_INPUT_ERROR => had_begun,
            code => return (code, plain),
        };
        let (code, what, they_do) = if had_begun {
            (hold::TRANSFER_OUTPUT_ERROR, "output", "sending files to")
        } else {
            (hold::TRANSFER_INPUT_ERROR, "input", "receiving files from")
        };
        let we_do = if had_begun {
            "receiving files from"
        } else {
            "sending files to"
        };
        let place = if their_end {
            format!("execution point {slot} while {they_do} access point {our_host}")
        } else {
            format!("access point {our_host} while {we_do} execution point {slot}")
        };
        (
            code,
            format!(
                "Transfer {what} files failure at {place}. Details: {}",
                details(&plain)
            ),
        )
    }
}

/// What follows `|Error: ` in the text of a failed transfer, if anything does.
fn details(text: &str) -> &str {
    let Some((_, rest)) = text.split_once("|Error: ") else {
        return text;
    };
    let end = ["; SHADOW", "; STARTER", "||"]
        .iter()
        .find_map(|mark| rest.find(mark))
        .unwrap_or(rest.len());
    rest.get(..end).unwrap_or(rest)
}

/// Seconds in HTCondor's form `ddd+hh:mm:ss` without what is zero in front
/// (`htcondor:src/condor_utils/format_time.cpp`, `format_time_short`).
#[must_use]
pub fn short_time(seconds: i64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let text = format!(
        "{days}+{hours:02}:{:02}:{:02}",
        seconds / 60 % 60,
        seconds % 60
    );
    let rest = text.trim_start_matches(['0', '+']);
    rest.strip_prefix(':').unwrap_or(rest).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_all_ages_are_read() {
        assert_eq!(
            ExitReason::from_code(100),
            ExitReason::Exited { coredump: false }
        );
        assert_eq!(
            ExitReason::from_code(0),
            ExitReason::Exited { coredump: false }
        );
        assert_eq!(
            ExitReason::from_code(3),
            ExitReason::Exited { coredump: true }
        );
        assert_eq!(ExitReason::from_code(107), ExitReason::Evicted);
        assert_eq!(ExitReason::from_code(4), ExitReason::Failed(4));
        assert_eq!(ExitReason::from_code(-7), ExitReason::Failed(-7));
    }

    #[test]
    fn times_are_as_short_as_they_can_be() {
        assert_eq!(short_time(5), "00:05");
        assert_eq!(short_time(65), "01:05");
        assert_eq!(short_time(3600), "1:00:00");
        assert_eq!(short_time(90_061), "1+01:01:01");
    }

    #[test]
    fn the_side_that_failed_is_named() {
        let error = RemoteError {
            daemon: "starter".to_owned(),
            message: "STARTER at h failed to send file(s) to <s>: error reading from /x: (errno 2) No such file"
                .to_owned(),
            critical: true,
            code: 13,
            subcode: 2,
        };
        let (code, text) = error.reason("slot1@h", true, "submit");
        assert_eq!(code, 12);
        assert!(
            text.starts_with("Transfer output files failure at execution point slot1@h while sending files to access point submit. Details: Error from slot1@h: STARTER"),
            "{text}"
        );
        let (code, text) = error.reason("slot1@h", false, "submit");
        assert_eq!(code, 13);
        assert!(
            text.contains("at access point submit while sending files to execution point slot1@h"),
            "{text}"
        );
    }
}
