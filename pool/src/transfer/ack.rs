//! The two ads that end a transfer: how each side fared (protocol page 04, sections 3 and 9).

use classad::ClassAd;

use super::ticket::Failure;

/// Longest reason taken from a pilot, bytes.
const MAX_REASON: usize = 4096;

/// What one side says at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack {
    /// All went well.
    Success,
    /// It failed and will fail again.
    Hold(Failure),
    /// It failed for a reason that may pass.
    TryAgain(String),
}

impl Ack {
    /// As it travels. `files` is the number of files that went over the connection.
    #[must_use]
    pub fn ad(&self, files: u64) -> ClassAd {
        let mut stats = ClassAd::new();
        if files > 0 {
            stats.insert("CedarFilesCount", i64::try_from(files).unwrap_or(i64::MAX));
        }
        let mut ad = ClassAd::new();
        let result = match self {
            Self::Success => 0,
            Self::TryAgain(_) => 1,
            Self::Hold(_) => -1,
        };
        ad.insert("Result", result);
        match self {
            Self::Success => {}
            Self::TryAgain(reason) => ad.insert("HoldReason", one_line(reason)),
            Self::Hold(failure) => ad.insert("HoldReason", one_line(&failure.reason)),
        }
        ad.insert("TransferStats", stats);
        if let Self::Hold(failure) = self {
            ad.insert("HoldReasonCode", failure.code);
            ad.insert("HoldReasonSubCode", failure.subcode);
        }
        ad
    }

    /// Reads the pilot's; an ad without a result is a failure.
    #[must_use]
    pub fn from_ad(ad: &ClassAd) -> Self {
        let reason = || bounded(&ad.string("HoldReason").unwrap_or_default());
        match ad.int("Result") {
            Some(0) => Self::Success,
            Some(1..) => Self::TryAgain(reason()),
            Some(_) => Self::Hold(Failure {
                code: ad.int("HoldReasonCode").unwrap_or(0),
                subcode: ad.int("HoldReasonSubCode").unwrap_or(0),
                reason: reason(),
            }),
            None => Self::Hold(Failure {
                code: INVALID_ACK,
                subcode: 0,
                reason: "the acknowledgement has no Result".to_owned(),
            }),
        }
    }
}

/// `InvalidTransferAck` (`htcondor:src/condor_utils/condor_holdcodes.h`).
const INVALID_ACK: i64 = 11;

/// Without line ends, which would spoil the ad's text form and the job's event log.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

/// At most [`MAX_REASON`] bytes of it, on one line.
pub(super) fn bounded(text: &str) -> String {
    let mut text = one_line(text);
    if text.len() > MAX_REASON {
        let mut end = MAX_REASON;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}
