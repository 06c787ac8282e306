//! Leases: one file per payload below the run directory. The lock on it says that its broker lives,
//! its text says what must be cleaned up when that broker is gone. For a dynamic account the file's
//! name is the uid, so the lock also says that the uid is taken, for all brokers of the machine.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use launch_protocol::lease::Record;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::trusted::{self, TrustError};

/// The directory of all leases of this machine.
#[derive(Debug)]
pub(crate) struct LeaseDir {
    dir: OwnedFd,
    path: PathBuf,
}

/// A lease held by this broker, until dropped or released.
#[derive(Debug)]
pub(crate) struct Lease {
    file: Flock<File>,
    name: String,
}

/// What became of the wish for a lease.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is ours, and nothing is left of an earlier holder.
    Fresh(Lease),
    /// It is ours now; the record is what a dead broker has left (`None`: unreadable).
    Stale(Lease, Option<Record>),
    /// A living broker has it.
    Held,
}

const MAX_RECORD: usize = 64 * 1024;

impl LeaseDir {
    /// Opens `RUNDIR/leases`, making both if need be.
    pub(crate) fn open(rundir: &Path) -> Result<Self, TrustError> {
        let path = rundir.join("leases");
        let make = |path: &Path| {
            // If it fails, the check that follows says why.
            let _ = fs::DirBuilder::new().mode(0o755).create(path);
        };
        make(rundir);
        make(&path);
        Ok(Self { dir: trusted::open_dir(&path)?, path })
    }

    /// Tries to take the lease of this name.
    pub(crate) fn take(&self, name: &str) -> Result<Taken, Errno> {
        loop {
            let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mode = Mode::from_bits_truncate(0o600);
            let file = File::from(openat(&self.dir, name, flags, mode)?);
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(Taken::Held),
                Err((_, errno)) => return Err(errno),
            };
            // The holder before us may have removed the file between our open and our lock.
            let inode = file.metadata().map_err(errno)?.ino();
            match fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(named) if named.st_ino == inode => {}
                Ok(_) | Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(errno),
            }
            let lease = Lease { file, name: name.to_owned() };
            let mut text = vec![0; MAX_RECORD];
            let length = lease.file.read_at(&mut text, 0).map_err(errno)?;
            text.truncate(length);
            return Ok(if text.is_empty() {
                Taken::Fresh(lease)
            } else {
                Taken::Stale(lease, Record::parse(&text))
            });
        }
    }

    /// Is there a file of this name? Then a broker has the lease, or something is left of a dead one.
    pub(crate) fn exists(&self, name: &str) -> bool {
        fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) != Err(Errno::ENOENT)
    }

    /// Gives a lease back: its file is gone, the next may take it.
    pub(crate) fn release(&self, lease: Lease) {
        // Before the lock ends, so that nobody can lock a file that is about to vanish.
        let _ = unlinkat(&self.dir, lease.name.as_str(), UnlinkatFlags::NoRemoveDir);
        drop(lease);
    }

    /// Names of all lease files.
    pub(crate) fn names(&self) -> Vec<String> {
        let Ok(folder) = fs::read_dir(&self.path) else {
            return Vec::new();
        };
        folder.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

impl Lease {
    /// Writes down what must be cleaned up, before any of it exists.
    pub(crate) fn record(&self, record: &Record) -> Result<(), Errno> {
        // Never empty in between: what stands behind the end of an earlier record is not read.
        let text = record.print();
        self.file.write_all_at(&text, 0).map_err(errno)?;
        self.file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX)).map_err(errno)
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
