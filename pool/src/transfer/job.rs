//! What file transfer needs of a job ad.

use std::path::PathBuf;
use std::time::Duration;

use classad::ClassAd;
use thiserror::Error;

use super::config::{lifetime, megabytes};
use super::remaps::Remaps;
use crate::JobId;

/// A job, as far as its files are concerned. Paths are as the user gave them: relative to [`iwd`](Self::iwd).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferJob {
    /// Which job.
    pub id: JobId,
    /// The account whose files they are (`Owner`).
    pub owner: String,
    /// The job's directory on this machine (`Iwd`), absolute.
    pub iwd: PathBuf,
    /// The program (`Cmd`).
    pub executable: PathBuf,
    /// Whether it is sent (`TransferExecutable`, default true).
    pub sends_executable: bool,
    /// `TransferInput`, in its order.
    pub inputs: Vec<String>,
    /// `In`, unless it is the null file.
    pub stdin: Option<String>,
    /// `x509userproxy`.
    pub proxy: Option<PathBuf>,
    /// `Out`, unless it is the null file or streamed: where `_condor_stdout` goes.
    pub stdout: Option<PathBuf>,
    /// `Err`, likewise.
    pub stderr: Option<PathBuf>,
    /// `TransferOutput`; `None`: whatever changed.
    pub outputs: Option<Vec<String>>,
    /// `TransferOutputRemaps`.
    pub remaps: Remaps,
    /// `EncryptInputFiles`.
    pub encrypted: Vec<String>,
    /// `DontEncryptInputFiles`.
    pub unencrypted: Vec<String>,
    /// `PreserveRelativePaths`.
    pub keeps_paths: bool,
    /// `MaxTransferInputMB`, if the job sets one.
    pub max_input_mb: Option<Option<u64>>,
    /// `MaxTransferOutputMB`, likewise.
    pub max_output_mb: Option<Option<u64>>,
    /// `DelegateJobGSICredentialsLifetime`, if the job sets one.
    pub delegation_lifetime: Option<Option<Duration>>,
    /// Name of the slot it runs on, for messages.
    pub slot: String,
}

/// A job ad with which no files can be transferred.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TransferJobError {
    /// A needed attribute is missing or of the wrong type.
    #[error("the job ad has no usable {0}")]
    Missing(&'static str),
    /// `Iwd` is not absolute.
    #[error("the job's Iwd {0:?} is not an absolute path")]
    RelativeIwd(PathBuf),
}

/// HTCondor's name for "no file" on this platform.
pub(super) const NULL_FILE: &str = "/dev/null";

impl TransferJob {
    /// Reads a job ad.
    ///
    /// # Errors
    /// [`TransferJobError`]
    pub fn from_ad(ad: &ClassAd, slot: &str) -> Result<Self, TransferJobError> {
        let needed = |name: &'static str| {
            ad.string(name)
                .filter(|value| !value.is_empty())
                .ok_or(TransferJobError::Missing(name))
        };
        let number = |name: &'static str| {
            ad.int(name)
                .and_then(|number| i32::try_from(number).ok())
                .ok_or(TransferJobError::Missing(name))
        };
        let list = |name: &str| {
            ad.string(name)
                .map(|text| split_list(&text))
                .unwrap_or_default()
        };
        let iwd = PathBuf::from(needed("Iwd")?);
        if !iwd.is_absolute() {
            return Err(TransferJobError::RelativeIwd(iwd));
        }
        let standard = |name: &str, streamed: &str| {
            ad.string(name)
                .filter(|file| !is_null(file) && !ad.bool(streamed).unwrap_or(false))
        };
        // A stream of input is read through the shadow, but the file is sent too, as HTCondor does.
        let stdin = ad.string("In").filter(|file| !is_null(file));
        Ok(Self {
            id: JobId::new(number("ClusterId")?, number("ProcId")?),
            owner: needed("Owner")?,
            iwd,
            executable: PathBuf::from(needed("Cmd")?),
            sends_executable: ad.bool("TransferExecutable").unwrap_or(true),
            inputs: list("TransferInput"),
            stdin,
            proxy: ad
                .string("x509userproxy")
                .filter(|file| !is_null(file))
                .map(PathBuf::from),
            stdout: standard("Out", "StreamOut").map(PathBuf::from),
            stderr: standard("Err", "StreamErr").map(PathBuf::from),
            outputs: ad.string("TransferOutput").map(|text| split_list(&text)),
            remaps: ad
                .string("TransferOutputRemaps")
                .map(|text| Remaps::parse(&text))
                .unwrap_or_default(),
            encrypted: list("EncryptInputFiles"),
            unencrypted: list("DontEncryptInputFiles"),
            keeps_paths: ad.bool("PreserveRelativePaths").unwrap_or(false),
            max_input_mb: ad
                .int("MaxTransferInputMB")
                .map(|number| megabytes(Some(number))),
            max_output_mb: ad
                .int("MaxTransferOutputMB")
                .map(|number| megabytes(Some(number))),
            delegation_lifetime: ad.int("DelegateJobGSICredentialsLifetime").map(lifetime),
            slot: slot.to_owned(),
        })
    }
}

fn is_null(file: &str) -> bool {
    file.is_empty() || file == NULL_FILE
}

/// A list of file names: separated by commas, blanks around them not part of them.
pub(super) fn split_list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}
