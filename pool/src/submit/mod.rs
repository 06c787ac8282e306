//! The language of submit files, as HTCondor's `condor_submit` 23.9.6 reads it.
//!
//! Pure: text goes in, job ads come out. What must be known of the world comes in with [`SubmitContext`] and
//! [`SubmitFiles`].

mod error;

use std::collections::BTreeMap;
use std::io;

use classad::ClassAd;

pub use error::{Place, SubmitError, SubmitErrors, Warning};

/// What a submit file's meaning depends on beside its text.
#[derive(Debug, Clone)]
pub struct SubmitContext {
    /// The number the queue gave the submission; `$(Cluster)`.
    pub cluster: i32,
    /// Working directory, absolute.
    pub cwd: String,
    /// Login name of the submitter.
    pub owner: String,
    /// `UID_DOMAIN`.
    pub uid_domain: String,
    /// Environment of the submitter: for `$ENV()` and `getenv`.
    pub environment: BTreeMap<String, String>,
    /// Seconds since 1970.
    pub now: i64,
    /// Seconds east of UTC, for `$(YEAR)` and the like.
    pub utc_offset: i32,
    /// Seed of `$RANDOM_CHOICE()` and `$RANDOM_INTEGER()`.
    pub seed: u64,
    /// Knobs of the configuration that count for submission (`JOB_DEFAULT_REQUESTCPUS`, `ARCH`, `OPSYS`,
    /// `FILESYSTEM_DOMAIN`, `SUBMIT_ATTRS`, ...), expanded.
    pub knobs: BTreeMap<String, String>,
    /// `NAME=VALUE` of the command line: macros that are set before the file is read.
    pub assignments: Vec<(String, String)>,
    /// Lines that count as if they stood before the first `queue` (`-append`).
    pub appended: Vec<String>,
    /// What follows `-queue` on the command line, if there is no `queue` in the file.
    pub queue: Option<String>,
}

/// Access to files and commands while a submit file is read.
pub trait SubmitFiles {
    /// The content of a file; `-` is standard input.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// What a command prints on its standard output.
    ///
    /// # Errors
    /// Why it cannot be run, or how it failed.
    fn run(&self, argv: &[String]) -> io::Result<Vec<u8>>;
    /// Names in a directory, without `.` and `..`, and whether each is a directory.
    ///
    /// # Errors
    /// Why it cannot be listed.
    fn list(&self, path: &str) -> io::Result<Vec<(String, bool)>>;
    /// What stands at a path.
    ///
    /// # Errors
    /// Why nobody can say.
    fn stat(&self, path: &str) -> io::Result<FileStat>;
}

/// What submission must know of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Size in bytes.
    pub size: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether the submitter may execute it.
    pub executable: bool,
    /// Whether the submitter may read it.
    pub readable: bool,
}

/// Jobs, ready for the queue.
#[derive(Debug, Clone)]
pub struct Submission {
    /// What all jobs share, `ClusterId` included.
    pub cluster: ClassAd,
    /// What is each job's own, `ProcId` included.
    pub procs: Vec<ClassAd>,
    /// What is legal but odd.
    pub warnings: Vec<Warning>,
}

/// Reads a submit file.
///
/// # Errors
/// All mistakes found, each with file, line and what was expected.
pub fn parse(
    text: &str,
    file_name: &str,
    context: &SubmitContext,
    files: &dyn SubmitFiles,
) -> Result<Submission, SubmitErrors> {
    let _ = (text, file_name, context, files);
    todo!()
}
