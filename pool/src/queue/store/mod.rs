//! The queue's file: one SQLite data base, written by one thread.

mod lock;
mod schema;
mod writer;

pub(super) use lock::Lock;
#[cfg(test)]
pub(super) use schema::first_format;
pub(super) use schema::{HistoryQuery, load, note, open, reader};
pub(super) use writer::{Op, Request, Writer};

/// Name of the data base in the queue's directory.
pub(super) const FILE: &str = "queue.sqlite";
