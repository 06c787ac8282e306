//! What can be wrong with the security configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use condorconf::Origin;

/// Every mistake that was found; never empty.
#[derive(Debug)]
pub struct SecurityErrors(pub Vec<SecurityError>);

impl fmt::Display for SecurityErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for SecurityErrors {}

/// One mistake: knob, place, and what is wrong.
#[derive(Debug)]
pub struct SecurityError {
    /// The knob.
    pub knob: String,
    /// Where it is set; `None`: nowhere.
    pub origin: Option<Origin>,
    /// What is wrong and what to do.
    pub problem: Problem,
}

impl fmt::Display for SecurityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            // Whoever did not set a knob is not helped by "default" as its place.
            None | Some(Origin::Default) => {}
            Some(origin) => write!(f, "{origin}: ")?,
        }
        write!(f, "{}: {}", self.knob, self.problem)
    }
}

impl std::error::Error for SecurityError {}

/// What is wrong with a knob.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The language: syntax, expansion, type or range.
    #[error("{0}")]
    Config(condorconf::ErrorKind),
}

/// A signing key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It cannot be read or made.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// No token was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// The signing keys cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
}
