//! Files beneath the sandbox. The kernel keeps every path inside (`openat2`), whatever links and
//! renames a payload has left or is still doing.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, open, openat2};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, mkdirat,
};
use nix::unistd::{UnlinkatFlags, chdir, geteuid, unlinkat};

use crate::{Failure, words};

/// The sandbox, as a directory descriptor and by name.
pub(crate) struct Sandbox {
    root: OwnedFd,
    path: PathBuf,
}

/// A file opened for reading.
pub(crate) struct OpenedFile {
    pub(crate) file: OwnedFd,
    pub(crate) size: u64,
    pub(crate) mode: u32,
}

impl Sandbox {
    /// Makes the sandbox the working directory, and checks that it is the account's own.
    pub(crate) fn enter(path: PathBuf) -> Result<Self, Failure> {
        chdir(&path).map_err(|errno| words::cannot_enter(&path, errno))?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(".", flags, Mode::empty()).map_err(|e| Failure::of("open", &path, e))?;
        let facts = fstat(&root).map_err(|e| Failure::of("examine", &path, e))?;
        if facts.st_uid != geteuid().as_raw() {
            let message = format!(
                "the sandbox {} belongs to uid {}, not to the payload's account (uid {})",
                path.display(),
                facts.st_uid,
                geteuid()
            );
            return Err(Failure::new(Errno::EPERM, message));
        }
        Ok(Self { root, path })
    }

    /// The sandbox's absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The sandbox's directory.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens beneath the sandbox; links are followed only with `follow`, and only inside.
    pub(crate) fn open(
        &self,
        path: &Path,
        flags: OFlag,
        mode: Mode,
        follow: bool,
    ) -> Result<OwnedFd, Errno> {
        let mut resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        if !follow {
            resolve |= ResolveFlag::RESOLVE_NO_SYMLINKS;
        }
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .mode(mode)
            .resolve(resolve);
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        loop {
            // EAGAIN: a rename elsewhere raced with the look-up and the kernel could not be sure.
            match openat2(&self.root, path, how) {
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                other => return other,
            }
        }
    }

    /// The directory that holds `path`, and the last name in it.
    fn parent<'p>(&self, what: &str, path: &'p Path) -> Result<(OwnedFd, &'p Path), Failure> {
        let name = path
            .file_name()
            .map(Path::new)
            .filter(|_| !path.as_os_str().as_bytes().ends_with(b"/."))
            .ok_or_else(|| Failure::of(what, path, Errno::EINVAL))?;
        let parent = path.parent().unwrap_or_else(|| Path::new(""));
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let parent = self
            .open(parent, flags, Mode::empty(), false)
            .map_err(|errno| escape(what, path, errno))?;
        Ok((parent, name))
    }

    /// Makes one directory with exactly this mode.
    pub(crate) fn make_dir(&self, path: &Path, mode: u32) -> Result<(), Failure> {
        let what = "make directory";
        let (parent, name) = self.parent(what, path)?;
        mkdirat(&parent, name, Mode::from_bits_truncate(mode))
            .map_err(|e| Failure::of(what, path, e))
    }

    /// Creates or empties a regular file with exactly this mode.
    pub(crate) fn create(&self, path: &Path, mode: u32) -> Result<OwnedFd, Failure> {
        let what = "create";
        let mode = Mode::from_bits_truncate(mode);
        // O_NONBLOCK: a pipe that lies in the way must not hold us up.
        let flags =
            OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = self
            .open(path, flags, mode, false)
            .map_err(|errno| escape(what, path, errno))?;
        regular(what, path, &file)?;
        fchmod(&file, mode).map_err(|e| Failure::of("set the mode of", path, e))?;
        blocking(what, path, &file)?;
        Ok(file)
    }

    /// Opens a regular file for reading. A path below the sandbox's own name is taken as relative.
    pub(crate) fn open_read(&self, path: &Path, follow: bool) -> Result<OpenedFile, Failure> {
        let what = "read";
        let inside = path.strip_prefix(&self.path).unwrap_or(path);
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = self
            .open(inside, flags, Mode::empty(), follow)
            .map_err(|errno| escape(what, path, errno))?;
        let facts = regular(what, path, &file)?;
        blocking(what, path, &file)?;
        Ok(OpenedFile {
            file,
            size: u64::try_from(facts.st_size).unwrap_or(0),
            mode: facts.st_mode & 0o7777,
        })
    }

    /// Sets permission bits of a file or directory.
    pub(crate) fn set_mode(&self, path: &Path, mode: u32) -> Result<(), Failure> {
        let what = "set the mode of";
        let mode = Mode::from_bits_truncate(mode);
        let (parent, name) = self.parent(what, path)?;
        let facts = fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|e| Failure::of(what, path, e))?;
        if kind(&facts) == SFlag::S_IFLNK {
            return Err(Failure::of(what, path, Errno::ELOOP));
        }
        fchmodat(&parent, name, mode, FchmodatFlags::NoFollowSymlink)
            .map_err(|e| Failure::of(what, path, e))
    }

    /// Removes a file, a link or an empty directory.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), Failure> {
        let what = "remove";
        let (parent, name) = self.parent(what, path)?;
        match unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => unlinkat(&parent, name, UnlinkatFlags::RemoveDir),
            other => other,
        }
        .map_err(|e| Failure::of(what, path, e))
    }
}

/// The file type bits.
pub(crate) fn kind(facts: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT
}

fn regular(what: &str, path: &Path, file: &OwnedFd) -> Result<FileStat, Failure> {
    let facts = fstat(file).map_err(|e| Failure::of(what, path, e))?;
    match kind(&facts) {
        SFlag::S_IFREG => Ok(facts),
        SFlag::S_IFDIR => Err(Failure::of(what, path, Errno::EISDIR)),
        _ => {
            let message = format!("cannot {what} {}: it is not a regular file", path.display());
            Err(Failure::new(Errno::EINVAL, message))
        }
    }
}

/// Takes O_NONBLOCK off again: whoever gets the descriptor expects an ordinary one.
fn blocking(what: &str, path: &Path, file: &OwnedFd) -> Result<(), Failure> {
    let flags = fcntl(file, FcntlArg::F_GETFL).map_err(|e| Failure::of(what, path, e))?;
    let flags = OFlag::from_bits_truncate(flags) & !OFlag::O_NONBLOCK;
    fcntl(file, FcntlArg::F_SETFL(flags))
        .map(drop)
        .map_err(|e| Failure::of(what, path, e))
}

/// Says "outside" where the kernel says "cross-device link" or "too many levels of links".
fn escape(what: &str, path: &Path, errno: Errno) -> Failure {
    let path_shown = path.display();
    match errno {
        Errno::EXDEV => Failure::new(
            errno,
            format!("cannot {what} {path_shown}: it leads out of the sandbox"),
        ),
        Errno::ELOOP => Failure::new(
            errno,
            format!("cannot {what} {path_shown}: there is a link in the path"),
        ),
        Errno::ENOSYS => Failure::new(
            errno,
            format!("cannot {what} {path_shown}: this kernel has no openat2 (Linux 5.6 is needed)"),
        ),
        _ => Failure::of(what, path, errno),
    }
}
