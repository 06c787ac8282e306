//! What can be wrong with the pilot's configuration.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use cedar::security::policy::PolicyError;
use cedar::sinful::SinfulError;
use classad::ParseError;
use condorconf::{ErrorKind, Errors, Origin};

use crate::job::arguments::SyntaxError;

/// One mistake: knob, place, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnobError(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    knob: String,
    origin: Option<Origin>,
    problem: Problem,
}

impl KnobError {
    pub(super) fn new(knob: &str, origin: Option<&Origin>, problem: Problem) -> Self {
        Self(Box::new(Inner {
            knob: knob.to_owned(),
            origin: origin.cloned(),
            problem,
        }))
    }

    /// The knob; empty where the mistake is not about a single one.
    #[must_use]
    pub fn knob(&self) -> &str {
        &self.0.knob
    }

    /// Where it is set.
    #[must_use]
    pub fn origin(&self) -> Option<&Origin> {
        self.0.origin.as_ref()
    }

    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.0.problem
    }
}

impl From<condorconf::Error> for KnobError {
    fn from(error: condorconf::Error) -> Self {
        Self::new(
            error.knob().unwrap_or(""),
            error.origin(),
            Problem::Config(error.kind().clone()),
        )
    }
}

impl fmt::Display for KnobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin() {
            // Whoever did not set a knob is not helped by "default" as its place.
            None | Some(Origin::Default) => {}
            Some(origin) => write!(f, "{origin}: ")?,
        }
        if !self.knob().is_empty() {
            write!(f, "{}: ", self.knob())?;
        }
        self.problem().fmt(f)
    }
}

impl std::error::Error for KnobError {}

/// What is wrong with a knob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The language: syntax, expansion, type or range.
    #[error("{0}")]
    Config(ErrorKind),
    /// A `SAILPLANE_` knob that does not exist.
    #[error("there is no such knob{}", nearest.map_or_else(String::new, |name| format!("; did you mean {name}?")))]
    Unknown {
        /// The knob that is spelled nearly so.
        nearest: Option<&'static str>,
    },
    /// It must be set.
    #[error("is not set; {hint}")]
    Missing {
        /// What to do.
        hint: &'static str,
    },
    /// No ClassAd expression.
    #[error("{text:?} is not a ClassAd expression: {cause}")]
    Expression {
        /// The value.
        text: String,
        /// Why not.
        cause: ParseError,
    },
    /// Not the name of an attribute.
    #[error("{name:?} cannot be the name of an attribute")]
    AttributeName {
        /// The name.
        name: String,
    },
    /// Not the address of a collector.
    #[error("{text:?} is not an address (NAME, NAME:PORT or <ADDRESS:PORT?...>): {cause}")]
    Address {
        /// The item.
        text: String,
        /// Why not.
        cause: SinfulError,
    },
    /// A collector without a fixed port.
    #[error("{text:?} has port 0; the pilot cannot look up where the collector really listens")]
    NoPort {
        /// The item.
        text: String,
    },
    /// Nothing that can stand in an address.
    #[error(
        "{text:?} cannot be the name of a network: letters, digits and punctuation are allowed, blanks are not"
    )]
    NetworkName {
        /// The value.
        text: String,
    },
    /// Not REQUIRED, PREFERRED, OPTIONAL or NEVER.
    #[error("expected REQUIRED, PREFERRED, OPTIONAL or NEVER, got {text:?}")]
    Wish {
        /// The value.
        text: String,
    },
    /// None of the words a knob may have.
    #[error("expected one of {}, got {text:?}", allowed.join(", "))]
    Choice {
        /// The value.
        text: String,
        /// The words.
        allowed: &'static [&'static str],
    },
    /// Something of the checks.
    #[error("{sentence}")]
    Check {
        /// What is wrong.
        sentence: String,
    },
    /// No known method.
    #[error("{text:?} is not an authentication method")]
    Method {
        /// The name.
        text: String,
    },
    /// Methods, but none that the pilot has.
    #[error(
        "none of {text:?} can be used: the pilot has IDTOKENS, SSL, SCITOKENS, FS and CLAIMTOBE"
    )]
    NoMethod {
        /// The list.
        text: String,
    },
    /// The only cipher the pilot has is not among the wanted ones.
    #[error("{text:?} does not include AES, the only cipher the pilot has")]
    NoCipher {
        /// The list.
        text: String,
    },
    /// The policy cannot be fulfilled.
    #[error("the security policy contradicts itself: {0}")]
    Policy(PolicyError),
    /// No way to change the account of a process.
    #[error("expected the path of the helper, glexec:PATH, sudo, sudo:PATH or none, got {text:?}")]
    Helper {
        /// The value.
        text: String,
    },
    /// No name of an account.
    #[error("{text:?} cannot be the name of an account")]
    Account {
        /// The value.
        text: String,
    },
    /// SSL alone, and nothing to show.
    #[error("SSL needs a certificate to prove who the pilot is; set AUTH_SSL_CLIENT_CERTFILE")]
    NoCertificate,
    /// A key, and no certificate that it could belong to.
    #[error("names a private key, but AUTH_SSL_CLIENT_CERTFILE names no certificate")]
    KeyWithoutCertificate,
    /// Lists of keys and of certificates that do not go together.
    #[error(
        "has {keys} paths, and AUTH_SSL_CLIENT_CERTFILE has {certificates}: each certificate needs its own key"
    )]
    KeysAndCertificates {
        /// How many keys.
        keys: usize,
        /// How many certificates.
        certificates: usize,
    },
    /// No identity.
    #[error("{text:?} is not an identity (NAME or NAME@DOMAIN)")]
    Identity {
        /// The value.
        text: String,
    },
    /// A path that is not absolute.
    #[error("expected an absolute path, got {text:?}")]
    NotAbsolute {
        /// The value.
        text: String,
    },
    /// One bound of a port range without the other, or the lower above the upper.
    #[error(
        "the ports {low} and {high} are no range (both must be set, from 1 to 65535, the lower one first)"
    )]
    PortRange {
        /// The lower bound as configured.
        low: String,
        /// The upper bound as configured.
        high: String,
    },
    /// No environment.
    #[error("is not a list of NAME=VALUE: {0}")]
    Environment(SyntaxError),
    /// More slots than cores.
    #[error("{slots} slots cannot be made of {cpus} cores")]
    TooManySlots {
        /// `NUM_SLOTS`.
        slots: u32,
        /// Cores.
        cpus: u32,
    },
    /// A path of the command line that is not UTF-8.
    #[error("the path {} is not UTF-8", path.display())]
    PathNotText {
        /// The path.
        path: PathBuf,
    },
}

/// All mistakes of a configuration. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnobErrors(Vec<KnobError>);

impl KnobErrors {
    /// `None` when there are no mistakes; else by file and line, those without a place first.
    #[must_use]
    pub fn from_vec(mut errors: Vec<KnobError>) -> Option<Self> {
        let place = |error: &KnobError| {
            error
                .origin()
                .and_then(Origin::place)
                .map(|place| (Arc::clone(&place.file), place.line))
        };
        errors.sort_by_key(place);
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// The mistakes.
    pub fn iter(&self) -> impl Iterator<Item = &KnobError> {
        self.0.iter()
    }
}

impl From<KnobError> for KnobErrors {
    fn from(error: KnobError) -> Self {
        Self(vec![error])
    }
}

impl From<Errors> for KnobErrors {
    fn from(errors: Errors) -> Self {
        Self(errors.into_vec().into_iter().map(KnobError::from).collect())
    }
}

impl fmt::Display for KnobErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n  ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for KnobErrors {}
