//! Where a value came from.

use std::fmt;
use std::sync::Arc;

/// A line of a file (or of a text given by the caller).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file's name as it was opened; a command ends in ` |`.
    pub file: Arc<str>,
    /// Line, counted from 1; of a continued line or a here-document the last one, as `condor_config_val -v` says it.
    pub line: u32,
    /// The template (`CATEGORY:NAME`) that set the value, when the line is a `use` statement.
    pub template: Option<Arc<str>>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        match &self.template {
            Some(template) => write!(f, " (use {template})"),
            None => Ok(()),
        }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// A default given by the program that reads the configuration.
    Default,
    /// A fact about the machine or the process (`DETECTED_CPUS`, `HOSTNAME`), told by the program.
    Detected,
    /// A file, or a text with a name.
    File(Place),
    /// An environment variable `_CONDOR_NAME`.
    Environment,
    /// The command line.
    CommandLine,
}

impl Origin {
    /// The file and line, if that is where the value is from.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::File(place) => Some(place),
            Self::Default | Self::Detected | Self::Environment | Self::CommandLine => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Detected => f.write_str("detected"),
            Self::File(place) => place.fmt(f),
            Self::Environment => f.write_str("environment"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}
