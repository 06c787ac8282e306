//! Removes what a payload has left. Runs in a child that has become the payload's account
//! ([`crate::spawn::as_account`]), so whatever a hostile tree leads it to, it can do no more than the
//! payload could. Iterative (a tree may be deeper than any stack), by descriptor, follows no link,
//! crosses no mount, and makes directories that were locked with mode 000 accessible first.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, fchdir, getuid, unlinkat};

use crate::sys::{self, SystemV};
use crate::trusted::file_kind;

/// Everything is gone.
pub(crate) const REMOVED: u8 = 0;
/// Something could not be removed.
pub(crate) const LEFT_OVER: u8 = 1;

/// Nothing was removed, because other processes of the account live.
pub(crate) const IN_USE: u8 = 2;

/// World-writable places in which a dynamic account may have left files for its next user.
const SHARED_PLACES: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"];

/// Empties the sandbox; with `everywhere`, also removes the account's files in shared places and
/// its System V objects.
pub(crate) fn run(sandbox: OwnedFd, everywhere: bool) -> u8 {
    let emptied = empty(&sandbox, None);
    if everywhere {
        let own = getuid().as_raw();
        for place in SHARED_PLACES {
            if let Ok(dir) = open(place, DIRECTORY, Mode::empty()) {
                // Best effort: a place may be read-only, or hold what is mounted there.
                let _ = empty(&dir, Some(own));
            }
        }
        remove_system_v_objects(own);
    }
    if emptied == Ok(true) {
        REMOVED
    } else {
        LEFT_OVER
    }
}

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// A directory on the way from the top to where we are.
struct Level {
    /// Its name in the one above.
    name: OsString,
    device: u64,
    inode: u64,
    /// What could not be removed in it.
    failed: HashSet<OsString>,
}

impl Level {
    fn new(name: OsString, facts: &FileStat) -> Self {
        Self {
            name,
            device: facts.st_dev,
            inode: facts.st_ino,
            failed: HashSet::new(),
        }
    }
}

/// Removes everything in `top`, or, at its first level, only what `owner` owns. True: all of it.
fn empty(top: &OwnedFd, owner: Option<u32>) -> Result<bool, Errno> {
    let facts = fstat(top)?;
    if owner.is_none() {
        fchmod(top, Mode::S_IRWXU)?;
    }
    fchdir(top)?;
    let mut levels = vec![Level::new(OsString::new(), &facts)];
    let mut current = levels.pop().ok_or(Errno::EINVAL)?;
    loop {
        let wanted = owner.filter(|_| levels.is_empty());
        if let Some(below) = clear(&mut current, wanted)? {
            levels.push(std::mem::replace(&mut current, below));
            continue;
        }
        let Some(above) = levels.pop() else {
            return Ok(current.failed.is_empty());
        };
        let dir = open("..", DIRECTORY, Mode::empty())?;
        let facts = fstat(&dir)?;
        if (facts.st_dev, facts.st_ino) != (above.device, above.inode) {
            // Somebody with this account moves directories about; leave it to a later attempt.
            return Err(Errno::ESTALE);
        }
        fchdir(&dir)?;
        let done = std::mem::replace(&mut current, above);
        if unlinkat(AT_FDCWD, done.name.as_os_str(), UnlinkatFlags::RemoveDir).is_err() {
            current.failed.insert(done.name);
        }
    }
}

/// Removes files in the working directory; stops at the first directory and steps into it.
fn clear(level: &mut Level, owner: Option<u32>) -> Result<Option<Level>, Errno> {
    let Ok(entries) = fs::read_dir(".") else {
        return Ok(None);
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if level.failed.contains(&name) {
            continue;
        }
        let Ok(facts) = fstatat(AT_FDCWD, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else {
            continue;
        };
        if owner.is_some_and(|owner| facts.st_uid != owner) {
            continue;
        }
        if file_kind(&facts) == SFlag::S_IFDIR {
            if let Some(below) = enter(&name, &facts, level.device) {
                return Ok(Some(below));
            }
            level.failed.insert(name);
        } else if unlinkat(AT_FDCWD, name.as_os_str(), UnlinkatFlags::NoRemoveDir).is_err() {
            level.failed.insert(name);
        }
    }
    Ok(None)
}

/// Makes a directory accessible and the working directory.
fn enter(name: &OsString, facts: &FileStat, device: u64) -> Option<Level> {
    if facts.st_dev != device {
        return None;
    }
    let own = open(name.as_os_str(), DIRECTORY, Mode::empty()).or_else(|_| {
        fchmodat(
            AT_FDCWD,
            name.as_os_str(),
            Mode::S_IRWXU,
            FchmodatFlags::FollowSymlink,
        )?;
        open(name.as_os_str(), DIRECTORY, Mode::empty())
    });
    let dir = own.ok()?;
    let opened = fstat(&dir).ok()?;
    if (opened.st_dev, opened.st_ino) != (facts.st_dev, facts.st_ino) {
        return None;
    }
    if opened.st_mode & 0o700 != 0o700 {
        fchmod(&dir, Mode::S_IRWXU).ok()?;
    }
    fchdir(dir.as_fd()).ok()?;
    Some(Level::new(name.clone(), &opened))
}

/// Shared memory, semaphores and message queues that belong to `uid`.
fn remove_system_v_objects(uid: u32) {
    // Column of the owner's uid in each table; the identifier always is the second.
    for (table, owner, kind) in [
        ("/proc/sysvipc/shm", 7, SystemV::Memory),
        ("/proc/sysvipc/sem", 4, SystemV::Semaphores),
        ("/proc/sysvipc/msg", 7, SystemV::Messages),
    ] {
        for id in owned_objects(&fs::read_to_string(table).unwrap_or_default(), owner, uid) {
            let _ = sys::remove_system_v(kind, id);
        }
    }
}

fn owned_objects(table: &str, owner: usize, uid: u32) -> Vec<i32> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let theirs = fields.get(owner)?.parse::<u32>().ok()? == uid;
            theirs.then(|| fields.get(1)?.parse().ok()).flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k9_only_the_accounts_own_objects_are_named() {
        let table = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid\n\
                     0          3  1600  1 10 10 0 60001 60001 60001 60001\n\
                     0          4  1600  1 10 10 0  1000  1000  1000  1000\n";
        assert_eq!(owned_objects(table, 7, 60_001), [3]);
    }
}
