//! Pauses between attempts: doubling, bounded, and spread out so that a thousand pilots do not return as one.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// A growing pause.
#[derive(Debug, Clone)]
pub struct BackOff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl BackOff {
    /// Pauses of about `first`, then twice that, up to `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            failures: 0,
        }
    }

    /// The pause after one more failure; `random` spreads it over half to the whole of its length.
    pub fn next(&mut self, random: u64) -> Duration {
        let full = self
            .first
            .saturating_mul(1 << self.failures.min(16))
            .min(self.most);
        self.failures = self.failures.saturating_add(1);
        spread(full, random)
    }

    /// Back to the first pause.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last [`reset`](Self::reset).
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// Between half of `length` and all of it.
#[must_use]
pub fn spread(length: Duration, random: u64) -> Duration {
    let share = u32::try_from(random % 1001).unwrap_or(0);
    length / 2 + (length / 2).saturating_mul(share) / 1000
}

/// A number for [`spread`]: different each time, not for secrets.
#[must_use]
pub fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_start_again() {
        let mut pause = BackOff::new(Duration::from_secs(1), Duration::from_secs(60));
        let lengths: Vec<u64> = (0..9).map(|_| pause.next(1000).as_secs()).collect();
        assert_eq!(lengths, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        pause.reset();
        assert_eq!(pause.next(0), Duration::from_millis(500));
    }
}
