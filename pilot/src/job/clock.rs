//! Time as an argument: both clocks at one moment, and the one text form the pool reads.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Both clocks, read at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// A clock that nobody can set and that goes on while the machine sleeps, from an arbitrary origin.
    pub monotonic: Duration,
    /// Wall-clock time since the Unix epoch.
    pub since_epoch: Duration,
}

impl Moment {
    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub fn unix(&self) -> i64 {
        i64::try_from(self.since_epoch.as_secs()).unwrap_or(i64::MAX)
    }
}

/// The real clocks; the one that nobody can set starts when this value is made.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Duration,
}

impl Clock {
    /// Starts the monotonic clock.
    #[must_use]
    pub fn start() -> Self {
        Self {
            origin: since_boot(),
        }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment {
            monotonic: since_boot().saturating_sub(self.origin),
            since_epoch: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        }
    }
}

/// `CLOCK_BOOTTIME`: unlike `CLOCK_MONOTONIC`, which [`std::time::Instant`] reads, it counts suspended time.
fn since_boot() -> Duration {
    // Cannot fail on Linux; if it did, whatever is waited for would be due.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

/// A Unix time in seconds as `2026-11-25T15:40:07` (UTC, no zone mark), the form of `EventTime` in HTCondor's events.
#[must_use]
pub fn iso_utc(unix_seconds: i64) -> String {
    let days = unix_seconds.div_euclid(86_400);
    let second = unix_seconds.rem_euclid(86_400);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Days since 1970-01-01 to year, month and day of the Gregorian calendar.
///
/// Counts in eras of 400 years from 0000-03-01, so that the leap day is the last day of a year.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    const FROM_MARCH_0000: i64 = 719_468;
    let shifted = days.saturating_add(FROM_MARCH_0000);
    let era = shifted.div_euclid(DAYS_PER_ERA);
    let day_of_era = shifted.rem_euclid(DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        assert_eq!(iso_utc(0), "1970-01-01T00:00:00");
        assert_eq!(iso_utc(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(iso_utc(951_868_800), "2000-03-01T00:00:00");
        assert_eq!(iso_utc(1_795_351_141), "2026-11-22T12:39:01");
        assert_eq!(iso_utc(-1), "1969-12-31T23:59:59");
        assert_eq!(iso_utc(4_107_542_399), "2100-02-28T23:59:59");
        assert_eq!(iso_utc(4_107_542_400), "2100-03-01T00:00:00");
    }
}
