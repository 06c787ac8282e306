//! The lock on a dashboard, a file of variables or the list of results: works on NFS, where making a symbolic link and
//! renaming are the operations to rely on.
//!
//! The lock of `FILE` is the symbolic link `FILE.lock`; what it points to says who holds it. A holder that can be seen
//! to be gone is followed at once, one that cannot be judged (another host, another process namespace) when its lock has
//! not changed for [`Patience::unknown`].

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use thiserror::Error;

/// Why there is no lock.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody holds it, and holds it still.
    #[error(
        "{} is locked by {holder}, for more than {} s; end that process or remove {}",
        file.display(), waited.as_secs(), link.display()
    )]
    Held {
        /// The file that is locked.
        file: PathBuf,
        /// The link that is the lock.
        link: PathBuf,
        /// Who holds it.
        holder: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The link could not be made or removed.
    #[error("cannot lock {} in its folder", file.display())]
    Link {
        /// The file that was to be locked.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is not locked, so it cannot be unlocked.
    #[error("{} is not locked", file.display())]
    NotLocked {
        /// The file.
        file: PathBuf,
    },
}

/// How long to wait for a lock.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Then the wait ends without lock.
    pub limit: Duration,
    /// A lock that has not changed for so long, and whose holder cannot be judged, is taken for left behind.
    pub unknown: Duration,
}

impl Default for Patience {
    /// 300 s as scripts are used to, and 60 s for a holder that cannot be seen.
    fn default() -> Self {
        Self {
            limit: Duration::from_secs(300),
            unknown: Duration::from_secs(60),
        }
    }
}

/// A lock that is released when dropped.
#[derive(Debug)]
pub struct Lock {
    file: PathBuf,
    content: OsString,
}

impl Lock {
    /// Locks a file for this process.
    ///
    /// # Errors
    /// Held by another for longer than `patience`, or the link cannot be made.
    pub fn take(file: &Path, patience: Patience) -> Result<Self, LockError> {
        /// Threads of one process keep each other out, too.
        static TURN: AtomicU64 = AtomicU64::new(1);
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let content = acquire(file, &Holder::of(Pid::this(), turn), patience)?;
        Ok(Self {
            file: file.to_owned(),
            content,
        })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Only what is still ours: another may have judged us gone.
        let link = link_of(&self.file);
        if std::fs::read_link(&link).is_ok_and(|found| found.as_os_str() == self.content) {
            let _ = std::fs::remove_file(link);
        }
    }
}

/// Locks a file for another process, a shell, which unlocks it with [`release`]. Locking twice by the same process is one
/// lock.
///
/// # Errors
/// As [`Lock::take`].
pub fn hold_for(file: &Path, holder: Pid, patience: Patience) -> Result<(), LockError> {
    acquire(file, &Holder::of(holder, 0), patience).map(drop)
}

/// Unlocks a file, whoever locked it: scripts break locks on purpose.
///
/// # Errors
/// It was not locked.
pub fn release(file: &Path) -> Result<(), LockError> {
    std::fs::remove_file(link_of(file)).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => LockError::NotLocked {
            file: file.to_owned(),
        },
        _ => LockError::Link {
            file: file.to_owned(),
            source,
        },
    })
}

fn link_of(file: &Path) -> PathBuf {
    with_suffix(file, ".lock")
}

/// The path with letters added to its last component.
pub(super) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn acquire(file: &Path, holder: &Holder, patience: Patience) -> Result<OsString, LockError> {
    let link = link_of(file);
    let content = holder.render();
    let began = Instant::now();
    let mut seen: Option<(OsString, Instant)> = None;
    let mut pause = Duration::from_millis(1);
    loop {
        match std::os::unix::fs::symlink(&content, &link) {
            Ok(()) => return Ok(content),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => {
                return Err(LockError::Link {
                    file: file.to_owned(),
                    source,
                });
            }
        }
        let Ok(current) = std::fs::read_link(&link).map(PathBuf::into_os_string) else {
            // Released in between, or not ours to judge.
            if began.elapsed() > patience.limit {
                return Err(held(file, &link, "something that is no link", began));
            }
            wait(pause);
            continue;
        };
        if current == content {
            return Ok(content);
        }
        let since = match &seen {
            Some((known, since)) if *known == current => *since,
            _ => {
                let now = Instant::now();
                seen = Some((current.clone(), now));
                now
            }
        };
        let gone = match Holder::parse(&current).map(|holder| holder.life()) {
            Some(Life::Gone) => true,
            Some(Life::Alive) => false,
            Some(Life::Unknown) | None => since.elapsed() > patience.unknown,
        };
        if gone {
            break_lock(&link, &current);
            continue;
        }
        if began.elapsed() > patience.limit {
            return Err(held(file, &link, &current.to_string_lossy(), began));
        }
        wait(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn held(file: &Path, link: &Path, holder: &str, began: Instant) -> LockError {
    LockError::Held {
        file: file.to_owned(),
        link: link.to_owned(),
        holder: holder.to_owned(),
        waited: began.elapsed(),
    }
}

/// Removes a lock that was left behind. Several may find it at the same moment, and one of them may already have taken a
/// new one: the removal happens under a lock of its own, after looking again.
fn break_lock(link: &Path, judged: &OsString) {
    /// A breaker works for microseconds; one that is older was killed in between.
    const BREAKER: Duration = Duration::from_secs(10);
    let breaker = with_suffix(link, ".break");
    if std::os::unix::fs::symlink("breaking", &breaker).is_err() {
        let age = std::fs::symlink_metadata(&breaker)
            .and_then(|meta| meta.modified())
            .ok()
            .and_then(|made| made.elapsed().ok());
        if age.is_some_and(|age| age > BREAKER) {
            let _ = std::fs::remove_file(&breaker);
        }
        wait(Duration::from_millis(1));
        return;
    }
    if std::fs::read_link(link).is_ok_and(|found| found.as_os_str() == judged) {
        let _ = std::fs::remove_file(link);
    }
    let _ = std::fs::remove_file(&breaker);
}

/// No event tells that a link is gone on every file system, so this looks again after a moment.
fn wait(pause: Duration) {
    std::thread::park_timeout(pause);
}

/// Who holds a lock, as the link says it: `PID@START@TURN@NAMESPACE@HOST`.
#[derive(Debug, PartialEq, Eq)]
struct Holder {
    pid: i32,
    /// Start of the process in clock ticks since boot: numbers are used again.
    start: u64,
    /// Tells locks of one process apart; 0 is one of a shell.
    turn: u64,
    /// Inode of the process namespace: a number means nothing in another.
    namespace: u64,
    host: String,
}

enum Life {
    Alive,
    Gone,
    Unknown,
}

impl Holder {
    fn of(pid: Pid, turn: u64) -> Self {
        Self {
            pid: pid.as_raw(),
            start: start_of(pid.as_raw()).unwrap_or(0),
            turn,
            namespace: own_namespace(),
            host: own_host(),
        }
    }

    fn render(&self) -> OsString {
        OsString::from(format!(
            "{}@{}@{}@{}@{}",
            self.pid, self.start, self.turn, self.namespace, self.host
        ))
    }

    fn parse(text: &OsString) -> Option<Self> {
        let text = std::str::from_utf8(text.as_bytes()).ok()?;
        let mut parts = text.splitn(5, '@');
        Some(Self {
            pid: parts.next()?.parse().ok()?,
            start: parts.next()?.parse().ok()?,
            turn: parts.next()?.parse().ok()?,
            namespace: parts.next()?.parse().ok()?,
            host: parts.next()?.to_owned(),
        })
    }

    fn life(&self) -> Life {
        if self.namespace == 0 || self.namespace != own_namespace() || self.host != own_host() {
            return Life::Unknown;
        }
        match start_of(self.pid) {
            Some(start) if start == self.start => Life::Alive,
            Some(_) => Life::Gone,
            // A process of others may be hidden in /proc, but it exists.
            None if Path::new("/proc/self/stat").exists() => {
                match nix::sys::signal::kill(Pid::from_raw(self.pid), None) {
                    Err(nix::errno::Errno::ESRCH) => Life::Gone,
                    _ => Life::Alive,
                }
            }
            None => Life::Unknown,
        }
    }
}

/// Start time of a process, in clock ticks since boot; nothing for one that is gone or only waits to be reaped.
fn start_of(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may have blanks and brackets itself.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    if fields.next()? == "Z" {
        return Some(0);
    }
    // proc(5): field 22; the state, field 3, is taken already.
    fields.nth(18)?.parse().ok()
}

fn own_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino())
}

fn own_host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| String::new(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn quick() -> Patience {
        Patience {
            limit: Duration::from_millis(80),
            unknown: Duration::from_millis(20),
        }
    }

    #[test]
    fn a_lock_is_held_once_and_goes_with_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("board");
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        hold_for(&file, pid, quick()).unwrap();
        hold_for(&file, pid, quick()).unwrap();
        let refused = Lock::take(&file, quick()).unwrap_err();
        assert!(matches!(refused, LockError::Held { .. }), "{refused}");
        child.kill().unwrap();
        child.wait().unwrap();
        drop(Lock::take(&file, quick()).unwrap());
        assert!(matches!(release(&file), Err(LockError::NotLocked { .. })));
    }

    #[test]
    fn a_lock_of_somewhere_else_is_broken_late() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("board");
        std::os::unix::fs::symlink("7@7@1@7@elsewhere", link_of(&file)).unwrap();
        let began = Instant::now();
        let lock = Lock::take(&file, quick()).unwrap();
        assert!(began.elapsed() >= quick().unknown);
        drop(lock);
        assert!(std::fs::symlink_metadata(link_of(&file)).is_err());
    }

    #[test]
    fn what_is_no_longer_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("board");
        let lock = Lock::take(&file, quick()).unwrap();
        release(&file).unwrap();
        std::os::unix::fs::symlink("1@1@1@1@other", link_of(&file)).unwrap();
        drop(lock);
        assert!(std::fs::symlink_metadata(link_of(&file)).is_ok());
    }
}
