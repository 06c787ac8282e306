//! Removes what a payload has left: iterative (a tree may be deeper than any stack), by descriptor, following no link,
//! and opening directories that were locked.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// A directory on the way from the top to where we are.
#[derive(Debug)]
struct Level {
    /// Its name in the one above; empty at the top.
    name: CString,
    inode: (u64, u64),
    directory: OwnedFd,
    /// What could not be removed in it.
    failed: HashSet<CString>,
}

/// Removes a directory with everything in it.
///
/// # Errors
/// When something is left: the last reason.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    if let Err(errno) = open(path, DIRECTORY, Mode::empty()) {
        match errno {
            Errno::ENOENT => return Ok(()),
            Errno::EACCES => fchmodat(AT_FDCWD, path, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?,
            errno => return Err(errno.into()),
        }
    }
    let top = open(path, DIRECTORY, Mode::empty())?;
    empty(top)?;
    std::fs::remove_dir(path)
}

/// Removes everything in a directory that is the account's own, and leaves the directory.
///
/// # Errors
/// When something is left: the last reason.
pub(super) fn empty_out(path: &Path) -> io::Result<()> {
    Ok(empty(open(path, DIRECTORY, Mode::empty())?)?)
}

fn empty(top: OwnedFd) -> Result<(), Errno> {
    let mut above: Vec<(CString, (u64, u64), HashSet<CString>)> = Vec::new();
    let mut level = Level::new(CString::default(), top)?;
    let mut trouble = None;
    loop {
        if let Some(below) = clear(&mut level, &mut trouble)? {
            let left = std::mem::replace(&mut level, below);
            // Descriptors are few and trees may be deep: the way back is by `..`.
            above.push((left.name, left.inode, left.failed));
            continue;
        }
        let Some((name, inode, failed)) = above.pop() else {
            return trouble.map_or(Ok(()), Err);
        };
        let directory = openat(&level.directory, "..", DIRECTORY, Mode::empty())?;
        let back = Level {
            failed,
            ..Level::new(name, directory)?
        };
        if back.inode != inode {
            // Somebody with this account moves directories about.
            return Err(Errno::ESTALE);
        }
        let done = std::mem::replace(&mut level, back);
        if let Err(errno) = unlinkat(
            &level.directory,
            done.name.as_c_str(),
            UnlinkatFlags::RemoveDir,
        ) {
            trouble.get_or_insert(errno);
            level.failed.insert(done.name);
        }
    }
}

impl Level {
    fn new(name: CString, directory: OwnedFd) -> Result<Self, Errno> {
        let facts = fstat(&directory)?;
        if facts.st_mode & 0o700 != 0o700 {
            fchmod(&directory, Mode::S_IRWXU)?;
        }
        Ok(Self {
            name,
            inode: (facts.st_dev, facts.st_ino),
            directory,
            failed: HashSet::new(),
        })
    }
}

/// Removes what is no directory; stops at the first one that can be entered.
fn clear(level: &mut Level, trouble: &mut Option<Errno>) -> Result<Option<Level>, Errno> {
    let copy = level.directory.try_clone().map_err(|_| Errno::EMFILE)?;
    // A copy shares the position in the directory; what was read before must be seen again.
    let mut listing = Dir::openat(copy.as_fd(), ".", DIRECTORY, Mode::empty())?;
    for entry in listing.iter() {
        let name = entry?.file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") || level.failed.contains(&name) {
            continue;
        }
        let parent = level.directory.as_fd();
        match unlinkat(parent, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => continue,
            // Linux says EISDIR, POSIX EPERM.
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(errno) => {
                trouble.get_or_insert(errno);
                level.failed.insert(name);
                continue;
            }
        }
        match enter(&level.directory, &name) {
            Ok(below) => return Ok(Some(below)),
            Err(errno) => {
                trouble.get_or_insert(errno);
                level.failed.insert(name);
            }
        }
    }
    Ok(None)
}

fn enter(parent: &OwnedFd, name: &CStr) -> Result<Level, Errno> {
    let directory = match openat(parent, name, DIRECTORY, Mode::empty()) {
        Err(Errno::EACCES) => {
            fchmodat(parent, name, Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
            openat(parent, name, DIRECTORY, Mode::empty())?
        }
        other => other?,
    };
    Level::new(name.to_owned(), directory)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn locked_directories_and_links_go_and_what_links_lead_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let top = folder.path().join("sandbox");
        fs::create_dir_all(top.join("a/b")).unwrap();
        fs::write(top.join("a/b/file"), "x").unwrap();
        fs::write(top.join("file"), "x").unwrap();
        symlink(&kept, top.join("a/link")).unwrap();
        symlink("/nonexistent", top.join("dangling")).unwrap();
        fs::set_permissions(top.join("a/b"), Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(top.join("a"), Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(&top, Permissions::from_mode(0o000)).unwrap();
        remove(&top).unwrap();
        assert!(!top.exists());
        assert!(kept.join("file").exists());
        remove(&top).unwrap();
    }

    #[test]
    fn a_tree_deeper_than_any_path_goes() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().join("sandbox");
        fs::create_dir(&top).unwrap();
        let mut here = open(&top, DIRECTORY, Mode::empty()).unwrap();
        let name = "d".repeat(200);
        for _ in 0..2000 {
            nix::sys::stat::mkdirat(&here, name.as_str(), Mode::S_IRWXU).unwrap();
            here = openat(&here, name.as_str(), DIRECTORY, Mode::empty()).unwrap();
        }
        drop(here);
        remove(&top).unwrap();
        assert!(!top.exists());
    }
}
