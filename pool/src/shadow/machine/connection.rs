//! The connection to the starter: lost, and found again.

use classad::{ClassAd, Expr, Value};

use super::{Lost, Machine, Phase};
use crate::queue::RunOutcome;
use crate::shadow::exit::vacate;
use crate::user_log::Event;

impl Machine {
    /// The connection broke, for the reason that is to stand in the job's log.
    pub fn lost(&mut self, why: &str, now: i64) -> (Lost, Vec<Event>) {
        let until = self
            .lease
            .map(|lease| self.last_contact.saturating_add(lease));
        match until {
            Some(until) if self.starter.reconnects => {
                self.silent_until = None;
                let event = Event::Disconnected {
                    reason: why.to_owned(),
                    startd_name: self.place.slot.clone(),
                    startd: self.place.startd.clone(),
                };
                (Lost::Reconnect { until }, vec![event])
            }
            _ => {
                self.phase = Phase::Over;
                let starter = self
                    .starter
                    .address
                    .as_deref()
                    .unwrap_or(&self.place.startd);
                let reason = format!("Can no longer talk to condor_starter {starter}");
                let event = Event::ShadowException {
                    message: reason.clone(),
                    sent: self.sent,
                    received: self.received,
                };
                let ad = self.final_ad(ClassAd::new(), now);
                let outcome = match self.wish {
                    Some(_) => self.stopped((None, None), ad, now),
                    None => self.evicted(reason, vacate::SHADOW_EXCEPTION, ad, now),
                };
                (Lost::Over(outcome), vec![event])
            }
        }
    }

    /// Attributes of the job while it is not connected.
    pub fn reconnecting(&mut self, attempt: i64) -> ClassAd {
        self.counts.reconnect_attempts += 1;
        let mut changes = ClassAd::new();
        changes.insert("JobCurrentReconnectAttempt", attempt);
        changes.insert("TotalJobReconnectAttempts", self.counts.reconnect_attempts);
        changes
    }

    /// The starter was found again and said `info` about itself.
    pub fn reconnected(&mut self, info: &ClassAd, now: i64) -> (ClassAd, Event) {
        self.starter_info(info);
        self.last_contact = now;
        self.counts.reconnects += 1;
        let mut changes = ClassAd::new();
        changes.insert("NumJobReconnects", self.counts.reconnects);
        changes.insert("LastJobLeaseRenewal", now);
        changes.insert("JobDisconnectedDate", Expr::literal(Value::Undefined));
        changes.insert(
            "JobCurrentReconnectAttempt",
            Expr::literal(Value::Undefined),
        );
        let event = Event::Reconnected {
            startd_name: self.place.slot.clone(),
            startd: self.place.startd.clone(),
            starter: self.starter.address.clone().unwrap_or_default(),
        };
        (changes, event)
    }

    /// The starter was not found again.
    pub fn reconnect_failed(&mut self, reason: &str, now: i64) -> (RunOutcome, Event) {
        self.phase = Phase::Over;
        let event = Event::ReconnectFailed {
            reason: reason.to_owned(),
            startd_name: self.place.slot.clone(),
        };
        let outcome = if self.wish.is_some() {
            let ad = self.final_ad(ClassAd::new(), now);
            self.stopped((None, None), ad, now)
        } else {
            RunOutcome::ReconnectFailed {
                reason: reason.to_owned(),
            }
        };
        (outcome, event)
    }
}
