//! Sandboxes to and from the execute side: the shadow's half of HTCondor's file transfer (protocol page 04).
//!
//! [`Transfers`] knows which jobs may transfer now: each running job has a [`TransferTicket`] with a key that nobody can
//! guess. The pilot connects, names the key and fetches the input or brings the output; the ticket tells the shadow how
//! it went. Every file is opened by the job owner's own process ([`crate::files`]).
//!
//! The cores are pure: [`plan`] says which files go in, [`place`] where those that come back go, [`sender`] and
//! [`receiver`] are the two halves of the dialogue. `upload` and `download` drive them over a connection.
//!
//! "U" is the side that uploads, "D" the side that downloads, as on the protocol page; commands are named from this
//! side, so `FILETRANS_UPLOAD` is the input.

mod ack;
mod blocks;
mod config;
mod download;
#[doc(hidden)]
pub mod fuzzing;
mod job;
pub mod place;
pub mod plan;
mod proxy;
pub mod receiver;
mod registry;
pub mod remaps;
pub mod sender;
mod serve;
mod spool;
#[cfg(test)]
mod tests;
mod texts;
mod ticket;
mod turn;
mod upload;
mod wire;

pub use config::{Delegation, TransfersConfig, TransfersConfigError};
pub use job::{TransferJob, TransferJobError};
pub use proxy::{ProxyRenewal, RenewalError};
pub use registry::{RegisterError, Transfers};
pub use ticket::{Direction, Failure, Outcome, Report, TransferEvent, TransferTicket};

/// Interval in seconds at which a side that makes the other wait says that it is alive; a smaller figure than 300 costs
/// an extra message (protocol page 04, section 5).
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
