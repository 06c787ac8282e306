//! When the pilot's time ends: `SAILPLANE_MAX_LIFETIME`, and the end of its own credential, without which it could not
//! speak to the pool any more.

use std::time::Duration;

use crate::advertise::live::{EndOfLife, LifeLimit};

/// Left between the last possible end of a job and the end of everything, for output, farewells and clean-up.
const MARGIN: Duration = Duration::from_secs(60);

/// What a retiring job is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promises {
    /// Time to run on.
    pub retirement: Duration,
    /// Time between the soft and the hard kill.
    pub vacate: Duration,
}

/// The end, if there is one. Jobs are taken until what is promised to them just fits before it; of a lifetime that is
/// shorter than the promises half is used for taking jobs.
#[must_use]
pub fn end_of_life(
    started: i64,
    limits: &[(LifeLimit, Option<i64>)],
    promises: Promises,
) -> Option<EndOfLife> {
    let (die, limit) = limits
        .iter()
        .filter_map(|&(limit, end)| Some((end?, limit)))
        .min()?;
    let whole = die.saturating_sub(started).max(0);
    let wish = promises
        .retirement
        .saturating_add(promises.vacate)
        .saturating_add(MARGIN);
    let wish = i64::try_from(wish.as_secs()).unwrap_or(i64::MAX);
    Some(EndOfLife {
        retire: die.saturating_sub(wish.min(whole / 2)),
        die,
        limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMISES: Promises = Promises {
        retirement: Duration::from_secs(1000),
        vacate: Duration::from_secs(140),
    };

    #[test]
    fn no_limit_is_no_end() {
        assert_eq!(
            end_of_life(
                0,
                &[(LifeLimit::Lifetime, None), (LifeLimit::Credential, None)],
                PROMISES
            ),
            None
        );
    }

    #[test]
    fn the_earliest_limit_counts_and_promises_fit_before_it() {
        let end = end_of_life(
            0,
            &[
                (LifeLimit::Lifetime, Some(50_000)),
                (LifeLimit::Credential, Some(10_000)),
            ],
            PROMISES,
        );
        assert_eq!(
            end,
            Some(EndOfLife {
                retire: 8800,
                die: 10_000,
                limit: LifeLimit::Credential,
            })
        );
    }

    #[test]
    fn a_short_life_still_takes_jobs_for_half_of_it() {
        let end = end_of_life(
            100,
            &[
                (LifeLimit::Lifetime, Some(700)),
                (LifeLimit::Credential, None),
            ],
            PROMISES,
        );
        assert_eq!(
            end,
            Some(EndOfLife {
                retire: 400,
                die: 700,
                limit: LifeLimit::Lifetime,
            })
        );
    }
}
