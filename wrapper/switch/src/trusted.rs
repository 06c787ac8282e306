//! The trusted-path rule (requirement S6): a file counts only if it and every directory on the way
//! to it belong to root and nobody else can write there. The walk goes by descriptor, so that what
//! was judged is what is opened.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

/// Which component breaks the rule, and how.
#[derive(Debug, PartialEq, Eq)]
pub struct TrustError {
    path: PathBuf,
    why: Distrust,
}

#[derive(Debug, PartialEq, Eq)]
enum Distrust {
    NotAbsolute,
    NotRoots(u32),
    Writable(u32),
    WrongKind(&'static str),
    Links,
    System(Errno),
}

impl TrustError {
    /// Stable short code.
    pub fn code(&self) -> &'static str {
        match self.why {
            Distrust::System(Errno::ENOENT) => "conf.missing",
            Distrust::NotRoots(_) => "conf.owner",
            Distrust::Writable(_) => "conf.writable",
            _ => "conf.path",
        }
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.why {
            Distrust::NotAbsolute => write!(f, "{path} must be an absolute path without .."),
            Distrust::NotRoots(uid) => {
                write!(f, "{path} belongs to uid {uid}; it must belong to root")
            }
            Distrust::Writable(mode) => {
                write!(
                    f,
                    "{path} has mode {mode:04o}; group and others must not be able to write it"
                )
            }
            Distrust::WrongKind(kind) => write!(f, "{path} is not a {kind}"),
            Distrust::Links => write!(f, "{path} leads through too many links"),
            Distrust::System(errno) => write!(f, "{path}: {}", errno.desc()),
        }
    }
}

impl std::error::Error for TrustError {}

/// What the last component must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
}

const MAX_LINKS: usize = 16;

/// Opens a trusted regular file for reading.
pub(crate) fn open_file(path: &Path) -> Result<File, TrustError> {
    walk(path, Kind::File).map(File::from)
}

/// Checks that a directory or file is trusted.
pub(crate) fn check(path: &Path, kind: Kind) -> Result<(), TrustError> {
    walk(path, kind).map(drop)
}

/// Checks a file in a directory that is trusted and called `path`.
pub(crate) fn check_in(dir: &OwnedFd, path: &Path, name: &str) -> Result<(), TrustError> {
    let here = path.join(name);
    let facts = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
    match facts {
        Ok(facts) if file_kind(&facts) == SFlag::S_IFREG => judge(&here, &facts),
        _ => check(&here, Kind::File),
    }
}

/// A trusted directory.
///
/// # Errors
/// If it is not.
pub fn open_dir(path: &Path) -> Result<OwnedFd, TrustError> {
    walk(path, Kind::Directory)
}

fn walk(path: &Path, kind: Kind) -> Result<OwnedFd, TrustError> {
    let fail = |path: &Path, why| TrustError { path: path.to_owned(), why };
    let system = |path: &Path| {
        let path = path.to_owned();
        move |errno| TrustError { path, why: Distrust::System(errno) }
    };
    if !path.is_absolute() {
        return Err(fail(path, Distrust::NotAbsolute));
    }
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = open("/", flags, Mode::empty()).map_err(system(Path::new("/")))?;
    judge(Path::new("/"), &fstat(&root).map_err(system(Path::new("/")))?)?;
    // Every directory from the root to here, so that a link's ".." can go back.
    let mut stack = vec![(root, PathBuf::from("/"))];
    let mut todo = components(path);
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            if stack.len() > 1 {
                stack.pop();
            }
            continue;
        }
        let Some((dir, shown)) = stack.last() else {
            break;
        };
        let here = shown.join(&name);
        let file = openat(dir, name.as_os_str(), flags, Mode::empty()).map_err(system(&here))?;
        let facts = fstat(&file).map_err(system(&here))?;
        let last = todo.is_empty();
        match file_kind(&facts) {
            SFlag::S_IFLNK => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(fail(&here, Distrust::Links));
                }
                if facts.st_uid != 0 {
                    return Err(fail(&here, Distrust::NotRoots(facts.st_uid)));
                }
                let target = readlinkat(&file, "").map_err(system(&here))?;
                let target = PathBuf::from(target);
                if target.is_absolute() {
                    stack.truncate(1);
                }
                let mut further = components(&target);
                further.append(&mut todo);
                todo = further;
            }
            SFlag::S_IFDIR => {
                judge(&here, &facts)?;
                stack.push((file, here));
            }
            SFlag::S_IFREG if last && kind == Kind::File => {
                judge(&here, &facts)?;
                let flags =
                    OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                let opened =
                    openat(dir, name.as_os_str(), flags, Mode::empty()).map_err(system(&here))?;
                // The directory is root's alone, so a difference means a concurrent edit.
                judge(&here, &fstat(&opened).map_err(system(&here))?)?;
                return Ok(opened);
            }
            _ if last && kind == Kind::File => {
                return Err(fail(&here, Distrust::WrongKind("regular file")));
            }
            _ => return Err(fail(&here, Distrust::WrongKind("directory"))),
        }
    }
    match stack.pop() {
        Some((dir, _)) if kind == Kind::Directory => Ok(dir),
        _ => Err(fail(path, Distrust::WrongKind("regular file"))),
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

fn judge(path: &Path, facts: &FileStat) -> Result<(), TrustError> {
    let why = if facts.st_uid != 0 {
        Distrust::NotRoots(facts.st_uid)
    } else if facts.st_mode & 0o022 != 0 {
        Distrust::Writable(facts.st_mode & 0o7777)
    } else {
        return Ok(());
    };
    Err(TrustError { path: path.to_owned(), why })
}
