//! What the site has for changing the account of a process, as configured.

use std::fmt;
use std::path::{Path, PathBuf};

/// How payloads could get accounts of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    /// Our helper, `sailplane-switch`.
    Switch(PathBuf),
    /// A gLExec that the site installed.
    Glexec(PathBuf),
    /// `sudo -n -u ACCOUNT`.
    Sudo(PathBuf),
    /// Nothing.
    Nothing,
}

/// Where `sudo` is when nobody says so.
const SUDO: &str = "/usr/bin/sudo";

impl Offered {
    /// Reads `PATH`, `glexec:PATH`, `sudo`, `sudo:PATH` or `none`; `None` is neither.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let absolute = |path: &str| path.starts_with('/').then(|| PathBuf::from(path));
        let (word, path) = text.split_once(':').unwrap_or((text, ""));
        match word.to_ascii_lowercase().as_str() {
            "none" if path.is_empty() => Some(Self::Nothing),
            "sudo" if path.is_empty() => Some(Self::Sudo(PathBuf::from(SUDO))),
            "sudo" => absolute(path).map(Self::Sudo),
            "glexec" => absolute(path).map(Self::Glexec),
            _ => absolute(text).map(Self::Switch),
        }
    }

    /// One word for the slot ad (`SailplaneIdentitySwitchBy`).
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Switch(_) => "sailplane-switch",
            Self::Glexec(_) => "glexec",
            Self::Sudo(_) => "sudo",
            Self::Nothing => "none",
        }
    }

    /// The program.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Switch(path) | Self::Glexec(path) | Self::Sudo(path) => Some(path),
            Self::Nothing => None,
        }
    }
}

impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(path) => write!(f, "the identity-switch helper ({})", path.display()),
            Self::Glexec(path) => write!(f, "the site's gLExec ({})", path.display()),
            Self::Sudo(path) => write!(f, "sudo ({})", path.display()),
            Self::Nothing => f.write_str("no helper"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        let path = PathBuf::from;
        for (text, wanted) in [
            ("/x/y", Some(Offered::Switch(path("/x/y")))),
            ("glexec:/x/y", Some(Offered::Glexec(path("/x/y")))),
            ("GLEXEC:/x/y", Some(Offered::Glexec(path("/x/y")))),
            ("sudo", Some(Offered::Sudo(path("/usr/bin/sudo")))),
            ("sudo:/x/sudo", Some(Offered::Sudo(path("/x/sudo")))),
            ("none", Some(Offered::Nothing)),
            ("glexec", None),
            ("glexec:y", None),
            ("sudo:y", None),
            ("none:/x", None),
            ("y", None),
            ("/x:y", Some(Offered::Switch(path("/x:y")))),
        ] {
            assert_eq!(Offered::parse(text), wanted, "{text}");
        }
    }
}
