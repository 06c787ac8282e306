//! Relates the machine's monotonic time to the calendar.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::event::Time;

/// Both clocks, read once together.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    unix: i64,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            unix: unix_now(),
        }
    }

    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Time {
        self.start.elapsed()
    }

    /// The calendar's version of a time since the start.
    #[must_use]
    pub fn unix(&self, time: Time) -> i64 {
        self.unix
            .saturating_add(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
    }

    /// The instant to sleep until.
    #[must_use]
    pub fn instant(&self, time: Time) -> Instant {
        self.start + time
    }

    /// Unix time of the start.
    #[must_use]
    pub fn started(&self) -> i64 {
        self.unix
    }
}

/// The calendar, in whole seconds.
#[must_use]
pub fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0)
}
