//! How a schedd is set up.

use std::time::Duration;

use cedar::Sinful;
use condorconf::{Config, Error};

/// Limits, names and addresses.
#[derive(Debug, Clone)]
pub struct SchedConfig {
    /// Our name: `ScheddName` in requests for claims, `RemoteScheddName` in the slots' ads.
    pub name: String,
    /// This machine's name, for texts.
    pub host: String,
    /// Where startds and starters find us.
    pub address: Sinful,
    /// `UID_DOMAIN`.
    pub uid_domain: String,
    /// Our version banner.
    pub version: String,
    /// `ALIVE_INTERVAL`: a startd may miss six signs of life of this distance.
    pub alive_interval: Duration,
    /// `REQUEST_CLAIM_TIMEOUT`: a startd may have to vacate another job first.
    pub request_timeout: Duration,
    /// `SHADOW_CHECKPROXY_INTERVAL`: how often a running job's proxy is looked at.
    pub proxy_interval: Duration,
    /// `RECONNECT_BACKOFF_CEILING`: longest pause between two attempts to reconnect.
    pub reconnect_ceiling: Duration,
    /// `MAX_JOBS_RUNNING`.
    pub max_running: usize,
}

impl SchedConfig {
    /// HTCondor's defaults.
    #[must_use]
    pub fn new(name: &str, host: &str, address: Sinful, uid_domain: &str) -> Self {
        Self {
            name: name.to_owned(),
            host: host.to_owned(),
            address,
            uid_domain: uid_domain.to_owned(),
            version: cedar::version::COMPATIBLE
                .banner(concat!("sailplane-", env!("CARGO_PKG_VERSION"))),
            alive_interval: Duration::from_secs(300),
            request_timeout: Duration::from_secs(30 * 60),
            proxy_interval: Duration::from_secs(600),
            reconnect_ceiling: Duration::from_secs(300),
            max_running: 10_000,
        }
    }

    /// Reads the knobs.
    ///
    /// # Errors
    /// A knob that is no number, or out of range.
    pub fn from_config(
        config: &Config,
        name: &str,
        host: &str,
        address: Sinful,
        uid_domain: &str,
    ) -> Result<Self, Error> {
        let plain = Self::new(name, host, address, uid_domain);
        let time = |knob: &str, default: Duration| {
            let seconds = i64::try_from(default.as_secs()).unwrap_or(i64::MAX);
            let value = config.int(knob, seconds, 1..=i64::from(i32::MAX))?;
            Ok::<_, Error>(Duration::from_secs(value.unsigned_abs()))
        };
        let max_running = i64::try_from(plain.max_running).unwrap_or(i64::MAX);
        let max_running = config.int("MAX_JOBS_RUNNING", max_running, 0..=i64::from(i32::MAX))?;
        Ok(Self {
            alive_interval: time("ALIVE_INTERVAL", plain.alive_interval)?,
            request_timeout: time("REQUEST_CLAIM_TIMEOUT", plain.request_timeout)?,
            proxy_interval: time("SHADOW_CHECKPROXY_INTERVAL", plain.proxy_interval)?,
            reconnect_ceiling: time("RECONNECT_BACKOFF_CEILING", plain.reconnect_ceiling)?,
            max_running: usize::try_from(max_running).unwrap_or(plain.max_running),
            ..plain
        })
    }
}
