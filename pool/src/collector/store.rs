//! The tables: a plain structure without clock or socket.

use std::collections::BTreeMap;
use std::sync::Arc;

use cedar::{ClaimId, is_private};
use classad::{ClassAd, Expr};

use super::kind::{Key, Kind};
use super::query::holds;
use super::record::{Record, Reservation, Updates};
use super::slot::Slot;

/// How long a slot may stay reserved, in seconds.
const RESERVED: i64 = 60;

/// Attributes that the collector itself gives an ad; a sender's own are overwritten or removed.
const IDENTITY: [&str; 2] = ["AuthenticatedIdentity", "AuthenticationMethod"];

/// Who sent an ad.
#[derive(Debug, Clone, Default)]
pub(super) struct Sender {
    /// Its identity; `None`: the pool itself, or a connection without any security.
    pub(super) user: Option<String>,
    /// HTCondor's name of the method that proved it.
    pub(super) method: Option<&'static str>,
}

/// Why an ad was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the ad lacks what names it (Name, and for some types MyAddress)")]
    Nameless,
    #[error("the ad has no MyType")]
    Typeless,
    #[error("there are {0} ads of this type already, the most that are kept")]
    Full(usize),
    #[error("there is no such ad to be changed")]
    Unknown,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    /// The ad was not there before.
    pub(super) new: bool,
    /// New matches may be possible.
    pub(super) offers_more: bool,
}

type Table = BTreeMap<Key, Record>;

/// All tables.
#[derive(Debug)]
pub(super) struct Store {
    tables: BTreeMap<Kind, Table>,
    lifetime: i64,
    max_ads: usize,
    /// Unix time of the last search for ads whose life is over.
    cleaned: i64,
}

impl Store {
    pub(super) fn new(lifetime: i64, max_ads: usize) -> Self {
        Self {
            tables: BTreeMap::new(),
            lifetime,
            max_ads,
            cleaned: 0,
        }
    }

    /// Takes in an ad. `private` is the private ad that came with it.
    pub(super) fn update(
        &mut self,
        kind: &Kind,
        mut public: ClassAd,
        private: Option<ClassAd>,
        sender: &Sender,
        now: i64,
    ) -> Result<Stored, Refused> {
        self.clean(now);
        let key = kind.key(&public).ok_or(Refused::Nameless)?;
        let table = self.tables.entry(kind.clone()).or_default();
        let before = table.get(&key);
        if before.is_none() && table.len() >= self.max_ads {
            return Err(Refused::Full(self.max_ads));
        }
        let private = take_private(&mut public, private);
        for (name, value) in IDENTITY
            .into_iter()
            .zip([sender.user.as_deref(), sender.method])
        {
            match value {
                Some(value) => public.insert(name, value),
                None => drop(public.remove(name)),
            }
        }
        public.insert("LastHeardFrom", now);
        let mut updates = before.map_or_else(Updates::default, |record| record.updates);
        updates.count(before.map(|record| &*record.public), &public);
        updates.publish(&mut public);
        let lifetime = public.int("ClassAdLifetime").unwrap_or(self.lifetime);
        let mut record = Record {
            public: Arc::new(public),
            private: private.map(Arc::new),
            expires: now.saturating_add(lifetime.max(0)),
            updates,
            reservation: None,
        };
        let stored = Stored {
            new: before.is_none(),
            offers_more: *kind == Kind::Machine && record.offers_more_than(before),
        };
        record.reservation = before.and_then(|before| still_reserved(before, &record, now));
        table.insert(key, record);
        Ok(stored)
    }

    /// Changes attributes of a slot's ad.
    pub(super) fn merge(&mut self, mut changes: ClassAd, now: i64) -> Result<(), Refused> {
        self.clean(now);
        let key = Kind::Machine.key(&changes).ok_or(Refused::Nameless)?;
        let table = self.tables.get_mut(&Kind::Machine);
        let record = table
            .and_then(|table| table.get_mut(&key))
            .ok_or(Refused::Unknown)?;
        for name in ["AuthenticatedIdentity", "MyType", "TargetType"] {
            changes.remove(name);
        }
        if let Some(private) = take_private(&mut changes, None) {
            Arc::make_mut(record.private.get_or_insert_default()).update(&private);
        }
        Arc::make_mut(&mut record.public).update(&changes);
        Ok(())
    }

    /// Removes the ads that an invalidation names, and says how many there were. With what makes a key in it, the one
    /// ad; else all for which its `Requirements` hold.
    pub(super) fn invalidate(&mut self, kind: &Kind, query: &ClassAd, now: i64) -> usize {
        self.clean(now);
        let Some(table) = self.tables.get_mut(kind) else {
            return 0;
        };
        let count = table.len();
        if let Some(key) = kind.key(query) {
            // Without an address in the query the name has to do.
            if table.remove(&key).is_none() && key.host.is_empty() {
                table.retain(|known, _| known.name != key.name);
            }
        } else if let Some(constraint) = query.get("Requirements") {
            table.retain(|_, record| !holds(constraint, &record.public, now));
        }
        count - table.len()
    }

    /// Removes one ad by its name.
    pub(super) fn withdraw(&mut self, kind: &Kind, name: &str) {
        if let Some(table) = self.tables.get_mut(kind) {
            table.retain(|_, record| record.public.string("Name").as_deref() != Some(name));
        }
    }

    /// The records of a table, or of all.
    pub(super) fn records(&mut self, kind: &Kind, now: i64) -> Vec<Record> {
        self.clean(now);
        match kind {
            Kind::Any => self
                .tables
                .values()
                .flat_map(BTreeMap::values)
                .cloned()
                .collect(),
            kind => self
                .tables
                .get(kind)
                .map(|table| table.values().cloned().collect())
                .unwrap_or_default(),
        }
    }

    /// All slots; with `free` only those that the negotiator may give away.
    pub(super) fn slots(&mut self, free: bool, now: i64) -> Vec<Slot> {
        self.clean(now);
        let table = self.tables.get(&Kind::Machine);
        let records = table.into_iter().flatten();
        records
            .filter(|(_, record)| {
                let reserved = record.reservation.as_ref();
                !(free && reserved.is_some_and(|reserved| reserved.until > now))
            })
            .map(|(key, record)| slot(key, record))
            .collect()
    }

    /// A slot by its name.
    pub(super) fn slot(&mut self, name: &str, now: i64) -> Option<Slot> {
        self.clean(now);
        let (key, record) = self.find(name)?;
        Some(slot(key, record))
    }

    fn find(&mut self, name: &str) -> Option<(&Key, &mut Record)> {
        let first = Key {
            name: name.into(),
            host: "".into(),
        };
        let table = self.tables.get_mut(&Kind::Machine)?;
        table
            .range_mut(first..)
            .next()
            .filter(|(key, _)| &*key.name == name)
    }

    pub(super) fn reserve(&mut self, slot: &Slot, now: i64) {
        if let Some((_, record)) = self.find(&slot.name) {
            record.reservation = Some(Reservation {
                claim: slot.claim.as_ref().map(ClaimId::public),
                until: now + RESERVED,
            });
        }
    }

    /// True if the slot was reserved.
    pub(super) fn unreserve(&mut self, name: &str) -> bool {
        let found = self.find(name);
        found.is_some_and(|(_, record)| record.reservation.take().is_some())
    }

    /// True if there is such a slot.
    pub(super) fn replace_claim(
        &mut self,
        name: &str,
        claim: &ClaimId,
        ad: Option<ClassAd>,
    ) -> bool {
        let Some((_, record)) = self.find(name) else {
            return false;
        };
        record.reservation = None;
        Arc::make_mut(record.private.get_or_insert_default()).insert("ClaimId", claim.as_str());
        if let Some(mut ad) = ad {
            take_private(&mut ad, None);
            Arc::make_mut(&mut record.public).update(&ad);
        }
        true
    }

    /// Removes what is too old. Looks at most once per second.
    fn clean(&mut self, now: i64) {
        if self.cleaned == now {
            return;
        }
        self.cleaned = now;
        for (kind, table) in &mut self.tables {
            table.retain(|key, record| {
                let alive = record.expires >= now;
                if !alive {
                    tracing::info!(%kind, name = %key.name, "an ad was not renewed and is removed");
                }
                alive
            });
        }
        self.tables.retain(|_, table| !table.is_empty());
    }
}

fn slot(key: &Key, record: &Record) -> Slot {
    let name = record.public.string("Name");
    Slot {
        name: name.unwrap_or_else(|| key.name.to_string()),
        ad: Arc::clone(&record.public),
        claim: record.claim(),
        child_claims: record.child_claims(),
    }
}

/// Moves private attributes out of the public ad into the private one.
fn take_private(public: &mut ClassAd, private: Option<ClassAd>) -> Option<ClassAd> {
    let names: Vec<String> = public
        .iter()
        .filter(|(name, _)| is_private(name.as_str()))
        .map(|(name, _)| name.to_string())
        .collect();
    let mut moved = ClassAd::new();
    for name in names {
        if let Some(expr) = public.remove(&name) {
            moved.insert(name, expr);
        }
    }
    if let Some(mut private) = private {
        private.update(&moved);
        // What a query for private ads and the negotiator go by.
        for name in ["MyType", "MyAddress", "Name"] {
            if let Some(expr) = public.get(name) {
                private.insert(name, Expr::clone(expr));
            }
        }
        return Some(private);
    }
    (!moved.is_empty()).then_some(moved)
}

/// The reservation that outlives an update: only as long as the slot still shows the claim it was reserved with.
fn still_reserved(before: &Record, after: &Record, now: i64) -> Option<Reservation> {
    let reservation = before.reservation.clone()?;
    let claimed = after.public.string("State").as_deref() == Some("Claimed");
    let same = after.claim().map(|claim| claim.public()) == reservation.claim;
    (same && !claimed && reservation.until > now).then_some(reservation)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
