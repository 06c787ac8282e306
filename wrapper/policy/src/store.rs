//! Files that root opened, read and taken apart; kept only as long as nobody can have changed them.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use launch_protocol::broker::Refusal;

use crate::bans::Bans;
use crate::config::FileKind;
use crate::gridmap::Gridmap;
use crate::lines::{LineError, MAX_FILE};
use crate::refuse::{site, why};
use crate::tokenmap::Tokenmap;
use crate::vomsmap::{Groupmap, Vomsmap};

/// A change within this time of the last one may leave the same time stamp.
const RACY_SECONDS: i64 = 2;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    place: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl State {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let facts = file.metadata()?;
        Ok(Self {
            place: (facts.dev(), facts.ino()),
            size: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        })
    }

    /// Was it left alone for long enough that a later change must show?
    pub(crate) fn is_settled(&self) -> bool {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|now| i64::try_from(now.as_secs()).ok());
        now.is_some_and(|now| self.changed.0 < now - RACY_SECONDS)
    }
}

/// A policy file, taken apart.
#[derive(Debug)]
pub(crate) enum Document {
    Bans(Bans),
    Gridmap(Gridmap),
    Vomsmap(Vomsmap),
    Tokenmap(Tokenmap),
    Groupmap(Groupmap),
    /// A program: nothing to read.
    Mapper,
}

impl Document {
    pub(crate) fn parse(kind: FileKind, text: &[u8]) -> Result<Self, LineError> {
        match kind {
            FileKind::Bans => Bans::parse(text).map(Self::Bans),
            FileKind::Gridmap => Gridmap::parse(text).map(Self::Gridmap),
            FileKind::Vomsmap => Vomsmap::parse(text).map(Self::Vomsmap),
            FileKind::Tokenmap => Tokenmap::parse(text).map(Self::Tokenmap),
            FileKind::Groupmap => Groupmap::parse(text).map(Self::Groupmap),
            FileKind::Mapper => Ok(Self::Mapper),
        }
    }
}

/// Documents by their place in the list of policy files.
#[derive(Debug, Default)]
pub(crate) struct Store(Vec<Option<(FileKind, State, Rc<Document>)>>);

impl Store {
    /// The document in `file`, which is the one at `place`.
    ///
    /// # Errors
    /// A refusal that names the file: nothing runs while a policy file cannot be read (M1).
    pub(crate) fn load(
        &mut self,
        place: usize,
        kind: FileKind,
        path: &Path,
        file: OwnedFd,
    ) -> Result<Rc<Document>, Refusal> {
        let file = File::from(file);
        let unreadable = |error| {
            site(
                "policy.unreadable",
                format!("{}: {}", path.display(), why(&error)),
            )
        };
        let state = State::of(&file).map_err(unreadable)?;
        if self.0.len() <= place {
            self.0.resize_with(place + 1, || None);
        }
        if let Some(Some((known, before, document))) = self.0.get(place)
            && (*known, *before) == (kind, state)
        {
            return Ok(Rc::clone(document));
        }
        // Before it is read: what changes while it is read shows by its time later.
        let settled = state.is_settled();
        let text = match kind {
            FileKind::Mapper => Vec::new(),
            _ => read(&file, MAX_FILE).map_err(unreadable)?,
        };
        let document = Document::parse(kind, &text)
            .map_err(|error| site("policy.syntax", format!("{}:{error}", path.display())))?;
        let document = Rc::new(document);
        if let Some(slot) = self.0.get_mut(place) {
            *slot = settled.then(|| (kind, state, Rc::clone(&document)));
        }
        Ok(document)
    }

    /// Forgets everything, for other files.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The whole text, from its beginning, if it is not too large.
pub(crate) fn read(file: &File, most: usize) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    file.take(limit + 1).read_to_end(&mut text)?;
    if text.len() > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_policy_files_are_understood() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/site/policy");
        for (name, kind) in [
            ("bans", FileKind::Bans),
            ("grid-mapfile", FileKind::Gridmap),
            ("voms-mapfile", FileKind::Vomsmap),
            ("groupmapfile", FileKind::Groupmap),
            ("tokens", FileKind::Tokenmap),
        ] {
            let text = std::fs::read(format!("{folder}/{name}")).expect("in the repository");
            Document::parse(kind, &text).unwrap_or_else(|error| panic!("{name}:{error}"));
        }
        let schema =
            std::fs::read(format!("{folder}/mapper.schema.json")).expect("in the repository");
        serde_json::from_slice::<serde_json::Value>(&schema).expect("JSON");
    }
}
