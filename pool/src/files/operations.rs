//! What a child does with the file system. It is the owner, so the kernel decides what is allowed.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, open, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, makedev, mkdirat};
use nix::unistd::mkdir;

use super::protocol::{Entry, Kind, MAX_PACKET, MAX_PATH, Metadata, OpenWrite, Reply, Request};
use super::tree;

/// What came of a request.
pub(super) enum Outcome {
    Done,
    Opened(OwnedFd, Metadata),
    Facts(Metadata),
    Entries(Vec<Entry>),
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    Errno(Errno),
    NotRegular,
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Errno(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    }
}

/// What group and others may not have of a file that is written for a user.
const NEVER: u32 = 0o022;

/// Does what is asked.
pub(super) fn perform(request: &Request) -> Result<Outcome, Trouble> {
    let done = |()| Outcome::Done;
    match request {
        Request::OpenRead { path } => open_read(path),
        Request::OpenWrite { path, how } => open_write(path, how),
        Request::MakeDir {
            path,
            mode,
            beneath,
        } => make_dir(path, *mode, beneath.as_deref()).map(done),
        Request::List { path, limit } => tree::list(path, *limit).map(Outcome::Entries),
        Request::Stat { path } => Ok(Outcome::Facts(metadata(&std::fs::metadata(path)?))),
        Request::LinkStat { path } => {
            Ok(Outcome::Facts(metadata(&std::fs::symlink_metadata(path)?)))
        }
        Request::Rename { from, to } => Ok(done(std::fs::rename(from, to)?)),
        Request::Unlink { path } => Ok(done(std::fs::remove_file(path)?)),
        Request::RemoveDir { path } => Ok(done(std::fs::remove_dir(path)?)),
        Request::RemoveTree { path } => tree::clear(path).map(done),
        Request::SetMode { path, mode } => {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode & 0o777 & !NEVER);
            Ok(done(std::fs::set_permissions(path, mode)?))
        }
    }
}

/// What the standard library found out.
pub(super) fn metadata(facts: &std::fs::Metadata) -> Metadata {
    let kind = facts.file_type();
    Metadata {
        kind: if kind.is_file() {
            Kind::File
        } else if kind.is_dir() {
            Kind::Directory
        } else if kind.is_symlink() {
            Kind::Link
        } else {
            Kind::Other
        },
        size: facts.len(),
        mode: facts.mode() & 0o7777,
        modified: facts
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(facts.mtime_nsec()),
        uid: facts.uid(),
    }
}

fn open_read(path: &Path) -> Result<Outcome, Trouble> {
    // O_NONBLOCK: a pipe without a writer must not hold us up.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    finish(open(path, flags, Mode::empty())?)
}

fn open_write(path: &Path, how: &OpenWrite) -> Result<Outcome, Trouble> {
    let mut flags = if how.read {
        OFlag::O_RDWR
    } else {
        OFlag::O_WRONLY
    };
    flags |= OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    for (is_wanted, flag) in [
        (how.create, OFlag::O_CREAT),
        (how.exclusive, OFlag::O_EXCL),
        (how.truncate, OFlag::O_TRUNC),
        (how.append, OFlag::O_APPEND),
    ] {
        if is_wanted {
            flags |= flag;
        }
    }
    let mode = Mode::from_bits_truncate(how.mode & 0o777);
    let file = match &how.beneath {
        None => open(path, flags, mode)?,
        Some(base) => open_beneath(
            base,
            path,
            flags,
            if how.create { mode } else { Mode::empty() },
        )?,
    };
    if how.set_mode {
        // A file of somebody else that the owner may write keeps its mode.
        match fchmod(&file, Mode::from_bits_truncate(how.mode & 0o777 & !NEVER)) {
            Ok(()) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    finish(file)
}

fn open_beneath(base: &Path, path: &Path, flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
    let root = open(
        base,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let how = OpenHow::new()
        .flags(flags)
        .mode(mode)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    // EAGAIN: a rename elsewhere raced with the look-up and the kernel could not be sure.
    for _ in 0..100 {
        match openat2(&root, path, how) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::EAGAIN)
}

/// Only regular files leave this process, and /dev/null, which users give for a file they do not want.
fn finish(file: OwnedFd) -> Result<Outcome, Trouble> {
    let facts = fstat(&file)?;
    match kind(&facts) {
        SFlag::S_IFREG => {}
        SFlag::S_IFDIR => return Err(Errno::EISDIR.into()),
        SFlag::S_IFCHR if facts.st_rdev == makedev(1, 3) => {}
        _ => return Err(Trouble::NotRegular),
    }
    let flags = OFlag::from_bits_retain(fcntl(file.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(file.as_fd(), FcntlArg::F_SETFL(flags & !OFlag::O_NONBLOCK))?;
    let found = Metadata {
        kind: if kind(&facts) == SFlag::S_IFREG {
            Kind::File
        } else {
            Kind::Other
        },
        size: u64::try_from(facts.st_size).unwrap_or(0),
        mode: facts.st_mode & 0o7777,
        modified: facts
            .st_mtime
            .saturating_mul(1_000_000_000)
            .saturating_add(facts.st_mtime_nsec),
        uid: facts.st_uid,
    };
    Ok(Outcome::Opened(file, found))
}

fn kind(facts: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT
}

fn make_dir(path: &Path, mode: u32, beneath: Option<&Path>) -> Result<(), Trouble> {
    let mode = Mode::from_bits_truncate(mode & 0o777);
    let Some(base) = beneath else {
        return Ok(mkdir(path, mode)?);
    };
    let name = path.file_name().ok_or(Errno::EINVAL)?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent = open_beneath(base, &parent, flags, Mode::empty())?;
    Ok(mkdirat(&parent, Path::new(name), mode)?)
}

/// Cuts a listing into parts that fit a packet.
pub(super) fn packets(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    const ROOM: usize = MAX_PACKET - MAX_PATH;
    let mut packets = Vec::new();
    let mut packet = Vec::new();
    let mut length = 0;
    for entry in entries {
        let room = Reply::room_for(&entry);
        if length + room > ROOM {
            packets.push(std::mem::take(&mut packet));
            length = 0;
        }
        length += room;
        packet.push(entry);
    }
    if !packet.is_empty() {
        packets.push(packet);
    }
    packets
}
