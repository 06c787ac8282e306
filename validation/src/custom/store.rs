//! The dashboard as a file: every change is a new file renamed over the old one, under the lock, and a line in
//! `<file>.history`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::dashboard::{Dashboard, Key, KeyError, Line};
use super::lock::{Lock, LockError, Patience, with_suffix};

/// Why the dashboard could not be read or changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// No such name.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The file could not be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file could not be written.
    #[error("cannot write {}; is the work area full, or not ours?", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is larger than any real one.
    #[error("{} is larger than {limit} bytes; a check writes without end", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit.
        limit: usize,
    },
}

/// A dashboard file.
#[derive(Debug, Clone)]
pub struct Store {
    file: PathBuf,
    patience: Patience,
}

impl Store {
    /// The file at a path; it need not exist yet.
    #[must_use]
    pub fn at(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            patience: Patience::default(),
        }
    }

    /// With another patience for the lock.
    #[must_use]
    pub fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Where it is.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Reads it. A file that is not there is an empty dashboard.
    ///
    /// # Errors
    /// Not readable, or too large.
    pub fn load(&self) -> Result<Dashboard, StoreError> {
        Ok(Dashboard::parse(
            &read_up_to(&self.file, Dashboard::MAX_BYTES)?.unwrap_or_default(),
        ))
    }

    /// Puts one value in. Of a value with several lines the first is kept; whether more was lost is returned.
    ///
    /// # Errors
    /// Any of [`StoreError`].
    pub fn add(&self, key: &[u8], value: &[u8]) -> Result<bool, StoreError> {
        let key = Key::new(key)?;
        let (line, lost) = Line::first_of(value);
        self.change(&[(key, line)])?;
        Ok(lost)
    }

    /// Puts values in, all at once.
    ///
    /// # Errors
    /// Any of [`StoreError`].
    pub fn change(&self, values: &[(Key, Line)]) -> Result<(), StoreError> {
        let _lock = Lock::take(&self.file, self.patience)?;
        let mut board = self.load()?;
        for (key, line) in values {
            board.set(key.clone(), line.clone());
        }
        self.note(values)?;
        replace(&self.file, &board.render())
    }

    /// Reads, lets `edit` say what to change, and changes it, with nobody in between.
    ///
    /// # Errors
    /// Any of [`StoreError`].
    pub fn update(
        &self,
        edit: impl FnOnce(&Dashboard) -> Vec<(Key, Line)>,
    ) -> Result<(), StoreError> {
        let _lock = Lock::take(&self.file, self.patience)?;
        let mut board = self.load()?;
        let values = edit(&board);
        if values.is_empty() {
            return Ok(());
        }
        for (key, line) in &values {
            board.set(key.clone(), line.clone());
        }
        self.note(&values)?;
        replace(&self.file, &board.render())
    }

    /// Leaves only the last line of each key.
    ///
    /// # Errors
    /// Any of [`StoreError`].
    pub fn trim(&self) -> Result<(), StoreError> {
        let _lock = Lock::take(&self.file, self.patience)?;
        let mut board = self.load()?;
        board.trim();
        replace(&self.file, &board.render())
    }

    fn note(&self, values: &[(Key, Line)]) -> Result<(), StoreError> {
        let history = with_suffix(&self.file, ".history");
        let mut text = Vec::new();
        for (key, line) in values {
            text.extend_from_slice(format!("REG{} ", caller()).as_bytes());
            text.extend_from_slice(key.as_bytes());
            text.push(b' ');
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        append(&history, &text).map_err(|source| StoreError::Write {
            file: history,
            source,
        })
    }
}

/// Who asked: the script, if we are called by one.
fn caller() -> u32 {
    std::os::unix::process::parent_id()
}

/// Changes any small file under its lock: `edit` turns its content into the new one.
///
/// # Errors
/// Any of [`StoreError`].
pub(super) fn rewrite(
    file: &Path,
    patience: Patience,
    edit: impl FnOnce(Vec<u8>) -> Vec<u8>,
) -> Result<(), StoreError> {
    let _lock = Lock::take(file, patience)?;
    let before = read_up_to(file, Dashboard::MAX_BYTES)?.unwrap_or_default();
    replace(file, &edit(before))
}

/// A file's content; nothing if it does not exist.
pub(super) fn read_up_to(file: &Path, limit: usize) -> Result<Option<Vec<u8>>, StoreError> {
    let failed = |source| StoreError::Read {
        file: file.to_owned(),
        source,
    };
    // A pipe in its place must not hold us up.
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(file);
    let handle = match open {
        Ok(handle) => handle,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    handle.take(most).read_to_end(&mut text).map_err(failed)?;
    if text.len() > limit {
        return Err(StoreError::TooLarge {
            file: file.to_owned(),
            limit,
        });
    }
    Ok(Some(text))
}

/// Puts a new file in the place of an old one, with the old one's mode.
pub(super) fn replace(file: &Path, content: &[u8]) -> Result<(), StoreError> {
    let mode = fs::metadata(file).map_or(0o644, |meta| meta.mode() & 0o7777);
    let beside = with_suffix(file, &format!(".{}.tmp", std::process::id()));
    let put = || -> io::Result<()> {
        let mut handle = File::create(&beside)?;
        handle.set_permissions(fs::Permissions::from_mode(mode))?;
        handle.write_all(content)?;
        drop(handle);
        fs::rename(&beside, file)
    };
    put().map_err(|source| {
        let _ = fs::remove_file(&beside);
        StoreError::Write {
            file: file.to_owned(),
            source,
        }
    })
}

fn append(file: &Path, text: &[u8]) -> io::Result<()> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .open(file)?
        .write_all(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_side_by_side_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("glidein_config");
        std::thread::scope(|scope| {
            for writer in 0..6 {
                let store = Store::at(&file);
                scope.spawn(move || {
                    for turn in 0..5 {
                        store
                            .add(format!("K{writer}_{turn}").as_bytes(), b"here")
                            .unwrap();
                    }
                });
            }
        });
        let board = Store::at(&file).load().unwrap();
        assert_eq!(board.entries().count(), 30);
        let history = fs::read_to_string(folder.path().join("glidein_config.history")).unwrap();
        assert_eq!(
            history
                .lines()
                .filter(|line| line.starts_with("REG"))
                .count(),
            30
        );
    }

    #[test]
    fn the_mode_stays_and_no_file_is_left_beside() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("board");
        fs::write(&file, "A 1\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        Store::at(&file).add(b"B", b"two words").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["board", "board.history"]);
    }

    #[test]
    fn the_lost_tail_of_a_value_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("board"));
        assert!(store.add(b"A", b"one\ntwo").unwrap());
        assert_eq!(fs::read(store.file()).unwrap(), b"A one\n");
        assert!(matches!(store.add(b"A B", b"x"), Err(StoreError::Key(_))));
    }
}
