//! Finding programs.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// A program by its name, in the directories of `PATH` and then in those where things usually are.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/usr/local/bin", "/usr/sbin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| is_executable(path))
}

/// Whether this account can execute it.
pub(super) fn is_executable(path: &Path) -> bool {
    path.is_file() && access(path, AccessFlags::X_OK).is_ok()
}
