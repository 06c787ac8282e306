//! What a submit file's meaning depends on beside its text.

use std::collections::BTreeMap;
use std::io;

use condorconf::{Config, Error};

/// What a submit file's meaning depends on beside its text.
#[derive(Debug, Clone)]
pub struct SubmitContext {
    /// The number the queue gave the submission; `$(Cluster)`.
    pub cluster: i32,
    /// Working directory, absolute.
    pub cwd: String,
    /// Login name of the submitter.
    pub owner: String,
    /// The submitter's account number, for the usual name of a proxy file.
    pub uid: u32,
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
    /// `CondorVersion` and `CondorPlatform` of the jobs: the release whose `condor_submit` this is to behave like.
    pub banner: Banner,
    /// Knobs of the configuration that count for submission, by name in capitals; see [`SubmitContext::knobs_of`].
    pub knobs: BTreeMap<String, String>,
    /// `NAME=VALUE` of the command line: macros that are set before the file is read.
    pub assignments: Vec<(String, String)>,
    /// Lines that count as if they stood before the first `queue` (`-append`).
    pub appended: Vec<String>,
    /// What follows `-queue` on the command line, if there is no `queue` in the file.
    pub queue: Option<String>,
    /// Whether executable, input and proxies must be there; else nobody looks.
    pub check_files: bool,
}

/// The release of HTCondor a job ad names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Banner {
    /// `$CondorVersion: ... $`.
    pub version: String,
    /// `$CondorPlatform: ... $`.
    pub platform: String,
}

/// Knobs that change what is submitted, with HTCondor's defaults (`htcondor:src/condor_utils/param_info.in`, 23.9.6).
const KNOBS: &[(&str, &str)] = &[
    ("APPEND_RANK", ""),
    ("APPEND_RANK_VANILLA", ""),
    ("APPEND_REQUIREMENTS", ""),
    ("APPEND_REQ_VANILLA", ""),
    ("ARCH", "X86_64"),
    ("CRED_MIN_TIME_LEFT", "120"),
    ("DEFAULT_JOB_MAX_RETRIES", "2"),
    ("DEFAULT_RANK", ""),
    ("DEFAULT_RANK_VANILLA", ""),
    ("DEFAULT_UNIVERSE", ""),
    ("ENABLE_DEPRECATION_WARNINGS", "true"),
    ("FILESYSTEM_DOMAIN", ""),
    ("JOB_DEFAULT_LEASE_DURATION", "2400"),
    ("JOB_DEFAULT_NOTIFICATION", ""),
    ("JOB_DEFAULT_REQUESTCPUS", "1"),
    ("JOB_DEFAULT_REQUESTDISK", "DiskUsage"),
    ("JOB_DEFAULT_REQUESTGPUS", ""),
    (
        "JOB_DEFAULT_REQUESTMEMORY",
        "ifthenelse(MemoryUsage =!= UNDEFINED,MemoryUsage,(ImageSize+1023)/1024)",
    ),
    ("NICE_USER_ACCOUNTING_GROUP_NAME", "nice-user"),
    ("OPSYS", "LINUX"),
    ("OPSYSANDVER", ""),
    ("OPSYSMAJORVER", ""),
    ("OPSYSVER", ""),
    ("SCHEDD_INTERVAL", "300"),
    ("SPOOL", ""),
    ("SUBMIT_ALLOW_GETENV", "true"),
    ("SUBMIT_ATTRS", ""),
    ("SUBMIT_DEFAULT_SHOULD_TRANSFER_FILES", ""),
    ("SUBMIT_EXPRS", ""),
    ("SUBMIT_GENERATE_CUSTOM_RESOURCE_REQUIREMENTS", "true"),
    ("SUBMIT_MAX_PROCS_IN_CLUSTER", "0"),
    ("SUBMIT_REQUEST_MISSING_UNITS", ""),
    ("SUBMIT_SHOULD_SET_LOCAL_OWNER", "false"),
    ("SYSTEM_SUBMIT_ATTRS", ""),
    ("WARN_ON_UNUSED_SUBMIT_FILE_MACROS", "true"),
];

impl SubmitContext {
    /// The knobs that count, as a configuration has them, with HTCondor's defaults for the others.
    ///
    /// # Errors
    /// A value that cannot be expanded.
    pub fn knobs_of(config: &Config) -> Result<BTreeMap<String, String>, Error> {
        let mut knobs = Self::default_knobs();
        for (name, value) in &mut knobs {
            if let Some(found) = config.get(name)? {
                *value = found;
            } else if config.raw(name).is_some() {
                value.clear();
            }
        }
        // Attributes that the administrator wants in all jobs are knobs of the same name.
        for list in ["SUBMIT_ATTRS", "SUBMIT_EXPRS", "SYSTEM_SUBMIT_ATTRS"] {
            for name in config.list(list)? {
                let name = attribute_knob(&name).to_owned();
                if let Some(value) = config.get(&name)? {
                    knobs.insert(name.to_ascii_uppercase(), value);
                }
            }
        }
        Ok(knobs)
    }

    /// HTCondor's defaults of the knobs that count.
    #[must_use]
    pub fn default_knobs() -> BTreeMap<String, String> {
        KNOBS
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// A knob's value, unless it is empty.
    pub(super) fn knob(&self, name: &str) -> Option<&str> {
        self.knobs
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Whether a knob says yes.
    pub(super) fn says(&self, name: &str) -> bool {
        self.knob(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
    }
}

/// The knob behind an entry of `SUBMIT_ATTRS`: with `+` or `MY.` before it the value wins over the user's.
pub(super) fn attribute_knob(entry: &str) -> &str {
    let bare = entry.strip_prefix('+').unwrap_or(entry);
    match bare.get(..3) {
        Some(prefix) if prefix.eq_ignore_ascii_case("MY.") => bare.get(3..).unwrap_or(bare),
        _ => bare,
    }
}

/// Access to files and commands while a submit file is read. Relative paths are the caller's to resolve: those that come
/// here are absolute, but for `-`.
pub trait SubmitFiles {
    /// The content of a file; `-` is standard input.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// The first bytes of a file.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn head(&self, path: &str, bytes: usize) -> io::Result<Vec<u8>>;
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
    /// Size in bytes; of a directory the sizes of all the files beneath it.
    pub size: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether the submitter may execute it.
    pub executable: bool,
    /// Whether the submitter may read it.
    pub readable: bool,
}
