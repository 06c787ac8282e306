//! The starter's half of the pilot: one activated claim, from the job ad to `job_exit`.
//!
//! [`run()`] is given the connection on which the shadow activated the claim and drives the whole journey of the
//! payload: the dialogue with the shadow ([`syscalls`]), the plan made from the job ad ([`plan`], [`environment`]),
//! the input and output sandbox ([`crate::transfer`]), the identity switch ([`crate::broker`]) and the credential
//! watch ([`crate::credential_watch`]).
//!
//! Protocol pages: "being a starter" and "file transfer". Nothing here keeps state between two jobs except what
//! [`JobServices`] carries.

pub mod arguments;
pub mod clock;
mod contact;
pub mod environment;
#[doc(hidden)]
pub mod fuzzing;
pub mod hold;
mod input;
#[cfg(test)]
mod journeys;
mod launch;
mod line;
mod output;
pub mod plan;
mod run;
mod running;
pub mod service_credentials;
mod shadow;
pub mod signals;
pub mod syscalls;
#[cfg(test)]
mod tests;
mod trouble;
pub mod usage;
mod wish;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cedar::ClaimId;
use cedar::net::{Client, Stream};
use classad::ClassAd;
use launch_protocol::broker::OpenLimits;
use launch_protocol::exec::IoPriority;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::advertise::published::Published;
use crate::broker::Broker;
use crate::identity::IdentityPolicy;
use crate::transfer::DelegationKeys;

pub use hold::Hold;
pub use run::run;
pub use wish::{Renewal, Wish, WishSender, Wishes};

/// One accepted ACTIVATE_CLAIM.
#[derive(Debug)]
pub struct Activation {
    /// The claim the shadow activated; its id names the session of the file transfer.
    pub claim: ClaimId,
    /// The connection the activation came in on, after the pilot answered `int 1`: now the syscall socket.
    pub stream: Stream,
    /// What the slot offers.
    pub slot: SlotFacts,
    /// What is said about the connections that come after this one.
    pub line: LineEnds,
    /// What the submit side wishes of the job while it runs.
    pub wishes: Wishes,
}

/// A shadow that has come back to its job: CA_RECONNECT_JOB, after the pilot answered `Success`.
#[derive(Debug)]
pub struct Reconnect {
    /// The connection it came on: now the syscall socket.
    pub stream: Stream,
    /// What it said: `TransferKey`, `TransferSocket`, `ShadowIpAddr`, `ShadowVersion`.
    pub ad: ClassAd,
}

/// Whether a shadow is connected to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineState {
    /// Yes.
    Connected,
    /// Not at present; the job goes on within its lease.
    Disconnected,
}

/// What slot and job say to each other about the connection to the shadow: the job's ends.
pub struct LineEnds {
    /// Shadows that come back.
    reconnects: mpsc::Receiver<Reconnect>,
    /// Told of every change.
    tell: Box<dyn Fn(LineState) + Send + Sync>,
}

impl LineEnds {
    /// The job's ends, and where the slot hands over a shadow that has come back. `tell` hears of every change.
    #[must_use]
    pub fn new(
        tell: impl Fn(LineState) + Send + Sync + 'static,
    ) -> (Self, mpsc::Sender<Reconnect>) {
        // One shadow comes back at a time; another waits on its connection.
        let (sender, reconnects) = mpsc::channel(1);
        let tell = Box::new(tell);
        (Self { reconnects, tell }, sender)
    }

    /// The next shadow that comes back; never completes when none can. Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Reconnect {
        match self.reconnects.recv().await {
            Some(reconnect) => reconnect,
            None => std::future::pending().await,
        }
    }

    /// Tells the slot of a change.
    pub fn tell(&self, state: LineState) {
        (self.tell)(state);
    }
}

impl std::fmt::Debug for LineEnds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LineEnds").finish_non_exhaustive()
    }
}

/// What a job needs to know about the slot it runs in.
#[derive(Debug, Clone)]
pub struct SlotFacts {
    /// Full slot name, `slot1@host`.
    pub name: String,
    /// Slot name without the host, `slot1` (`_CONDOR_SLOT`).
    pub short_name: String,
    /// The machine's name, as in the slot ad's `Machine`.
    pub machine: String,
    /// Cores of the slot.
    pub cpus: u32,
    /// Memory of the slot, MiB.
    pub memory_mib: u64,
    /// Disk of the slot, KiB.
    pub disk_kib: u64,
    /// The slot ad; written to `.machine.ad` without its private attributes.
    pub machine_ad: ClassAd,
    /// `SLOT<N>_USER`: the account of the slot's jobs.
    pub account: Option<String>,
}

/// Plain values from the configuration that the execution of jobs depends on.
#[derive(Debug, Clone)]
pub struct JobConfig {
    /// `EXECUTE`: the directory beneath which the helper makes sandboxes; the pilot's staging area is here too.
    pub execute_dir: PathBuf,
    /// Payloads get accounts of their own, for their credentials. Without that a job needs none.
    pub identity_switch: bool,
    /// What decides whose a job is.
    pub identity: IdentityPolicy,
    /// `UID_DOMAIN`.
    pub uid_domain: String,
    /// `FILESYSTEM_DOMAIN`.
    pub filesystem_domain: String,
    /// The `$CondorVersion: ... $` text told to the shadow. It selects the dialect of file transfer, so it must say
    /// 23.1 or later (protocol page 03, section 11).
    pub condor_version: String,
    /// The `$CondorPlatform: ... $` text told to the shadow.
    pub condor_platform: String,
    /// `SAILPLANE_CREDENTIAL_GRACE`: how long before the end of its credential a job is stopped.
    pub credential_grace: Duration,
    /// `SAILPLANE_CREDENTIAL_NOTICE`: how long before the end of its credential the submit side is told.
    pub credential_notice: Duration,
    /// `MachineMaxVacateTime`: the longest time between the soft signal and the kill.
    pub max_vacate_time: Duration,
    /// `KILLING_TIMEOUT`: how long to wait for a killed payload to be gone.
    pub killing_timeout: Duration,
    /// `STARTER_INITIAL_UPDATE_INTERVAL`: from the start of the job to its first periodic update.
    pub initial_update_interval: Duration,
    /// `STARTER_UPDATE_INTERVAL`: between periodic updates.
    pub update_interval: Duration,
    /// Between two looks at the job's figures, for a policy of the slot that evaluates them; `None`: they are taken when
    /// they are reported.
    pub figures_interval: Option<Duration>,
    /// `SEC_CREDENTIAL_REFRESH`: between two looks at a job's OAuth credentials; `None`: one is enough.
    pub credential_refresh: Option<Duration>,
    /// `STARTER_UPLOAD_TIMEOUT`: the longest silence of the shadow during a file transfer or a syscall.
    pub transfer_timeout: Duration,
    /// `JOB_RENICE_INCREMENT`, 0 to 19.
    pub renice: i32,
    /// `SAILPLANE_JOB_IO_PRIORITY`.
    pub io_priority: Option<IoPriority>,
    /// `STARTER_RLIMIT_AS` in MiB.
    pub rlimit_as_mib: Option<u64>,
    /// `STARTER_JOB_ENVIRONMENT`, parsed with [`environment::parse_site`].
    pub site_environment: Vec<(String, String)>,
    /// `LOWPORT` and `HIGHPORT`, when a port range is configured.
    pub port_range: Option<(u16, u16)>,
    /// The pilot's own credential, for a helper that wants one.
    pub pilot_proxy: Option<PathBuf>,
    /// What jobs may use.
    pub limits: UseLimits,
    /// Bytes of input that may wait in memory for the credential.
    pub staging_memory: u64,
    /// Bytes of input that may wait for the credential in an unlinked file below `execute_dir`.
    pub staging_disk: u64,
}

impl Default for JobConfig {
    /// HTCondor 23.9's defaults where it has the knob, ours elsewhere.
    fn default() -> Self {
        Self {
            execute_dir: PathBuf::from("/var/lib/condor/execute"),
            identity_switch: true,
            identity: IdentityPolicy::proxy(),
            uid_domain: String::new(),
            filesystem_domain: String::new(),
            condor_version: "$CondorVersion: 23.9.6 2026-07-12 PackageID: 23.9.6 $".to_owned(),
            condor_platform: "$CondorPlatform: X86_64-Linux $".to_owned(),
            credential_grace: Duration::from_secs(300),
            credential_notice: Duration::from_secs(1800),
            max_vacate_time: Duration::from_secs(600),
            killing_timeout: Duration::from_secs(30),
            initial_update_interval: Duration::from_secs(8),
            update_interval: Duration::from_secs(300),
            figures_interval: None,
            credential_refresh: Some(Duration::from_secs(300)),
            transfer_timeout: Duration::from_secs(200),
            renice: 0,
            io_priority: None,
            rlimit_as_mib: None,
            site_environment: Vec::new(),
            port_range: None,
            pilot_proxy: None,
            limits: UseLimits::default(),
            staging_memory: 16 << 20,
            staging_disk: 1 << 30,
        }
    }
}

/// What a job may use, where the node can limit it; otherwise nothing is limited, which the slot ad says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UseLimits {
    /// `CGROUP_MEMORY_LIMIT_POLICY` is `hard`, and the helper can do it: the memory of the slot.
    pub memory: bool,
    /// `SAILPLANE_JOB_PROCESSES`, if the helper can limit them.
    pub processes: Option<u64>,
}

impl UseLimits {
    /// In the words of the launch protocol.
    #[must_use]
    pub fn of(self, slot: &SlotFacts) -> OpenLimits {
        OpenLimits {
            memory_bytes: self.memory.then(|| slot.memory_mib.saturating_mul(1 << 20)),
            pids: self.processes,
            ..OpenLimits::default()
        }
    }
}

/// What all jobs of a pilot share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobServices {
    /// Plain values from the configuration.
    pub config: Arc<JobConfig>,
    /// The identity-switch helper.
    pub broker: Broker,
    /// For the connections of the file transfer.
    pub client: Client,
    /// The pilot's own command address (`StarterIpAddr`).
    pub address: Published,
    /// Keys made ahead of need for delegated proxies.
    pub delegation_keys: DelegationKeys,
    /// Clean-ups that outlive [`run()`]. The pilot waits for it to be empty before it ends.
    pub cleanups: TaskTracker,
}

impl JobServices {
    /// Services with a fresh key store and an empty set of clean-ups. Must be called inside a tokio runtime, because
    /// the first delegation key is made in the background from now on.
    #[must_use]
    pub fn new(config: Arc<JobConfig>, broker: Broker, client: Client, address: Published) -> Self {
        Self {
            config,
            broker,
            client,
            address,
            delegation_keys: DelegationKeys::start(),
            cleanups: TaskTracker::new(),
        }
    }
}

/// Why the slot wants the job to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopHow {
    /// 403 DEACTIVATE_CLAIM from the shadow or schedd.
    Deactivate,
    /// 404 DEACTIVATE_CLAIM_FORCIBLY, 443 RELEASE_CLAIM, or the end of the lease.
    DeactivateForcibly,
    /// The pilot itself retires.
    Retire,
    /// `PREEMPT` is true; with what `WANT_HOLD` and its like make of it, if the job is to be held.
    Preempt(Option<Hold>),
}

/// An order of the slot to stop the job. A later order may be harder than an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopOrder {
    /// Soft signal, then kill after the vacate time.
    Soft {
        /// Who ordered it, for the job's `ToE` attribute: an address or the pilot's name.
        by: String,
        /// What the order was.
        how: StopHow,
    },
    /// Kill at once.
    Hard {
        /// Who ordered it.
        by: String,
        /// What the order was.
        how: StopHow,
    },
}

impl StopOrder {
    /// How the job is to be held once it has stopped.
    #[must_use]
    pub const fn hold(&self) -> Option<&Hold> {
        match self {
            Self::Soft { how, .. } | Self::Hard { how, .. } => match how {
                StopHow::Preempt(hold) => hold.as_ref(),
                StopHow::Deactivate | StopHow::DeactivateForcibly | StopHow::Retire => None,
            },
        }
    }
}

/// What the slot ad tells about the running job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobProgress {
    /// `cluster.proc`.
    pub job_id: String,
    /// `GlobalJobId`.
    pub global_job_id: String,
    /// `User` of the job ad.
    pub user: String,
    /// Unix time at which the job's process began to run.
    pub started: Option<i64>,
    /// Largest memory use so far, KiB.
    pub image_size_kib: u64,
    /// User and system CPU time so far, seconds.
    pub cpu_seconds: (f64, f64),
    /// Average number of cores in use since the start.
    pub cpus_usage: f64,
    /// Size of the sandbox, KiB.
    pub disk_usage_kib: u64,
    /// Processes alive.
    pub pids: u64,
    /// `JobUniverse`.
    pub universe: i64,
    /// When the job's credential ends, Unix seconds; `None`: it has none that ends.
    pub credential_end: Option<i64>,
    /// What a shadow that has lost its connection is told; `None` while, or if, the job does not outlive it.
    pub starter: Option<Arc<ClassAd>>,
}

/// How a job ended, as far as the slot is concerned. In every case the sandbox is gone or being removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// It ran to its end, and the shadow acknowledged `job_exit`.
    Finished,
    /// It was stopped by order and the shadow told so.
    Evicted,
    /// The shadow was asked to hold it.
    Held,
    /// The shadow was asked to hold it, and the node is at fault.
    HeldByNode {
        /// One sentence.
        reason: String,
    },
    /// The submit side could not do its part now; the shadow was asked to run it again.
    Submit {
        /// One sentence.
        reason: String,
    },
    /// Its result could not be delivered, through no fault of job or node; the shadow was asked to run it again.
    Requeued,
    /// It was stopped before its process started.
    NotStarted {
        /// One sentence.
        why: String,
    },
    /// The connection to the shadow broke; the job was killed.
    ShadowLost,
    /// It broke, and no shadow came back within the job's lease; the job was killed, or its result is lost.
    LeaseOver,
    /// The site could not run it, through no fault of the job; the shadow was asked to run it elsewhere.
    Site {
        /// The slot should take no further jobs that need the helper.
        permanent: bool,
        /// One sentence.
        reason: String,
    },
}
