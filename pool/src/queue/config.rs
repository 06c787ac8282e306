//! How a queue is set up.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use cedar::security::PeerIdentity;
use classad::Expr;

/// Tells whether a peer at an address has ADMINISTRATOR.
pub type IsAdministrator = Arc<dyn Fn(&PeerIdentity, Option<IpAddr>) -> bool + Send + Sync>;

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
    /// A queue in `directory` with HTCondor's defaults; nobody is administrator.
    pub fn new(directory: PathBuf, uid_domain: &str, machine: &str) -> Self {
        Self {
            directory,
            uid_domain: uid_domain.to_owned(),
            schedd_name: machine.to_owned(),
            machine: machine.to_owned(),
            address: String::new(),
            is_administrator: Arc::new(|_, _| false),
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
