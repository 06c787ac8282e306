//! The two ads that end a transfer: how each side fared.

use classad::ClassAd;

/// What one side says at the end (protocol page 04, sections 3 and 9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// 0 is success, more is a failure that may pass, less is one that will not.
    pub result: i64,
    /// With a failure: how the job is to be held.
    pub hold: Option<AckHold>,
}

/// The hold that a failed side proposes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckHold {
    /// `HoldReasonCode`.
    pub code: i64,
    /// `HoldReasonSubCode`.
    pub subcode: i64,
    /// `HoldReason`, one line.
    pub reason: String,
}

impl Ack {
    /// All went well.
    pub const SUCCESS: Self = Self {
        result: 0,
        hold: None,
    };

    /// It failed and will fail again.
    #[must_use]
    pub const fn failure(hold: AckHold) -> Self {
        Self {
            result: -1,
            hold: Some(hold),
        }
    }

    /// It failed for a reason that may pass.
    #[must_use]
    pub const fn try_again() -> Self {
        Self {
            result: 1,
            hold: None,
        }
    }

    /// Whether all went well.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        self.result == 0
    }

    /// As it travels. `files` is the number of files that went over the connection.
    #[must_use]
    pub fn ad(&self, files: u64) -> ClassAd {
        let mut stats = ClassAd::new();
        stats.insert("CedarFilesCount", i64::try_from(files).unwrap_or(i64::MAX));
        let mut ad = ClassAd::new();
        ad.insert("Result", self.result);
        ad.insert("TransferStats", stats);
        if let Some(hold) = &self.hold {
            ad.insert("HoldReasonCode", hold.code);
            ad.insert("HoldReasonSubCode", hold.subcode);
            ad.insert("HoldReason", hold.reason.as_str());
        }
        ad
    }

    /// Reads the other side's; an ad without a result is a failure.
    #[must_use]
    pub fn from_ad(ad: &ClassAd) -> Self {
        let result = ad.int("Result").unwrap_or(-1);
        if result == 0 {
            return Self::SUCCESS;
        }
        let hold = AckHold {
            code: ad.int("HoldReasonCode").unwrap_or(0),
            subcode: ad.int("HoldReasonSubCode").unwrap_or(0),
            reason: ad.string("HoldReason").unwrap_or_default(),
        };
        Self {
            result,
            hold: Some(hold),
        }
    }
}
