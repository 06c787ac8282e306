//! Why a user's file cannot be had, and whose fault that is.

use std::path::PathBuf;

use nix::errno::Errno;
use thiserror::Error;

/// A file operation failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The kernel refused what the owner's process asked.
    #[error("cannot {what} {}: (errno {}) {}", path.display(), *errno as i32, errno.desc())]
    Refused {
        /// The verb: `read`, `write`, `make directory`.
        what: &'static str,
        /// Which path.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// What is there is a device, pipe or socket.
    #[error("cannot {what} {}: it is not a regular file", path.display())]
    NotRegular {
        /// The verb.
        what: &'static str,
        /// Which path.
        path: PathBuf,
    },
    /// A path that no file can have.
    #[error("the path {path:?} cannot be used: it {why}")]
    Path {
        /// What was asked for, made printable and shortened.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nothing can be opened for this owner.
    #[error("the files of {owner} cannot be opened: {why}")]
    NoAccess {
        /// The owner as the job names them.
        owner: String,
        /// Why.
        #[source]
        why: NoAccess,
    },
}

/// Why nothing can be opened for an owner.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoAccess {
    /// No such account.
    #[error(
        "there is no account of that name on this machine; jobs can be submitted by accounts of this machine only"
    )]
    NoAccount,
    /// The account is root or a system account with uid 0.
    #[error("jobs of root are not run")]
    Root,
    /// The pool is not root and the owner is somebody else.
    #[error(
        "the pool runs as {own} and cannot act for others; start it as root for more than one user"
    )]
    NotRoot {
        /// The account of the pool.
        own: String,
    },
    /// The account data base failed.
    #[error("the account could not be looked up: {}", .0.desc())]
    Lookup(Errno),
    /// The owner's process could not be started.
    #[error("the process for it could not be started: {0}")]
    Start(String),
    /// The owner's process died.
    #[error("the process that opens them has died")]
    Died,
    /// More owners at once than the pool takes on.
    #[error("the pool has processes for {0} users already; try again later")]
    TooMany(usize),
}

impl FileError {
    /// Linux error number for a job's hold subcode; 0 if there is none.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::Refused { errno, .. } => *errno as i32,
            Self::Path { .. } | Self::NotRegular { .. } => libc::EINVAL,
            Self::NoAccess { why, .. } => match why {
                NoAccess::NoAccount | NoAccess::Root | NoAccess::NotRoot { .. } => libc::EACCES,
                NoAccess::Lookup(errno) => *errno as i32,
                NoAccess::Start(_) | NoAccess::Died | NoAccess::TooMany(_) => 0,
            },
        }
    }

    /// Whether the same request may succeed later without anybody doing something.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Refused { errno, .. } => matches!(
                errno,
                Errno::EMFILE
                    | Errno::ENFILE
                    | Errno::ENOMEM
                    | Errno::EINTR
                    | Errno::EAGAIN
                    | Errno::ESTALE
            ),
            Self::Path { .. } | Self::NotRegular { .. } => false,
            Self::NoAccess { why, .. } => matches!(
                why,
                NoAccess::Lookup(_) | NoAccess::Start(_) | NoAccess::Died | NoAccess::TooMany(_)
            ),
        }
    }
}
