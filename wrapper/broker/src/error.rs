//! Why the broker ends.

use std::fmt;

use launch_protocol::broker::{Refusal, RefusalClass};
use nix::errno::Errno;

use crate::refuse::helper;

/// Why the broker does not start, or go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The words behind `--sweep` make no sense.
    Usage,
    /// The site's policy does not do, does not admit the caller, or the monitor cannot.
    Refused(Refusal),
    /// The pilot speaks another version.
    Version(u32),
    /// A system call failed.
    System(&'static str, Errno),
    /// There is no monitor any more.
    Alone,
}

impl Failure {
    /// For the monitor, which knows whom to tell.
    pub(crate) fn refusal(&self) -> Refusal {
        let (class, code) = match self {
            Self::Refused(refusal) => return refusal.clone(),
            Self::Usage => (RefusalClass::Caller, "startup.usage"),
            Self::Version(_) => (RefusalClass::Caller, "startup.version"),
            Self::System(..) | Self::Alone => (RefusalClass::SitePermanent, "startup.system"),
        };
        helper(class, code, self.to_string(), false)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage => f.write_str(
                "usage: sailplane-switch --sweep [--pool] [--format json|table] [FOLDER]...",
            ),
            Self::Refused(refusal) => f.write_str(&refusal.message),
            Self::Version(theirs) => write!(
                f,
                "the pilot speaks launch protocol {theirs}, this helper {}; install matching versions",
                launch_protocol::VERSION
            ),
            Self::System(call, errno) => write!(f, "{call} failed: {}", errno.desc()),
            Self::Alone => f.write_str("the helper's monitor is gone"),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
