//! File names as they travel: relative to the sandbox, and never out of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// Longest name accepted, bytes.
const MAX_NAME: usize = 4095;

/// Why a name is not usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing is left of it.
    #[error("the name is empty")]
    Empty,
    /// It begins with a slash.
    #[error("the name is an absolute path")]
    Absolute,
    /// It contains `..`.
    #[error("the name contains '..'")]
    Parent,
    /// It contains a NUL byte.
    #[error("the name contains a NUL byte")]
    Nul,
    /// It is longer than any path may be.
    #[error("the name is longer than {MAX_NAME} bytes")]
    TooLong,
}

/// A path beneath the sandbox: not empty, relative, without `.` and `..`. The agent makes sure once more, with the
/// kernel's help, that no link leads it elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SandboxPath {
    path: PathBuf,
}

impl SandboxPath {
    /// Checks and normalises a name.
    ///
    /// # Errors
    /// [`NameError`]
    pub fn parse(name: &str) -> Result<Self, NameError> {
        Self::from_bytes(name.as_bytes())
    }

    /// Checks and normalises a name as it came from the wire.
    ///
    /// # Errors
    /// [`NameError`]
    pub fn from_bytes(name: &[u8]) -> Result<Self, NameError> {
        if name.contains(&0) {
            return Err(NameError::Nul);
        }
        if name.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        let mut path = PathBuf::new();
        for component in Path::new(OsStr::from_bytes(name)).components() {
            match component {
                Component::Normal(part) => path.push(part),
                Component::CurDir => {}
                Component::ParentDir => return Err(NameError::Parent),
                Component::RootDir | Component::Prefix(_) => return Err(NameError::Absolute),
            }
        }
        if path.as_os_str().is_empty() {
            return Err(NameError::Empty);
        }
        Ok(Self { path })
    }

    /// The path, relative to the sandbox.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// The name as it travels.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.path.as_os_str().as_bytes()
    }
}

impl AsRef<Path> for SandboxPath {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl std::fmt::Display for SandboxPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.path.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_normalised_or_refused() {
        for (name, wanted) in [
            ("a", "a"),
            ("./a//b/.", "a/b"),
            (".job.ad", ".job.ad"),
            ("a/...", "a/..."),
        ] {
            assert_eq!(
                SandboxPath::parse(name).unwrap().as_path(),
                Path::new(wanted),
                "{name}"
            );
        }
        for (name, error) in [
            ("", NameError::Empty),
            (".", NameError::Empty),
            ("/etc/passwd", NameError::Absolute),
            ("//x", NameError::Absolute),
            ("..", NameError::Parent),
            ("a/../../b", NameError::Parent),
            ("a/..", NameError::Parent),
            ("a\0b", NameError::Nul),
        ] {
            assert_eq!(SandboxPath::parse(name), Err(error), "{name:?}");
        }
        assert_eq!(
            SandboxPath::from_bytes(&[b'x'; 5000]),
            Err(NameError::TooLong)
        );
    }

    proptest! {
        #[test]
        fn nothing_accepted_leaves_the_sandbox(name in prop::collection::vec(prop::sample::select(b"./ab\0\xff".to_vec()), 0..12)) {
            if let Ok(path) = SandboxPath::from_bytes(&name) {
                prop_assert!(path.as_path().components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert_eq!(SandboxPath::from_bytes(path.as_bytes()), Ok(path));
            }
        }
    }
}
