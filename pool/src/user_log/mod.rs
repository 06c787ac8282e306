//! A job's event log: what happened to it, in HTCondor's text format, in the file its owner named.
//!
//! The text of an event is a plain function ([`format()`]); [`UserLog`] appends it to the file named by the job's `UserLog`,
//! opened as the job's owner. Each file has one writer, so that events stand in the order in which they were reported. As
//! with HTCondor's default (`ENABLE_USERLOG_LOCKING = false`) no lock is taken: each event is appended whole.

mod ad;
mod event;
mod form;
mod format;
#[cfg(test)]
mod tests;
mod usage;
mod writer;

pub use event::{Cpu, Ended, Event, EventSink, TransferStep};
pub use form::DateForm;
pub use format::format;
pub use usage::usage_ad;
pub use writer::UserLog;
