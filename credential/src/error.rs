//! Why a credential was refused, about which certificate, and who can do something about it.

use std::fmt;

use openssl::error::ErrorStack;

use crate::problem::{
    BundleProblem, CertificateProblem, ChainProblem, NameProblem, ProxyProblem, TrustError,
};
use crate::voms::AcProblem;

/// Who can do something about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The credential itself: its owner has to make or send another one.
    Job,
    /// This node: the directory of trusted CAs, or the program.
    Site,
}

/// The part a certificate plays in a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// An RFC 3820 proxy certificate.
    Proxy,
    /// The user's own certificate (end entity).
    User,
    /// A certification authority.
    Ca,
    /// Not known yet: the path could not be built so far.
    Unknown,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Proxy => "proxy certificate",
            Self::User => "user certificate",
            Self::Ca => "CA certificate",
            Self::Unknown => "certificate",
        })
    }
}

/// Which certificate an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Which {
    /// Its part in the path.
    pub role: Role,
    /// Its place in the bundle, from 1; `None` for one from the CA directory.
    pub position: Option<usize>,
    /// Its subject, escaped and cut to a length fit for a message; empty if it could not be read.
    pub subject: String,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {}", self.role)?;
        if !self.subject.is_empty() {
            write!(f, " '{}'", self.subject)?;
        }
        match self.position {
            Some(position) => write!(f, " (number {position} in the bundle)"),
            None => f.write_str(" (from the CA directory)"),
        }
    }
}

/// Why a credential is refused. `Display` is one sentence: which certificate, what is wrong, what
/// to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The file as a whole.
    #[error("{0}")]
    Bundle(BundleProblem),
    /// One certificate.
    #[error("{which} {problem}")]
    Certificate {
        /// Which one.
        which: Which,
        /// What is wrong.
        problem: CertificateProblem,
    },
    /// The name of one certificate.
    #[error("{which} {problem}")]
    Name {
        /// Which one.
        which: Which,
        /// What is wrong.
        problem: NameProblem,
    },
    /// Its place in the path.
    #[error("{which} {problem}")]
    Chain {
        /// Which one.
        which: Which,
        /// What is wrong.
        problem: ChainProblem,
    },
    /// A proxy certificate.
    #[error("{which} {problem}")]
    Proxy {
        /// Which one.
        which: Which,
        /// What is wrong.
        problem: ProxyProblem,
    },
    /// The attributes of a VO that a certificate carries.
    #[error("the attribute certificate in {which} {problem}")]
    Attribute {
        /// The certificate that carries it.
        which: Which,
        /// What is wrong.
        problem: AcProblem,
    },
    /// What is trusted on this node.
    #[error(transparent)]
    Trust(TrustError),
    /// OpenSSL could not do its work (out of memory, broken installation).
    #[error("OpenSSL failed in the verification; the administrator has to check this node")]
    Library(#[source] ErrorStack),
}

impl VerifyError {
    /// A short stable code, for example `proxy.expired`. Retry logic and tests depend on it, the
    /// sentence may change.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bundle(problem) => problem.code(),
            Self::Certificate { problem, .. } => problem.code(),
            Self::Name { problem, .. } => problem.code(),
            Self::Chain { problem, .. } => problem.code(),
            Self::Proxy { problem, .. } => problem.code(),
            Self::Attribute { problem, .. } => problem.code(),
            Self::Trust(problem) => problem.code(),
            Self::Library(_) => "internal.openssl",
        }
    }

    /// Who can do something about it. A certificate from the CA directory that is expired or
    /// malformed is the site's.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Trust(_) | Self::Library(_) => Blame::Site,
            Self::Attribute { problem, .. } if problem.is_the_sites() => Blame::Site,
            Self::Certificate { which, .. }
            | Self::Name { which, .. }
            | Self::Chain { which, .. }
            | Self::Proxy { which, .. }
                if which.position.is_none() =>
            {
                Blame::Site
            }
            _ => Blame::Job,
        }
    }

    /// Whether the same credential may be accepted by this node a little later with nobody doing
    /// anything. Only trouble in reading files qualifies: everything else is a property of the
    /// credential or of the configuration.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Trust(problem) => problem.retryable(),
            Self::Library(_) => true,
            _ => false,
        }
    }
}

impl From<BundleProblem> for VerifyError {
    fn from(problem: BundleProblem) -> Self {
        Self::Bundle(problem)
    }
}

impl From<TrustError> for VerifyError {
    fn from(problem: TrustError) -> Self {
        Self::Trust(problem)
    }
}

impl From<ErrorStack> for VerifyError {
    fn from(source: ErrorStack) -> Self {
        Self::Library(source)
    }
}
