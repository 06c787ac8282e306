//! Jobs of an account in the spool folders of cron and at. Root takes them out; it does not read them.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use sailplane_switch::trusted::{self, Kind, file_kind};

/// Their parent is root's alone, and only root's or the daemon's programs write in them.
const SPOOLS: [(&str, &str); 6] = [
    ("/var/spool", "cron"),
    ("/var/spool/cron", "crontabs"),
    ("/var/spool/cron", "tabs"),
    ("/var/spool/cron", "atjobs"),
    ("/var/spool", "at"),
    ("/var/spool/atd", "jobs"),
];
/// Numbers of root and of `daemon`.
const SYSTEM: [u32; 2] = [0, 1];

/// Removes them: how many, and how many could not be removed.
pub(crate) fn remove_jobs(uid: u32) -> (u32, u32) {
    let (mut removed, mut left) = (0, 0);
    for (parent, name) in SPOOLS {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let parent = trusted::open("spool", Path::new(parent), Kind::Directory).ok();
        let dir = parent.and_then(|parent| openat(&parent, name, flags, Mode::empty()).ok());
        let trusted = |dir: &OwnedFd| {
            let facts = fstat(dir);
            facts.is_ok_and(|it| SYSTEM.contains(&it.st_uid) && it.st_mode & 0o002 == 0)
        };
        let Some(dir) = dir.filter(trusted) else {
            continue;
        };
        let Ok(mut list) = Dir::openat(&dir, ".", flags, Mode::empty()) else {
            continue;
        };
        for entry in list.iter().flatten() {
            let name = entry.file_name();
            let theirs = fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
                .is_ok_and(|facts| facts.st_uid == uid && file_kind(&facts) == SFlag::S_IFREG);
            if theirs {
                let gone = unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir).is_ok();
                *(if gone { &mut removed } else { &mut left }) += 1;
            }
        }
    }
    (removed, left)
}
