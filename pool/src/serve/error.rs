//! Why a pool cannot begin.

use std::io;
use std::path::PathBuf;

use cedar::security::server::LevelPolicyError;
use thiserror::Error;

use crate::queue::OpenError;
use crate::security::{KeyError, SecurityErrors};
use crate::transfer::TransfersConfigError;

/// Why a pool cannot begin. Each is one sentence that names the knob or file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A knob has no usable value.
    #[error("the configuration is wrong: {0}")]
    Configuration(#[from] condorconf::Error),
    /// The security settings have mistakes.
    #[error("the security settings are wrong:\n{0}")]
    Security(#[from] SecurityErrors),
    /// The settings of file transfer have mistakes.
    #[error("the configuration is wrong: {0}")]
    Transfers(#[from] TransfersConfigError),
    /// The signing key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A policy contradicts itself.
    #[error("the security settings contradict each other: {0}")]
    Policy(#[source] LevelPolicyError),
    /// A folder cannot be made.
    #[error("cannot make the folder {} ({knob}): {source}", path.display())]
    Folder {
        /// The knob that names it.
        knob: String,
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The address is none of ours, or taken.
    #[error("cannot listen at {address} (COLLECTOR_HOST, NETWORK_INTERFACE): {source}")]
    Listen {
        /// The address.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// `COLLECTOR_HOST` or `NETWORK_INTERFACE` is no address.
    #[error("{knob} is {value:?}, which is no address of this machine")]
    Address {
        /// The knob.
        knob: &'static str,
        /// Its value.
        value: String,
    },
    /// The queue cannot be opened.
    #[error(transparent)]
    Queue(#[from] OpenError),
    /// We do not know where our own program is.
    #[error("cannot find the program that opens users' files (this one): {0}")]
    OwnProgram(#[source] io::Error),
    /// The runtime cannot start.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}
