//! Leases: one file per payload below the run directory. The lock on it says that its broker lives,
//! its text says what must be cleaned up when that broker is gone. For a dynamic account the file's
//! name is the uid, so the lock also says that the uid is taken, for all brokers of the machine.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::trusted::{self, TrustError};

/// What must be cleaned up after a payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) dynamic: bool,
    pub(crate) sandbox: PathBuf,
    pub(crate) groups: Vec<PathBuf>,
    pub(crate) label: String,
}

impl Record {
    fn print(&self) -> Vec<u8> {
        let mut text = String::from("sailplane-lease 1\n");
        let _ = writeln!(
            text,
            "uid {}\ngid {}\ndynamic {}",
            self.uid,
            self.gid,
            u8::from(self.dynamic)
        );
        let _ = writeln!(text, "label {}", self.label);
        let mut bytes = text.into_bytes();
        for (key, path) in std::iter::once(("sandbox ", &self.sandbox))
            .chain(self.groups.iter().map(|group| ("group ", group)))
        {
            bytes.extend_from_slice(key.as_bytes());
            bytes.extend_from_slice(path.as_os_str().as_bytes());
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(b"end\n");
        bytes
    }

    /// Only a complete record counts.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut record = Self::default();
        let mut lines = text.split(|byte| *byte == b'\n');
        if lines.next()? != b"sailplane-lease 1" {
            return None;
        }
        for line in lines {
            if line == b"end" {
                return Some(record);
            }
            let blank = line.iter().position(|byte| *byte == b' ')?;
            let (key, value) = line.split_at(blank);
            let value = value.get(1..)?;
            let text = || std::str::from_utf8(value).ok();
            let path = || PathBuf::from(std::ffi::OsStr::from_bytes(value));
            match key {
                b"uid" => record.uid = text()?.parse().ok()?,
                b"gid" => record.gid = text()?.parse().ok()?,
                b"dynamic" => record.dynamic = text()? == "1",
                b"label" => record.label = text()?.to_owned(),
                b"sandbox" => record.sandbox = path(),
                b"group" => record.groups.push(path()),
                _ => return None,
            }
        }
        None
    }
}

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
    pub(crate) fn record(&mut self, record: &Record) -> Result<(), Errno> {
        self.file.set_len(0).map_err(errno)?;
        self.file.write_all(&record.print()).map_err(errno)
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k10_a_record_comes_back_whole_or_not_at_all() {
        let record = Record {
            uid: 60_001,
            gid: 60_001,
            dynamic: true,
            sandbox: "/scratch/a b/dir_1_2".into(),
            groups: vec!["/sys/fs/cgroup/x".into(), "/sys/fs/cgroup/memory/x".into()],
            label: "12.0 of alice".into(),
        };
        let text = record.print();
        assert_eq!(Record::parse(&text), Some(record));
        for cut in 0..text.len() - 1 {
            assert_eq!(Record::parse(&text[..cut]), None, "{cut}");
        }
    }
}
