//! The user's event log, as HTCondor writes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::JobId;
use crate::wait;

/// One event of a job.
#[derive(Debug, Clone)]
pub struct Event {
    /// HTCondor's event number: 0 submit, 1 execute, 4 evicted, 5 terminated, 9 aborted, 12 held, 22 disconnected, ...
    pub number: u16,
    /// The job.
    pub job: JobId,
    /// Everything from the time stamp to the line before the dots.
    pub text: String,
}

impl Event {
    /// Submitted.
    pub const SUBMIT: u16 = 0;
    /// Began to run.
    pub const EXECUTE: u16 = 1;
    /// Put back into the queue.
    pub const EVICTED: u16 = 4;
    /// Ended by itself.
    pub const TERMINATED: u16 = 5;
    /// A line of text.
    pub const GENERIC: u16 = 8;
    /// Removed.
    pub const ABORTED: u16 = 9;
    /// Held.
    pub const HELD: u16 = 12;
}

/// An event log file, which may not be there yet.
#[derive(Debug, Clone)]
pub struct EventLog {
    path: PathBuf,
}

impl EventLog {
    /// The log at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All whole events so far.
    ///
    /// # Errors
    /// When the file is there and can't be read, or has a head line that is none.
    pub fn events(&self) -> Result<Vec<Event>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(error).with_context(|| format!("read {}", self.path.display()));
            }
        };
        let mut whole: Vec<&str> = text.split("\n...\n").collect();
        // What follows the last dots is the beginning of an event still being written.
        whole.pop();
        whole.into_iter().map(parse).collect()
    }

    /// Waits until an event of `job` (of any job when `None`) for which `wanted` holds is there.
    ///
    /// # Errors
    /// When `patience` ends first: with the whole log.
    pub fn wait_for(
        &self,
        job: Option<JobId>,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        wait::every(Duration::from_millis(20), what, patience, || {
            Ok(self
                .events()?
                .into_iter()
                .find(|event| job.is_none_or(|id| event.job == id) && wanted(event)))
        })
        .with_context(|| {
            format!(
                "event log so far:\n{}",
                fs::read_to_string(&self.path).unwrap_or_else(|_| "(none)".into())
            )
        })
    }
}

/// Reads one event: `005 (001.000.000) 2026-11-25 15:40:57 Job terminated.` and the lines below.
fn parse(text: &str) -> Result<Event> {
    let head = || -> Option<(u16, JobId, &str)> {
        let (number, rest) = text.split_once(" (")?;
        let (job, text) = rest.split_once(") ")?;
        let mut parts = job.split('.').map(|part| part.parse().ok());
        let id = JobId {
            cluster: parts.next()??,
            process: parts.next()??,
        };
        Some((number.parse().ok()?, id, text))
    };
    let (number, job, text) =
        head().ok_or_else(|| anyhow!("not the head of an event: {text:?}"))?;
    Ok(Event {
        number,
        job,
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_whole_events_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(
            &path,
            "000 (012.003.000) 2026-11-25 15:40:55 Job submitted from host: <127.0.0.1:1>\n...\n\
             012 (012.003.000) 2026-11-25 15:40:57 Job was held.\n\tproxy ended\n\tCode 4 Subcode 0\n...\n\
             013 (012.003.000) 2026-11",
        )
        .unwrap();
        let events = EventLog::new(&path).events().unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(events[1].number, Event::HELD);
        assert_eq!(
            events[1].job,
            JobId {
                cluster: 12,
                process: 3
            }
        );
        assert!(events[1].text.contains("Code 4"));
    }

    #[test]
    fn a_log_that_is_not_there_yet_has_no_events() {
        assert!(
            EventLog::new("/nonexistent/log")
                .events()
                .unwrap()
                .is_empty()
        );
    }
}
