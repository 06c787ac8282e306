//! The sandbox's own directory: made by root in a directory that the pilot names, so every step
//! goes by descriptor and is checked afterwards (requirement S9). Its content is never touched by
//! root; the remover of `sailplane-job` does that.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use launch_protocol::broker::Refusal;
use launch_protocol::{is_plain_absolute, order};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use crate::account::TargetAccount;
use crate::refuse::site;
use crate::trusted::file_kind;

fn wrong(code: &str, path: &Path, why: &str) -> Refusal {
    site(code, format!("{} {why}", path.display()))
}

fn missing(path: &Path, errno: Errno) -> Refusal {
    site("execdir.missing", format!("{}: {}", path.display(), errno.desc()))
}

/// A checked directory for sandboxes, or one that a lease names.
#[derive(Debug)]
pub struct Place {
    /// The directory.
    pub dir: OwnedFd,
    /// Where it is.
    pub path: PathBuf,
}

const WALK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

impl Place {
    /// Walks to `path` without following links. Every directory on the way must belong to root or
    /// the caller, and whoever else can write there must not be able to rename (sticky).
    pub(crate) fn open(path: &Path, allowed: &[PathBuf], caller: u32) -> Result<Self, Refusal> {
        let printable = path.as_os_str().as_bytes().iter().all(|b| *b >= 0x20 && *b != 0x7f);
        if !is_plain_absolute(path) || !printable {
            let text = format!("{path:?} is not an absolute path of plain names");
            return Err(site("execdir.name", text));
        }
        if !allowed.iter().any(|dir| path.starts_with(dir)) {
            return Err(wrong("execdir.not_allowed", path, "is not below any of execute_dirs"));
        }
        Self::walk(path, &[0, caller])
    }

    fn walk(path: &Path, owners: &[u32]) -> Result<Self, Refusal> {
        let mut here = PathBuf::from("/");
        let mut dir = open(&here, WALK, Mode::empty()).map_err(|errno| missing(&here, errno))?;
        let mut closed: Option<PathBuf> = None;
        for part in path.components() {
            // Not a word about what the caller could not see for itself (requirement S8).
            let hidden = |it| closed.as_ref().map_or(it, |path| missing(path, Errno::EACCES));
            if let Component::Normal(name) = part {
                here.push(name);
                let next = openat(&dir, name, WALK, Mode::empty());
                dir = next.map_err(|errno| hidden(missing(&here, errno)))?;
            }
            let facts = fstat(&dir).map_err(|errno| hidden(missing(&here, errno)))?;
            judge(&here, &facts, owners).map_err(hidden)?;
            // Searchable for the caller, as far as owner and mode tell.
            let theirs = if facts.st_uid == 0 { 0o001 } else { 0o101 };
            if facts.st_mode & theirs == 0 {
                closed.get_or_insert_with(|| here.clone());
            }
        }
        Ok(Self { dir, path: here })
    }
}

fn judge(path: &Path, facts: &FileStat, owners: &[u32]) -> Result<(), Refusal> {
    match file_kind(facts) {
        SFlag::S_IFDIR => {}
        SFlag::S_IFLNK => {
            return Err(wrong("execdir.link", path, "is a link; give the real path"));
        }
        _ => return Err(wrong("execdir.kind", path, "is not a directory")),
    }
    if !owners.contains(&facts.st_uid) {
        let why = format!("belongs to uid {}, neither to root nor to the pilot", facts.st_uid);
        return Err(wrong("execdir.owner", path, &why));
    }
    let mode = facts.st_mode & 0o7777;
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        let why = format!("has mode {mode:04o}; others can write it and it is not sticky");
        return Err(wrong("execdir.writable", path, &why));
    }
    Ok(())
}

/// A sandbox that exists, and with it the directories of its payload's own `/tmp` and `/var/tmp`.
#[derive(Debug)]
pub struct Sandbox {
    /// Where they are.
    pub place: Place,
    /// At least one.
    pub tops: Vec<Top>,
}

/// What their names have behind the sandbox's.
pub const ENDINGS: [&str; 3] = ["", ".tmp", ".var-tmp"];

/// One directory of an account in a place of the pilot's.
#[derive(Debug)]
pub struct Top {
    dir: OwnedFd,
    name: String,
    device: u64,
    inode: u64,
}

impl Sandbox {
    /// Makes empty directories of mode 0700 and gives them to the account.
    pub(crate) fn make(place: Place, name: &str, account: &TargetAccount, own_tmp: bool) -> Result<Self, Errno> {
        let mut made = Self { place, tops: Vec::new() };
        for ending in ENDINGS.into_iter().take(if own_tmp { ENDINGS.len() } else { 1 }) {
            match Top::make(&made.place, format!("{name}{ending}"), account) {
                Ok(top) => made.tops.push(top),
                Err(errno) => {
                    let _ = made.remove_tops();
                    return Err(errno);
                }
            }
        }
        Ok(made)
    }

    /// The absolute path.
    pub(crate) fn path(&self) -> PathBuf {
        let name = self.tops.first().map(|top| &top.name);
        name.map(|name| self.place.path.join(name)).unwrap_or_default()
    }

    /// All its directories, for the remover.
    pub(crate) fn dirs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.tops.iter().map(|top| top.dir.as_fd())
    }

    /// The same for the payload's view of the machine.
    pub(crate) fn whereabouts(&self) -> Vec<order::Place> {
        let place =
            |top: &Top| order::Place { path: self.place.path.join(&top.name), device: top.device, inode: top.inode };
        self.tops.iter().map(place).collect()
    }

    /// Removes the directories themselves, which the remover has emptied.
    ///
    /// # Errors
    /// If one is not empty, or not the same any more.
    pub fn remove_tops(&self) -> Result<(), Errno> {
        let results: Vec<_> = self.tops.iter().map(|top| top.remove(&self.place)).collect();
        results.into_iter().collect()
    }
}

impl Top {
    fn make(place: &Place, name: String, account: &TargetAccount) -> Result<Self, Errno> {
        mkdirat(&place.dir, name.as_str(), Mode::S_IRWXU)?;
        let top = Self::open(place, name.clone(), 0).inspect_err(|_| {
            let _ = unlinkat(&place.dir, name.as_str(), UnlinkatFlags::RemoveDir);
        })?;
        top.give_to(account).inspect_err(|_| {
            let _ = top.remove(place);
        })?;
        Ok(top)
    }

    fn give_to(&self, account: &TargetAccount) -> Result<(), Errno> {
        // Whoever owns the place could have put another directory there in between. One that is
        // root's own, private and empty is as good as ours.
        let facts = fstat(&self.dir)?;
        if facts.st_mode & 0o7777 != 0o700 || facts.st_nlink > 2 {
            return Err(Errno::EEXIST);
        }
        self.expect_empty()?;
        let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
        fchown(&self.dir, Some(uid), Some(gid))?;
        // A set-group-id place hands that bit down.
        fchmod(&self.dir, Mode::S_IRWXU)
    }

    /// Opens one that exists and belongs to `owner`.
    ///
    /// # Errors
    /// If it does not.
    pub fn open(place: &Place, name: String, owner: u32) -> Result<Self, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dir = openat(&place.dir, name.as_str(), flags, Mode::empty())?;
        let facts = fstat(&dir)?;
        if facts.st_uid != owner {
            return Err(Errno::EPERM);
        }
        Ok(Self { dir, name, device: facts.st_dev, inode: facts.st_ino })
    }

    fn expect_empty(&self) -> Result<(), Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(&self.dir, ".", flags, Mode::empty())?;
        for entry in dir.iter() {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                return Err(Errno::ENOTEMPTY);
            }
        }
        Ok(())
    }

    /// Removes it if it still is the same one.
    fn remove(&self, place: &Place) -> Result<(), Errno> {
        let name = self.name.as_str();
        let named = match fstatat(&place.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(named) => named,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        if (named.st_dev, named.st_ino) != (self.device, self.inode) {
            // The pilot has moved its own payload's sandbox: then it is the pilot's litter.
            return Err(Errno::ESTALE);
        }
        unlinkat(&place.dir, name, UnlinkatFlags::RemoveDir)
    }
}
