//! Who used how much, and who is next.
//!
//! HTCondor's arithmetic (`htcondor:src/condor_negotiator.V6/Accountant.cpp`): a user's real priority approaches the
//! weight of the slots in use with a half life of `PRIORITY_HALFLIFE`, and never falls below one half. Times the user's
//! factor it is the effective priority; the smaller, the better. Two users with jobs get slots in inverse proportion.

use std::collections::BTreeMap;

use classad::{ClassAd, Value};

use crate::collector::Slot;

use super::weight::slot_weight;

/// The best real priority there is.
const BEST: f64 = 0.5;

/// A submitter whose usage is below this and that has nothing running is forgotten.
const FORGOTTEN: f64 = 0.01;

/// What is known of a submitter.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// Real priority.
    pub priority: f64,
    /// `PriorityFactor`.
    pub factor: f64,
    /// Slots in use.
    pub slots: i64,
    /// Sum of their weights.
    pub weight: f64,
    /// Weighted seconds of use since the beginning.
    pub usage: f64,
    /// Unix time of the first and the last use.
    pub first: i64,
    /// See [`Account::first`].
    pub last: i64,
}

/// Usage and priorities of the submitters.
#[derive(Debug, Clone)]
pub struct Accountant {
    half_life: f64,
    default_factor: f64,
    accounts: BTreeMap<String, Account>,
    /// Unix time of the last update.
    updated: Option<i64>,
}

impl Accountant {
    /// An accountant that knows nobody. `half_life` is in seconds, `default_factor` for submitters without their own.
    pub fn new(half_life: f64, default_factor: f64) -> Self {
        Self {
            half_life: half_life.max(1.0),
            default_factor: default_factor.max(1.0),
            accounts: BTreeMap::new(),
            updated: None,
        }
    }

    /// Effective priority of a submitter: smaller is better.
    pub fn effective_priority(&self, submitter: &str) -> f64 {
        match self.accounts.get(submitter) {
            Some(account) => account.priority.max(BEST) * account.factor,
            None => BEST * self.default_factor,
        }
    }

    /// All accounts, by submitter.
    pub fn accounts(&self) -> impl Iterator<Item = (&str, &Account)> {
        self.accounts
            .iter()
            .map(|(name, account)| (name.as_str(), account))
    }

    /// Sets a submitter's factor; less than 1 counts as 1.
    pub fn set_factor(&mut self, submitter: &str, factor: f64) {
        self.account(submitter).factor = factor.max(1.0);
    }

    /// Takes account of the time since the last call, with the slots as they are now.
    pub fn update(&mut self, slots: &[Slot], now: i64) {
        let passed = self.updated.map_or(0, |last| (now - last).max(0));
        self.updated = Some(now);
        let passed = seconds(passed);
        let keep = 0.5_f64.powf(passed / self.half_life);
        for account in self.accounts.values_mut() {
            account.usage += account.weight * passed;
            account.priority = account.priority * keep + account.weight * (1.0 - keep);
            if account.slots > 0 {
                account.last = now;
            }
            account.slots = 0;
            account.weight = 0.0;
        }
        for slot in slots {
            if let Some(user) = charged(&slot.ad) {
                let weight = slot_weight(&slot.ad, now);
                let account = self.account(&user);
                account.slots += 1;
                account.weight += weight;
                if account.first == 0 {
                    account.first = now;
                }
                account.last = now;
            }
        }
        let default = self.default_factor;
        self.accounts.retain(|_, account| {
            account.slots > 0
                || account.priority > BEST
                || account.usage > FORGOTTEN
                || (account.factor - default).abs() > f64::EPSILON
        });
    }

    fn account(&mut self, submitter: &str) -> &mut Account {
        let factor = self.default_factor;
        self.accounts
            .entry(submitter.to_owned())
            .or_insert_with(|| Account {
                priority: BEST,
                factor,
                slots: 0,
                weight: 0.0,
                usage: 0.0,
                first: 0,
                last: 0,
            })
    }

    /// Everything in one ad, to be kept over restarts.
    pub fn save(&self) -> ClassAd {
        let mut all = ClassAd::new();
        if let Some(updated) = self.updated {
            all.insert("LastUpdate", updated);
        }
        let accounts = self.accounts.iter().map(|(name, account)| {
            let mut ad = ClassAd::new();
            ad.insert("Name", name.as_str());
            ad.insert("Priority", account.priority);
            ad.insert("PriorityFactor", account.factor);
            ad.insert("WeightedAccumulatedUsage", account.usage);
            ad.insert("BeginUsageTime", account.first);
            ad.insert("LastUsageTime", account.last);
            Value::ClassAd(Box::new(ad))
        });
        all.insert("Accounts", Value::List(accounts.collect()));
        all
    }

    /// Takes up what [`save`](Self::save) gave. What was used meanwhile is not known and not charged; the time counts for
    /// the half life.
    pub fn restore(&mut self, saved: &ClassAd) {
        self.updated = saved.int("LastUpdate");
        let list = saved.eval("Accounts");
        for ad in list.as_list().unwrap_or_default() {
            let Some(ad) = ad.as_ad() else { continue };
            let Some(name) = ad.string("Name") else {
                continue;
            };
            let number = |name: &str| ad.real(name).filter(|number| number.is_finite());
            let account = self.account(&name);
            account.priority = number("Priority").unwrap_or(BEST).max(0.0);
            account.factor = number("PriorityFactor").unwrap_or(account.factor).max(1.0);
            account.usage = number("WeightedAccumulatedUsage").unwrap_or(0.0).max(0.0);
            account.first = ad.int("BeginUsageTime").unwrap_or(0);
            account.last = ad.int("LastUsageTime").unwrap_or(0);
        }
    }
}

/// Who pays for a slot: whoever claims it.
fn charged(ad: &ClassAd) -> Option<String> {
    if !matches!(
        ad.string("State").as_deref(),
        Some("Claimed" | "Preempting")
    ) {
        return None;
    }
    ad.string("AccountingGroup")
        .or_else(|| ad.string("RemoteUser"))
        .or_else(|| ad.string("RemoteOwner"))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "spans of time are far below 2^53 seconds"
)]
pub(super) fn seconds(count: i64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn claimed(name: &str, user: &str, cpus: i64) -> Slot {
        let mut ad = ClassAd::new();
        ad.insert("State", "Claimed");
        ad.insert("RemoteUser", user);
        ad.insert("Cpus", cpus);
        ad.insert_expr("SlotWeight", "Cpus").unwrap();
        Slot {
            name: name.to_owned(),
            ad: Arc::new(ad),
            claim: None,
            child_claims: Vec::new(),
        }
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    #[test]
    fn priority_goes_half_the_way_in_one_half_life() {
        let mut accountant = Accountant::new(1000.0, 1000.0);
        assert!(near(accountant.effective_priority("a@x"), 500.0));
        let slots = [claimed("s1", "a@x", 6), claimed("s2", "a@x", 4)];
        accountant.update(&slots, 5000);
        accountant.update(&slots, 6000);
        // half of 0.5 and half of the weight 10
        assert!(near(accountant.effective_priority("a@x"), 5250.0));
        accountant.update(&[], 7000);
        accountant.update(&[], 8000);
        let (_, account) = accountant.accounts().next().unwrap();
        assert!(near(account.priority, 3.8125));
        assert!(near(account.usage, 20_000.0));
        assert_eq!(
            (account.first, account.last, account.slots),
            (5000, 7000, 0)
        );
    }

    #[test]
    fn accounts_survive_a_restart_and_nonsense_does_no_harm() {
        let mut accountant = Accountant::new(1000.0, 1000.0);
        let slots = [claimed("s", "a@x", 8)];
        accountant.update(&slots, 100);
        accountant.update(&slots, 1100);
        accountant.set_factor("b@x", 20.0);
        let saved = ClassAd::parse_old(&accountant.save().to_old()).unwrap();
        let mut other = Accountant::new(1000.0, 1000.0);
        other.restore(&saved);
        for name in ["a@x", "b@x", "c@x"] {
            assert!(near(
                other.effective_priority(name),
                accountant.effective_priority(name)
            ));
        }
        let nonsense = "Accounts = { 1, [ Name = 7 ], [ Name = \"z\"; Priority = -5 ] }";
        other.restore(&ClassAd::parse_old(nonsense).unwrap());
        assert!(near(other.effective_priority("z"), 500.0));
    }
}
