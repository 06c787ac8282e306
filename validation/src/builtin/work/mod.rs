//! The work folder, where the sandboxes of jobs will be.

pub(super) mod exec;
pub(super) mod left_overs;
pub(super) mod space;
pub(super) mod temporary;
mod trial_file;
pub(super) mod write;

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use super::node::mounts::{self, Mount};

/// The file system that a path is on, if the kernel tells.
fn mount_of(path: &Path) -> Option<Mount> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let real = fs::canonicalize(path).ok()?;
    mounts::of(&mounts::parse(&text), &real).cloned()
}

/// The first directory above a path that we may not pass through, and its rights.
fn closed_above(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;

    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let closed = above.into_iter().find(|folder| {
        matches!(
            access(*folder, AccessFlags::X_OK),
            Err(Errno::EACCES | Errno::EPERM)
        )
    })?;
    let facts = fs::metadata(closed).ok()?;
    Some(format!(
        "the pilot may not pass through {}, which belongs to uid {} and has mode {:04o}",
        closed.display(),
        facts.uid(),
        facts.mode() & 0o7777
    ))
}

/// What to do about that.
const OPEN_ABOVE: &str =
    "let its owner open it (`chmod o+x`), or set EXECUTE to a place below open directories";

/// For people: where it is.
fn place(mount: Option<&Mount>) -> String {
    mount.map_or_else(String::new, |mount| format!(" ({})", mount.words()))
}
