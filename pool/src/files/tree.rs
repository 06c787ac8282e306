//! Whole directories: listed, and emptied.

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::operations::{Trouble, metadata};
use super::protocol::{Entry, MAX_PATH};

/// Everything below `top`, a directory before its content, otherwise in the order of the names' bytes.
pub(super) fn list(top: &Path, limit: u32) -> Result<Vec<Entry>, Trouble> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found: Vec<Entry> = Vec::new();
    // Directories still to be read, the next one last.
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        let mut here = Vec::new();
        for entry in fs::read_dir(top.join(&directory))? {
            if found.len() + here.len() >= limit {
                return Err(Errno::EOVERFLOW.into());
            }
            here.push(examine(top, &directory.join(entry?.file_name()))?);
        }
        here.sort_by(|one, other| one.path.cmp(&other.path));
        let mut below = Vec::new();
        for entry in here {
            if !entry.is_link && entry.metadata.kind == super::protocol::Kind::Directory {
                below.push(entry.path.clone());
            }
            found.push(entry);
        }
        waiting.extend(below.into_iter().rev());
    }
    Ok(found)
}

fn examine(top: &Path, path: &Path) -> Result<Entry, Trouble> {
    let full = top.join(path);
    if full.as_os_str().len() > MAX_PATH {
        return Err(Errno::ENAMETOOLONG.into());
    }
    let facts = fs::symlink_metadata(&full)?;
    let is_link = facts.is_symlink();
    // A link that leads nowhere is listed as a link.
    let facts = if is_link {
        fs::metadata(&full).unwrap_or(facts)
    } else {
        facts
    };
    Ok(Entry {
        path: path.to_owned(),
        metadata: metadata(&facts),
        is_link,
    })
}

/// Removes what is in `top`; links go, what they lead to stays.
pub(super) fn clear(top: &Path) -> Result<(), Trouble> {
    for entry in fs::read_dir(top)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
