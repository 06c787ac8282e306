//! What can be wrong with the security configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use cedar::security::policy::Feature;
use condorconf::Origin;

use super::access::EntryError;
use super::mapfile::MapError;

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
    /// A path that is not absolute.
    #[error("expected an absolute path, got {text:?}")]
    NotAbsolute {
        /// The value.
        text: String,
    },
    /// An entry of an access list.
    #[error("the entry {entry:?} cannot fit anybody: {error}")]
    Entry {
        /// The entry.
        entry: String,
        /// Why.
        error: EntryError,
    },
    /// Not REQUIRED, PREFERRED, OPTIONAL or NEVER.
    #[error("expected REQUIRED, PREFERRED, OPTIONAL or NEVER, got {text:?}")]
    Wish {
        /// The value.
        text: String,
    },
    /// Required, and something it needs forbidden.
    #[error(
        "{weak} cannot be NEVER while {strong} is REQUIRED (by {required_by}); change one of them"
    )]
    Contradiction {
        /// What is required.
        strong: Feature,
        /// What is forbidden.
        weak: Feature,
        /// The knob that requires it.
        required_by: String,
    },
    /// No known method.
    #[error("{text:?} is not an authentication method")]
    Method {
        /// The name.
        text: String,
    },
    /// Methods, but none that can be used.
    #[error(
        "none of {text:?} can be used; this pool has FS, IDTOKENS, SSL, PASSWORD, CLAIMTOBE and ANONYMOUS"
    )]
    NoMethod {
        /// The list.
        text: String,
    },
    /// The only cipher there is is not among the wanted ones.
    #[error("{text:?} does not include AES, the only cipher this pool has")]
    NoCipher {
        /// The list.
        text: String,
    },
    /// No ClassAd expression.
    #[error("{text:?} is not a ClassAd expression: {cause}")]
    Expression {
        /// The value.
        text: String,
        /// Why not.
        cause: classad::ParseError,
    },
    /// No level.
    #[error("{text:?} is not an authorization level")]
    Level {
        /// The word.
        text: String,
    },
    /// Not a domain that can be named in tokens and identities.
    #[error("{text:?} cannot be a domain: blanks, commas and @ separate names")]
    Domain {
        /// The value.
        text: String,
    },
    /// It must be set because another knob is.
    #[error("must be set because {other} is")]
    Needed {
        /// The other knob.
        other: &'static str,
    },
    /// No pair of certificate and key can be read.
    #[error(
        "no certificate of the list can be read together with the key at the same place of AUTH_SSL_SERVER_KEYFILE"
    )]
    NoCertificate,
    /// Certificate, key or authorities cannot be used.
    #[error("{text}")]
    Ssl {
        /// Which, and what the library says.
        text: String,
    },
    /// A secret file.
    #[error("{0}")]
    Key(KeyError),
    /// A line of the map file.
    #[error("{0}")]
    Map(MapError),
    /// A list of HTCondor before 8.
    #[error("is not read since HTCondor 9.0; set {instead}")]
    OldList {
        /// Its successor.
        instead: String,
    },
    /// A list for a daemon that this pool does not have.
    #[error(
        "would not be read: collector, negotiator and schedd are one process here; set {instead}"
    )]
    OtherDaemon {
        /// The knob that is read.
        instead: String,
    },
}

/// A signing key or password file cannot be used.
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
    /// Somebody else may read it.
    #[error("{} is a secret that others can read or change (mode {mode:04o}); run: chmod 600 {}", path.display(), path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Somebody else owns it.
    #[error("{} belongs to uid {owner}, and must belong to uid {wanted} or to root", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who should be.
        wanted: u32,
    },
    /// There is no secret in it.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl KeyError {
    pub(super) fn io(path: &std::path::Path, error: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            error,
        }
    }

    /// True if there is no such file.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}

/// No token was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// The signing keys cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There is no such key.
    #[error("there is no signing key {key}; the keys are: {known}")]
    NoKey {
        /// The key asked for.
        key: String,
        /// Those that exist.
        known: String,
    },
    /// Nobody can be called that.
    #[error("{identity:?} cannot be the identity of a token: {why}")]
    Identity {
        /// The name.
        identity: String,
        /// Why not.
        why: &'static str,
    },
    /// The library refused random bytes or a signature.
    #[error("the cryptographic library failed")]
    Random,
}
