//! The payload's copy of its credential (requirement G6).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use launch_protocol::MAX_CREDENTIAL;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, mkdir, unlinkat};

use crate::files::{Sandbox, kind};
use crate::{Failure, sys};

/// Stands for something unique at the end of a name.
const UNIQUE: &[u8] = b"XXXXXX";
/// Names tried before giving up.
const ATTEMPTS: u32 = 100;

/// Writes the copy to a place of its own; its path.
pub(crate) fn put(path: &Path, make_dir: bool, source: OwnedFd) -> Result<PathBuf, Failure> {
    let (Some(parent), true) = (path.parent(), path.is_absolute()) else {
        return Err(failed(path, Errno::EINVAL));
    };
    if make_dir {
        match mkdir(parent, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Failure::of("make directory", parent, errno)),
        }
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let dir = open(parent, flags, Mode::empty())
        .map_err(|errno| Failure::of("open directory", parent, errno))?;
    write(&dir, path, source).map(|name| parent.join(name))
}

/// Writes the copy beneath the sandbox.
pub(crate) fn replace(sandbox: &Sandbox, path: &Path, source: OwnedFd) -> Result<(), Failure> {
    let parent = path.parent().unwrap_or_else(|| Path::new(""));
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let dir = sandbox
        .open(parent, flags, Mode::empty(), false)
        .map_err(|errno| failed(path, errno))?;
    write(&dir, path, source).map(drop)
}

fn failed(path: &Path, errno: Errno) -> Failure {
    Failure::of("write the credential's copy", path, errno)
}

/// To the last name of `path` in `dir`; the name it has got.
fn write(dir: &OwnedFd, path: &Path, source: OwnedFd) -> Result<PathBuf, Failure> {
    let failed = |errno| failed(path, errno);
    let name = path.file_name().ok_or_else(|| failed(Errno::EINVAL))?;
    let facts = fstat(&source).map_err(failed)?;
    let limit = libc::off_t::try_from(MAX_CREDENTIAL).unwrap_or(libc::off_t::MAX);
    if kind(&facts) != SFlag::S_IFREG || facts.st_size > limit {
        return Err(failed(Errno::EFBIG));
    }
    expect_own_directory(dir, path)?;
    let stem = name.as_bytes().strip_suffix(UNIQUE);
    if stem.is_none() {
        expect_own_or_nothing(dir.as_fd(), path)?;
    }
    let (temporary, file) = new_file(dir.as_fd()).map_err(failed)?;
    copy(source, file)
        .and_then(|()| match stem {
            Some(stem) => place_uniquely(dir.as_fd(), &temporary, stem),
            None => renameat(dir, &temporary, dir, name).map(|()| PathBuf::from(name)),
        })
        .map_err(|errno| {
            let _ = unlinkat(dir, &temporary, UnlinkatFlags::NoRemoveDir);
            failed(errno)
        })
}

/// Nobody but this account may be able to exchange files in it.
fn expect_own_directory(dir: &OwnedFd, path: &Path) -> Result<(), Failure> {
    let facts = fstat(dir).map_err(|errno| failed(path, errno))?;
    if facts.st_uid == geteuid().as_raw() && facts.st_mode & 0o022 == 0 {
        return Ok(());
    }
    let message = format!(
        "{} cannot be written: its directory (owner uid {}, mode {:04o}) must belong to the payload's \
         account (uid {}) and be writable by nobody else",
        path.display(),
        facts.st_uid,
        facts.st_mode & 0o7777,
        geteuid()
    );
    Err(Failure::new(Errno::EPERM, message))
}

fn expect_own_or_nothing(dir: BorrowedFd<'_>, path: &Path) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default();
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(()),
        Ok(facts) if kind(&facts) == SFlag::S_IFREG && facts.st_uid == geteuid().as_raw() => Ok(()),
        Ok(facts) => {
            let message = format!(
                "{} is no file of the payload's account (owner uid {}), so it is left alone; \
                 choose another place for the credential's copy",
                path.display(),
                facts.st_uid
            );
            Err(Failure::new(Errno::EEXIST, message))
        }
        Err(errno) => Err(Failure::of("examine", path, errno)),
    }
}

fn new_file(dir: BorrowedFd<'_>) -> Result<(PathBuf, File), Errno> {
    let flags =
        OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    attempt(b".credential-", |name| {
        openat(dir, name, flags, mode).map(|file| (name.to_owned(), File::from(file)))
    })
}

fn place_uniquely(dir: BorrowedFd<'_>, from: &Path, stem: &[u8]) -> Result<PathBuf, Errno> {
    attempt(stem, |name| {
        sys::rename_to_new(dir, from, name).map(|()| name.to_owned())
    })
}

/// Tries names until one is free.
fn attempt<T>(stem: &[u8], mut make: impl FnMut(&Path) -> Result<T, Errno>) -> Result<T, Errno> {
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |time| time.subsec_nanos());
    for turn in 0..ATTEMPTS {
        let number = (seed ^ std::process::id().rotate_left(12)).wrapping_add(turn);
        let mut name = stem.to_vec();
        name.extend_from_slice(format!("{number:08x}").as_bytes());
        match make(Path::new(&std::ffi::OsString::from_vec(name))) {
            Err(Errno::EEXIST) => {}
            other => return other,
        }
    }
    Err(Errno::EEXIST)
}

/// From descriptor to descriptor within the kernel: the key is never in our memory.
fn copy(source: OwnedFd, mut file: File) -> Result<(), Errno> {
    let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    let mut source = File::from(source);
    io::Seek::rewind(&mut source).map_err(errno)?;
    let limit = u64::try_from(MAX_CREDENTIAL).unwrap_or(u64::MAX);
    io::copy(&mut io::Read::take(&mut source, limit), &mut file).map_err(errno)?;
    file.sync_data().map_err(errno)
}
