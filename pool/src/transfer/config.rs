//! The knobs of file transfer, with HTCondor's names.

use std::path::PathBuf;
use std::time::Duration;

use condorconf::Config;
use thiserror::Error;

/// How proxies reach the execute side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delegation {
    /// A new proxy is signed for the execute side's own key; otherwise the file is copied
    /// (`DELEGATE_JOB_GSI_CREDENTIALS`, default true).
    pub is_enabled: bool,
    /// The new proxy has all rights of the old one (`DELEGATE_FULL_JOB_GSI_CREDENTIALS`, default false: limited).
    pub is_full: bool,
    /// Longest life of the new proxy (`DELEGATE_JOB_GSI_CREDENTIALS_LIFETIME`, seconds, default one day, 0: none). The
    /// job's `DelegateJobGSICredentialsLifetime` wins.
    pub lifetime: Option<Duration>,
}

impl Default for Delegation {
    fn default() -> Self {
        Self {
            is_enabled: true,
            is_full: false,
            lifetime: Some(Duration::from_secs(86_400)),
        }
    }
}

/// What file transfer needs to know.
#[derive(Debug, Clone)]
pub struct TransfersConfig {
    /// Where eviction output waits for the next run (`SPOOL`). Must exist and be the pool's own.
    pub spool: PathBuf,
    /// Name of this machine in messages.
    pub host_name: String,
    /// Proxies.
    pub delegation: Delegation,
    /// Most input of a job, MB of 2^20 bytes (`MAX_TRANSFER_INPUT_MB`; none if negative). The job's
    /// `MaxTransferInputMB` wins.
    pub max_input_mb: Option<u64>,
    /// Most output of a job (`MAX_TRANSFER_OUTPUT_MB`). The job's `MaxTransferOutputMB` wins.
    pub max_output_mb: Option<u64>,
    /// Most inputs being sent at a time; more wait (`MAX_CONCURRENT_UPLOADS`, default 100; 0: no limit).
    pub max_uploads: usize,
    /// Most outputs being received at a time (`MAX_CONCURRENT_DOWNLOADS`, default 100; 0: no limit).
    pub max_downloads: usize,
    /// Longest silence of a pilot within a transfer.
    pub patience: Duration,
}

/// A knob that cannot be used.
#[derive(Debug, Error)]
pub enum TransfersConfigError {
    /// It cannot be expanded.
    #[error(transparent)]
    Config(#[from] condorconf::Error),
    /// It is not what it should be.
    #[error("{knob} is {value:?}; it must be {expected}")]
    Value {
        /// Which knob.
        knob: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// It is needed and not set.
    #[error("{0} is not set")]
    Missing(&'static str),
}

impl TransfersConfig {
    /// The defaults.
    #[must_use]
    pub fn new(spool: PathBuf, host_name: String) -> Self {
        Self {
            spool,
            host_name,
            delegation: Delegation::default(),
            max_input_mb: None,
            max_output_mb: None,
            max_uploads: 100,
            max_downloads: 100,
            patience: Duration::from_secs(300),
        }
    }

    /// Reads the knobs.
    ///
    /// # Errors
    /// [`TransfersConfigError`] names the knob.
    pub fn from_config(config: &Config, host_name: String) -> Result<Self, TransfersConfigError> {
        let spool = config
            .get("SPOOL")?
            .ok_or(TransfersConfigError::Missing("SPOOL"))?;
        let mut read = Self::new(PathBuf::from(spool), host_name);
        let delegation = &mut read.delegation;
        delegation.is_enabled = boolean(config, "DELEGATE_JOB_GSI_CREDENTIALS")?.unwrap_or(true);
        delegation.is_full = boolean(config, "DELEGATE_FULL_JOB_GSI_CREDENTIALS")?.unwrap_or(false);
        if let Some(seconds) = integer(config, "DELEGATE_JOB_GSI_CREDENTIALS_LIFETIME")? {
            delegation.lifetime = lifetime(seconds);
        }
        read.max_input_mb = megabytes(integer(config, "MAX_TRANSFER_INPUT_MB")?);
        read.max_output_mb = megabytes(integer(config, "MAX_TRANSFER_OUTPUT_MB")?);
        for (knob, field) in [
            ("MAX_CONCURRENT_UPLOADS", &mut read.max_uploads),
            ("MAX_CONCURRENT_DOWNLOADS", &mut read.max_downloads),
        ] {
            if let Some(number) = integer(config, knob)? {
                *field = usize::try_from(number).unwrap_or(0);
            }
        }
        Ok(read)
    }
}

/// Zero or less is no limit.
pub(super) fn lifetime(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds)
        .ok()
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
}

/// A negative number is no limit.
pub(super) fn megabytes(number: Option<i64>) -> Option<u64> {
    number.and_then(|number| u64::try_from(number).ok())
}

fn boolean(config: &Config, knob: &'static str) -> Result<Option<bool>, TransfersConfigError> {
    let Some(value) = config.get(knob)? else {
        return Ok(None);
    };
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "1" => Ok(Some(true)),
        "false" | "f" | "no" | "0" => Ok(Some(false)),
        _ => Err(TransfersConfigError::Value {
            knob,
            value,
            expected: "true or false",
        }),
    }
}

fn integer(config: &Config, knob: &'static str) -> Result<Option<i64>, TransfersConfigError> {
    let Some(value) = config.get(knob)? else {
        return Ok(None);
    };
    // Numbers may be expressions such as 24 * 3600.
    let number = value.trim().parse().ok().or_else(|| {
        let mut ad = classad::ClassAd::new();
        ad.insert_expr("Number", &value).ok()?;
        ad.int("Number")
    });
    number.map(Some).ok_or(TransfersConfigError::Value {
        knob,
        value,
        expected: "a whole number",
    })
}
