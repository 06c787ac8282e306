use std::time::Duration;

use cedar::Sinful;

/// How a [`Collector`](super::Collector) behaves.
#[derive(Debug, Clone)]
pub struct CollectorConfig {
    /// `COLLECTOR_NAME`: name of the pool.
    pub name: String,
    /// Our own public address.
    pub address: Sinful,
    /// Host name of this machine.
    pub machine: String,
    /// `CLASSAD_LIFETIME`: how long an ad is kept that is not renewed and says nothing else itself.
    pub lifetime: Duration,
    /// `COLLECTOR_UPDATE_INTERVAL`: how often our own ad is renewed.
    pub update_interval: Duration,
    /// Most ads kept in one table; an ad that would be one more is refused.
    pub max_ads: usize,
}
