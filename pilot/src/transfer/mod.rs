//! The input and output sandbox: HTCondor's file transfer, spoken with the shadow (protocol page 04).
//!
//! The dialogue itself is in [`receive`] and [`send`], without I/O. [`download`] and [`upload`] drive it over a
//! connection: they open nothing by themselves but ask a [`Sandbox`] for descriptors, which the agent gives them, so
//! that every path is walked by the payload's own account. What is sent back is chosen by [`select`].
//!
//! "U" is the side that uploads, "D" the side that downloads, as on the protocol page.

mod ack;
pub mod download;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod intake;
mod keys;
mod link;
mod name;
pub mod receive;
mod sandbox;
pub mod select;
pub mod send;
mod staging;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod upload;

pub use ack::{Ack, AckHold};
pub use keys::{DelegationKeys, KeyError};
pub use link::{Link, LinkError, Wire};
pub use name::{NameError, SandboxPath};
pub use sandbox::{Sandbox, StoreError};

/// Interval in seconds at which a side that makes the other wait says that it is alive; 300 is what all peers use, and
/// a smaller figure costs an extra message (protocol page 04, section 5).
const ALIVE_INTERVAL: i64 = 300;

/// Bytes of file data in one message; what 23.9.6 sends.
const BLOCK: usize = 262_144;

/// Stands where the data of an empty file would be.
const EMPTY_FILE: i64 = 666;

/// Mode that says that the sender could not read the file (protocol page 04, section 4).
const UNREADABLE: i64 = 1 << 24;

/// Commands of the item list (`htcondor:src/condor_utils/file_transfer.cpp`).
mod command {
    pub(super) const FINISHED: i64 = 0;
    pub(super) const FILE: i64 = 1;
    pub(super) const FILE_ENCRYPTED: i64 = 2;
    pub(super) const FILE_UNENCRYPTED: i64 = 3;
    pub(super) const DELEGATED_PROXY: i64 = 4;
    pub(super) const URL: i64 = 5;
    pub(super) const MAKE_DIR: i64 = 6;
    pub(super) const OTHER: i64 = 999;
}
