//! Ends a job before its credential ends.
//!
//! A pure timer: it is told the time and says what to do and when to ask again. When the helper has verified the
//! credential, its end is reckoned once on a clock that nobody can set and that goes on while the machine sleeps; from
//! then on only that clock counts. So a clock set back does not let a job outlive its credential, and one set forth
//! does not end a job whose credential is good. The helper counts in the same way.

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
    /// The submit side is told this long before the end that the job will be stopped.
    pub notice: Duration,
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
    /// Tell the submit side what is to come (said once for each credential), then ask again at once.
    Tell,
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

/// Whoever waits may do so on a clock that stops while the machine sleeps: at the latest after this time awake the end
/// is seen.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The watch over one job's credential.
#[derive(Debug, Clone)]
pub struct CredentialWatch {
    credential: WatchedCredential,
    /// When the credential ends, on [`Moment::monotonic`].
    end: Duration,
    policy: WatchPolicy,
    is_told: bool,
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
        Ok(Self {
            credential,
            end: now.monotonic.saturating_add(left),
            policy,
            is_told: false,
            stage: Stage::Running,
        })
    }

    /// What to do at `now`.
    pub fn poll(&mut self, now: Moment) -> WatchAction {
        let left = self.end.saturating_sub(now.monotonic);
        match self.stage {
            Stage::Running => {
                let before_stop = left.saturating_sub(self.policy.grace);
                if before_stop.is_zero() {
                    self.stage = Stage::Stopping {
                        kill_at: now.monotonic.saturating_add(self.policy.vacate),
                    };
                    return WatchAction::StopSoftly;
                }
                let before_notice = left.saturating_sub(self.policy.notice);
                if self.is_told {
                    WatchAction::Wait(before_stop.min(LONGEST_WAIT))
                } else if before_notice.is_zero() {
                    self.is_told = true;
                    WatchAction::Tell
                } else {
                    WatchAction::Wait(before_stop.min(before_notice).min(LONGEST_WAIT))
                }
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
        self.end = now.monotonic.saturating_add(until(not_after, now));
        self.is_told = false;
    }

    /// Unix time in seconds at which the credential ends.
    #[must_use]
    pub const fn not_after(&self) -> i64 {
        self.credential.not_after
    }

    /// Nobody could be told: it is to be tried again.
    pub const fn put_off_telling(&mut self) {
        self.is_told = false;
    }

    /// What the submit side is told ahead of time.
    #[must_use]
    pub fn notice(&self) -> String {
        let grace = i64::try_from(self.policy.grace.as_secs()).unwrap_or(i64::MAX);
        format!(
            "The credential of {} ends at {} UTC. The job will be stopped and held at {} UTC unless a renewed credential \
             of the same owner arrives before",
            self.credential.identity,
            iso_utc(self.credential.not_after),
            iso_utc(self.credential.not_after.saturating_sub(grace)),
        )
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
                notice: Duration::ZERO,
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
                WatchAction::Tell => panic!("told without being asked to"),
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
    fn a_clock_that_is_set_changes_nothing() {
        const DAY: u64 = 86_400;
        let steps: [fn(Duration, u64) -> Duration; 4] = [
            |right, _| right.saturating_sub(Duration::from_secs(DAY)),
            |right, _| right + Duration::from_secs(DAY),
            |_, _| Duration::ZERO,
            // Forth and back all the time.
            |right, second| right + Duration::from_secs(second % 2 * DAY),
        ];
        for step in steps {
            let mut watch = watch(1000, 100, 10).unwrap();
            let clock = |second: u64| Moment {
                since_epoch: step(at(second).since_epoch, second),
                ..at(second)
            };
            assert_eq!(run(&mut watch, clock), (900, 910));
        }
    }

    #[test]
    fn a_machine_that_slept_over_the_end_stops_the_job_at_the_first_look() {
        let mut watch = watch(100_000, 300, 10).unwrap();
        assert_eq!(watch.poll(at(1)), WatchAction::Wait(LONGEST_WAIT));
        assert_eq!(watch.poll(at(200_000)), WatchAction::StopSoftly);
        assert_eq!(watch.poll(at(200_000)), WatchAction::Kill);
    }

    #[test]
    fn the_submit_side_is_told_once_for_each_credential() {
        let mut watch = watch(1000, 100, 10).unwrap();
        watch.policy.notice = Duration::from_secs(300);
        assert_eq!(
            watch.poll(at(699)),
            WatchAction::Wait(Duration::from_secs(1))
        );
        assert_eq!(watch.poll(at(700)), WatchAction::Tell);
        let notice = watch.notice();
        let end = i64::try_from(START).unwrap() + 1000;
        assert!(
            notice.contains(&iso_utc(end)) && notice.contains(&iso_utc(end - 100)),
            "{notice}"
        );
        assert_eq!(watch.poll(at(701)), WatchAction::Wait(LONGEST_WAIT));
        watch.renew(end + 500, at(800));
        assert_eq!(
            watch.poll(at(1199)),
            WatchAction::Wait(Duration::from_secs(1))
        );
        assert_eq!(watch.poll(at(1200)), WatchAction::Tell);
        assert_eq!(watch.poll(at(1400)), WatchAction::StopSoftly);
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
            renewed.poll(at(898)),
            WatchAction::Wait(Duration::from_secs(2))
        );
        renewed.renew(i64::try_from(START).unwrap() + 5000, at(899));
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
