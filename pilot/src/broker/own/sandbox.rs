//! Sandboxes below `EXECUTE`: made, kept from being taken for left-overs, and swept when they are.
//!
//! A sandbox that is in use is locked (`flock` on its directory). The lock goes with the process that held it, however
//! that ended; what is not locked any more was left behind by a broker that could not clean up, and is removed.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use super::remover::remove;

/// How the names of these sandboxes begin; the helper's are others.
const PREFIX: &str = "dir_own_";

/// How many names are tried.
const ATTEMPTS: u32 = 100;

/// A sandbox in use.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Place {
    /// Makes an empty one, mode 0700.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn make(execute: &Path, broker: i32, payload: u32) -> io::Result<Self> {
        for attempt in 0..ATTEMPTS {
            let path = execute.join(format!("{PREFIX}{broker}_{payload}_{attempt}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                // Another broker has this process number too, in a namespace of its own.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            }
            let file = File::open(&path)?;
            let made = file.metadata()?;
            let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
                continue;
            };
            // A sweep may have come between the two steps.
            if fs::metadata(&path)
                .is_ok_and(|facts| (facts.dev(), facts.ino()) == (made.dev(), made.ino()))
            {
                return Ok(Self { path, _lock: lock });
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it with all that is in it.
    ///
    /// # Errors
    /// When something is left.
    pub(super) fn remove(self) -> io::Result<()> {
        remove(&self.path)
    }
}

/// Removes sandboxes of this account that nobody uses. Best effort: what cannot be removed is tried by the next broker.
pub(super) fn sweep(execute: &Path) {
    let Ok(entries) = fs::read_dir(execute) else {
        return;
    };
    let ours = geteuid().as_raw();
    for entry in entries.flatten() {
        let is_named_so = entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(PREFIX));
        let is_ours = || {
            entry
                .metadata()
                .is_ok_and(|facts| facts.is_dir() && facts.uid() == ours)
        };
        if !is_named_so || !is_ours() {
            continue;
        }
        let Ok(directory) = File::open(entry.path()) else {
            continue;
        };
        if let Ok(_lock) = Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            let _ = remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_takes_what_nobody_uses_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let used = Place::make(folder.path(), 7, 1).unwrap();
        let left = folder.path().join(format!("{PREFIX}6_1_0"));
        let other = folder.path().join("dir_5");
        fs::create_dir_all(left.join("d")).unwrap();
        fs::create_dir(&other).unwrap();
        sweep(folder.path());
        assert!(used.path().exists() && other.exists() && !left.exists());
        let path = used.path().to_owned();
        used.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_taken_name_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let one = Place::make(folder.path(), 7, 1).unwrap();
        let two = Place::make(folder.path(), 7, 1).unwrap();
        assert_ne!(one.path(), two.path());
        assert_eq!(fs::metadata(one.path()).unwrap().mode() & 0o7777, 0o700);
    }
}
