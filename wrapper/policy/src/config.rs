//! `switch.conf`: an INI file with sections `[glexec]` and `[switch]` (requirements G10 to G12).
//!
//! A line is blank, a comment (`#` or `;` first), a section, or `key = value`; a value may stand in
//! double quotes. Every key may stand in either section, once. What is not understood is an error
//! that names the line: a helper that guesses at its policy is worse than one that refuses.

mod ini;
mod keys;
mod read;
pub(crate) mod values;

use std::path::{Path, PathBuf};

use launch_protocol::policy::Settings;

pub use self::ini::{ConfigError, MAX_CONFIG};
use self::ini::{Problem, Values};
use crate::hours::Hours;

/// User and group number of "nobody", as which verifier and policy service run.
pub(crate) const NOBODY: u32 = 65_534;

/// All that the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What root needs of it.
    pub settings: Settings,
    /// Who may call, by account.
    pub callers: Vec<NamePattern>,
    /// Who need not present a private key.
    pub may_omit_key: Vec<NamePattern>,
    /// Programs that may call; none: any.
    pub caller_executables: Vec<String>,
    /// When payloads may be started; `None`: always.
    pub hours: Option<Hours>,
    /// Where accounts come from, in this order.
    pub steps: Vec<Step>,
    /// Accounts that callers may ask for by name.
    pub slot_accounts: Vec<NamePattern>,
    /// Patterns count in pool lines of the map files.
    pub gridmap_patterns: bool,
    /// The external mapper and its time limit in seconds.
    pub mapper: Option<(PathBuf, u32)>,
    /// What each of [`Settings::policy_files`] is.
    pub files: Vec<FileKind>,
}

/// One word of a list of accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// `*`
    Anyone,
    /// `.prefix`: the prefix followed by digits, as pool accounts are named.
    Pool(String),
    /// An account name.
    Name(String),
}

/// Where accounts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// By distinguished name, from a grid-mapfile.
    Gridmap,
    /// By attributes, from a voms-mapfile.
    Vomsmap,
    /// By the claims of a token.
    Tokenmap,
    /// From a program.
    Mapper,
    /// What the caller asks for.
    Slot,
    /// Any free number.
    Dynamic,
}

/// What a policy file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Who may not run anything.
    Bans,
    /// Distinguished names to accounts.
    Gridmap,
    /// Attributes to accounts.
    Vomsmap,
    /// Tokens to accounts.
    Tokenmap,
    /// Attributes to groups.
    Groupmap,
    /// A program; passed so that root has looked at its path.
    Mapper,
}

impl NamePattern {
    /// Does an account of this name match?
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Anyone => true,
            Self::Name(listed) => listed == name,
            Self::Pool(prefix) => is_pool_member(name, prefix),
        }
    }

    /// Could one account match both?
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Anyone, _) | (_, Self::Anyone) => true,
            (Self::Name(name), pattern) | (pattern, Self::Name(name)) => pattern.matches(name),
            // "a" and "a1" share a12; "a" and "ab" share nothing.
            (Self::Pool(one), Self::Pool(other)) => {
                let rest = one
                    .strip_prefix(other.as_str())
                    .or_else(|| other.strip_prefix(one.as_str()));
                rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
            }
        }
    }
}

/// `prefix` followed by digits.
pub(crate) fn is_pool_member(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Step {
    pub(crate) const ALL: [(&'static str, Self); 6] = [
        ("gridmap", Self::Gridmap),
        ("vomsmap", Self::Vomsmap),
        ("tokenmap", Self::Tokenmap),
        ("mapper", Self::Mapper),
        ("slot", Self::Slot),
        ("dynamic", Self::Dynamic),
    ];
}

impl Config {
    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// Everything that is wrong with it, by line.
    pub fn parse(text: &[u8]) -> Result<Self, Vec<ConfigError>> {
        read::parse(text)
    }

    /// The policy files and what they are.
    pub fn policy_files(&self) -> impl Iterator<Item = (FileKind, &Path)> {
        let paths = self.settings.policy_files.iter().map(PathBuf::as_path);
        self.files.iter().copied().zip(paths)
    }

    /// Is `uid` one of the dynamic accounts?
    pub(crate) fn is_dynamic(&self, uid: u32) -> bool {
        self.settings
            .targets
            .dynamic_uids
            .is_some_and(|(first, last)| (first..=last).contains(&uid))
    }
}

#[cfg(test)]
mod tests;
