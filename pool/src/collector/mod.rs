//! The collector: what is known of the pool's daemons and slots, as ads with a limited life.

mod config;
mod slot;

use std::sync::Arc;

use cedar::net::Incoming;
use cedar::security::server::CommandRule;
use classad::{ClassAd, Expr};
use tokio::sync::Notify;

pub use self::config::CollectorConfig;
pub use self::slot::Slot;

/// The collector. Clones share everything.
#[derive(Debug, Clone)]
pub struct Collector {}

/// The tables of a collector; each holds the ads of one kind of daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `Machine`: slots.
    Machine,
    /// `Scheduler`.
    Scheduler,
    /// `Submitter`.
    Submitter,
    /// `DaemonMaster`.
    Master,
    /// `Negotiator`.
    Negotiator,
    /// `Collector`.
    Collector,
    /// `Accounting`.
    Accounting,
    /// Everything.
    Any,
}

impl Collector {
    /// An empty collector.
    pub fn new(_config: CollectorConfig) -> Self {
        todo!()
    }

    /// The commands served here, and the level each needs.
    pub fn commands() -> Vec<(i32, CommandRule)> {
        todo!()
    }

    /// Serves one connection to its end: a query, or any number of updates.
    pub async fn serve(&self, _incoming: Incoming) {
        todo!()
    }

    /// Takes in an ad of the pool's own, as if it had been sent; `MyType` decides the table.
    pub fn advertise(&self, _ad: ClassAd) {
        todo!()
    }

    /// Takes back an ad of the pool's own.
    pub fn withdraw(&self, _kind: Kind, _name: &str) {
        todo!()
    }

    /// All slots that can be claimed or are claimed, with their claim ids.
    pub fn slots(&self) -> Vec<Slot> {
        todo!()
    }

    /// One slot by its `Name`.
    pub fn slot(&self, _name: &str) -> Option<Slot> {
        todo!()
    }

    /// Ads of a kind that fulfil the constraint, without private attributes, cut to the projection (empty: whole).
    pub fn query(
        &self,
        _kind: Kind,
        _constraint: Option<&Expr>,
        _projection: &[String],
        _limit: Option<usize>,
    ) -> Vec<Arc<ClassAd>> {
        todo!()
    }

    /// Told of whatever may make new matches possible: a slot came, was freed, or has another claim id.
    pub fn changed(&self) -> Arc<Notify> {
        todo!()
    }

    /// What is left of a partitionable slot after a claim on a part of it: the id by which it can be claimed next, and
    /// its ad, as the startd handed them to the schedd. Ends the slot's reservation.
    pub fn replace_claim(&self, _slot: &str, _claim: cedar::ClaimId, _ad: Option<ClassAd>) {
        todo!()
    }

    /// Keeps a slot away from the negotiator while the schedd claims it: until its ad says that it is claimed or has
    /// another claim id, [`replace_claim`](Self::replace_claim), [`unreserve`](Self::unreserve), or a minute is over.
    pub fn reserve(&self, _slot: &Slot) {
        todo!()
    }

    /// Ends a reservation: the claim was refused, or could not be asked for.
    pub fn unreserve(&self, _slot: &str) {
        todo!()
    }
}
