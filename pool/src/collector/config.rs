use std::time::Duration;

use cedar::Sinful;
use condorconf::{Config, Error};

/// Most ads of one type that are kept unless the caller says otherwise: ten times the largest pool this is made for.
const MAX_ADS: usize = 100_000;

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
    /// Most ads kept in one table; an ad that would be one more is refused.
    pub max_ads: usize,
}

impl CollectorConfig {
    /// HTCondor's defaults.
    pub fn new(address: Sinful, machine: &str) -> Self {
        Self {
            name: "sailplane".to_owned(),
            address,
            machine: machine.to_owned(),
            lifetime: Duration::from_secs(900),
            max_ads: MAX_ADS,
        }
    }

    /// Reads the knobs.
    ///
    /// # Errors
    /// The first knob with a value that cannot be.
    pub fn from_config(config: &Config, address: Sinful, machine: &str) -> Result<Self, Error> {
        let plain = Self::new(address, machine);
        let lifetime = config.int("CLASSAD_LIFETIME", 900, 1..=i64::from(i32::MAX))?;
        Ok(Self {
            name: config.string("COLLECTOR_NAME", &plain.name)?,
            lifetime: Duration::from_secs(lifetime.unsigned_abs()),
            ..plain
        })
    }
}
