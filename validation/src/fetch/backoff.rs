//! How long to wait before trying again.

use std::time::Duration;

/// Pause before the attempt with this number (the first is 0 and waits for nothing): doubling from `first`, at most
/// `longest`, shortened by up to a half, by `chance` of 255, so that a thousand pilots do not come back together.
#[must_use]
pub fn pause(attempt: u32, first: Duration, longest: Duration, chance: u8) -> Duration {
    let Some(doublings) = attempt.checked_sub(1) else {
        return Duration::ZERO;
    };
    let whole = first
        .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX))
        .min(longest);
    whole - whole.mul_f64(f64::from(chance) / 510.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let pause = |attempt, chance| {
            pause(
                attempt,
                Duration::from_millis(500),
                Duration::from_secs(3),
                chance,
            )
            .as_millis()
        };
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 99].map(|n| pause(n, 0)),
            [0, 500, 1000, 2000, 3000, 3000, 3000]
        );
        assert_eq!(pause(2, 255), 500);
    }
}
