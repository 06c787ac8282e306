//! Which events of an earlier process a log lacks.
//!
//! The end of the log is read event by event. One that stands there with just the same text (the number of the job and
//! the second are in it) is not written again. A writer that was killed, or a machine that went down, may have left
//! half an event at the very end; readers would take what comes behind it for the rest, so it is cut off. What is no event
//! is the owner's: events begin on a line of their own behind it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

/// Ends an event.
const END: &[u8] = b"...\n";

/// An event's first bytes, with 0 for any digit.
const HEAD: &[u8] = b"000 (";

/// At least so much of the log's end is looked through, bytes; more if there is much to look for.
const TAIL: u64 = 4 << 20;

/// Longer than any event, bytes: what is longer is something else.
const LONGEST: usize = 1 << 20;

/// What a log lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The events that are not there, in order.
    pub(super) missing: String,
    /// What is missing begins in the middle of a line that is no event's.
    glued: bool,
    half: Option<Half>,
    length: u64,
}

/// An event at the end of the file that has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Half {
    /// Where it begins.
    at: u64,
    /// It is one that is missing: nobody else writes that.
    ours: bool,
}

impl Found {
    /// Whether the half event at the end may be another writer's that is being written just now.
    pub(super) fn is_somebody_at_it(&self) -> bool {
        self.half.is_some_and(|half| !half.ours)
    }

    /// What was found a while ago: a half event that has become more is left to its writer.
    pub(super) fn doubt(&mut self, before: &Self) {
        if self.length != before.length || self.half != before.half {
            self.half = None;
        }
    }

    /// What is to be appended.
    pub(super) fn text(&self) -> String {
        let gap = if self.glued && !self.missing.is_empty() {
            "\n"
        } else {
            ""
        };
        format!("{gap}{}", self.missing)
    }

    /// Cuts the half event off, unless something has been appended since it was seen.
    pub(super) fn cut(&self, file: &File) -> io::Result<()> {
        match self.half {
            Some(half) if file.metadata()?.len() == self.length => file.set_len(half.at),
            _ => Ok(()),
        }
    }
}

/// Looks for the events of `texts` at the end of the log.
pub(super) fn look(mut file: File, texts: &[String]) -> io::Result<(File, Found)> {
    let length = file.metadata()?.len();
    let size: usize = texts.iter().map(String::len).sum();
    let size = u64::try_from(size).unwrap_or(u64::MAX);
    let from = length.saturating_sub(size.saturating_mul(2).saturating_add(TAIL));
    file.seek(SeekFrom::Start(from))?;
    let reader = BufReader::with_capacity(64 << 10, (&file).take(length - from));
    let found = compare(reader, from, texts)?;
    Ok((file, Found { length, ..found }))
}

/// Compares events with what `tail` says; it begins at that place of the log.
fn compare(mut tail: impl BufRead, from: u64, texts: &[String]) -> io::Result<Found> {
    let mut there: HashMap<&str, usize> = texts
        .iter()
        .flat_map(|text| events(text))
        .map(|event| (event, 0))
        .collect();
    let mut event = Vec::new();
    let mut at = from;
    // Whether the next bytes begin a line, `event` begins where an event does, and a whole event was seen.
    let (mut fresh, mut begun, mut is_log) = (from == 0, from == 0, false);
    // Where half an event begins behind which another begins.
    let mut dead = None;
    loop {
        let mut line = event.len();
        let limit = LONGEST as u64;
        let read = (&mut tail).take(limit).read_until(b'\n', &mut event)?;
        if read == 0 {
            break;
        }
        at += read as u64;
        if fresh && is_head(event.get(line..).unwrap_or_default()) {
            if begun && line > 0 && begins_event(&event) {
                dead.get_or_insert(at - event.len() as u64);
            }
            event.drain(..std::mem::take(&mut line));
            begun = true;
        }
        let ends = fresh && event.get(line..) == Some(END);
        fresh = event.ends_with(b"\n");
        if ends {
            let known = std::str::from_utf8(&event).ok();
            if let Some(times) = known.and_then(|event| there.get_mut(event)) {
                *times += 1;
            }
            (begun, is_log, dead) = (true, true, None);
            event.clear();
        } else if event.len() > LONGEST {
            (begun, dead) = (false, None);
            event.clear();
        }
    }
    let mut missing = String::new();
    for event in texts.iter().flat_map(|text| events(text)) {
        match there.get_mut(event) {
            Some(times) if *times > 0 => *times -= 1,
            _ => missing.push_str(event),
        }
    }
    let begun = begun && !event.is_empty();
    let ours = dead.is_none() && events(&missing).any(|one| one.as_bytes().starts_with(&event));
    // A few digits are a number, unless other events are before them or they come again.
    let is_half = ours || (begins_event(&event) && (is_log || is_head(&event)));
    let half = (begun && is_half).then(|| Half {
        at: dead.unwrap_or(at - event.len() as u64),
        ours,
    });
    Ok(Found {
        missing,
        glued: half.is_none() && !fresh && at > 0,
        half,
        length: at,
    })
}

/// The events of a text, each with its end.
fn events(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive("\n...\n")
}

/// Whether it begins as an event does, as far as it goes. A file system that kept the length, but not the bytes, gives
/// zeros.
fn begins_event(text: &[u8]) -> bool {
    let mut pairs = text.iter().zip(HEAD);
    text.first() == Some(&0)
        || pairs.all(|(byte, head)| match head {
            b'0' => byte.is_ascii_digit(),
            head => byte == head,
        })
}

/// Whether it is certain to.
fn is_head(text: &[u8]) -> bool {
    text.len() >= HEAD.len() && begins_event(text)
}

/// A log of any content: a second replay finds nothing to do.
pub(super) fn fuzz(log: &[u8]) {
    let texts = ["000 (001.000.000) One\n...\n005 (001.000.000) Two\n...\n".to_owned()];
    let mut log = log.to_vec();
    for round in 0..2 {
        let Ok(found) = compare(log.as_slice(), 0, &texts) else {
            return;
        };
        assert!(round == 0 || (found.missing.is_empty() && found.half.is_none()));
        if let Some(half) = found.half {
            log.truncate(usize::try_from(half.at).unwrap_or(usize::MAX));
        }
        log.extend_from_slice(found.text().as_bytes());
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
