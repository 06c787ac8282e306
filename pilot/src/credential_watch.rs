//! Ends a job before its credential ends.
//!
//! A pure timer: it is told the time and says what to do and when to ask again. The end is kept twice, as wall-clock
//! time (what the certificate says) and on the monotonic clock (measured from the moment of verification); the earlier
//! one counts, so neither a clock set back nor a machine that slept lets a job outlive its credential.

use std::time::Duration;

use thiserror::Error;

use crate::job::clock::{Moment, iso_utc};

/// What is known about the credential a job runs on. All of it was verified by the helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchedCredential {
    /// Distinguished name of its end entity.
    pub identity: String,
    /// Unix time in seconds at which the first certificate of its chain ends.
    pub not_after: i64,
}

/// How long before the end things happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchPolicy {
    /// The soft stop comes this long before the end (`SAILPLANE_CREDENTIAL_GRACE`).
    pub grace: Duration,
    /// The kill follows the soft stop after this time, or just before the end of the credential if that is earlier.
    pub vacate: Duration,
}

/// The credential ends too soon for the job to be started at all.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "The proxy of {identity} ends at {} UTC, within {} seconds of now, and a job is stopped {} seconds before its \
     proxy ends; renew the proxy and release the job",
    iso_utc(*.not_after), .left.as_secs(), .grace.as_secs()
)]
pub struct EndsTooSoon {
    /// Distinguished name of its end entity.
    pub identity: String,
    /// Unix time at which it ends.
    pub not_after: i64,
    /// What is left of it.
    pub left: Duration,
    /// The grace it should have had.
    pub grace: Duration,
}

/// What the caller of [`CredentialWatch::poll`] must do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchAction {
    /// Nothing; ask again after this time at the latest.
    Wait(Duration),
    /// Send the soft signal (said once), then ask again at once.
    StopSoftly,
    /// Kill the job (said at every call from then on).
    Kill,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    /// The kill is due at this monotonic time, or at the credential's end.
    Stopping {
        kill_at: Duration,
    },
    Killed,
}

/// The kill comes at least this long before the end, so that nothing runs at the end.
const MARGIN: Duration = Duration::from_secs(1);

/// Wall-clock jumps are noticed at the latest after this time.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The watch over one job's credential.
#[derive(Debug, Clone)]
pub struct CredentialWatch {
    credential: WatchedCredential,
    /// Monotonic time at which the credential ends, reckoned when the watch began.
    monotonic_end: Duration,
    policy: WatchPolicy,
    stage: Stage,
}

impl CredentialWatch {
    /// Begins to watch a credential that was verified at `now`.
    ///
    /// # Errors
    /// [`EndsTooSoon`] when the soft stop would be due at once: such a job must not start.
    pub fn start(
        credential: WatchedCredential,
        policy: WatchPolicy,
        now: Moment,
    ) -> Result<Self, EndsTooSoon> {
        let left = until(credential.not_after, now);
        if left <= policy.grace {
            return Err(EndsTooSoon {
                identity: credential.identity,
                not_after: credential.not_after,
                left,
                grace: policy.grace,
            });
        }
        let monotonic_end = now.monotonic.saturating_add(left);
        Ok(Self {
            credential,
            monotonic_end,
            policy,
            stage: Stage::Running,
        })
    }

    /// What to do at `now`.
    pub fn poll(&mut self, now: Moment) -> WatchAction {
        let left = self.left(now);
        match self.stage {
            Stage::Running => {
                let before_stop = left.saturating_sub(self.policy.grace);
                if before_stop.is_zero() {
                    self.stage = Stage::Stopping {
                        kill_at: now.monotonic.saturating_add(self.policy.vacate),
                    };
                    return WatchAction::StopSoftly;
                }
                WatchAction::Wait(before_stop.min(LONGEST_WAIT))
            }
            Stage::Stopping { kill_at } => {
                let before_kill = kill_at
                    .saturating_sub(now.monotonic)
                    .min(left.saturating_sub(MARGIN));
                if before_kill.is_zero() {
                    self.stage = Stage::Killed;
                    return WatchAction::Kill;
                }
                WatchAction::Wait(before_kill.min(LONGEST_WAIT))
            }
            Stage::Killed => WatchAction::Kill,
        }
    }

    /// A renewed credential of the same identity was verified at `now`. One that ends earlier than the old one counts
    /// too: the job has it, and no other, from now on. A job that was already told to stop is stopped all the same.
    pub fn renew(&mut self, not_after: i64, now: Moment) {
        self.credential.not_after = not_after;
        self.monotonic_end = now.monotonic.saturating_add(until(not_after, now));
    }

    /// The hold reason for a job that this watch stopped.
    #[must_use]
    pub fn hold_reason(&self) -> String {
        format!(
            "The job was stopped because the proxy of {} would end at {} UTC (jobs are stopped {} seconds before \
             their proxy ends); renew the proxy and release the job",
            self.credential.identity,
            iso_utc(self.credential.not_after),
            self.policy.grace.as_secs(),
        )
    }

    fn left(&self, now: Moment) -> Duration {
        until(self.credential.not_after, now).min(self.monotonic_end.saturating_sub(now.monotonic))
    }
}

/// Time from `now` to a Unix time in seconds; zero if it is past.
fn until(unix_seconds: i64, now: Moment) -> Duration {
    u64::try_from(unix_seconds)
        .map_or(Duration::ZERO, Duration::from_secs)
        .saturating_sub(now.since_epoch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_795_000_000;

    fn at(seconds: u64) -> Moment {
        Moment {
            monotonic: Duration::from_secs(1000 + seconds),
            since_epoch: Duration::from_secs(START + seconds),
        }
    }

    fn watch(lifetime: i64, grace: u64, vacate: u64) -> Result<CredentialWatch, EndsTooSoon> {
        CredentialWatch::start(
            WatchedCredential {
                identity: "/DC=test/CN=Alice".to_owned(),
                not_after: i64::try_from(START).unwrap() + lifetime,
            },
            WatchPolicy {
                grace: Duration::from_secs(grace),
                vacate: Duration::from_secs(vacate),
            },
            at(0),
        )
    }

    /// Follows the waits second by second; returns the seconds of the soft stop and of the kill.
    fn run(watch: &mut CredentialWatch, clock: impl Fn(u64) -> Moment) -> (u64, u64) {
        let mut soft = None;
        let mut second = 0;
        loop {
            match watch.poll(clock(second)) {
                WatchAction::Wait(time) => {
                    assert!(!time.is_zero() && time <= LONGEST_WAIT);
                    second += time.as_secs().max(1);
                }
                WatchAction::StopSoftly => {
                    assert!(soft.replace(second).is_none(), "two soft stops")
                }
                WatchAction::Kill => return (soft.unwrap(), second),
            }
        }
    }

    #[test]
    fn soft_stop_comes_the_grace_before_the_end_and_the_kill_after_the_vacate_time() {
        let mut watch = watch(3600, 300, 60).unwrap();
        assert_eq!(run(&mut watch, at), (3300, 3360));
    }

    #[test]
    fn the_kill_comes_before_the_end() {
        let mut watch = watch(100, 10, 600).unwrap();
        assert_eq!(run(&mut watch, at), (90, 99));
    }

    #[test]
    fn a_credential_within_its_grace_never_starts_a_job() {
        let refused = watch(300, 300, 60).unwrap_err();
        let text = refused.to_string();
        assert!(
            text.contains("/DC=test/CN=Alice")
                && text.contains("2026-11-18T")
                && !text.contains('\n'),
            "{text}"
        );
        assert!(watch(301, 300, 60).is_ok());
        assert!(watch(-5, 0, 0).is_err());
    }

    #[test]
    fn a_clock_set_back_does_not_prolong_the_credential() {
        let mut watch = watch(1000, 100, 10).unwrap();
        let back = |second: u64| Moment {
            since_epoch: at(second)
                .since_epoch
                .saturating_sub(Duration::from_secs(86_400)),
            ..at(second)
        };
        assert_eq!(run(&mut watch, back), (900, 910));
    }

    #[test]
    fn a_clock_that_jumps_ahead_stops_the_job_at_the_next_look() {
        let mut watch = watch(100_000, 300, 10).unwrap();
        assert_eq!(watch.poll(at(1)), WatchAction::Wait(LONGEST_WAIT));
        let asleep = Moment {
            since_epoch: Duration::from_secs(START + 99_900),
            ..at(2)
        };
        assert_eq!(watch.poll(asleep), WatchAction::StopSoftly);
    }

    #[test]
    fn the_reason_names_who_and_when_in_one_line() {
        let reason = watch(3600, 300, 60).unwrap().hold_reason();
        assert!(
            reason.contains("the proxy of /DC=test/CN=Alice would end at 2026-11-18T"),
            "{reason}"
        );
        assert!(!reason.contains('\n'));
    }

    #[test]
    fn a_renewed_credential_moves_the_end() {
        let mut renewed = watch(1000, 100, 10).unwrap();
        assert_eq!(
            renewed.poll(at(880)),
            WatchAction::Wait(Duration::from_secs(20))
        );
        renewed.renew(i64::try_from(START).unwrap() + 5000, at(890));
        assert_eq!(renewed.poll(at(900)), WatchAction::Wait(LONGEST_WAIT));
        assert_eq!(
            renewed.poll(at(4899)),
            WatchAction::Wait(Duration::from_secs(1))
        );
        assert_eq!(renewed.poll(at(4900)), WatchAction::StopSoftly);
        assert!(
            renewed
                .hold_reason()
                .contains(&iso_utc(i64::try_from(START).unwrap() + 5000))
        );
    }

    #[test]
    fn a_renewed_credential_may_end_sooner() {
        let mut renewed = watch(1000, 100, 10).unwrap();
        renewed.renew(i64::try_from(START).unwrap() + 150, at(10));
        assert_eq!(renewed.poll(at(50)), WatchAction::StopSoftly);
    }

    #[test]
    fn a_renewal_does_not_unsay_a_stop() {
        let mut renewed = watch(1000, 100, 10).unwrap();
        assert_eq!(renewed.poll(at(900)), WatchAction::StopSoftly);
        renewed.renew(i64::try_from(START).unwrap() + 5000, at(901));
        assert_eq!(renewed.poll(at(910)), WatchAction::Kill);
    }

    proptest! {
        #[test]
        fn whatever_the_figures_the_job_is_gone_by_the_end(
            lifetime in 1_i64..5000, grace in 0_u64..5000, vacate in 0_u64..5000,
        ) {
            if let Ok(mut watch) = watch(lifetime, grace, vacate) {
                let (soft, kill) = run(&mut watch, at);
                let end = u64::try_from(lifetime).unwrap();
                prop_assert_eq!(soft, end - grace);
                prop_assert_eq!(kill, (soft + vacate).min(end - 1).max(soft));
            }
        }
    }
}
