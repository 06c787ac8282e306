//! The end of leases in the gridmapdir that nobody uses (requirement M7).

use std::path::Path;

use launch_protocol::monitor::{Linked, Reply};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, renameat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{LinkatFlags, UnlinkatFlags, linkat, unlinkat};
use sailplane_switch::monitor::{Answer, Monitor};
use sailplane_switch::pool::{EXACT, Pool};
use sailplane_switch::refuse::failed;

use crate::sweep::is_used;

/// Ends a lease that neither this machine uses nor, by its time, any other has since.
pub(crate) fn release(monitor: &Monitor, account: &str, lease: &str, idle_since: i64) -> Answer {
    let released = !is_used(monitor, account, "")
        && end(&monitor.pool()?, lease, idle_since)
            .map_err(failed("pool.release", "ending a lease"))?;
    let linked = match released {
        true => Linked::Done,
        false => Linked::AccountTaken,
    };
    Ok((Reply::Linked(linked), Vec::new()))
}

/// Ends a lease, unless it has been used since `before`. It is taken away first and looked at then, so that
/// whoever uses it meanwhile either is seen or sees it gone.
fn end(pool: &Pool, lease: &str, before: i64) -> Result<bool, Errno> {
    let aside = Path::new(EXACT).join(format!(".released-{}", std::process::id()));
    match mkdirat(&pool.dir, EXACT, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    renameat(&pool.dir, lease, &pool.dir, &aside)?;
    let facts = fstatat(&pool.dir, &aside, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let used = facts.st_mtime >= before;
    if used {
        let _ = linkat(&pool.dir, &aside, &pool.dir, lease, LinkatFlags::empty());
    } else {
        let exact = Path::new(EXACT).join(lease);
        let _ = unlinkat(&pool.dir, &exact, UnlinkatFlags::NoRemoveDir);
    }
    unlinkat(&pool.dir, &aside, UnlinkatFlags::NoRemoveDir)?;
    Ok(!used)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: &str = "%2fcn%3dalice";

    #[test]
    fn m7_only_a_lease_that_is_not_used_is_released() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("grid00"), "").expect("a file");
        let pool = Pool {
            dir: std::fs::File::open(dir.path()).expect("open").into(),
        };
        pool.claim(LEASE, "/CN=Alice", true).expect("ours");
        assert_eq!(pool.link("grid00", LEASE), Ok(Linked::Done));
        assert_eq!(pool.touch("grid00", LEASE), Ok(true));
        let now = std::time::SystemTime::now();
        let now = now
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        let now = i64::try_from(now.as_secs()).expect("a time");
        // Looked idle, but was used while it was being released.
        assert_eq!(end(&pool, LEASE, now - 60), Ok(false));
        assert_eq!(pool.touch("grid00", LEASE), Ok(true));
        assert_eq!(end(&pool, LEASE, now + 60), Ok(true));
        assert!(!dir.path().join(LEASE).exists());
        // Its exact identity is forgotten with it.
        assert_eq!(pool.claim(LEASE, "/CN=ALICE", true), Ok(()));
        // Whoever still believes in the old lease is told.
        assert!(pool.touch("grid00", LEASE).is_err());
    }
}
