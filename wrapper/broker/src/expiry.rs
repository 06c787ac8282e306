//! When a payload must end because its credential does (requirement K6). Counted on a clock that nobody
//! can set and that goes on while the machine sleeps.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use launch_protocol::policy::Settings;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{
    ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags,
};
use nix::time::{ClockId, clock_gettime};

use crate::refuse::unix_now;

/// Nothing is believed to be valid longer, in seconds.
const LONGEST: u64 = 10 * 365 * 86_400;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// To be asked to end.
    Warning,
    /// To be killed.
    Kill,
    /// The credential is at its end: so is whatever was started since.
    End,
}

/// The deadlines of one payload, since boot.
#[derive(Debug)]
pub(crate) struct Expiry {
    at: [(Due, Duration); 3],
    done: usize,
}

impl Expiry {
    /// For a credential that ends then, Unix seconds, and has just been verified.
    pub(crate) fn new(not_after: i64, settings: &Settings) -> Self {
        let left = u64::try_from(not_after.saturating_sub(unix_now())).unwrap_or(0);
        Self::counted(boot_time(), left, settings)
    }

    fn counted(now: Duration, left: u64, settings: &Settings) -> Self {
        let end = now + Duration::from_secs(left.min(LONGEST));
        let before = Duration::from_secs(settings.kill_before_expiry.into());
        let grace = Duration::from_secs(settings.kill_grace.into());
        let warning = end.saturating_sub(before).max(now);
        let kill = (warning + grace).min(end);
        Self {
            at: [(Due::Warning, warning), (Due::Kill, kill), (Due::End, end)],
            done: 0,
        }
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.at.get(self.done).map(|(_, at)| *at)
    }

    /// Is anything due?
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.next().is_some_and(|at| now >= at)
    }

    /// What is due now, one at a time.
    pub(crate) fn due(&mut self, now: Duration) -> Option<Due> {
        let (due, _) = self.at.get(self.done).filter(|(_, at)| now >= *at)?;
        self.done += 1;
        Some(*due)
    }

    /// The credential has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.done == self.at.len()
    }
}

/// Time since boot.
pub(crate) fn boot_time() -> Duration {
    // Cannot fail on Linux; if it did, everything would be due.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

/// Wakes the loop at a time since boot.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: TimerFd,
    set: Option<Duration>,
}

impl Alarm {
    pub(crate) fn new() -> Result<Self, Errno> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(TimerClock::CLOCK_BOOTTIME, flags)?;
        Ok(Self { timer, set: None })
    }

    /// Readable from then on.
    pub(crate) fn set(&mut self, at: Option<Duration>) -> Result<(), Errno> {
        if self.set == at {
            return Ok(());
        }
        self.set = at;
        match at {
            None => self.timer.unset(),
            Some(at) => {
                // All zero would switch it off.
                let at = TimeSpec::from_duration(at.max(Duration::from_nanos(1)));
                let absolute = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
                self.timer.set(Expiration::OneShot(at), absolute)
            }
        }
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::settings;

    const NOW: Duration = Duration::from_secs(1000);

    fn seconds(seconds: u64) -> Duration {
        NOW + Duration::from_secs(seconds)
    }

    #[test]
    fn k6_first_a_warning_then_the_kill_and_nothing_lives_beyond_the_end() {
        let mut expiry = Expiry::counted(NOW, 300, &settings());
        assert_eq!(expiry.next(), Some(seconds(240)));
        assert_eq!(expiry.due(seconds(239)), None);
        assert_eq!(expiry.due(seconds(241)), Some(Due::Warning));
        assert_eq!(expiry.due(seconds(249)), None);
        assert_eq!(expiry.due(seconds(250)), Some(Due::Kill));
        assert!(!expiry.is_over());
        // The machine slept through the rest.
        assert_eq!(expiry.due(seconds(9999)), Some(Due::End));
        assert_eq!((expiry.due(seconds(9999)), expiry.next()), (None, None));
        assert!(expiry.is_over());
    }

    #[test]
    fn k6_a_margin_longer_than_what_is_left_is_no_negative_time() {
        let mut expiry = Expiry::counted(NOW, 5, &settings());
        assert_eq!(expiry.due(NOW), Some(Due::Warning));
        assert_eq!(expiry.next(), Some(seconds(5)));
        let mut over = Expiry::counted(NOW, 0, &settings());
        let all = std::iter::from_fn(|| over.due(NOW));
        assert_eq!(all.count(), 3);
        assert!(Expiry::counted(NOW, u64::MAX, &settings()).next().is_some());
    }

    #[test]
    fn the_clock_goes_forward_and_the_alarm_fires() {
        let mut alarm = Alarm::new().expect("a timer");
        let start = boot_time();
        let soon = start + Duration::from_millis(20);
        alarm.set(Some(soon)).expect("set");
        let mut polled = [nix::poll::PollFd::new(
            alarm.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        assert_eq!(nix::poll::poll(&mut polled, 5000_u16), Ok(1));
        assert!(boot_time() >= soon && start > Duration::ZERO);
        alarm.set(None).expect("unset");
    }
}
