//! The sentences users know from HTCondor (`htcondor:src/condor_shadow.V6.1/baseshadow.cpp` puts them together).

use std::net::SocketAddr;

use super::ack::one_line;
use super::ticket::Direction;
use crate::files::FileError;

/// Who the two sides are.
#[derive(Debug, Clone)]
pub(super) struct Sides {
    /// Our address on the connection.
    pub(super) ours: SocketAddr,
    /// The pilot's.
    pub(super) theirs: SocketAddr,
    /// Name of this machine.
    pub(super) host: String,
    /// Name of the slot.
    pub(super) slot: String,
}

impl Sides {
    /// Our acknowledgement's words when sending failed.
    pub(super) fn failed_to_send(&self, error: &str) -> String {
        one_line(&format!(
            "SHADOW at {} failed to send file(s) to <{}>: |Error: {error}",
            self.ours.ip(),
            self.theirs
        ))
    }

    /// Our acknowledgement's words when receiving failed.
    pub(super) fn failed_to_receive(&self, error: Option<&str>) -> String {
        let text = match error {
            Some(error) => format!(
                "SHADOW at {} failed to receive file(s) from <{}>: |Error: {error}",
                self.ours.ip(),
                self.theirs
            ),
            None => format!("SHADOW failed to receive file(s) from <{}>", self.theirs),
        };
        one_line(&text)
    }

    /// The reason a user reads when this side failed.
    pub(super) fn at_access_point(&self, direction: Direction, reason: &str) -> String {
        let (kind, doing, way) = match direction {
            Direction::Input => ("input", "sending", "to"),
            Direction::Output => ("output", "receiving", "from"),
        };
        format!(
            "Transfer {kind} files failure at access point {} while {doing} files {way} {}. Details: {}",
            self.host,
            self.execution_point(),
            details(reason)
        )
    }

    /// The reason a user reads when the pilot's side failed.
    pub(super) fn at_execution_point(&self, direction: Direction, reason: &str) -> String {
        let (kind, doing, way) = match direction {
            Direction::Input => ("input", "receiving", "from"),
            Direction::Output => ("output", "sending", "to"),
        };
        format!(
            "Transfer {kind} files failure at {} while {doing} files {way} access point {}. Details: {}",
            self.execution_point(),
            self.host,
            details(reason)
        )
    }

    fn execution_point(&self) -> String {
        if self.slot.is_empty() {
            "the execution point".to_owned()
        } else {
            format!("execution point {}", self.slot)
        }
    }
}

/// The part of a side's words that tells what happened.
fn details(reason: &str) -> String {
    let text = reason
        .split_once("|Error: ")
        .map_or(reason, |(_, text)| text);
    let end = ["; SHADOW", "; STARTER", "||"]
        .iter()
        .filter_map(|end| text.find(end))
        .min()
        .unwrap_or(text.len());
    let text = text.get(..end).unwrap_or(text).trim();
    one_line(if text.is_empty() {
        "no details were given"
    } else {
        text
    })
}

/// Why a file cannot be opened, without its path, which the sentence around it names.
pub(super) fn why(error: &FileError) -> String {
    match error {
        FileError::Refused { errno, .. } => errno.desc().to_owned(),
        FileError::NotRegular { .. } => "it is not a regular file".to_owned(),
        other => with_causes(other),
    }
}

/// An error and its causes, in one sentence.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    one_line(&text)
}
