//! Pool accounts, leased through a gridmapdir that other software and other nodes share (requirements
//! M4 to M7). An account is an empty file; its lease is a second name of that file, made of the identity
//! it is for. Everything is decided by `link(2)`, which is the same on every file system, so nothing
//! here needs a lock. Because the names of leases are lower-cased, the exact identity of each lease is
//! kept beside them, in [`EXACT`].

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use launch_protocol::broker::Refusal;
use launch_protocol::monitor::Linked;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fstatat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{LinkatFlags, UnlinkatFlags, linkat, unlinkat};

use crate::refuse::{failed, mapping};
use crate::sys::errno;
use crate::trusted::{self, Kind, file_kind};

/// Subdirectory with a file for each lease that holds the identity as it is spelled.
pub const EXACT: &str = ".sailplane";
/// Longest such file.
const MAX_EXACT: u64 = 4096;

/// An open gridmapdir.
#[derive(Debug)]
pub struct Pool {
    /// The directory.
    pub dir: OwnedFd,
}

impl Pool {
    pub(crate) fn open(path: &Path) -> Result<Self, Refusal> {
        trusted::open("gridmapdir", path, Kind::Directory).map(|dir| Self { dir })
    }

    /// Makes sure that the lease is for exactly this identity; `keep`: from now on if it was for none.
    ///
    /// # Errors
    /// If it is for another one, or that cannot be found out.
    pub fn claim(&self, lease: &str, exact: &str, keep: bool) -> Result<(), Refusal> {
        let failed = failed("pool.exact", "the identity of a lease");
        let known = match self.exact(lease).map_err(&failed)? {
            Some(known) => known,
            None if !keep => return Ok(()),
            None => {
                self.store(lease, exact).map_err(&failed)?;
                self.exact(lease).map_err(&failed)?.unwrap_or_default()
            }
        };
        if known == exact.as_bytes() {
            return Ok(());
        }
        let text = "is leased to an identity that differs in upper and lower case only; the administrator must \
                    release lease";
        let text = format!("the pool account of {exact} {text} {lease} first");
        Err(mapping("pool.other_identity", text))
    }

    fn exact(&self, lease: &str) -> Result<Option<Vec<u8>>, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let path = Path::new(EXACT).join(lease);
        let file = match openat(&self.dir, &path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let mut text = Vec::new();
        let read = file.take(MAX_EXACT).read_to_end(&mut text);
        read.map(|_| Some(text)).map_err(errno)
    }

    /// Written elsewhere first, so that it is seen whole or not at all; the first one stays.
    fn store(&self, lease: &str, exact: &str) -> Result<(), Errno> {
        match mkdirat(&self.dir, EXACT, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        let host = nix::sys::utsname::uname().map(|name| name.nodename().to_owned());
        let unique = format!(".{}-{:?}", std::process::id(), host.unwrap_or_default());
        let draft = Path::new(EXACT).join(unique);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW;
        let mode = Mode::from_bits_truncate(0o644);
        let mut file = File::from(openat(&self.dir, &draft, flags | OFlag::O_CLOEXEC, mode)?);
        file.write_all(exact.as_bytes()).map_err(errno)?;
        file.sync_all().map_err(errno)?;
        let path = Path::new(EXACT).join(lease);
        let linked = linkat(&self.dir, &draft, &self.dir, &path, LinkatFlags::empty());
        let _ = unlinkat(&self.dir, &draft, UnlinkatFlags::NoRemoveDir);
        match linked {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Every regular file, as the broker is told: see [`launch_protocol::monitor::Reply::Pool`].
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn list(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(&self.dir, ".", flags, Mode::empty())?;
        let line = |name: &str| {
            let facts = self.look(name).ok().filter(|it| file_kind(it) == SFlag::S_IFREG)?;
            let FileStat { st_ino, st_nlink, st_ctime, st_ctime_nsec, st_mtime, .. } = facts;
            Some(format!("{st_ino} {st_nlink} {st_ctime} {st_ctime_nsec} {st_mtime} {name}\n"))
        };
        let plain = |name: &&str| !name.contains(char::is_control);
        let names = dir.iter().filter_map(|entry| entry.ok()?.file_name().to_str().ok().filter(plain).and_then(line));
        let mut list = File::from(memfd_create(c"pool", MFdFlags::MFD_CLOEXEC)?);
        list.write_all(names.collect::<String>().as_bytes()).map_err(errno)?;
        list.rewind().map_err(errno)?;
        Ok(list.into())
    }

    /// Leases an account. It counts only if the file has exactly these two names afterwards.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn link(&self, account: &str, lease: &str) -> Result<Linked, Errno> {
        match linkat(&self.dir, account, &self.dir, lease, LinkatFlags::empty()) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Ok(Linked::LeaseExists),
            Err(errno) => return Err(errno),
        }
        if self.are_one(account, lease)? {
            return Ok(Linked::Done);
        }
        unlinkat(&self.dir, lease, UnlinkatFlags::NoRemoveDir)?;
        Ok(Linked::AccountTaken)
    }

    /// Says that the lease is used, and looks whether it still is that account's.
    ///
    /// # Errors
    /// If one of them is not there any more.
    pub fn touch(&self, account: &str, lease: &str) -> Result<bool, Errno> {
        let now = TimeSpec::UTIME_NOW;
        utimensat(&self.dir, lease, &now, &now, UtimensatFlags::NoFollowSymlink)?;
        self.are_one(account, lease)
    }

    fn are_one(&self, account: &str, lease: &str) -> Result<bool, Errno> {
        let (held, named) = (self.look(account)?, self.look(lease)?);
        Ok(held.st_nlink == 2 && held.st_ino == named.st_ino)
    }

    fn look(&self, name: &str) -> Result<FileStat, Errno> {
        fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Barrier;

    use nix::fcntl::open;

    use super::*;

    const LEASE: &str = "%2fcn%3dalice";

    fn pool(accounts: usize) -> (tempfile::TempDir, Pool) {
        let dir = tempfile::tempdir().expect("a folder");
        for number in 0..accounts {
            std::fs::write(dir.path().join(format!("grid{number:02}")), "").expect("a file");
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let pool = Pool { dir: open(dir.path(), flags, Mode::empty()).expect("open") };
        (dir, pool)
    }

    #[test]
    fn m4_a_lease_is_a_second_name_of_the_accounts_file() {
        let (dir, pool) = pool(2);
        assert_eq!(pool.link("grid01", LEASE), Ok(Linked::Done));
        assert_eq!(pool.touch("grid01", LEASE), Ok(true));
        assert_eq!(pool.touch("grid00", LEASE), Ok(false));
        // Whoever comes later for the same identity, or for the same account, sees it.
        assert_eq!(pool.link("grid00", LEASE), Ok(Linked::LeaseExists));
        assert_eq!(pool.link("grid01", "%2fcn%3dbob"), Ok(Linked::AccountTaken));
        assert!(!dir.path().join("%2fcn%3dbob").exists());
        // A third name counts for nobody.
        std::fs::hard_link(dir.path().join("grid01"), dir.path().join("x")).expect("link");
        assert_eq!(pool.touch("grid01", LEASE), Ok(false));
    }

    #[test]
    fn m4_the_list_has_every_regular_file_on_a_line_of_its_own() {
        let (dir, pool) = pool(1);
        std::fs::write(dir.path().join("a\n1 1 1 1 1 grid07"), "").expect("a file");
        std::os::unix::fs::symlink("grid00", dir.path().join("link")).expect("a link");
        assert_eq!(pool.link("grid00", LEASE), Ok(Linked::Done));
        let mut text = String::new();
        File::from(pool.list().expect("readable")).read_to_string(&mut text).expect("text");
        let mut lines: Vec<Vec<&str>> = text.lines().map(|it| it.split(' ').collect()).collect();
        lines.sort_unstable_by_key(|words| words[5]);
        assert_eq!((lines.len(), lines[0][5], lines[1][5]), (2, LEASE, "grid00"), "{text}");
        assert_eq!((lines[0][1], lines[0][0]), ("2", lines[1][0]));
    }

    #[test]
    fn m4_fifty_requests_over_ten_accounts() {
        let (dir, _) = pool(10);
        let barrier = Barrier::new(50);
        let won: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..50)
                .map(|number| {
                    let (dir, barrier) = (dir.path(), &barrier);
                    scope.spawn(move || {
                        let dir = open(dir, OFlag::O_PATH, Mode::empty()).expect("open");
                        let pool = Pool { dir };
                        let lease = format!("%2fcn%3d{number}");
                        barrier.wait();
                        let mut all = (0..10).map(|account| format!("grid{account:02}"));
                        all.find(|name| pool.link(name, &lease) == Ok(Linked::Done))
                    })
                })
                .collect();
            let outcomes = threads.into_iter().map(|thread| thread.join().expect("no panic"));
            outcomes.flatten().collect()
        });
        // Two that met on one account may both have stepped back, but no account has two owners.
        let distinct: BTreeSet<_> = won.iter().collect();
        assert_eq!(distinct.len(), won.len());
        assert!(!won.is_empty() && won.len() <= 10);
        for entry in std::fs::read_dir(dir.path()).expect("readable").flatten() {
            use std::os::unix::fs::MetadataExt as _;
            assert!(entry.metadata().expect("there").nlink() <= 2, "{entry:?}");
        }
    }

    #[test]
    fn m5_an_identity_that_differs_in_case_only_is_refused() {
        let (dir, pool) = pool(1);
        assert_eq!(pool.claim(LEASE, "/CN=ALICE", false), Ok(()));
        assert!(!dir.path().join(EXACT).exists());
        assert_eq!(pool.claim(LEASE, "/CN=Alice", true), Ok(()));
        assert_eq!(pool.claim(LEASE, "/CN=Alice", true), Ok(()));
        let refusal = pool.claim(LEASE, "/CN=ALICE", true).expect_err("another one");
        assert_eq!(refusal.code, "pool.other_identity");
        // Nothing of it lies where other software looks, and no draft is left.
        let names: Vec<_> = std::fs::read_dir(dir.path().join(EXACT))
            .expect("there")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(names, [LEASE]);
    }
}
