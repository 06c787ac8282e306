//! The work folder, where the sandboxes of jobs will be.

pub(super) mod exec;
pub(super) mod left_overs;
pub(super) mod space;
mod trial_file;
pub(super) mod write;

use std::fs;
use std::path::Path;

use super::node::mounts::{self, Mount};

/// The file system that a path is on, if the kernel tells.
fn mount_of(path: &Path) -> Option<Mount> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let real = fs::canonicalize(path).ok()?;
    mounts::of(&mounts::parse(&text), &real).cloned()
}

/// For people: where it is.
fn place(mount: Option<&Mount>) -> String {
    mount.map_or_else(String::new, |mount| format!(" ({})", mount.words()))
}
