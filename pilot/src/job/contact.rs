//! How long a job outlives the connection to its shadow (protocol page 03, section 8). Pure: times come in as values of
//! a monotonic clock.
//!
//! Only a job that runs, or has run, and whose submit side asked for it (`JobLeaseDuration`) may outlive it. The lease
//! counts from the last sign of life, not from the moment the loss was noticed.

use std::time::Duration;

/// Time on a monotonic clock.
type Time = Duration;

/// How often an output transfer is begun again with a shadow that has come back (the real starter's figure).
pub(super) const OUTPUT_LOSSES: u32 = 5;

/// The state of the contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connected,
    /// Until when a shadow may come back.
    Lost(Time),
    /// None will be heard any more.
    Over,
}

/// The contact with the shadows of one job, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Contact {
    /// `JobLeaseDuration`; `None` until the job may outlive a connection.
    lease: Option<Duration>,
    heard: Time,
    state: State,
    output_losses: u32,
}

impl Contact {
    /// A connection is there.
    pub(super) const fn new(now: Time) -> Self {
        Self {
            lease: None,
            heard: now,
            state: State::Connected,
            output_losses: 0,
        }
    }

    /// From now on the job may outlive its connection; without a lease it may not.
    pub(super) const fn outlive(&mut self, lease: Option<Duration>) {
        self.lease = lease;
    }

    /// The lease, if the job may outlive its connection.
    pub(super) const fn lease(&self) -> Option<Duration> {
        self.lease
    }

    /// The shadow gave a sign of life.
    pub(super) const fn heard(&mut self, now: Time) {
        self.heard = now;
    }

    /// The connection is gone. True if a shadow may still come back.
    pub(super) fn broke(&mut self, now: Time) -> bool {
        if self.state == State::Connected {
            self.state = match self.lease {
                Some(lease) => State::Lost(self.heard.saturating_add(lease)),
                None => State::Over,
            };
        }
        self.tick(now);
        matches!(self.state, State::Lost(_))
    }

    /// A shadow has come back. False: too late, it must be sent away.
    pub(super) fn back(&mut self, now: Time) -> bool {
        self.tick(now);
        if self.state == State::Over {
            return false;
        }
        self.state = State::Connected;
        self.heard = now;
        true
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Time) {
        if let State::Lost(until) = self.state
            && until <= now
        {
            self.state = State::Over;
        }
    }

    /// When [`Self::tick`] is due.
    pub(super) const fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Lost(until) => Some(until),
            State::Connected | State::Over => None,
        }
    }

    /// Nobody will come any more.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// An output transfer was lost. True if it may be begun again, with the next shadow.
    pub(super) const fn output_lost(&mut self) -> bool {
        self.output_losses += 1;
        self.lease.is_some() && self.output_losses <= OUTPUT_LOSSES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn at(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    fn running(lease: u64) -> Contact {
        let mut contact = Contact::new(at(0));
        contact.outlive(Some(at(lease)));
        contact
    }

    #[test]
    fn before_it_runs_a_job_does_not_outlive_its_shadow() {
        let mut contact = Contact::new(at(0));
        assert!(!contact.broke(at(1)));
        assert!(contact.is_over() && contact.deadline().is_none());
        assert!(!contact.back(at(2)));
    }

    #[test]
    fn without_a_lease_neither() {
        let mut contact = Contact::new(at(0));
        contact.outlive(None);
        assert!(!contact.broke(at(1)));
    }

    #[test]
    fn the_lease_counts_from_the_last_sign_of_life() {
        let mut contact = running(100);
        contact.heard(at(50));
        assert!(contact.broke(at(120)));
        assert_eq!(contact.deadline(), Some(at(150)));
        contact.tick(at(149));
        assert!(!contact.is_over());
        contact.tick(at(150));
        assert!(contact.is_over());
    }

    #[test]
    fn a_loss_that_is_noticed_too_late_is_the_end() {
        let mut contact = running(100);
        assert!(!contact.broke(at(100)));
        assert!(contact.is_over());
    }

    #[test]
    fn a_shadow_that_comes_back_begins_a_new_lease() {
        let mut contact = running(100);
        assert!(contact.broke(at(10)));
        assert!(contact.back(at(90)));
        assert_eq!(contact.deadline(), None);
        assert!(contact.broke(at(95)));
        assert_eq!(contact.deadline(), Some(at(190)));
    }

    #[test]
    fn one_may_come_back_whose_loss_was_not_noticed() {
        let mut contact = running(100);
        assert!(contact.back(at(500)));
        assert!(contact.broke(at(510)));
        assert_eq!(contact.deadline(), Some(at(600)));
    }

    #[test]
    fn output_is_not_begun_again_for_ever() {
        let mut contact = running(100);
        let begun = (0..20).filter(|_| contact.output_lost()).count();
        assert_eq!(begun, 5);
        assert!(!Contact::new(at(0)).output_lost());
    }

    proptest! {
        /// Whatever happens: never later than the lease after the last sign of life, and never back from the end.
        #[test]
        fn nobody_waits_longer_than_the_lease(
            lease in 1_u64..100, steps in prop::collection::vec((0_u8..4, 0_u64..60), 1..60),
        ) {
            let mut contact = running(lease);
            let (mut now, mut heard, mut connected, mut over) = (0, 0, true, false);
            for (what, pause) in steps {
                now += pause;
                match what {
                    0 if connected => {
                        contact.heard(at(now));
                        heard = now;
                    }
                    1 => {
                        let waits = contact.broke(at(now));
                        connected = false;
                        prop_assert_eq!(waits, !over && now < heard + lease);
                        over |= !waits;
                    }
                    2 => {
                        let expired = over || (!connected && now >= heard + lease);
                        prop_assert_eq!(contact.back(at(now)), !expired);
                        over = expired;
                        if !expired {
                            connected = true;
                            heard = now;
                        }
                    }
                    _ => {
                        contact.tick(at(now));
                        over |= !connected && now >= heard + lease;
                    }
                }
                prop_assert_eq!(contact.is_over(), over);
            }
        }
    }
}
