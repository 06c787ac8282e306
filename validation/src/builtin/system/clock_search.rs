//! How far a clock is off that can only be asked whether it is between two times: a collector tells nobody its time, but
//! it evaluates `time()` in the requirements of a query.
//!
//! Pure: questions come out, answers go in. A right clock costs one question, a wrong one about twenty.

/// A difference that is as good as any larger one, seconds: more than ten thousand years.
const FAR: i64 = 1 << 40;

/// Is their clock minus ours within these bounds, seconds? Without a bound, any difference will do there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    /// The least.
    pub(super) from: Option<i64>,
    /// The most.
    pub(super) to: Option<i64>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// No more than is tolerated.
    Right,
    /// Ours is so far ahead of theirs, seconds; behind it if below zero.
    Ahead(i64),
    /// Nothing is true of their clock: there was nobody to read it.
    Mute,
}

/// What is asked next, or what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask this.
    Ask(Question),
    /// The end.
    Found(Found),
}

#[derive(Debug, Clone, Copy)]
enum State {
    Right,
    Ahead,
    Behind,
    /// The difference is at least `low`; whether it is at least `high` is asked.
    Gallop {
        is_ahead: bool,
        low: i64,
        high: i64,
    },
    /// It is at least `low` and less than `high`.
    Halve {
        is_ahead: bool,
        low: i64,
        high: i64,
    },
    Over(Found),
}

/// A search that may be anywhere between its beginning and its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    tolerated: i64,
    state: State,
}

impl Search {
    /// A search for a difference of more than `tolerated` seconds.
    pub(super) fn new(tolerated: u64) -> Self {
        Self {
            tolerated: i64::try_from(tolerated).unwrap_or(FAR).min(FAR),
            state: State::Right,
        }
    }

    /// What is to be asked.
    pub(super) fn next(&self) -> Next {
        let beyond = |is_ahead: bool, distance: i64| Question {
            from: (!is_ahead).then_some(distance),
            to: is_ahead.then_some(-distance),
        };
        Next::Ask(match self.state {
            State::Right => Question {
                from: Some(-self.tolerated),
                to: Some(self.tolerated),
            },
            State::Ahead => beyond(true, 1),
            State::Behind => beyond(false, 0),
            State::Gallop { is_ahead, high, .. } => beyond(is_ahead, high),
            State::Halve {
                is_ahead,
                low,
                high,
            } => beyond(is_ahead, middle(low, high)),
            State::Over(found) => return Next::Found(found),
        })
    }

    /// Whether what was asked is so.
    pub(super) fn answer(&mut self, yes: bool) {
        let gallop = |is_ahead, low: i64| {
            if low >= FAR {
                State::Over(found(is_ahead, low))
            } else {
                State::Gallop {
                    is_ahead,
                    low,
                    high: low.saturating_mul(2).clamp(1, FAR),
                }
            }
        };
        let halve = |is_ahead, low: i64, high: i64| {
            // Nobody cares for the seconds of an hour.
            if high - low <= 1.max(low / 100) {
                State::Over(found(is_ahead, low))
            } else {
                State::Halve {
                    is_ahead,
                    low,
                    high,
                }
            }
        };
        self.state = match (self.state, yes) {
            (State::Right, true) => State::Over(Found::Right),
            (State::Right, false) => State::Ahead,
            (State::Ahead, true) => gallop(true, self.tolerated),
            (State::Ahead, false) => State::Behind,
            (State::Behind, true) => gallop(false, self.tolerated),
            (State::Behind, false) => State::Over(Found::Mute),
            (State::Gallop { is_ahead, high, .. }, true) => gallop(is_ahead, high),
            (
                State::Gallop {
                    is_ahead,
                    low,
                    high,
                },
                false,
            ) => halve(is_ahead, low, high),
            (
                State::Halve {
                    is_ahead,
                    low,
                    high,
                },
                true,
            ) => halve(is_ahead, middle(low, high), high),
            (
                State::Halve {
                    is_ahead,
                    low,
                    high,
                },
                false,
            ) => halve(is_ahead, low, middle(low, high)),
            (over @ State::Over(_), _) => over,
        };
    }
}

const fn middle(low: i64, high: i64) -> i64 {
    low + (high - low) / 2
}

const fn found(is_ahead: bool, distance: i64) -> Found {
    Found::Ahead(if is_ahead { distance } else { -distance })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches for a known difference; how many questions it took.
    fn search(theirs_minus_ours: i64, tolerated: u64) -> (Found, usize) {
        let mut search = Search::new(tolerated);
        for count in 0..200 {
            match search.next() {
                Next::Found(found) => return (found, count),
                Next::Ask(question) => search.answer(
                    question.from.is_none_or(|from| from <= theirs_minus_ours)
                        && question.to.is_none_or(|to| theirs_minus_ours <= to),
                ),
            }
        }
        panic!("no end for {theirs_minus_ours}");
    }

    #[test]
    fn a_right_clock_costs_one_question() {
        for difference in [0, 60, -60] {
            assert_eq!(search(difference, 60), (Found::Right, 1));
        }
    }

    #[test]
    fn a_wrong_clock_is_measured_to_a_hundredth() {
        for tolerated in [0, 1, 60, 3600] {
            for off in [1, 2, 61, 3599, 3601, 86_400, 1_700_000_000, i64::MAX / 4] {
                if off <= i64::try_from(tolerated).unwrap() {
                    continue;
                }
                for sign in [1, -1] {
                    let (found, count) = search(sign * off, tolerated);
                    let Found::Ahead(ahead) = found else {
                        panic!("{off}: {found:?}");
                    };
                    let truth = off.min(FAR);
                    assert!(
                        (ahead * -sign - truth).abs() <= 1 + truth / 100,
                        "{off} {sign} {tolerated}: {ahead}"
                    );
                    assert!(count < 60, "{count}");
                }
            }
        }
    }

    #[test]
    fn nobody_who_answers_is_no_wrong_clock() {
        let mut search = Search::new(60);
        let mut count = 0;
        while let Next::Ask(_) = search.next() {
            search.answer(false);
            count += 1;
        }
        assert_eq!((search.next(), count), (Next::Found(Found::Mute), 3));
    }
}
