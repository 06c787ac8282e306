//! What is in a directory of the sandbox.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use launch_protocol::MAX_PACKET;
use launch_protocol::agent::{ENTRIES_OVERHEAD, ENTRY_OVERHEAD, Entry, EntryKind, Reply};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::fchdir;

use crate::Failure;
use crate::files::{Sandbox, kind};

/// All entries of `path`, cut into packets.
pub(crate) fn list(sandbox: &Sandbox, path: &Path) -> Result<Vec<Reply>, Failure> {
    let failed = |errno| Failure::of("list", path, errno);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let dir = sandbox
        .open(path, flags, Mode::empty(), false)
        .map_err(failed)?;
    // Reading "." through the standard library needs no unsafe code; nothing else runs meanwhile.
    fchdir(&dir).map_err(failed)?;
    let names = read_here();
    fchdir(sandbox.root()).map_err(failed)?;

    let mut packets = Vec::new();
    let mut entries = Vec::new();
    let mut room = MAX_PACKET - ENTRIES_OVERHEAD;
    for name in names.map_err(failed)? {
        // An entry that vanished since is none.
        let Ok(facts) = fstatat(&dir, &name, AtFlags::AT_SYMLINK_NOFOLLOW) else {
            continue;
        };
        let needed = ENTRY_OVERHEAD + name.as_os_str().as_bytes().len();
        if needed > room {
            packets.push(Reply::Entries {
                entries: std::mem::take(&mut entries),
                more: true,
            });
            room = MAX_PACKET - ENTRIES_OVERHEAD;
        }
        room = room.saturating_sub(needed);
        entries.push(entry(sandbox, path, name, &facts));
    }
    packets.push(Reply::Entries {
        entries,
        more: false,
    });
    Ok(packets)
}

fn read_here() -> Result<Vec<PathBuf>, Errno> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    std::fs::read_dir(".")
        .map_err(errno)?
        .map(|item| {
            item.map(|item| PathBuf::from(item.file_name()))
                .map_err(errno)
        })
        .collect()
}

fn entry(sandbox: &Sandbox, dir: &Path, name: PathBuf, facts: &FileStat) -> Entry {
    let mut size = facts.st_size;
    let mut mode = facts.st_mode;
    let what = match kind(facts) {
        SFlag::S_IFREG => EntryKind::File,
        SFlag::S_IFDIR => EntryKind::Directory,
        SFlag::S_IFLNK => {
            let target = sandbox
                .open(&dir.join(&name), OFlag::O_PATH, Mode::empty(), true)
                .and_then(fstat);
            match target {
                Ok(target) if kind(&target) == SFlag::S_IFREG => {
                    size = target.st_size;
                    mode = target.st_mode;
                    EntryKind::LinkToFile
                }
                Ok(target) if kind(&target) == SFlag::S_IFDIR => EntryKind::LinkToDirectory,
                _ => EntryKind::Other,
            }
        }
        _ => EntryKind::Other,
    };
    Entry {
        name,
        kind: what,
        size: u64::try_from(size).unwrap_or(0),
        inode: facts.st_ino,
        mtime_ns: nanoseconds(facts.st_mtime, facts.st_mtime_nsec),
        ctime_ns: nanoseconds(facts.st_ctime, facts.st_ctime_nsec),
        mode: mode & 0o7777,
    }
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}
