//! The configuration, typed: from files, environment and command line to checked values.
//!
//! [`all`] is the one list of everything the pilot reads, its own ([`TABLE`]) and what its checks have; defaults, ranges, the dump and the manual come from it. A
//! knob that begins with `SAILPLANE_` and is not in it is an error; HTCondor's knobs that the pilot does not read are
//! ignored, and those whose absence would surprise are warned of.

mod attributes;
mod ccb;
mod check;
mod detected;
mod error;
mod listing;
mod offered;
mod reader;
mod security;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cedar::Sinful;
use cedar::net::Credentials;
use cedar::security::policy::SecurityPolicy;
use classad::Expr;
use condorconf::{Config, Files, Loader, Origin, RealFiles};
use launch_protocol::exec::IoPriority;
use pool::security::Security;

use crate::identity::CredentialWish;
use crate::slot::eviction::Eviction;

pub use self::ccb::Ccb;
pub use self::detected::Detected;
pub use self::error::{KnobError, KnobErrors, Problem};
pub use self::listing::manual;
pub use self::offered::Offered;
pub use self::table::{Kind, Knob, TABLE, all};
pub use pool::config::ClassAdEvaluator;

/// An attribute of the slot ad: name and expression.
pub type Attribute = (String, Expr);

/// Everything the pilot reads from its configuration, checked. See [`TABLE`] for what each knob does.
#[derive(Debug, Clone)]
pub struct Knobs {
    /// `COLLECTOR_HOST`, each contact; never empty.
    pub collectors: Vec<Sinful>,
    /// `COLLECTOR_HOST` as configured, for the slot ad.
    pub collector_host: String,
    /// `SEC_CLIENT_*`, else `SEC_DEFAULT_*`; consistent.
    pub client_policy: SecurityPolicy,
    /// What the pilot can prove itself with. Its token directories are `SEC_TOKEN_DIRECTORY`, then
    /// `SEC_TOKEN_SYSTEM_DIRECTORY`; new tokens go into the first.
    pub credentials: Credentials,
    /// `SAILPLANE_TOKEN_REQUEST_IDENTITY`; `None`: no token is asked for.
    pub token_request: Option<String>,
    /// `TRUST_DOMAIN`.
    pub trust_domain: Option<String>,
    /// Who may speak with the command port without a claim, and how they prove who they are; `None`: nobody.
    pub port_security: Option<Security>,
    /// `NETWORK_INTERFACE`: `*`, or an address, interface name or pattern.
    pub network_interface: String,
    /// `NETWORK_HOSTNAME`.
    pub network_hostname: Option<String>,
    /// `CCB_*` and `PRIVATE_NETWORK_NAME`: how a pilot is reached that cannot be connected to.
    pub ccb: Ccb,
    /// `IN_LOWPORT` and `IN_HIGHPORT`, else `LOWPORT` and `HIGHPORT`: where the command port may be.
    pub port_range: Option<(u16, u16)>,
    /// `LOWPORT` and `HIGHPORT`, told to jobs.
    pub job_port_range: Option<(u16, u16)>,
    /// `STARTD_NAME`.
    pub startd_name: Option<String>,
    /// `UID_DOMAIN`; `None` if nothing sets it.
    pub uid_domain: Option<String>,
    /// `FILESYSTEM_DOMAIN`; `None` if nothing sets it.
    pub filesystem_domain: Option<String>,
    /// `LOG`; `None` logs to standard error only.
    pub log: Option<PathBuf>,
    /// `EXECUTE`, absolute.
    pub execute: PathBuf,
    /// `NUM_CPUS`; `None`: as many as the process may use.
    pub num_cpus: Option<u32>,
    /// `MEMORY` in MiB; `None`: what the machine has, less `RESERVED_MEMORY`.
    pub memory_mib: Option<u64>,
    /// `RESERVED_MEMORY` in MiB.
    pub reserved_memory_mib: u64,
    /// `DISK` in KiB, of all slots; `None`: what is free, less `RESERVED_DISK`.
    pub disk_kib: Option<u64>,
    /// `RESERVED_DISK` in MiB.
    pub reserved_disk_mib: u64,
    /// `NUM_SLOTS`; `None`: one for each core.
    pub num_slots: Option<u32>,
    /// `START`.
    pub start: Expr,
    /// `RANK`.
    pub rank: Expr,
    /// `SLOT_WEIGHT`.
    pub slot_weight: Expr,
    /// `MAXJOBRETIREMENTTIME`, seconds.
    pub max_job_retirement_time: Expr,
    /// `MachineMaxVacateTime`, seconds, for the slot ad.
    pub machine_max_vacate_time: Expr,
    /// `MachineMaxVacateTime` as far as it can be told without a job.
    pub max_vacate_time: Duration,
    /// `PREEMPT`, `WANT_HOLD`, `WANT_HOLD_REASON` and `WANT_HOLD_SUBCODE`.
    pub eviction: Eviction,
    /// `STARTD_ATTRS` and `STARTD_EXPRS`: what is published in every slot ad.
    pub startd_attrs: Vec<Attribute>,
    /// The same for those slots (counted from 1) that have values or attributes of their own (`SLOT1_NAME`,
    /// `SLOT1_STARTD_ATTRS`); the whole list.
    pub slot_attrs: BTreeMap<u32, Vec<Attribute>>,
    /// `UPDATE_INTERVAL`.
    pub update_interval: Duration,
    /// `POLLING_INTERVAL`.
    pub polling_interval: Duration,
    /// `STARTD_NOCLAIM_SHUTDOWN`; `None`: never.
    pub startd_noclaim_shutdown: Option<Duration>,
    /// `CLAIM_WORKLIFE`; `None`: without limit.
    pub claim_worklife: Option<Duration>,
    /// `MAX_CLAIM_ALIVES_MISSED`.
    pub max_claim_alives_missed: u32,
    /// `KILLING_TIMEOUT`.
    pub killing_timeout: Duration,
    /// `SHUTDOWN_GRACEFUL_TIMEOUT`.
    pub shutdown_graceful_timeout: Duration,
    /// `STARTER_INITIAL_UPDATE_INTERVAL`.
    pub starter_initial_update_interval: Duration,
    /// `STARTER_UPDATE_INTERVAL`.
    pub starter_update_interval: Duration,
    /// `STARTER_UPLOAD_TIMEOUT`.
    pub transfer_timeout: Duration,
    /// `STARTER_JOB_ENVIRONMENT`.
    pub site_environment: Vec<(String, String)>,
    /// `SEC_CREDENTIAL_REFRESH`; `None`: never.
    pub credential_refresh: Option<Duration>,
    /// `JOB_RENICE_INCREMENT`.
    pub renice: i32,
    /// `STARTER_RLIMIT_AS` in MiB; `None`: no limit.
    pub rlimit_as_mib: Option<u64>,
    /// `SAILPLANE_SWITCH`, else `GLEXEC` where `GLEXEC_JOB` is true.
    pub sailplane_switch: Offered,
    /// `SAILPLANE_IDENTITY_SWITCH`.
    pub identity_switch: SwitchWish,
    /// `SAILPLANE_ISOLATION`.
    pub isolation: SwitchWish,
    /// `SAILPLANE_JOB_CREDENTIAL`.
    pub job_credential: CredentialWish,
    /// `SAILPLANE_JOB_TOKEN`.
    pub job_token: String,
    /// `SAILPLANE_HIDE`: what payloads in namespaces of their own do not see, besides what is hidden anyway.
    pub hide: Vec<PathBuf>,
    /// `SLOT<N>_USER`: the accounts of slots, counted from 1.
    pub slot_users: BTreeMap<u32, String>,
    /// `SAILPLANE_PILOT_PROXY`: the pilot's own credential, for helpers that want one.
    pub pilot_proxy: Option<PathBuf>,
    /// `SAILPLANE_JOB_AGENT`; `None`: to be looked for.
    pub job_agent: Option<PathBuf>,
    /// `SAILPLANE_CA_DIRECTORY`; `None`: credentials of jobs under the pilot's own account are not verified.
    pub ca_directory: Option<PathBuf>,
    /// `CGROUP_MEMORY_LIMIT_POLICY` is `hard`.
    pub limit_memory: bool,
    /// `SAILPLANE_JOB_PROCESSES`; `None`: without limit.
    pub job_processes: Option<u64>,
    /// `SAILPLANE_JOB_IO_PRIORITY`; `None` leaves it.
    pub io_priority: Option<IoPriority>,
    /// `SAILPLANE_CREDENTIAL_GRACE`.
    pub credential_grace: Duration,
    /// `SAILPLANE_CREDENTIAL_NOTICE`.
    pub credential_notice: Duration,
    /// `SAILPLANE_MAX_LIFETIME`; `None`: without limit.
    pub max_lifetime: Option<Duration>,
    /// Every knob that somebody set, whether the pilot reads it or not, with its value.
    pub configuration: BTreeMap<String, String>,
    /// What the checks have.
    pub checks: validation::Knobs,
    /// Legal but odd, one sentence each.
    pub warnings: Vec<String>,
    dump: String,
}

/// Whether payloads get accounts, or namespaces, of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchWish {
    /// The pilot does not start without.
    Required,
    /// Where it can be done.
    Optional,
    /// They do not.
    Never,
}

impl SwitchWish {
    /// As it is configured.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Required => "REQUIRED",
            Self::Optional => "OPTIONAL",
            Self::Never => "NEVER",
        }
    }

    fn of(word: Option<&str>, default: Self) -> Self {
        match word {
            Some("NEVER") => Self::Never,
            Some("OPTIONAL") => Self::Optional,
            Some("REQUIRED") => Self::Required,
            _ => default,
        }
    }
}

/// Names the root configuration file when the command line does not.
const CONFIG_VARIABLE: &str = "CONDOR_CONFIG";

/// The value of [`CONFIG_VARIABLE`] that means no file.
const ONLY_ENVIRONMENT: &str = "ONLY_ENV";

impl Knobs {
    /// Reads files, environment and command line of this process.
    ///
    /// # Errors
    /// [`KnobErrors`]: all mistakes, each with knob and place.
    pub fn load(files: &[PathBuf], sets: &[(String, String)]) -> Result<Self, KnobErrors> {
        let detected = Detected::probe();
        let config = read(&RealFiles::with_commands(), files, sets, &detected)?;
        Self::from_config(&config, &detected)
    }

    /// Checks a configuration that was read with [`read`].
    ///
    /// # Errors
    /// [`KnobErrors`]: all mistakes, each with knob and place.
    pub fn from_config(config: &Config, detected: &Detected) -> Result<Self, KnobErrors> {
        check::check(config, detected)
    }

    /// What is published in the ad of slot `number`, counted from 1.
    #[must_use]
    pub fn attributes_of_slot(&self, number: u32) -> &[Attribute] {
        self.slot_attrs.get(&number).unwrap_or(&self.startd_attrs)
    }

    /// Every knob the pilot reads with its value, and before it a comment that says where it is from. The text is
    /// itself a configuration.
    #[must_use]
    pub fn dump(&self) -> String {
        self.dump.clone()
    }
}

/// Reads a configuration with the pilot's defaults.
///
/// # Errors
/// [`KnobErrors`]: everything that cannot be read.
pub fn read(
    access: &dyn Files,
    files: &[PathBuf],
    sets: &[(String, String)],
    detected: &Detected,
) -> Result<Config, KnobErrors> {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut loader = Loader::new(access)
        .subsys("STARTD")
        .evaluator(std::sync::Arc::new(ClassAdEvaluator))
        .random_seed(u64::from(since_epoch.subsec_nanos()) ^ (u64::from(std::process::id()) << 32));
    for (name, raw) in table::defaults() {
        loader = loader.default_value(name, raw);
    }
    for (name, value) in detected.facts() {
        loader = loader.detected(name, value);
    }
    for path in root_files(access, files)? {
        loader = loader.read_file(&path);
    }
    for (name, value) in sets {
        loader = loader.set(name, value, Origin::CommandLine);
    }
    loader.finish().map_err(KnobErrors::from)
}

fn root_files(access: &dyn Files, files: &[PathBuf]) -> Result<Vec<String>, KnobErrors> {
    if !files.is_empty() {
        return files.iter().map(|path| text(path)).collect();
    }
    let variable = access
        .environment()
        .into_iter()
        .find(|(name, _)| name == CONFIG_VARIABLE);
    Ok(variable
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty() && !value.eq_ignore_ascii_case(ONLY_ENVIRONMENT))
        .into_iter()
        .collect())
}

fn text(path: &Path) -> Result<String, KnobErrors> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        KnobErrors::from(KnobError::new(
            "--config",
            None,
            Problem::PathNotText {
                path: path.to_owned(),
            },
        ))
    })
}
