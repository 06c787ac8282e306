//! Pool accounts, leased through a gridmapdir that other software and other nodes share (requirements
//! M4 to M7). An account is an empty file; its lease is a second name of that file, made of the identity
//! it is for. Everything is decided by `link(2)`, which is the same on every file system, so nothing
//! here needs a lock. Because the names of leases are lower-cased, the exact identity of each lease is
//! kept beside them, in [`EXACT`].

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use launch_protocol::broker::{Refusal, RefusalClass};
use launch_protocol::is_account_name;
use launch_protocol::monitor::Linked;
use launch_protocol::policy::is_lease_name;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fstatat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{LinkatFlags, UnlinkatFlags, linkat, unlinkat};

use crate::account::is_pool_name;
use crate::refuse::{mapping, trouble};
use crate::trusted::{self, TrustError, file_kind};

/// Subdirectory with a file for each lease that holds the identity as it is spelled.
const EXACT: &str = ".sailplane";
/// Longest such file.
const MAX_EXACT: u64 = 4096;

/// An open gridmapdir.
#[derive(Debug)]
pub(crate) struct Pool {
    dir: OwnedFd,
}

impl Pool {
    pub(crate) fn open(path: &Path) -> Result<Self, TrustError> {
        trusted::open_dir(path).map(|dir| Self { dir })
    }

    /// Makes sure that the lease is for exactly this identity; `keep`: from now on if it was for none.
    pub(crate) fn claim(&self, lease: &str, exact: &str, keep: bool) -> Result<(), Refusal> {
        let failed = |errno: Errno| {
            let text = format!("the identity of lease {lease}: {}", errno.desc());
            trouble("pool.exact", text)
        };
        let known = match self.exact(lease).map_err(failed)? {
            Some(known) => known,
            None if !keep => return Ok(()),
            None => {
                self.store(lease, exact).map_err(failed)?;
                self.exact(lease).map_err(failed)?.unwrap_or_default()
            }
        };
        if known == exact.as_bytes() {
            return Ok(());
        }
        let text = format!(
            "the pool account of {exact} is leased to an identity that differs in upper and lower \
             case only; the administrator must release lease {lease} first"
        );
        let class = RefusalClass::SitePermanent;
        Err(mapping(class, "pool.other_identity", text, false))
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

    /// The account that a lease is for, if there is one.
    pub(crate) fn holder(&self, lease: &str, prefix: &str) -> Result<Option<String>, Refusal> {
        let broken = |why: &str| {
            let text = format!("lease {lease} of the gridmapdir {why}");
            mapping(RefusalClass::SitePermanent, "pool.broken", text, false)
        };
        let facts = match self.look(lease) {
            Ok(facts) => facts,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(broken(errno.desc())),
        };
        if facts.st_nlink != 2 {
            return Err(broken("does not belong to exactly one account"));
        }
        let entries = self.entries().map_err(|errno| broken(errno.desc()))?;
        let holder = entries
            .into_iter()
            .find(|(name, facts_of)| facts_of.st_ino == facts.st_ino && name != lease);
        match holder {
            Some((name, _)) if is_pool_name(&name, prefix) => Ok(Some(name)),
            Some(_) => Err(broken("belongs to an account of another pool")),
            None => Err(broken("changes while it is read")),
        }
    }

    /// Accounts without a lease, first the one that was released longest ago: that is when the
    /// kernel last changed the file's link count.
    pub(crate) fn free(&self, prefix: &str) -> Result<Vec<String>, Errno> {
        let mut free = self.entries()?;
        free.retain(|(name, facts)| is_pool_name(name, prefix) && facts.st_nlink == 1);
        free.sort_by_key(|(_, facts)| (facts.st_ctime, facts.st_ctime_nsec));
        Ok(free.into_iter().map(|(name, _)| name).collect())
    }

    /// Leases an account. It counts only if the file has exactly these two names afterwards.
    pub(crate) fn link(&self, account: &str, lease: &str) -> Result<Linked, Errno> {
        match linkat(&self.dir, account, &self.dir, lease, LinkatFlags::empty()) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Ok(Linked::LeaseExists),
            Err(errno) => return Err(errno),
        }
        let (held, named) = (self.look(account)?, self.look(lease)?);
        if held.st_nlink == 2 && held.st_ino == named.st_ino {
            return Ok(Linked::Done);
        }
        unlinkat(&self.dir, lease, UnlinkatFlags::NoRemoveDir)?;
        Ok(Linked::AccountTaken)
    }

    /// Says that the lease is used, and looks whether it still is that account's.
    pub(crate) fn touch(&self, account: &str, lease: &str) -> Result<bool, Errno> {
        let now = TimeSpec::UTIME_NOW;
        utimensat(&self.dir, lease, &now, &now, UtimensatFlags::NoFollowSymlink)?;
        let (held, named) = (self.look(account)?, self.look(lease)?);
        Ok(named.st_nlink == 2 && held.st_ino == named.st_ino)
    }

    /// Accounts, and their leases that were last used before `before` (Unix seconds).
    pub(crate) fn idle(&self, before: i64) -> Result<Vec<(String, String)>, Errno> {
        let entries = self.entries()?;
        let account_of = |inode| {
            let mut names = entries.iter().filter(|(_, facts)| facts.st_ino == inode);
            names.find(|(name, _)| !is_lease_name(name))
        };
        Ok(entries
            .iter()
            .filter(|(name, facts)| is_lease_name(name) && facts.st_mtime < before)
            .filter_map(|(name, facts)| Some((account_of(facts.st_ino)?.0.clone(), name.clone())))
            .collect())
    }

    /// Ends a lease, unless it has been used since `before`. It is taken away first and looked at
    /// then, so that whoever uses it meanwhile either is seen or sees it gone.
    pub(crate) fn release(&self, lease: &str, before: i64) -> Result<bool, Errno> {
        let aside = Path::new(EXACT).join(format!(".released-{}", std::process::id()));
        match mkdirat(&self.dir, EXACT, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        nix::fcntl::renameat(&self.dir, lease, &self.dir, &aside)?;
        let facts = fstatat(&self.dir, &aside, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let used = facts.st_mtime >= before;
        if used {
            let _ = linkat(&self.dir, &aside, &self.dir, lease, LinkatFlags::empty());
        } else {
            let exact = Path::new(EXACT).join(lease);
            let _ = unlinkat(&self.dir, &exact, UnlinkatFlags::NoRemoveDir);
        }
        unlinkat(&self.dir, &aside, UnlinkatFlags::NoRemoveDir)?;
        Ok(!used)
    }

    fn look(&self, name: &str) -> Result<FileStat, Errno> {
        fstatat(&self.dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// All accounts, leased or not.
    pub(crate) fn accounts(&self) -> Result<Vec<(String, String)>, Errno> {
        let names = self.entries()?.into_iter().map(|(name, _)| name);
        let names = names.filter(|name| is_account_name(name));
        Ok(names.map(|name| (name, String::new())).collect())
    }

    /// Every regular file.
    fn entries(&self) -> Result<Vec<(String, FileStat)>, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(&self.dir, ".", flags, Mode::empty())?;
        let names: Vec<_> = dir
            .iter()
            .filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned))
            .collect();
        Ok(names
            .into_iter()
            .filter_map(|name| self.look(&name).ok().map(|facts| (name, facts)))
            .filter(|(_, facts)| file_kind(facts) == SFlag::S_IFREG)
            .collect())
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
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
        assert_eq!(pool.holder(LEASE, "grid"), Ok(None));
        assert_eq!(pool.link("grid01", LEASE), Ok(Linked::Done));
        assert_eq!(pool.holder(LEASE, "grid"), Ok(Some("grid01".into())));
        assert_eq!(pool.free("grid"), Ok(vec!["grid00".to_owned()]));
        // Whoever comes later for the same identity, or for the same account, sees it.
        assert_eq!(pool.link("grid00", LEASE), Ok(Linked::LeaseExists));
        assert_eq!(pool.link("grid01", "%2fcn%3dbob"), Ok(Linked::AccountTaken));
        assert!(!dir.path().join("%2fcn%3dbob").exists());
        let code = |outcome: Result<_, Refusal>| outcome.map_err(|refusal| refusal.code);
        assert_eq!(code(pool.holder(LEASE, "cms")), Err("pool.broken".into()));
        // Neither a third name nor a lease of nothing counts.
        std::fs::hard_link(dir.path().join("grid01"), dir.path().join("x")).expect("link");
        assert_eq!(code(pool.holder(LEASE, "grid")), Err("pool.broken".into()));
        std::fs::write(dir.path().join("%2fcn%3dghost"), "").expect("a file");
        let ghost = pool.holder("%2fcn%3dghost", "grid");
        assert_eq!(code(ghost), Err("pool.broken".into()));
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
                        let free = pool.free("grid").expect("readable");
                        free.into_iter().find(|name| pool.link(name, &lease) == Ok(Linked::Done))
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
        assert_eq!(pool.free("grid").map(|free| free.len()), Ok(1));
    }

    #[test]
    fn m6_the_account_released_longest_ago_comes_first() {
        let (dir, pool) = pool(3);
        let pause = || nix::poll::poll(&mut [], 20_u8).expect("a pause");
        for (name, lease) in [("grid02", "%2fa"), ("grid00", "%2fb")] {
            assert_eq!(pool.link(name, lease), Ok(Linked::Done));
            pause();
        }
        for lease in ["%2fb", "%2fa"] {
            std::fs::remove_file(dir.path().join(lease)).expect("released");
            pause();
        }
        assert_eq!(
            pool.free("grid"),
            Ok(["grid01", "grid00", "grid02"].map(String::from).to_vec())
        );
    }

    #[test]
    fn m7_only_a_lease_that_is_not_used_is_released() {
        let (_dir, pool) = pool(2);
        pool.claim(LEASE, "/CN=Alice", true).expect("ours");
        assert_eq!(pool.link("grid00", LEASE), Ok(Linked::Done));
        assert_eq!(pool.touch("grid00", LEASE), Ok(true));
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let now = i64::try_from(now.as_secs()).expect("a time");
        assert_eq!(pool.idle(now - 60), Ok(Vec::new()));
        // Looked idle, but was used while it was being released.
        assert_eq!(pool.release(LEASE, now - 60), Ok(false));
        assert_eq!(pool.holder(LEASE, "grid"), Ok(Some("grid00".into())));
        let idle = vec![("grid00".to_owned(), LEASE.to_owned())];
        assert_eq!(pool.idle(now + 60), Ok(idle));
        assert_eq!(pool.release(LEASE, now + 60), Ok(true));
        assert_eq!(pool.holder(LEASE, "grid"), Ok(None));
        // Its exact identity is forgotten with it.
        assert_eq!(pool.claim(LEASE, "/CN=ALICE", true), Ok(()));
        // Whoever still believes in the old lease is told.
        assert!(pool.touch("grid00", LEASE).is_err());
    }
}
