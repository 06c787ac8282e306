//! A job's event log: what happened to it, in HTCondor's text format, in the file its owner named.

mod event;

use classad::ClassAd;

pub use event::{Cpu, Ended, Event, EventSink, TransferStep};

use crate::JobId;

/// How the date of an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateForm {
    /// `2026-11-25 15:40:57`, else `11/25 15:40:57`.
    pub iso: bool,
    /// In UTC with a `Z` behind, else local time.
    pub utc: bool,
    /// With milliseconds.
    pub milliseconds: bool,
}

impl Default for DateForm {
    fn default() -> Self {
        Self {
            iso: true,
            utc: false,
            milliseconds: false,
        }
    }
}

/// The text of one event, with the line of dots that ends it.
#[must_use]
pub fn format(event: &Event, job: JobId, time: &jiff::Zoned, form: DateForm) -> String {
    let _ = (event, job, time, form);
    todo!()
}

/// What was asked for, given and used of each resource, as events 4 and 5 tell it: taken from a job's ad.
#[must_use]
pub fn usage_ad(job: &ClassAd) -> Option<ClassAd> {
    let _ = job;
    todo!()
}
