//! Files that an evicted run has left for the next one.
//!
//! Each job has a folder of its own, `SPOOL/<cluster>/<proc>`, that belongs to its owner, in a folder that belongs to
//! the pool. What comes goes into a second folder beside it first and is moved when all of it is there, so that a
//! transfer that breaks off does not spoil what an earlier run has left.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, User};

use super::registry::Transfers;
use crate::JobId;
use crate::files::{FileError, Kind, OpenWrite, OwnerFiles};

/// Stands in the incoming folder when everything in it has come and is to be moved.
const COMPLETE: &str = ".complete";

/// Most entries of a folder.
const MAX_ENTRIES: u32 = 1_000_000;

/// One job's place in the spool. Nothing exists before it is needed.
#[derive(Debug, Clone)]
pub(super) struct SpoolFolder {
    cluster: PathBuf,
    kept: PathBuf,
    incoming: PathBuf,
}

impl SpoolFolder {
    pub(super) fn new(spool: &Path, job: JobId) -> Self {
        let cluster = spool.join(job.cluster.to_string());
        Self {
            kept: cluster.join(job.proc.to_string()),
            incoming: cluster.join(format!("{}.tmp", job.proc)),
            cluster,
        }
    }

    /// What earlier runs have left.
    pub(super) fn kept(&self) -> &Path {
        &self.kept
    }

    /// Where files are put while they come.
    pub(super) fn incoming(&self) -> &Path {
        &self.incoming
    }

    /// Makes both folders, and the incoming one empty.
    pub(super) async fn begin(&self, files: &OwnerFiles) -> Result<(), FileError> {
        self.settle(files).await?;
        let (uid, gid) = files.ids().await?;
        for folder in [&self.kept, &self.incoming] {
            let (cluster, own) = (self.cluster.clone(), folder.clone());
            let made = tokio::task::spawn_blocking(move || make(&cluster, &own, uid, gid));
            match made.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    return Err(FileError::Refused {
                        what: "make directory",
                        path: folder.clone(),
                        errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
                    });
                }
                Err(_) => {
                    return Err(FileError::Refused {
                        what: "make directory",
                        path: folder.clone(),
                        errno: Errno::EIO,
                    });
                }
            }
        }
        files.clear_dir(&self.incoming).await
    }

    /// Everything has come.
    pub(super) async fn commit(&self, files: &OwnerFiles) -> Result<(), FileError> {
        let how = OpenWrite {
            mode: 0o600,
            create: true,
            ..OpenWrite::default()
        };
        files.open_write(&self.incoming.join(COMPLETE), how).await?;
        self.settle(files).await
    }

    /// Moves what a commit has not moved yet, if there was one.
    pub(super) async fn settle(&self, files: &OwnerFiles) -> Result<(), FileError> {
        let mark = self.incoming.join(COMPLETE);
        match files.stat(&mark).await {
            Ok(_) => {}
            Err(FileError::Refused {
                errno: Errno::ENOENT,
                ..
            }) => return Ok(()),
            Err(error) => return Err(error),
        }
        for entry in files.list(&self.incoming, MAX_ENTRIES).await? {
            let name = &entry.path;
            if name.components().count() != 1 || name == Path::new(COMPLETE) {
                continue;
            }
            let target = self.kept.join(name);
            if files
                .stat(&target)
                .await
                .is_ok_and(|facts| facts.kind == Kind::Directory)
            {
                files.clear_dir(&target).await?;
                files.remove_dir(&target).await?;
            }
            files.rename(&self.incoming.join(name), &target).await?;
        }
        files.unlink(&mark).await
    }
}

/// Makes `folder` in `cluster` for an owner. Both are the pool's own paths: the owner can change nothing in `cluster`.
fn make(cluster: &Path, folder: &Path, uid: u32, gid: u32) -> io::Result<()> {
    // The owner must be able to go through the folder of the cluster, and has no business to look into it.
    for (path, mode) in [(cluster, 0o711), (folder, 0o700)] {
        match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = fs::File::from(open(folder, flags, Mode::empty())?);
    if folder.metadata()?.uid() != uid {
        fchown(&folder, Some(uid), Some(gid))?;
    }
    Ok(())
}

impl Transfers {
    /// Removes what the spool holds for a job; to be called when the job leaves the queue. Does nothing if there is
    /// nothing, and logs what it cannot remove.
    pub async fn remove_spool(&self, job: JobId, owner: &str) {
        let folder = SpoolFolder::new(&self.shared.config.spool, job);
        let files = self.shared.files.as_owner(owner);
        for path in [&folder.kept, &folder.incoming] {
            if !path.exists() {
                continue;
            }
            if let Err(error) = files.clear_dir(path).await {
                tracing::warn!(%job, %error, "the spooled files of a job cannot be removed");
                continue;
            }
            if let Err(error) = fs::remove_dir(path) {
                tracing::warn!(%job, path = %path.display(), %error, "the spool folder of a job cannot be removed");
            }
        }
        // Other jobs of the cluster may have a folder in it.
        let _ = fs::remove_dir(&folder.cluster);
    }

    /// Removes what the spool holds for jobs that nobody knows any more: of a pool that was killed, and of jobs that
    /// were removed while they waited. To be called now and then.
    pub async fn sweep_spool(&self, is_known: impl Fn(JobId) -> bool) {
        for (job, uid) in leftovers(&self.shared.config.spool) {
            if is_known(job) {
                continue;
            }
            match User::from_uid(Uid::from_raw(uid)) {
                Ok(Some(user)) => self.remove_spool(job, &user.name).await,
                _ => tracing::warn!(%job, uid, "the spooled files of a job belong to nobody known"),
            }
        }
    }
}

/// Jobs with a folder in the spool, and whose it is.
fn leftovers(spool: &Path) -> Vec<(JobId, u32)> {
    let mut found = Vec::new();
    for cluster in entries(spool) {
        let Some(number) = number(&cluster) else {
            continue;
        };
        for folder in entries(&cluster) {
            let proc = self::number(&folder.with_extension(""));
            if let (Some(proc), Ok(facts)) = (proc, fs::symlink_metadata(&folder)) {
                found.push((JobId::new(number, proc), facts.uid()));
            }
        }
    }
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn number(path: &Path) -> Option<i32> {
    path.file_name()?.to_str()?.parse().ok()
}
