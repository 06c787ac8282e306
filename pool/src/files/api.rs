//! The handles that the rest of the pool holds.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

use super::account::{self, Account};
use super::error::{FileError, NoAccess};
use super::process::{Answer, Failed, Process};
use super::protocol::{Entry, Kind, MAX_PATH, Metadata, OpenWrite, Request};

/// How users' files are opened.
#[derive(Debug, Clone)]
pub struct FilesConfig {
    /// The program to start for each owner; it must call [`child_main`](super::child_main) when its first argument is
    /// [`ARGUMENT`](super::ARGUMENT).
    pub program: PathBuf,
    /// A child that nobody has asked for this long ends.
    pub idle: Duration,
    /// Most children at a time.
    pub max_children: usize,
}

impl FilesConfig {
    /// This program itself, children that end after half a minute, at most 512 of them.
    ///
    /// # Errors
    /// The system does not tell what this program is.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            program: std::env::current_exe()?,
            idle: Duration::from_secs(30),
            max_children: 512,
        })
    }
}

/// Opens files as their owners. Clones share the owners' processes.
#[derive(Debug, Clone)]
pub struct UserFiles {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: FilesConfig,
    owners: Mutex<HashMap<String, Arc<Owner>>>,
}

#[derive(Debug)]
struct Owner {
    name: String,
    /// The lock is held while a process is being started, so that there is only one.
    process: tokio::sync::Mutex<Option<Process>>,
}

/// Files of one owner, opened as that account. Cheap to clone; costs nothing until it is used.
#[derive(Debug, Clone)]
pub struct OwnerFiles {
    shared: Arc<Shared>,
    owner: Arc<Owner>,
}

impl UserFiles {
    /// Starts nothing yet.
    #[must_use]
    pub fn new(config: FilesConfig) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                owners: Mutex::default(),
            }),
        }
    }

    /// Files of the account `owner`. Whether there is such an account shows at the first operation.
    #[must_use]
    pub fn as_owner(&self, owner: &str) -> OwnerFiles {
        let mut owners = self
            .shared
            .owners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Names come from users: forget those that nobody uses.
        if owners.len() >= 2 * self.shared.config.max_children {
            owners.retain(|_, owner| Arc::strong_count(owner) > 1 || is_running(owner));
        }
        let entry = owners.entry(owner.to_owned()).or_insert_with(|| {
            Arc::new(Owner {
                name: owner.to_owned(),
                process: tokio::sync::Mutex::new(None),
            })
        });
        OwnerFiles {
            shared: Arc::clone(&self.shared),
            owner: Arc::clone(entry),
        }
    }

    /// Processes running now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.running()
    }
}

fn is_running(owner: &Owner) -> bool {
    owner.process.try_lock().map_or(true, |process| {
        process.as_ref().is_some_and(Process::is_alive)
    })
}

impl Shared {
    fn running(&self) -> usize {
        let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.values().filter(|owner| is_running(owner)).count()
    }
}

impl OwnerFiles {
    /// The account's name.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner.name
    }

    /// Opens a regular file for reading, links followed. The size is that of the moment.
    ///
    /// # Errors
    /// [`FileError`]; a device, pipe or socket is refused at once and never waited for.
    pub async fn open_read(&self, path: &Path) -> Result<(OwnedFd, Metadata), FileError> {
        let request = Request::OpenRead {
            path: path.to_owned(),
        };
        match self.ask("read", path, request).await? {
            Answer::Opened(file, facts) => Ok((file, facts)),
            other => Err(self.wrong(&other)),
        }
    }

    /// Opens a regular file for writing, as [`OpenWrite`] says.
    ///
    /// # Errors
    /// [`FileError`]
    pub async fn open_write(
        &self,
        path: &Path,
        how: OpenWrite,
    ) -> Result<(OwnedFd, Metadata), FileError> {
        let shown = how
            .beneath
            .as_ref()
            .map_or_else(|| path.to_owned(), |base| base.join(path));
        let request = Request::OpenWrite {
            path: path.to_owned(),
            how,
        };
        match self.ask("write", &shown, request).await? {
            Answer::Opened(file, facts) => Ok((file, facts)),
            other => Err(self.wrong(&other)),
        }
    }

    /// Makes one directory; 022 is taken off the mode.
    ///
    /// # Errors
    /// [`FileError`], `EEXIST` among them.
    pub async fn make_dir(&self, path: &Path, mode: u32) -> Result<(), FileError> {
        let request = Request::MakeDir {
            path: path.to_owned(),
            mode,
            beneath: None,
        };
        self.done("make directory", path, request).await
    }

    /// Makes one directory at `path` relative to `base`; nothing on its way may lead out of `base`.
    ///
    /// # Errors
    /// [`FileError`], `EEXIST` among them.
    pub async fn make_dir_beneath(
        &self,
        base: &Path,
        path: &Path,
        mode: u32,
    ) -> Result<(), FileError> {
        let request = Request::MakeDir {
            path: path.to_owned(),
            mode,
            beneath: Some(base.to_owned()),
        };
        self.done("make directory", &base.join(path), request).await
    }

    /// Everything below a directory, links to directories not entered, at most `limit` entries.
    ///
    /// # Errors
    /// [`FileError`]; `EOVERFLOW` when there is more.
    pub async fn list(&self, path: &Path, limit: u32) -> Result<Vec<Entry>, FileError> {
        let request = Request::List {
            path: path.to_owned(),
            limit,
        };
        match self.ask("list", path, request).await? {
            Answer::Entries(entries) => Ok(entries),
            other => Err(self.wrong(&other)),
        }
    }

    /// What is at `path`, links followed.
    ///
    /// # Errors
    /// [`FileError`]
    pub async fn stat(&self, path: &Path) -> Result<Metadata, FileError> {
        let request = Request::Stat {
            path: path.to_owned(),
        };
        match self.ask("examine", path, request).await? {
            Answer::Facts(facts) => Ok(facts),
            other => Err(self.wrong(&other)),
        }
    }

    /// Whether a symbolic link is at `path`.
    ///
    /// # Errors
    /// [`FileError`]
    pub async fn is_link(&self, path: &Path) -> Result<bool, FileError> {
        let request = Request::LinkStat {
            path: path.to_owned(),
        };
        match self.ask("examine", path, request).await? {
            Answer::Facts(facts) => Ok(facts.kind == Kind::Link),
            other => Err(self.wrong(&other)),
        }
    }

    /// Uid and primary gid of the account.
    ///
    /// # Errors
    /// [`FileError::NoAccess`]
    pub async fn ids(&self) -> Result<(u32, u32), FileError> {
        let account = self.account().await?;
        Ok((account.uid.as_raw(), account.gid.as_raw()))
    }

    /// Renames; an existing file is replaced.
    ///
    /// # Errors
    /// [`FileError`]
    pub async fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        let request = Request::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        self.done("rename", from, request).await
    }

    /// Removes a file or link.
    ///
    /// # Errors
    /// [`FileError`]
    pub async fn unlink(&self, path: &Path) -> Result<(), FileError> {
        self.done(
            "remove",
            path,
            Request::Unlink {
                path: path.to_owned(),
            },
        )
        .await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`FileError`]
    pub async fn remove_dir(&self, path: &Path) -> Result<(), FileError> {
        self.done(
            "remove directory",
            path,
            Request::RemoveDir {
                path: path.to_owned(),
            },
        )
        .await
    }

    /// Removes everything below a directory, but not the directory itself. Links are removed, not followed.
    ///
    /// # Errors
    /// [`FileError`]
    pub async fn clear_dir(&self, path: &Path) -> Result<(), FileError> {
        self.done(
            "clear directory",
            path,
            Request::RemoveTree {
                path: path.to_owned(),
            },
        )
        .await
    }

    /// Sets permission bits.
    ///
    /// # Errors
    /// [`FileError`]
    pub async fn set_mode(&self, path: &Path, mode: u32) -> Result<(), FileError> {
        let request = Request::SetMode {
            path: path.to_owned(),
            mode,
        };
        self.done("set the mode of", path, request).await
    }

    /// Whether files of this owner can be opened at all.
    ///
    /// # Errors
    /// [`FileError::NoAccess`]
    pub async fn check(&self) -> Result<(), FileError> {
        self.stat(Path::new("/")).await.map(drop)
    }

    async fn done(
        &self,
        what: &'static str,
        path: &Path,
        request: Request,
    ) -> Result<(), FileError> {
        match self.ask(what, path, request).await? {
            Answer::Done => Ok(()),
            other => Err(self.wrong(&other)),
        }
    }

    async fn ask(
        &self,
        what: &'static str,
        path: &Path,
        request: Request,
    ) -> Result<Answer, FileError> {
        request.paths().try_for_each(check_path)?;
        // A process that has just put itself away takes nothing more; then another one is started, once.
        for _ in 0..2 {
            return match self.process().await?.ask(request.clone()).await {
                Ok(answer) => Ok(answer),
                Err(Failed::NotTaken) => continue,
                Err(Failed::Died) => Err(self.no_access(NoAccess::Died)),
                Err(Failed::Errno(errno)) => Err(FileError::Refused {
                    what,
                    path: path.to_owned(),
                    errno,
                }),
                Err(Failed::NotRegular) => Err(FileError::NotRegular {
                    what,
                    path: path.to_owned(),
                }),
            };
        }
        Err(self.no_access(NoAccess::Died))
    }

    async fn process(&self) -> Result<Process, FileError> {
        let mut slot = self.owner.process.lock().await;
        if let Some(process) = slot.as_ref().filter(|process| process.is_alive()) {
            return Ok(process.clone());
        }
        *slot = None;
        if self.shared.running() >= self.shared.config.max_children {
            return Err(self.no_access(NoAccess::TooMany(self.shared.config.max_children)));
        }
        let account = self.account().await?;
        let process = Process::start(&self.shared.config, &account)
            .await
            .map_err(|why| self.no_access(why))?;
        *slot = Some(process.clone());
        Ok(process)
    }

    async fn account(&self) -> Result<Account, FileError> {
        let name = self.owner.name.clone();
        // The account may come from a directory server, which can be slow.
        let found = tokio::task::spawn_blocking(move || account::find(&name)).await;
        found
            .unwrap_or(Err(NoAccess::Lookup(Errno::EIO)))
            .map_err(|why| self.no_access(why))
    }

    fn no_access(&self, why: NoAccess) -> FileError {
        FileError::NoAccess {
            owner: self.owner.name.clone(),
            why,
        }
    }

    /// An answer of the wrong kind: the child is not what we think it is.
    fn wrong(&self, answer: &Answer) -> FileError {
        tracing::error!(owner = %self.owner.name, ?answer, "the process of an owner gave an answer of the wrong kind");
        self.no_access(NoAccess::Died)
    }
}

fn check_path(path: &Path) -> Result<(), FileError> {
    let why = if path.as_os_str().len() > MAX_PATH {
        "is longer than any path may be"
    } else if path.as_os_str().as_encoded_bytes().contains(&0) {
        "contains a NUL byte"
    } else if path.as_os_str().is_empty() {
        "is empty"
    } else {
        return Ok(());
    };
    Err(FileError::Path {
        path: path.to_string_lossy().chars().take(200).collect(),
        why,
    })
}
