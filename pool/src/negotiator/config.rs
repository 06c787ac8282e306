use std::time::Duration;

use cedar::Sinful;

/// How a [`Negotiator`](super::Negotiator) behaves.
#[derive(Debug, Clone)]
pub struct NegotiatorConfig {
    /// `NEGOTIATOR_INTERVAL`: longest time between two cycles.
    pub interval: Duration,
    /// `NEGOTIATOR_CYCLE_DELAY`: least time between two cycles.
    pub delay: Duration,
    /// `PRIORITY_HALFLIFE`.
    pub half_life: Duration,
    /// `DEFAULT_PRIO_FACTOR`.
    pub default_factor: f64,
    /// `NEGOTIATOR_PRE_JOB_RANK`.
    pub pre_job_rank: Option<String>,
    /// `NEGOTIATOR_POST_JOB_RANK`.
    pub post_job_rank: Option<String>,
    /// Our own public address, for the ads.
    pub address: Sinful,
    /// Host name of this machine, for the ads.
    pub machine: String,
}
