//! What can be wrong with a manifest, and whose that is.

use thiserror::Error;

use super::pin::BadPin;
use crate::check::Owner;
use crate::fetch::{Digest, FetchError, LocationError};

/// A manifest that cannot be used. Nothing of it was run.
#[derive(Debug, Error)]
#[error("the manifest {manifest}: {kind}")]
pub struct ManifestError {
    /// Its address.
    pub manifest: String,
    /// Whose it is, if that could be read (and believed).
    pub owner: Option<Owner>,
    /// What is wrong.
    #[source]
    pub kind: Box<ManifestErrorKind>,
}

/// What is wrong.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ManifestErrorKind {
    /// The configuration names it in a form that is none.
    #[error(transparent)]
    Pin(#[from] BadPin),
    /// It or its signature could not be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It is another one than was pinned.
    #[error("its digest is {got}, and {want} was pinned")]
    Digest {
        /// Of what came.
        got: Digest,
        /// Of what was meant.
        want: Digest,
    },
    /// Nobody of those who may has signed it.
    #[error("none of its signatures is by a key that was pinned")]
    Signature,
    /// The file of signatures is none.
    #[error("{0} has no signature in it: 64 bytes, or lines of base64")]
    SignatureForm(String),
    /// It is no manifest.
    #[error("it is not what a manifest looks like: {0}")]
    Form(String),
    /// It is of a later form.
    #[error("it has the form {0}, and this pilot knows the form {known}", known = super::FORM)]
    Version(u64),
    /// It is over.
    #[error("it was good until {until}")]
    Expired {
        /// Its end.
        until: String,
    },
    /// A scope that does not belong to its owner.
    #[error("the scope {scope} is not for a manifest of the {owner}", owner = .owner.word())]
    Scope {
        /// The scope, as it is written.
        scope: String,
        /// The manifest's owner.
        owner: Owner,
    },
    /// A scope twice, or one without its name.
    #[error("the scope {0} is there twice")]
    ScopeTwice(String),
    /// A scope of entry or group without name.
    #[error("a scope {0} needs a name")]
    ScopeName(String),
    /// The configuration names an entry or group that is not in it.
    #[error("it has no {scope} named {name}; there are: {known}")]
    NoSuch {
        /// `entry` or `group`.
        scope: &'static str,
        /// What was wanted.
        name: String,
        /// What there is.
        known: String,
    },
    /// The configuration does not say which.
    #[error("it has more than one {scope} ({known}), and {knob} does not say which")]
    Which {
        /// `entry` or `group`.
        scope: &'static str,
        /// What there is.
        known: String,
        /// What would say.
        knob: &'static str,
    },
    /// Too many files, or too large ones.
    #[error("it has {what} {got}, more than {limit}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// Something is wrong with a file in it.
    #[error("its file {file}: {what}")]
    File {
        /// `<scope>/<name>`.
        file: String,
        /// What.
        #[source]
        what: FileError,
    },
    /// Checks that wait for each other.
    #[error("its checks wait for each other: {0}")]
    Cycle(String),
    /// A key that the dashboard cannot have.
    #[error("the constant {0:?} cannot be a name in the dashboard")]
    Constant(String),
    /// Something to be published that cannot be.
    #[error("`publish`: {0}")]
    Publish(String),
}

/// What is wrong with a file of a manifest.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// Its name.
    #[error(
        "its name has to have letters, digits, `.`, `_`, `+` and `-` only, at most 128, and cannot begin with `.` or `-`"
    )]
    Name,
    /// A name of ours.
    #[error("the pilot has its own file of that name")]
    Reserved,
    /// Two of one name.
    #[error("it is there twice")]
    Twice,
    /// Two checks of one name.
    #[error("another check is named {0}, too")]
    IdTwice(String),
    /// No such kind.
    #[error("{0:?} is no kind of file; there are check, data, vars, constants, cleanup, archive")]
    Kind(String),
    /// Known in the field, and not here.
    #[error("this pilot runs no wrapper scripts around jobs")]
    Wrapper,
    /// No such stage in its scope.
    #[error("{stage:?} is no stage of the scope {scope}; there are {known}")]
    Stage {
        /// What it says.
        stage: String,
        /// Its scope.
        scope: &'static str,
        /// What it could say.
        known: &'static str,
    },
    /// Its digest.
    #[error("{0}")]
    Digest(String),
    /// Too large.
    #[error("it has {got} bytes, more than {limit}")]
    Size {
        /// Announced.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// Its address.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// Its condition.
    #[error("its condition is no ClassAd expression: {0}")]
    Condition(String),
    /// Its prefix.
    #[error("{0:?} cannot begin the names of attributes; use letters, digits and _, or NOPREFIX")]
    Prefix(String),
    /// A key.
    #[error("{0:?} cannot be a name in the dashboard")]
    Key(String),
    /// The name of a check.
    #[error("{0}")]
    Id(String),
    /// It waits for something that is not there.
    #[error("it needs {0}, which is no check of this manifest")]
    Needs(String),
    /// It waits for something that comes later.
    #[error("it needs {0}, which comes after it in the order of the field")]
    NeedsLater(String),
    /// Something that only a check has.
    #[error("`{0}` is for checks only")]
    CheckOnly(&'static str),
    /// Text that is none, or a table that is none.
    #[error("{0}")]
    Content(String),
}

impl ManifestError {
    /// Whether trying again can help.
    #[must_use]
    pub fn transient(&self) -> bool {
        match &*self.kind {
            ManifestErrorKind::Fetch(error) => error.transient(),
            _ => false,
        }
    }
}
