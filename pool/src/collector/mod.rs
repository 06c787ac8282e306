//! The collector: what is known of the pool's daemons and slots, as ads with a limited life.
//!
//! `store` holds the tables and knows neither clock nor socket; `query` says which ads an answer has; `serve` is
//! the wire. Ads are shared, never copied: a query takes a snapshot of pointers and is answered from it piece by piece,
//! so that neither a large answer nor a slow reader keeps updates waiting.

mod config;
#[doc(hidden)]
pub mod fuzzing;
mod kind;
mod lines;
mod own;
mod query;
mod record;
mod serve;
mod slot;
mod store;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cedar::security::Level;
use cedar::security::server::CommandRule;
use classad::{ClassAd, Expr};
use tokio::sync::Notify;

pub use self::config::CollectorConfig;
pub use self::kind::Kind;
pub use self::slot::Slot;

use self::kind::Action;
use self::lines::Lines;
use self::own::Census;
use self::query::{holds, project};
use self::record::{Record, Updates};
use self::store::{Refused, Sender, Store};

/// The collector. Clones share everything.
#[derive(Debug, Clone)]
pub struct Collector {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: CollectorConfig,
    started: i64,
    store: Mutex<Store>,
    lines: Mutex<Lines>,
    changed: Arc<Notify>,
}

impl Collector {
    /// An empty collector.
    pub fn new(config: CollectorConfig) -> Self {
        let lifetime = i64::try_from(config.lifetime.as_secs()).unwrap_or(i64::MAX);
        let inner = Inner {
            started: unix_now(),
            store: Mutex::new(Store::new(lifetime, config.max_ads)),
            lines: Mutex::default(),
            changed: Arc::default(),
            config,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The commands served here, and the level each needs.
    pub fn commands() -> Vec<(i32, CommandRule)> {
        kind::actions()
            .into_iter()
            .map(|(number, action, level)| {
                let rule = CommandRule::new(level);
                // Administrators may look at everything, as the negotiator may.
                let secret = matches!(action, Action::QueryPrivate | Action::QueryMultiple(true));
                (
                    number,
                    if secret {
                        rule.or(Level::Administrator)
                    } else {
                        rule
                    },
                )
            })
            .collect()
    }

    /// Takes in an ad of the pool's own, as if it had been sent; `MyType` decides the table. It has to be renewed like
    /// any other.
    pub fn advertise(&self, ad: ClassAd) {
        let my_type = ad.string("MyType").unwrap_or_default();
        let kind = Kind::from_type(&my_type);
        if let Err(error) = self.store_update(&kind, ad, None, &Sender::default()) {
            tracing::error!(my_type, "the pool's own ad was not taken: {error}");
        }
    }

    /// Takes back an ad of the pool's own.
    pub fn withdraw(&self, kind: &Kind, name: &str) {
        self.with_store(|store, _| store.withdraw(kind, name));
    }

    /// All slots, with their claim ids.
    pub fn slots(&self) -> Vec<Slot> {
        self.with_store(|store, now| store.slots(false, now))
    }

    /// The slots that no match was made for since they said that they are free.
    pub fn unreserved_slots(&self) -> Vec<Slot> {
        self.with_store(|store, now| store.slots(true, now))
    }

    /// One slot by its `Name`.
    pub fn slot(&self, name: &str) -> Option<Slot> {
        self.with_store(|store, now| store.slot(name, now))
    }

    /// Ads of a kind that fulfil the constraint, without private attributes, cut to the projection (empty: whole).
    pub fn query(
        &self,
        kind: &Kind,
        constraint: Option<&Expr>,
        projection: &[String],
        limit: Option<usize>,
    ) -> Vec<Arc<ClassAd>> {
        let now = unix_now();
        self.records_for(kind)
            .into_iter()
            .map(|record| record.public)
            .filter(|ad| constraint.is_none_or(|constraint| holds(constraint, ad, now)))
            .take(limit.unwrap_or(usize::MAX))
            .map(|ad| match projection {
                [] => ad,
                names => Arc::new(project(&ad, names)),
            })
            .collect()
    }

    /// Told of whatever may make new matches possible: a slot came, was freed, or has another claim id.
    pub fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.inner.changed)
    }

    /// What is left of a partitionable slot after a claim on a part of it: the id by which it can be claimed next, and
    /// its ad, as the startd handed them to the schedd. Ends the slot's reservation.
    pub fn replace_claim(&self, slot: &str, claim: &cedar::ClaimId, ad: Option<ClassAd>) {
        if self.with_store(|store, _| store.replace_claim(slot, claim, ad)) {
            self.announce_change();
        }
    }

    /// Keeps a slot away from the negotiator while the schedd claims it: until its ad says that it is claimed or has
    /// another claim id, [`replace_claim`](Self::replace_claim), [`unreserve`](Self::unreserve), or a minute is over.
    pub fn reserve(&self, slot: &Slot) {
        self.with_store(|store, now| store.reserve(slot, now));
    }

    /// Ends a reservation: the claim was refused, or could not be asked for.
    pub fn unreserve(&self, slot: &str) {
        if self.with_store(|store, _| store.unreserve(slot)) {
            self.announce_change();
        }
    }

    fn announce_change(&self) {
        self.inner.changed.notify_one();
    }

    fn merge(&self, changes: ClassAd) -> Result<(), Refused> {
        self.with_store(|store, now| store.merge(changes, now))?;
        self.announce_change();
        Ok(())
    }

    fn invalidate(&self, kind: &Kind, query: &ClassAd) -> usize {
        self.with_store(|store, now| store.invalidate(kind, query, now))
    }

    fn records_for(&self, kind: &Kind) -> Vec<Record> {
        let mut records = self.with_store(|store, now| store.records(kind, now));
        if matches!(kind, Kind::Collector | Kind::Any) {
            records.push(self.own_record());
        }
        records
    }

    fn own_record(&self) -> Record {
        let now = unix_now();
        let submitters: Vec<ClassAd> = self
            .with_store(|store, now| store.records(&Kind::Submitter, now))
            .iter()
            .map(|record| (*record.public).clone())
            .collect();
        let census = Census::of(&self.slots(), &submitters);
        let ad = own::ad(&self.inner.config, self.inner.started, now, census);
        Record {
            public: Arc::new(ad),
            private: None,
            expires: i64::MAX,
            updates: Updates::default(),
            reservation: None,
        }
    }

    /// Longest time between two messages on a connection that stays open.
    fn longest_silence(&self) -> Duration {
        self.inner.config.lifetime.max(Duration::from_secs(900)) + Duration::from_secs(60)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        // A reader that panicked leaves at worst a line less in the memory.
        let lock = self.inner.lines.lock();
        lock.unwrap_or_else(PoisonError::into_inner)
    }

    fn with_store<T>(&self, work: impl FnOnce(&mut Store, i64) -> T) -> T {
        let lock = self.inner.store.lock();
        let mut store = lock.unwrap_or_else(PoisonError::into_inner);
        work(&mut store, unix_now())
    }
}

/// Unix time.
fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
