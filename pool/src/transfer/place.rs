//! Where a file that a pilot sends goes. No I/O.
//!
//! The pilot chooses names, the user chooses places. A name is a relative path without `..`. What the user named in the
//! submit file (remaps, `output`, `error`, the lists of output and input files) goes where the user's directories and
//! symbolic links lead; any other name stays beneath the job's directory, whatever links are in it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

use super::job::TransferJob;
use super::plan::is_url;

/// Longest name accepted, bytes.
const MAX_NAME: usize = 4095;

/// Names under which the standard output and error travel (protocol page 03, section 6.4).
const STDOUT: &str = "_condor_stdout";
/// See [`STDOUT`].
const STDERR: &str = "_condor_stderr";

/// Where a file or directory goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Where the user said; links are followed.
    Named(PathBuf),
    /// Beneath a directory, out of which nothing may lead.
    Beneath {
        /// The directory.
        base: PathBuf,
        /// The name in it.
        path: PathBuf,
    },
}

impl Place {
    /// The whole path, for messages.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Named(path) => path.clone(),
            Self::Beneath { base, path } => base.join(path),
        }
    }
}

/// Why there is no place for a file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoPlace {
    /// The name is not one a sandbox can have.
    #[error("the pilot sent a file with the illegal name {name:?}: it {why}")]
    Name {
        /// As it came, made printable and shortened.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// `TransferOutputRemaps` is no use.
    #[error("remaps resulted in a cycle: {0}")]
    Circle(String),
    /// A remap leads to a URL, where the pilot should have sent it itself.
    #[error("Remap of output file resulted in a URL: {0}")]
    Url(String),
}

/// Where output goes.
#[derive(Debug, Clone)]
pub struct Places<'a> {
    job: &'a TransferJob,
    /// A non-final transfer goes here.
    spool: Option<&'a Path>,
}

impl<'a> Places<'a> {
    /// The user's directories: the final output.
    #[must_use]
    pub fn of_user(job: &'a TransferJob) -> Self {
        Self { job, spool: None }
    }

    /// A folder of the spool: what an evicted job leaves.
    #[must_use]
    pub fn of_spool(job: &'a TransferJob, folder: &'a Path) -> Self {
        Self {
            job,
            spool: Some(folder),
        }
    }

    /// The place for `name`.
    ///
    /// # Errors
    /// [`NoPlace`]
    pub fn of(&self, name: &[u8]) -> Result<Place, NoPlace> {
        let path = legal(name)?;
        if let Some(spool) = self.spool {
            return Ok(Place::Beneath {
                base: spool.to_owned(),
                path,
            });
        }
        let job = self.job;
        if let Some(text) = path.to_str() {
            if let Some(target) = self.remapped(text)? {
                return Ok(Place::Named(job.iwd.join(target)));
            }
            if is_named_by_user(job, text) {
                return Ok(Place::Named(job.iwd.join(path)));
            }
        }
        Ok(Place::Beneath {
            base: job.iwd.clone(),
            path,
        })
    }

    fn remapped(&self, name: &str) -> Result<Option<PathBuf>, NoPlace> {
        let standard = match name {
            STDOUT => self.job.stdout.as_ref(),
            STDERR => self.job.stderr.as_ref(),
            _ => None,
        };
        if let Some(target) = standard {
            return Ok(Some(target.clone()));
        }
        match self.job.remaps.apply(name) {
            Ok(Some(target)) if is_url(&target) => Err(NoPlace::Url(target)),
            Ok(target) => Ok(target.map(PathBuf::from)),
            Err(_) => Err(NoPlace::Circle(name.to_owned())),
        }
    }
}

/// Whether the submit file names it, or a directory it is in, as output or as input (which a job may change).
fn is_named_by_user(job: &TransferJob, name: &str) -> bool {
    let first = name.split('/').next().unwrap_or(name);
    let named = |given: &String| {
        let given = given.trim_end_matches('/');
        let base = given.rsplit('/').next().unwrap_or(given);
        base == first || (job.keeps_paths && Path::new(name).starts_with(given))
    };
    job.outputs.iter().flatten().chain(&job.inputs).any(named)
}

/// The name as a path of ordinary components.
fn legal(name: &[u8]) -> Result<PathBuf, NoPlace> {
    let wrong = |why| NoPlace::Name {
        name: String::from_utf8_lossy(name).chars().take(200).collect(),
        why,
    };
    if name.contains(&0) {
        return Err(wrong("contains a NUL byte"));
    }
    if name.len() > MAX_NAME {
        return Err(wrong("is longer than any path may be"));
    }
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err(wrong("contains '..'")),
            Component::RootDir | Component::Prefix(_) => return Err(wrong("is an absolute path")),
        }
    }
    if path.as_os_str().is_empty() {
        return Err(wrong("is empty"));
    }
    Ok(path)
}
