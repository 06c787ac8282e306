//! What a transfer needs of a sandbox, so that the dialogue can be tested without one.

use std::fs::File;
use std::future::Future;
use std::path::Path;

use launch_protocol::agent::Entry;
use thiserror::Error;

use crate::broker::{Agent, AgentError};

/// Why something in the sandbox could not be made or opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system said no.
    #[error("{message} (errno {errno})")]
    File {
        /// Linux error number.
        errno: i32,
        /// One sentence.
        message: String,
    },
    /// The agent itself failed; nothing can be said about the file.
    #[error(transparent)]
    Agent(AgentError),
}

impl StoreError {
    /// The error number, if it is the file's.
    #[must_use]
    pub const fn errno(&self) -> Option<i32> {
        match self {
            Self::File { errno, .. } => Some(*errno),
            Self::Agent(_) => None,
        }
    }
}

impl From<AgentError> for StoreError {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Failed { errno, message, .. } => Self::File { errno, message },
            other => Self::Agent(other),
        }
    }
}

/// A place where files are made and opened beneath one directory. Paths are relative to it.
pub trait Sandbox: Send {
    /// Makes one directory.
    fn make_dir(
        &mut self,
        path: &Path,
        mode: u32,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Creates or empties a file, for writing, with exactly this mode.
    fn create(
        &mut self,
        path: &Path,
        mode: u32,
    ) -> impl Future<Output = Result<File, StoreError>> + Send;
    /// Sets the mode of a file or directory.
    fn set_mode(
        &mut self,
        path: &Path,
        mode: u32,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Opens a regular file for reading; gives its size and permission bits with it.
    fn open_read(
        &mut self,
        path: &Path,
    ) -> impl Future<Output = Result<(File, u64, u32), StoreError>> + Send;
    /// Lists a directory; the empty path is the sandbox itself.
    fn list(&mut self, path: &Path) -> impl Future<Output = Result<Vec<Entry>, StoreError>> + Send;
}

impl Sandbox for Agent {
    async fn make_dir(&mut self, path: &Path, mode: u32) -> Result<(), StoreError> {
        Ok(Self::make_dir(self, path, mode).await?)
    }

    async fn create(&mut self, path: &Path, mode: u32) -> Result<File, StoreError> {
        Ok(Self::create(self, path, mode).await?)
    }

    async fn set_mode(&mut self, path: &Path, mode: u32) -> Result<(), StoreError> {
        Ok(Self::set_mode(self, path, mode).await?)
    }

    async fn open_read(&mut self, path: &Path) -> Result<(File, u64, u32), StoreError> {
        Ok(Self::open_read(self, path).await?)
    }

    async fn list(&mut self, path: &Path) -> Result<Vec<Entry>, StoreError> {
        Ok(Self::list(self, path).await?)
    }
}
