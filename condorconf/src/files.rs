//! The outside world as a configuration sees it: files, directories, commands, environment.

use std::collections::BTreeMap;
use std::io;

/// Access to files, commands and the environment.
///
/// The reader asks for nothing else, so an implementation decides what a configuration may touch:
/// [`MemoryFiles`] touches nothing, [`crate::RealFiles`] the machine.
pub trait Files {
    /// The content of the file at `path`, at most `limit` bytes.
    ///
    /// # Errors
    /// [`FileError`] says why it cannot be read; a larger file is [`FileError::TooLarge`].
    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, FileError>;

    /// The entries of the directory at `path`, in any order, without `.` and `..`.
    ///
    /// # Errors
    /// [`FileError`] says why it cannot be listed.
    fn list(&self, path: &str, limit: usize) -> Result<Vec<DirEntry>, FileError>;

    /// What the command prints on its standard output. `argv` is never empty; no shell is involved.
    ///
    /// # Errors
    /// [`FileError::CommandsForbidden`] if the implementation runs none; else why it failed.
    fn run(&self, argv: &[String], limit: usize) -> Result<Vec<u8>, FileError>;

    /// All environment variables whose name and value are UTF-8.
    fn environment(&self) -> Vec<(String, String)>;
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// File name, without the directory.
    pub name: String,
    /// Whether it is a directory (links are followed).
    pub is_dir: bool,
}

/// Why a file cannot be read or a command cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused.
    #[error("{0}")]
    Io(io::ErrorKind),
    /// It is larger than the limit.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// A name is not UTF-8.
    #[error("a file name in it is not UTF-8")]
    BadName,
    /// It is a device, a pipe or a directory.
    #[error("not a regular file")]
    NotAFile,
    /// Commands are not run by this program.
    #[error("commands in the configuration are not run by this program")]
    CommandsForbidden,
    /// The command line has unbalanced quotes or is empty.
    #[error("bad command line")]
    BadCommandLine,
    /// The command ended with a status other than 0, or by a signal.
    #[error("the command failed (exit status {0:?})")]
    CommandFailed(Option<i32>),
    /// The command took too long.
    #[error("the command did not end within {seconds} s")]
    CommandTimeout {
        /// The time it had.
        seconds: u64,
    },
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// Files, commands and environment in memory: for tests, and for reading a text that may touch nothing.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles {
    files: BTreeMap<String, Vec<u8>>,
    commands: BTreeMap<Vec<String>, Vec<u8>>,
    environment: BTreeMap<String, String>,
}

impl MemoryFiles {
    /// No file, no command, no variable.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file; its directory exists with it.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.to_owned(), content.into());
        self
    }

    /// Adds a command and what it prints.
    #[must_use]
    pub fn command(mut self, argv: &[&str], output: impl Into<Vec<u8>>) -> Self {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        self.commands.insert(argv, output.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl Files for MemoryFiles {
    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, FileError> {
        let content = self
            .files
            .get(path)
            .ok_or(FileError::Io(io::ErrorKind::NotFound))?;
        if content.len() > limit {
            Err(FileError::TooLarge { limit })
        } else {
            Ok(content.clone())
        }
    }

    fn list(&self, path: &str, limit: usize) -> Result<Vec<DirEntry>, FileError> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let mut entries = BTreeMap::new();
        for below in self
            .files
            .keys()
            .filter_map(|file| file.strip_prefix(prefix.as_str()))
        {
            match below.split_once('/') {
                Some((dir, _)) => entries.insert(dir, true),
                None => entries.insert(below, false),
            };
        }
        if entries.is_empty() {
            return Err(FileError::Io(io::ErrorKind::NotFound));
        }
        if entries.len() > limit {
            return Err(FileError::TooLarge { limit });
        }
        Ok(entries
            .into_iter()
            .map(|(name, is_dir)| DirEntry {
                name: name.to_owned(),
                is_dir,
            })
            .collect())
    }

    fn run(&self, argv: &[String], limit: usize) -> Result<Vec<u8>, FileError> {
        let output = self
            .commands
            .get(argv)
            .ok_or(FileError::CommandsForbidden)?;
        if output.len() > limit {
            Err(FileError::TooLarge { limit })
        } else {
            Ok(output.clone())
        }
    }

    fn environment(&self) -> Vec<(String, String)> {
        self.environment
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}
