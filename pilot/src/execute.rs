//! `EXECUTE`, the directory of the sandboxes: made if missing, and reachable by every account a job may run as.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// Why jobs could not run there.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// It does not exist and cannot be made.
    #[error("cannot make EXECUTE = {}", path.display())]
    Make {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Something on the way to it cannot be looked at.
    #[error("cannot look at {}, which leads to EXECUTE", path.display())]
    Look {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is something else.
    #[error("EXECUTE = {} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// It belongs to another account, and that account is not root.
    #[error("EXECUTE = {} belongs to uid {owner}, neither to root nor to this pilot's uid {me}", path.display())]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Our uid.
        me: u32,
    },
    /// The accounts of the jobs could not get through.
    #[error(
        "{} (owner uid {owner}, mode {mode:04o}) cannot be searched by other accounts, so no job could enter its \
         sandbox below EXECUTE",
        path.display()
    )]
    Closed {
        /// The first such directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its mode bits.
        mode: u32,
    },
}

impl ExecuteError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Closed { path, owner, .. } => {
                format!("let its owner (uid {owner}) or root run: chmod o+x {}", path.display())
            }
            Self::Owner { .. } => "set EXECUTE to a directory of the pilot's own account".to_owned(),
            Self::Make { .. } | Self::Look { .. } | Self::NotADirectory { .. } => {
                "set EXECUTE to a directory that the pilot's account can write to and everybody can search".to_owned()
            }
        }
    }
}

/// Who must be able to get into the sandboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Every account a job may get.
    Everybody,
    /// The pilot's own, which all jobs run under.
    Ourselves,
}

/// Makes the directory if need be, opens the way to it where the pilot owns it, and returns its real path.
///
/// # Errors
/// Whatever would keep a job out of its sandbox.
pub fn prepare(execute: &Path, reach: Reach) -> Result<PathBuf, ExecuteError> {
    let make = |source| ExecuteError::Make {
        path: execute.to_owned(),
        source,
    };
    if !execute.exists() {
        DirBuilder::new()
            .recursive(true)
            .mode(match reach {
                Reach::Everybody => 0o755,
                Reach::Ourselves => 0o700,
            })
            .create(execute)
            .map_err(make)?;
    }
    let real = fs::canonicalize(execute).map_err(make)?;
    let me = geteuid().as_raw();
    let facts = look(&real)?;
    if !facts.is_dir() {
        return Err(ExecuteError::NotADirectory { path: real });
    }
    // Where the helper makes the sandboxes, root's own directory will do.
    let will_do = facts.uid() == me || (facts.uid() == 0 && reach == Reach::Everybody);
    if !will_do {
        return Err(ExecuteError::Owner {
            path: real,
            owner: facts.uid(),
            me,
        });
    }
    if reach == Reach::Everybody {
        for step in real.ancestors() {
            open_way(step, me)?;
        }
    }
    Ok(real)
}

fn open_way(step: &Path, me: u32) -> Result<(), ExecuteError> {
    let facts = look(step)?;
    let mode = facts.mode() & 0o7777;
    if mode & 0o001 != 0 {
        return Ok(());
    }
    let closed = || ExecuteError::Closed {
        path: step.to_owned(),
        owner: facts.uid(),
        mode,
    };
    if facts.uid() != me {
        return Err(closed());
    }
    tracing::warn!(path = %step.display(), mode = format_args!("{mode:04o}"), "letting other accounts search a directory on the way to EXECUTE");
    fs::set_permissions(step, Permissions::from_mode(mode | 0o001)).map_err(|_| closed())
}

fn look(path: &Path) -> Result<Metadata, ExecuteError> {
    fs::metadata(path).map_err(|source| ExecuteError::Look {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory whose own parents are open to all, as `/tmp` is.
    fn open_tmp() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        dir
    }

    #[test]
    fn a_missing_directory_is_made_for_all_to_search() {
        let tmp = open_tmp();
        let real = prepare(&tmp.path().join("a/b"), Reach::Everybody).unwrap();
        for step in [real.as_path(), real.parent().unwrap()] {
            assert_eq!(fs::metadata(step).unwrap().mode() & 0o001, 0o001);
        }
    }

    #[test]
    fn an_own_closed_parent_is_opened_for_search_only() {
        let tmp = open_tmp();
        let parent = tmp.path().join("p");
        fs::create_dir_all(parent.join("execute")).unwrap();
        fs::set_permissions(&parent, Permissions::from_mode(0o700)).unwrap();
        prepare(&parent.join("execute"), Reach::Everybody).unwrap();
        assert_eq!(fs::metadata(&parent).unwrap().mode() & 0o777, 0o701);
    }

    #[test]
    fn for_ourselves_nothing_is_opened() {
        let tmp = open_tmp();
        let parent = tmp.path().join("p");
        fs::create_dir(&parent).unwrap();
        fs::set_permissions(&parent, Permissions::from_mode(0o700)).unwrap();
        let real = prepare(&parent.join("execute"), Reach::Ourselves).unwrap();
        for step in [real.as_path(), real.parent().unwrap()] {
            assert_eq!(fs::metadata(step).unwrap().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_file_in_its_place_is_named() {
        let tmp = open_tmp();
        let path = tmp.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(
            prepare(&path, Reach::Everybody),
            Err(ExecuteError::NotADirectory { .. })
        ));
    }
}
