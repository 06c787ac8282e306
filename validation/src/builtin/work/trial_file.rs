//! A file of ours in the work folder, gone at the end whatever happens.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// How the names of such files begin.
pub(super) const PREFIX: &str = ".sailplane-check-";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A path of ours; what is there is removed at the end.
#[derive(Debug)]
pub(super) struct TrialPath(PathBuf);

impl TrialPath {
    /// A name that nobody has, in a folder.
    pub(super) fn new(folder: &Path) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(folder.join(format!("{PREFIX}{}-{number}", std::process::id())))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Creates the file; it must not exist.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn create(&self, mode: u32) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&self.0)
    }
}

impl Drop for TrialPath {
    fn drop(&mut self) {
        // It may never have come to be.
        let _ = fs::remove_file(&self.0);
    }
}
