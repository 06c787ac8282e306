//! A job's event log: what happened to it, in HTCondor's text format, in the file its owner named.
//!
//! The text of an event is a plain function ([`format()`]); [`UserLog`] appends it to the file named by the job's `UserLog`,
//! opened as the job's owner. Each file has one writer, so that events stand in the order in which they were reported. As
//! with HTCondor's default (`ENABLE_USERLOG_LOCKING = false`) no lock is taken: each event is appended whole.
//!
//! An [`Entry`] with a [`Receipt`] is kept by the queue until it stands in the log; what a crash left in between is replayed.

mod ad;
mod entry;
mod event;
mod form;
mod format;
mod replay;
#[cfg(test)]
mod tests;
mod usage;
mod writer;

pub use entry::{Entry, Log, Receipt, Settled};
pub use event::{Cpu, Ended, Event, EventSink, TransferStep};
pub use form::DateForm;
pub use format::format;
pub use usage::usage_ad;
pub use writer::UserLog;

/// Entry points for fuzzing.
#[doc(hidden)]
pub mod fuzzing {
    /// A log that may be anything, which lacks events or not.
    pub fn fuzz_event_log(data: &[u8]) {
        super::replay::fuzz(data);
    }
}
