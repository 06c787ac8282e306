use std::time::Duration;

use cedar::Sinful;
use classad::Expr;
use condorconf::{Config, Error};

use super::Ranks;

/// Most evaluations in a cycle, some ten seconds of work; there is no knob of HTCondor's for it.
const MAX_EVALUATIONS: u64 = 4_000_000;

/// How a [`Negotiator`](super::Negotiator) behaves.
#[derive(Debug, Clone)]
pub struct NegotiatorConfig {
    /// `NEGOTIATOR_INTERVAL`: longest time between two cycles.
    pub interval: Duration,
    /// `NEGOTIATOR_CYCLE_DELAY`: least time between two cycles.
    pub delay: Duration,
    /// `NEGOTIATOR_UPDATE_INTERVAL`: how often our ads are renewed.
    pub update_interval: Duration,
    /// `PRIORITY_HALFLIFE`.
    pub half_life: Duration,
    /// `DEFAULT_PRIO_FACTOR`.
    pub default_factor: f64,
    /// `NEGOTIATOR_PRE_JOB_RANK` and `NEGOTIATOR_POST_JOB_RANK`.
    pub ranks: Ranks,
    /// Most evaluations of `Requirements` in one cycle.
    pub max_evaluations: u64,
    /// Our own public address, for the ads.
    pub address: Sinful,
    /// Host name of this machine, for the ads.
    pub machine: String,
}

impl NegotiatorConfig {
    /// HTCondor's defaults, but for the time between cycles: cycles here cost little, so nobody has to wait.
    pub fn new(address: Sinful, machine: &str) -> Self {
        Self {
            interval: Duration::from_secs(60),
            delay: Duration::from_secs(1),
            update_interval: Duration::from_secs(300),
            half_life: Duration::from_secs(86_400),
            default_factor: 1000.0,
            ranks: Ranks::default(),
            max_evaluations: MAX_EVALUATIONS,
            address,
            machine: machine.to_owned(),
        }
    }

    /// Reads the knobs.
    ///
    /// # Errors
    /// The first knob with a value that cannot be.
    pub fn from_config(config: &Config, address: Sinful, machine: &str) -> Result<Self, Error> {
        let plain = Self::new(address, machine);
        let time = |name: &str, default: Duration, least: u64| {
            let seconds = i64::try_from(default.as_secs()).unwrap_or(i64::MAX);
            let least = i64::try_from(least).unwrap_or(0);
            let value = config.int(name, seconds, least..=i64::from(i32::MAX))?;
            Ok::<_, Error>(Duration::from_secs(value.unsigned_abs()))
        };
        let expr = |name: &str| match config.get(name)?.filter(|text| !text.trim().is_empty()) {
            None => Ok(None),
            Some(text) => Expr::parse_old(&text)
                .map(Some)
                .map_err(|_| config.wrong_type(name, "a ClassAd expression", &text)),
        };
        Ok(Self {
            interval: time("NEGOTIATOR_INTERVAL", plain.interval, 1)?,
            delay: time("NEGOTIATOR_CYCLE_DELAY", plain.delay, 0)?,
            update_interval: time("NEGOTIATOR_UPDATE_INTERVAL", plain.update_interval, 1)?,
            half_life: time("PRIORITY_HALFLIFE", plain.half_life, 1)?,
            default_factor: config
                .optional_real("DEFAULT_PRIO_FACTOR")?
                .unwrap_or(plain.default_factor),
            ranks: Ranks {
                pre: expr("NEGOTIATOR_PRE_JOB_RANK")?,
                post: expr("NEGOTIATOR_POST_JOB_RANK")?,
            },
            ..plain
        })
    }
}
