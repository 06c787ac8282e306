//! Empties directories, or removes what one account owns in them. Iterative (a tree may be deeper than any stack), by
//! descriptor, follows no link, crosses no mount, and makes directories that were locked with mode 000
//! accessible first.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, fchdir, geteuid, unlinkat};

use crate::files::kind;

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// What is to go.
#[derive(Clone, Copy, Debug)]
enum What {
    Everything,
    /// What this account owns, and everything in directories that it owns.
    OwnedBy {
        uid: u32,
        /// Also look into directories of others.
        deep: bool,
    },
}

/// How it went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// So many files and directories were removed.
    pub removed: u32,
    /// So many could not be.
    pub left: u32,
}

/// A directory on the way from the top to where we are.
struct Level {
    /// Its name in the one above.
    name: OsString,
    device: u64,
    inode: u64,
    /// What of its content is to go.
    what: What,
    /// The directory itself is to go when it is empty.
    goes: bool,
    /// What has been dealt with, but is still there.
    passed: HashSet<OsString>,
}

/// Removes everything in `top`.
///
/// # Errors
/// If `top` cannot be entered, or somebody moves its directories about meanwhile.
pub fn empty(top: &OwnedFd) -> Result<Tally, Errno> {
    // If it is somebody else's, its mode must do.
    let _ = fchmod(top, Mode::S_IRWXU);
    walk(top, What::Everything)
}

/// Removes what this account owns in `top`; with `deep`, also in the directories of others below.
///
/// # Errors
/// If `top` cannot be entered, or somebody moves its directories about meanwhile.
pub fn remove_own(top: &OwnedFd, deep: bool) -> Result<Tally, Errno> {
    let uid = geteuid().as_raw();
    walk(top, What::OwnedBy { uid, deep })
}

fn walk(top: &OwnedFd, what: What) -> Result<Tally, Errno> {
    let facts = fstat(top)?;
    fchdir(top)?;
    let mut tally = Tally::default();
    let mut above = Vec::new();
    let mut current = Level {
        name: OsString::new(),
        device: facts.st_dev,
        inode: facts.st_ino,
        what,
        goes: false,
        passed: HashSet::new(),
    };
    loop {
        if let Some(below) = clear(&mut current, &mut tally) {
            above.push(std::mem::replace(&mut current, below));
            continue;
        }
        let Some(parent) = above.pop() else {
            return Ok(tally);
        };
        let dir = open("..", DIRECTORY, Mode::empty())?;
        let facts = fstat(&dir)?;
        if (facts.st_dev, facts.st_ino) != (parent.device, parent.inode) {
            // Somebody with this account moves directories about; leave it to a later attempt.
            return Err(Errno::ESTALE);
        }
        fchdir(&dir)?;
        let done = std::mem::replace(&mut current, parent);
        if done.goes && unlinkat(AT_FDCWD, done.name.as_os_str(), UnlinkatFlags::RemoveDir).is_ok()
        {
            tally.removed += 1;
        } else {
            tally.left += u32::from(done.goes);
            current.passed.insert(done.name);
        }
    }
}

/// Removes files in the working directory; stops at the first directory and steps into it.
fn clear(level: &mut Level, tally: &mut Tally) -> Option<Level> {
    // What cannot be read shows as a directory that cannot be removed.
    for entry in fs::read_dir(".").into_iter().flatten().flatten() {
        let name = entry.file_name();
        if level.passed.contains(&name) {
            continue;
        }
        let Ok(facts) = fstatat(AT_FDCWD, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else {
            continue;
        };
        let is_directory = kind(&facts) == SFlag::S_IFDIR;
        let goes = match level.what {
            What::Everything => true,
            What::OwnedBy { uid, deep } => {
                let goes = facts.st_uid == uid;
                if !(goes || deep && is_directory) {
                    continue;
                }
                goes
            }
        };
        if is_directory {
            match enter(&name, &facts, level, goes) {
                Some(below) => return Some(below),
                None => tally.left += u32::from(goes),
            }
        } else if unlinkat(AT_FDCWD, name.as_os_str(), UnlinkatFlags::NoRemoveDir).is_ok() {
            tally.removed += 1;
            continue;
        } else {
            tally.left += 1;
        }
        level.passed.insert(name);
    }
    None
}

/// Makes a directory accessible and the working directory.
fn enter(name: &OsString, facts: &FileStat, above: &Level, goes: bool) -> Option<Level> {
    if facts.st_dev != above.device {
        return None;
    }
    let attempt = || open(name.as_os_str(), DIRECTORY, Mode::empty());
    let dir = match attempt() {
        Err(_) if goes => {
            let flags = FchmodatFlags::FollowSymlink;
            fchmodat(AT_FDCWD, name.as_os_str(), Mode::S_IRWXU, flags).ok()?;
            attempt()
        }
        opened => opened,
    }
    .ok()?;
    let opened = fstat(&dir).ok()?;
    if (opened.st_dev, opened.st_ino) != (facts.st_dev, facts.st_ino) {
        return None;
    }
    if goes && opened.st_mode & 0o700 != 0o700 {
        fchmod(&dir, Mode::S_IRWXU).ok()?;
    }
    fchdir(dir.as_fd()).ok()?;
    Some(Level {
        name: name.clone(),
        device: opened.st_dev,
        inode: opened.st_ino,
        what: if goes { What::Everything } else { above.what },
        goes,
        passed: HashSet::new(),
    })
}
