//! `ALLOW_*` and `DENY_*`: who may do what, from where (protocol page 01, section 5.10;
//! `htcondor:src/condor_io/condor_ipverify.cpp`).
//!
//! Two mistakes of a 23.9.6 daemon are not repeated, see `Rules`; the recorded verdicts in `tests/data/access` show
//! that nothing else differs.

mod entry;
mod glob;
mod lists;
mod names;
mod network;
mod reason;

pub use self::entry::EntryError;
pub(crate) use self::glob::Rules;
pub(crate) use self::lists::{AccessLists, Machine};
pub(crate) use self::names::SystemNames;
pub(crate) use self::network::Network;
pub use self::network::NetworkError;

#[cfg(test)]
mod recorded;
