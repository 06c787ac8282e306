//! The trusted-path rule (requirement S6): a file counts only if it and every directory on the way
//! to it belong to root and nobody else can write there. The walk goes by descriptor, so that what
//! was judged is what is opened.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use launch_protocol::broker::Refusal;
use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use crate::refuse::site;

/// What the last component must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A regular file, to be opened for reading.
    File,
    /// A directory, to be gone on from.
    Directory,
}

const MAX_LINKS: usize = 16;

/// Checks that a directory or file, which the configuration calls `key`, is trusted.
pub(crate) fn check(key: &str, path: &Path, kind: Kind) -> Result<(), Refusal> {
    open(key, path, kind).map(drop)
}

/// The same for a file whose directory has been opened.
pub(crate) fn check_in(dir: &OwnedFd, key: &str, path: &Path) -> Result<(), Refusal> {
    let name = path.file_name().unwrap_or_default();
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(facts) if facts.st_uid == 0 && facts.st_mode & (!0o7777 | 0o022) == libc::S_IFREG => Ok(()),
        // A link, or what the walk has more to say about.
        _ => check(key, path, Kind::File),
    }
}

/// Opens it.
///
/// # Errors
/// If it is not trusted: which component breaks the rule, and how.
pub fn open(key: &str, path: &Path, kind: Kind) -> Result<OwnedFd, Refusal> {
    let named = |it: Refusal| Refusal { message: format!("{key}: {}", it.message), ..it };
    walk(path, kind).map_err(named)
}

fn wrong(code: &str, path: &Path, why: &str) -> Refusal {
    site(code, format!("{}{why}", path.display()))
}

fn missing(path: &Path) -> impl Fn(Errno) -> Refusal {
    let path = path.to_owned();
    move |errno| {
        let code = if errno == Errno::ENOENT { "conf.missing" } else { "conf.path" };
        wrong(code, &path, &format!(": {}", errno.desc()))
    }
}

fn walk(path: &Path, kind: Kind) -> Result<OwnedFd, Refusal> {
    if !path.is_absolute() {
        return Err(wrong("conf.path", path, " must be an absolute path without .."));
    }
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = PathBuf::from("/");
    let dir = fcntl::open("/", flags, Mode::empty()).map_err(missing(&root))?;
    judge(&root, &dir)?;
    // Every directory from the root to here, so that a link's ".." can go back.
    let mut stack = vec![(dir, root)];
    let mut todo = components(path);
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            stack.truncate((stack.len() - 1).max(1));
            continue;
        }
        let Some((dir, shown)) = stack.last() else {
            break;
        };
        let here = shown.join(&name);
        let open = |flags| openat(dir, name.as_os_str(), flags, Mode::empty());
        let file = open(flags).map_err(missing(&here))?;
        let facts = fstat(&file).map_err(missing(&here))?;
        let ends_here = todo.is_empty() && kind == Kind::File;
        match file_kind(&facts) {
            SFlag::S_IFLNK => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(wrong("conf.path", &here, " leads through too many links"));
                }
                owned(&here, &facts)?;
                let target = PathBuf::from(readlinkat(&file, "").map_err(missing(&here))?);
                if target.is_absolute() {
                    stack.truncate(1);
                }
                let mut further = components(&target);
                further.append(&mut todo);
                todo = further;
            }
            SFlag::S_IFDIR => {
                judge(&here, &file)?;
                stack.push((file, here));
            }
            SFlag::S_IFREG if ends_here => {
                judge(&here, &file)?;
                let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                let opened = open(flags | OFlag::O_RDONLY).map_err(missing(&here))?;
                // The directory is root's alone, so a difference means a concurrent edit.
                return judge(&here, &opened).map(|()| opened);
            }
            _ if ends_here => return Err(wrong("conf.path", &here, " is not a regular file")),
            _ => return Err(wrong("conf.path", &here, " is not a directory")),
        }
    }
    match stack.pop() {
        Some((dir, _)) if kind == Kind::Directory => Ok(dir),
        _ => Err(wrong("conf.path", path, " is not a regular file")),
    }
}

/// The names in a path; a leading `/` and `.` vanish, `..` stays.
fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}

/// What a file is.
pub fn file_kind(facts: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT
}

fn owned(path: &Path, facts: &FileStat) -> Result<(), Refusal> {
    let why = format!(" belongs to uid {}; it must belong to root", facts.st_uid);
    (facts.st_uid == 0).then_some(()).ok_or_else(|| wrong("conf.owner", path, &why))
}

fn judge(path: &Path, file: impl AsFd) -> Result<(), Refusal> {
    let facts = fstat(file).map_err(missing(path))?;
    owned(path, &facts)?;
    if facts.st_mode & 0o022 != 0 {
        let mode = facts.st_mode & 0o7777;
        let why = format!(" has mode {mode:04o}; group and others must not be able to write it");
        return Err(wrong("conf.writable", path, &why));
    }
    Ok(())
}
