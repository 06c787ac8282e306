//! Leases: one file per payload below the run directory. The lock on it says that its monitor lives,
//! its text says what must be cleaned up when that monitor is gone. For a dynamic account the file's
//! name is the uid, so the lock also says that the uid is taken, for all monitors of the machine.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use launch_protocol::broker::Refusal;
use launch_protocol::lease::Record;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::sys::errno;
use crate::trusted::{self, Kind};

/// The directory of all leases of this machine.
#[derive(Debug)]
pub struct LeaseDir {
    dir: OwnedFd,
    path: PathBuf,
}

/// A lease held by this monitor, until dropped or released.
#[derive(Debug)]
pub struct Lease {
    file: Flock<File>,
    name: String,
}

impl LeaseDir {
    /// Opens `RUNDIR/leases`, making both if need be.
    pub(crate) fn open(rundir: &Path) -> Result<Self, Refusal> {
        let path = rundir.join("leases");
        for path in [rundir, &path] {
            // If it fails, the check that follows says why.
            let _ = fs::DirBuilder::new().mode(0o755).create(path);
        }
        Ok(Self { dir: trusted::open("rundir", &path, Kind::Directory)?, path })
    }

    /// Tries to take the lease of this name; `None`: a living monitor has it.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub fn take(&self, name: &str) -> Result<Option<Lease>, Errno> {
        loop {
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mode = Mode::from_bits_truncate(0o600);
            let file = File::from(openat(&self.dir, name, flags, mode)?);
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, errno)) => return Err(errno),
            };
            // The holder before us may have removed the file between our open and our lock.
            let inode = file.metadata().map_err(errno)?.ino();
            match fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(named) if named.st_ino == inode => {}
                Ok(_) | Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(errno),
            }
            return Ok(Some(Lease { file, name: name.to_owned() }));
        }
    }

    /// Has a monitor that is gone left anything? What had not been used yet goes at once.
    pub(crate) fn has_stale(&self) -> bool {
        let taken = self.names().into_iter().filter_map(|name| self.take(&name).ok()?);
        let (unused, stale): (Vec<_>, Vec<_>) = taken.partition(Lease::is_new);
        unused.into_iter().for_each(|lease| self.release(lease));
        !stale.is_empty()
    }

    /// Is there a file of this name? Then a monitor has the lease, or something is left of a dead one.
    pub fn exists(&self, name: &str) -> bool {
        fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) != Err(Errno::ENOENT)
    }

    /// Gives a lease back: its file is gone, the next may take it.
    pub fn release(&self, lease: Lease) {
        // Before the lock ends, so that nobody can lock a file that is about to vanish.
        let _ = unlinkat(&self.dir, lease.name.as_str(), UnlinkatFlags::NoRemoveDir);
        drop(lease);
    }

    /// Names of all lease files.
    pub fn names(&self) -> Vec<String> {
        let Ok(folder) = fs::read_dir(&self.path) else {
            return Vec::new();
        };
        folder.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

impl Lease {
    /// Nothing is left of an earlier holder.
    pub fn is_new(&self) -> bool {
        self.file.metadata().is_ok_and(|facts| facts.len() == 0)
    }

    /// What an earlier holder has written down.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let _ = (&*self.file).take(MAX_RECORD).read_to_end(&mut text);
        text
    }

    /// Writes down what must be cleaned up, before any of it exists.
    pub(crate) fn record(&self, record: &Record) -> Result<(), Errno> {
        // Never empty in between: what stands behind the end of an earlier record is not read.
        let text = record.print();
        self.file.write_all_at(&text, 0).map_err(errno)?;
        self.file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX)).map_err(errno)
    }
}

/// Longest record that is read, bytes.
const MAX_RECORD: u64 = 64 * 1024;
