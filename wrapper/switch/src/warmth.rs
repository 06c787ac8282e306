//! How long to keep ready what the next payload will need. A verifier that waits costs five
//! megabytes, so where no jobs come there is none.

use std::time::{Duration, Instant};

/// The time during which the next payload is expected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Warmth {
    time: Duration,
    until: Instant,
}

impl Warmth {
    /// A pilot that has just started expects its first job.
    pub(crate) fn new(time: Duration, now: Instant) -> Self {
        Self {
            time,
            until: now + time,
        }
    }

    /// A payload has come, or is announced.
    pub(crate) fn renew(&mut self, now: Instant) {
        self.until = now + self.time;
    }

    /// Is the next payload still expected?
    pub(crate) fn lasts(&self, now: Instant) -> bool {
        now < self.until
    }

    /// When it ends.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_for_its_time_after_the_last_payload() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut warmth = Warmth::new(30 * second, start);
        assert!(warmth.lasts(start + 29 * second) && !warmth.lasts(start + 30 * second));
        warmth.renew(start + 50 * second);
        assert!(warmth.lasts(start + 79 * second) && !warmth.lasts(start + 80 * second));
        assert_eq!(warmth.until(), start + 80 * second);
    }
}
