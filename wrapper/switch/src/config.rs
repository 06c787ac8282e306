//! `switch.conf`: an INI file with sections `[glexec]` and `[switch]`.
//!
//! A line is blank, a comment (`#` or `;` first), a section, or `key = value`; a value may stand in
//! double quotes. Every key may stand in either section, once. What is not understood is an error
//! that names the line: a helper that guesses at its policy is worse than one that refuses.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::trusted::is_plain_absolute;

/// Largest configuration file, in bytes.
pub const MAX_CONFIG: u64 = 64 * 1024;

/// The policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who may call.
    pub callers: Vec<CallerPattern>,
    /// Trust anchors for the verifier.
    pub certdir: PathBuf,
    /// Map file, if identities are mapped to named accounts.
    pub gridmap: Option<PathBuf>,
    /// First and last uid of the dynamic accounts, if there are any.
    pub dynamic_uids: Option<(u32, u32)>,
    /// Directories below which sandboxes may be made.
    pub execute_dirs: Vec<PathBuf>,
    /// Where `sailplane-verify` and `sailplane-job` are; else beside the helper itself.
    pub libexec: Option<PathBuf>,
    /// Smallest uid a payload may run as.
    pub target_uid_min: u32,
    /// Largest uid a payload may run as.
    pub target_uid_max: u32,
    /// Directory of leases.
    pub rundir: PathBuf,
    /// Audit lines also go here, if set.
    pub log_file: Option<PathBuf>,
    /// How long what was made ahead of need is kept after the last job has been opened or announced.
    pub warm_time: Duration,
}

/// One word of `user_white_list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallerPattern {
    /// `*`
    Anyone,
    /// `.prefix`: the prefix followed by digits, as pool accounts are named.
    Pool(String),
    /// An account name.
    Name(String),
}

impl CallerPattern {
    /// Does an account of this name match?
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Anyone => true,
            Self::Name(listed) => listed == name,
            Self::Pool(prefix) => name.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())
            }),
        }
    }
}

/// What is wrong, and on which line (0: with the file as a whole).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    line: usize,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    NotText,
    TooLarge,
    UnknownSection(String),
    NoSection,
    NotAnAssignment,
    UnknownKey(String),
    Duplicate(&'static str, usize),
    BadValue(&'static str, &'static str),
    Missing(&'static str),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}: ", self.line)?;
        } else {
            f.write_str(" ")?;
        }
        match &self.problem {
            Problem::NotText => {
                f.write_str("the file is not UTF-8 text, or holds control characters")
            }
            Problem::TooLarge => write!(f, "the file is larger than {MAX_CONFIG} bytes"),
            Problem::UnknownSection(name) => {
                write!(
                    f,
                    "unknown section [{name}]; [glexec] and [switch] are known"
                )
            }
            Problem::NoSection => f.write_str("a key stands before the first section"),
            Problem::NotAnAssignment => {
                f.write_str("this is not a section and not \"key = value\"")
            }
            Problem::UnknownKey(key) => write!(f, "unknown key {key}"),
            Problem::Duplicate(key, line) => write!(f, "{key} was given before, on line {line}"),
            Problem::BadValue(key, wanted) => write!(f, "{key} must be {wanted}"),
            Problem::Missing(key) => write!(f, "{key} is not set"),
        }
    }
}

impl std::error::Error for ConfigError {}

const KEYS: [&str; 12] = [
    "user_white_list",
    "certdir",
    "gridmap",
    "dynamic_uids",
    "execute_dirs",
    "libexec",
    "target_uid_min",
    "target_uid_max",
    "rundir",
    "log_file",
    "log_destination",
    "warm_time",
];

const WANT_PATH: &str = "an absolute path without . or ..";
const WANT_UID: &str = "a number from 1 to 4294967293";
/// User and group number of "nobody", as which the verifier runs.
pub const NOBODY: u32 = 65_534;
const MAX_UID: u32 = u32::MAX - 2;
/// Seconds: longer than the pool needs between two jobs of a slot, and short beside the hours a slot
/// without jobs waits.
const WARM_TIME: Duration = Duration::from_secs(30);

struct Values<'a> {
    given: Vec<(&'static str, &'a str, usize)>,
}

impl<'a> Values<'a> {
    fn find(&self, key: &str) -> Option<(&'a str, usize)> {
        self.given
            .iter()
            .find(|(known, ..)| *known == key)
            .map(|(_, value, line)| (*value, *line))
    }

    fn read<T>(
        &self,
        key: &'static str,
        wanted: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        match self.find(key) {
            None => Ok(None),
            Some((value, line)) => match parse(value) {
                Some(value) => Ok(Some(value)),
                None => Err(ConfigError {
                    line,
                    problem: Problem::BadValue(key, wanted),
                }),
            },
        }
    }

    fn path(&self, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        self.read(key, WANT_PATH, path)
    }

    fn uid(&self, key: &'static str, default: u32) -> Result<u32, ConfigError> {
        Ok(self.read(key, WANT_UID, uid)?.unwrap_or(default))
    }
}

impl Config {
    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// On the first line that is not understood, a value out of range, or a key that is missing.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let values = split(text)?;
        let missing = |key| ConfigError {
            line: 0,
            problem: Problem::Missing(key),
        };
        values.read("log_destination", "file or syslog", |value| {
            matches!(value, "file" | "syslog").then_some(())
        })?;
        let config = Self {
            callers: values
                .read("user_white_list", "account names, .prefix or *", callers)?
                .ok_or_else(|| missing("user_white_list"))?,
            certdir: values.path("certdir")?.ok_or_else(|| missing("certdir"))?,
            gridmap: values.path("gridmap")?,
            dynamic_uids: values.read(
                "dynamic_uids",
                "FIRST-LAST, from 1000 up, at most 65536 of them, without 65534",
                uid_range,
            )?,
            execute_dirs: values
                .read(
                    "execute_dirs",
                    "absolute paths without . or .. (not / itself)",
                    directories,
                )?
                .ok_or_else(|| missing("execute_dirs"))?,
            libexec: values.path("libexec")?,
            target_uid_min: values.uid("target_uid_min", 1000)?,
            target_uid_max: values.uid("target_uid_max", MAX_UID)?,
            rundir: values
                .path("rundir")?
                .unwrap_or_else(|| PathBuf::from("/run/sailplane")),
            log_file: values.path("log_file")?,
            warm_time: values
                .read("warm_time", "seconds, from 1 to 86400", seconds)?
                .unwrap_or(WARM_TIME),
        };
        if config.gridmap.is_none() && config.dynamic_uids.is_none() {
            return Err(missing("gridmap or dynamic_uids"));
        }
        if config.target_uid_min > config.target_uid_max {
            let line = values.find("target_uid_max").map_or(0, |(_, line)| line);
            let problem = Problem::BadValue("target_uid_max", "at least target_uid_min");
            return Err(ConfigError { line, problem });
        }
        Ok(config)
    }

    /// The error for a file that is too large.
    pub(crate) fn too_large() -> ConfigError {
        ConfigError {
            line: 0,
            problem: Problem::TooLarge,
        }
    }

    /// Which configured directory holds `path`?
    pub fn allows_execute_dir(&self, path: &Path) -> bool {
        self.execute_dirs
            .iter()
            .any(|allowed| path.starts_with(allowed))
    }

    /// Is `uid` one of the dynamic accounts?
    pub fn is_dynamic(&self, uid: u32) -> bool {
        self.dynamic_uids
            .is_some_and(|(first, last)| (first..=last).contains(&uid))
    }
}

fn split(text: &[u8]) -> Result<Values<'_>, ConfigError> {
    let problem = |line, problem| ConfigError { line, problem };
    let text = std::str::from_utf8(text).map_err(|_| problem(0, Problem::NotText))?;
    if text
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
    {
        return Err(problem(0, Problem::NotText));
    }
    let mut given: Vec<(&'static str, &str, usize)> = Vec::new();
    let mut in_section = false;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            if !matches!(name.trim(), "glexec" | "switch") {
                return Err(problem(
                    number,
                    Problem::UnknownSection(name.trim().to_owned()),
                ));
            }
            in_section = true;
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| problem(number, Problem::NotAnAssignment))?;
        if !in_section {
            return Err(problem(number, Problem::NoSection));
        }
        let key = key.trim();
        let key = KEYS
            .into_iter()
            .find(|known| *known == key)
            .ok_or_else(|| problem(number, Problem::UnknownKey(key.to_owned())))?;
        if let Some((.., before)) = given.iter().find(|(known, ..)| *known == key) {
            return Err(problem(number, Problem::Duplicate(key, *before)));
        }
        given.push((key, unquote(value.trim()), number));
    }
    Ok(Values { given })
}

fn unquote(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value)
}

fn words(value: &str) -> impl Iterator<Item = &str> {
    value
        .split([' ', '\t', ','])
        .filter(|word| !word.is_empty())
}

fn path(value: &str) -> Option<PathBuf> {
    let path = PathBuf::from(value.trim_end_matches('/'));
    is_plain_absolute(&path).then_some(path)
}

fn directories(value: &str) -> Option<Vec<PathBuf>> {
    let list = value
        .split([' ', '\t', ',', ':'])
        .filter(|word| !word.is_empty())
        .map(path)
        .collect::<Option<Vec<_>>>()?;
    (1..=64).contains(&list.len()).then_some(list)
}

/// An account name as `useradd` allows it; never a number.
pub(crate) fn is_account_name(name: &str) -> bool {
    name.len() <= 64
        && name
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn callers(value: &str) -> Option<Vec<CallerPattern>> {
    let list = words(value)
        .map(|word| match word.strip_prefix('.') {
            _ if word == "*" => Some(CallerPattern::Anyone),
            Some(prefix) if is_account_name(prefix) => Some(CallerPattern::Pool(prefix.to_owned())),
            None if is_account_name(word) => Some(CallerPattern::Name(word.to_owned())),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    (!list.is_empty()).then_some(list)
}

fn uid(value: &str) -> Option<u32> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    value
        .parse()
        .ok()
        .filter(|uid| digits && (1..=MAX_UID).contains(uid))
}

fn seconds(value: &str) -> Option<Duration> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    value
        .parse()
        .ok()
        .filter(|seconds| digits && (1..=86_400).contains(seconds))
        .map(Duration::from_secs)
}

fn uid_range(value: &str) -> Option<(u32, u32)> {
    let (first, last) = value.split_once('-')?;
    let (first, last) = (uid(first.trim())?, uid(last.trim())?);
    let sound = first >= 1000
        && first <= last
        && last - first < 65_536
        && !(first..=last).contains(&NOBODY);
    sound.then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
# site policy
[glexec]
user_white_list = pilot, .glide  condor
[switch]
certdir = /etc/grid-security/certificates
gridmap = \"/etc/sailplane/gridmap\"
dynamic_uids = 60001-60016
execute_dirs = /scratch:/data/exec/
";

    fn error(text: &str) -> String {
        Config::parse(text.as_bytes())
            .expect_err("must be refused")
            .to_string()
    }

    #[test]
    fn a_site_file_is_read() {
        let config = Config::parse(GOOD.as_bytes()).expect("good");
        assert_eq!(config.dynamic_uids, Some((60_001, 60_016)));
        assert_eq!(
            config.gridmap.as_deref(),
            Some(Path::new("/etc/sailplane/gridmap"))
        );
        assert_eq!(
            config.execute_dirs,
            [Path::new("/scratch"), Path::new("/data/exec")]
        );
        assert_eq!(config.target_uid_min, 1000);
        assert_eq!(config.warm_time, Duration::from_secs(30));
        assert!(config.callers.iter().any(|c| c.matches("glide07")));
        assert!(!config.callers.iter().any(|c| c.matches("glide")));
        assert!(!config.callers.iter().any(|c| c.matches("glide07x")));
        assert!(config.allows_execute_dir(Path::new("/scratch/pilot1")));
        assert!(!config.allows_execute_dir(Path::new("/scratch2")));
    }

    #[test]
    fn the_shipped_example_is_understood() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../examples/site/switch.conf"
        );
        let text = std::fs::read(path).expect("the example is in the repository");
        Config::parse(&text).expect("understood");
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        let cases = [
            ("[lcmaps]\n", "1: unknown section [lcmaps]"),
            ("certdir = /x\n", "1: a key stands before"),
            ("[switch]\ncertdri = /x\n", "2: unknown key certdri"),
            (
                "[switch]\ncertdir = /x\ncertdir = /y\n",
                "3: certdir was given before, on line 2",
            ),
            ("[switch]\ncertdir\n", "2: this is not a section"),
            (
                "[switch]\nuser_white_list = root!\n",
                "2: user_white_list must be",
            ),
            (
                "[switch]\nuser_white_list = 0\n",
                "2: user_white_list must be",
            ),
            (
                "[switch]\nuser_white_list = a\ncertdir = etc/x\n",
                "3: certdir must be",
            ),
            (
                "[switch]\nuser_white_list = a\ncertdir = /etc/../x\n",
                "3: certdir must be",
            ),
            (
                "[switch]\nuser_white_list = a\ncertdir=/x\nexecute_dirs=/\n",
                "4: execute_dirs must",
            ),
            ("[switch]\nuser_white_list=a\n", " certdir is not set"),
            (
                "[switch]\nuser_white_list = a\0b\n",
                " the file is not UTF-8",
            ),
        ];
        for (text, wanted) in cases {
            let got = error(text);
            assert!(got.starts_with(wanted), "{text:?}: {got}");
        }
    }

    #[test]
    fn the_warm_time_is_a_number_of_seconds() {
        let config = Config::parse(format!("{GOOD}warm_time = 5\n").as_bytes()).expect("good");
        assert_eq!(config.warm_time, Duration::from_secs(5));
        for bad in ["", "0", "-1", "+5", "1.5", "5s", "86401"] {
            let got = error(&format!("{GOOD}warm_time = {bad}\n"));
            assert!(got.starts_with("9: warm_time must be"), "{bad}: {got}");
        }
    }

    #[test]
    fn m3_uid_ranges_that_could_hit_the_system_are_refused() {
        for bad in [
            "0-100",
            "999-2000",
            "2000-1999",
            "60000-70000",
            "1000-4294967295",
            "-5-3000",
            "1000-+2000",
            "1000",
            "1000-200000",
            "",
        ] {
            let text = format!("[switch]\nuser_white_list=a\ncertdir=/c\ndynamic_uids={bad}\n");
            assert!(error(&text).starts_with("4: dynamic_uids must be"), "{bad}");
        }
    }
}
