//! How a queue is set up.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use cedar::security::PeerIdentity;
use classad::{ClassAd, Expr};
use condorconf::{Config, Error};

/// Tells whether a peer at an address has ADMINISTRATOR.
pub type IsAdministrator = Arc<dyn Fn(&PeerIdentity, Option<IpAddr>) -> bool + Send + Sync>;

/// Tells, in a sentence, why jobs like this one (its cluster ad, with `Owner`) could never run here.
pub type Admission =
    Arc<dyn Fn(ClassAd) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// An expression of the administrator that is evaluated for every job, with the reason to give.
#[derive(Debug, Clone)]
pub struct SystemPolicy {
    /// True: it applies.
    pub when: Expr,
    /// What to say; absent: the expression itself is named.
    pub reason: Option<Expr>,
    /// `HoldReasonSubCode`.
    pub subcode: Option<Expr>,
}

impl SystemPolicy {
    fn from_config(config: &Config, knob: &str) -> Result<Option<Self>, Error> {
        let expr = |name: &str| {
            let Some(text) = config.get(name)? else {
                return Ok(None);
            };
            match Expr::parse_old(&text) {
                Ok(expr) => Ok(Some(expr)),
                Err(_) => Err(config.wrong_type(name, "a ClassAd expression", &text)),
            }
        };
        let Some(when) = expr(knob)? else {
            return Ok(None);
        };
        Ok(Some(Self {
            when,
            reason: expr(&format!("{knob}_REASON"))?,
            subcode: expr(&format!("{knob}_SUBCODE"))?,
        }))
    }
}

/// How a queue is set up.
#[derive(Clone)]
pub struct QueueConfig {
    /// Where its files are (`SPOOL`); made if missing.
    pub directory: PathBuf,
    /// `UID_DOMAIN`: `User` is `owner@uid_domain`.
    pub uid_domain: String,
    /// `Name` of our schedd ad.
    pub schedd_name: String,
    /// Full name of this machine, for `Machine` of our ads.
    pub machine: String,
    /// Our address, a sinful, for our ads; empty: not advertised.
    pub address: String,
    /// `QUEUE_SUPER_USERS` and ADMINISTRATORs: may act on everybody's jobs.
    pub is_administrator: IsAdministrator,
    /// Looked at before a submission is taken; absent: all are.
    pub admission: Option<Admission>,
    /// `MAX_JOBS_SUBMITTED`.
    pub max_jobs_submitted: usize,
    /// `MAX_JOBS_PER_OWNER`.
    pub max_jobs_per_owner: usize,
    /// `MAX_JOBS_PER_SUBMISSION`.
    pub max_jobs_per_submission: usize,
    /// Largest ad of a job, in bytes of its text.
    pub max_ad_bytes: usize,
    /// `PERIODIC_EXPR_INTERVAL`, in seconds.
    pub periodic_interval: i64,
    /// Entries kept in the history.
    pub max_history: usize,
    /// `SYSTEM_PERIODIC_HOLD`.
    pub system_periodic_hold: Option<SystemPolicy>,
    /// `SYSTEM_PERIODIC_RELEASE`.
    pub system_periodic_release: Option<SystemPolicy>,
    /// `SYSTEM_PERIODIC_REMOVE`.
    pub system_periodic_remove: Option<SystemPolicy>,
}

impl QueueConfig {
    /// Reads the knobs: limits, `SCHEDD_NAME`, `PERIODIC_EXPR_INTERVAL`, `SYSTEM_PERIODIC_*`. Who is administrator and
    /// what our address is, the caller knows.
    ///
    /// # Errors
    /// A knob has no usable value.
    pub fn from_config(
        config: &Config,
        spool: PathBuf,
        uid_domain: &str,
        machine: &str,
    ) -> Result<Self, Error> {
        let plain = Self::new(spool, uid_domain, machine);
        let count = |name: &str, default: usize| {
            let value = config.optional_int(name, 0..=i64::from(i32::MAX))?;
            Ok::<_, Error>(value.map_or(default, |value| usize::try_from(value).unwrap_or(default)))
        };
        let schedd_name = match config.get("SCHEDD_NAME")? {
            Some(name) if name.contains('@') => name,
            Some(name) => format!("{name}@{machine}"),
            None => plain.schedd_name,
        };
        Ok(Self {
            schedd_name,
            max_jobs_submitted: count("MAX_JOBS_SUBMITTED", plain.max_jobs_submitted)?,
            max_jobs_per_owner: count("MAX_JOBS_PER_OWNER", plain.max_jobs_per_owner)?,
            max_jobs_per_submission: count(
                "MAX_JOBS_PER_SUBMISSION",
                plain.max_jobs_per_submission,
            )?,
            periodic_interval: config.int("PERIODIC_EXPR_INTERVAL", 60, 1..=86_400)?,
            system_periodic_hold: SystemPolicy::from_config(config, "SYSTEM_PERIODIC_HOLD")?,
            system_periodic_release: SystemPolicy::from_config(config, "SYSTEM_PERIODIC_RELEASE")?,
            system_periodic_remove: SystemPolicy::from_config(config, "SYSTEM_PERIODIC_REMOVE")?,
            ..plain
        })
    }

    /// A queue in `directory` with HTCondor's defaults; nobody is administrator.
    pub fn new(directory: PathBuf, uid_domain: &str, machine: &str) -> Self {
        Self {
            directory,
            uid_domain: uid_domain.to_owned(),
            schedd_name: machine.to_owned(),
            machine: machine.to_owned(),
            address: String::new(),
            is_administrator: Arc::new(|_, _| false),
            admission: None,
            max_jobs_submitted: usize::MAX,
            max_jobs_per_owner: 100_000,
            max_jobs_per_submission: 20_000,
            max_ad_bytes: 1 << 20,
            periodic_interval: 60,
            max_history: 100_000,
            system_periodic_hold: None,
            system_periodic_release: None,
            system_periodic_remove: None,
        }
    }
}

impl fmt::Debug for QueueConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueConfig")
            .field("directory", &self.directory)
            .field("uid_domain", &self.uid_domain)
            .field("schedd_name", &self.schedd_name)
            .finish_non_exhaustive()
    }
}
