//! The caller's credential files (requirements G4, S7): opened once, as the caller, and handed on as
//! descriptors. Their content is never read here.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollTimeout, poll};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::getuid;

use crate::failure::Failure;
use crate::settings::Lock;
use crate::sys;

/// How long somebody else may hold a lock.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often to try.
const PAUSE: u16 = 50;

/// Opens the file that a variable names, if it is one that only its owner, the caller, can have
/// written or read.
///
/// # Errors
/// If not; all of it is for the caller to mend.
pub fn open_private(variable: &str, path: &Path, lock: Lock) -> Result<OwnedFd, Failure> {
    let fail = |code, why: &str| {
        let text = format!("the file {path:?} of {variable} {why}");
        Err(Failure::caller(code, text))
    };
    let flags = OFlag::O_RDONLY
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    let file = match open(path, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::ELOOP) => return fail("cert.kind", "is a symbolic link; name the file itself"),
        Err(Errno::ENXIO) => return fail("cert.kind", "is not a regular file"),
        Err(errno) => {
            return fail(
                "cert.unreadable",
                &format!("cannot be opened: {}", errno.desc()),
            );
        }
    };
    let facts = match fstat(&file) {
        Ok(facts) => facts,
        Err(errno) => {
            return fail(
                "cert.unreadable",
                &format!("cannot be examined: {}", errno.desc()),
            );
        }
    };
    if let Err((code, why)) = judge(&facts, getuid().as_raw()) {
        return fail(code, &why);
    }
    match take_lock(&file, lock) {
        Ok(true) => Ok(file),
        Ok(false) => fail(
            "cert.locked",
            "is locked by another program, which is still writing it",
        ),
        Err(errno) => fail(
            "cert.locked",
            &format!("cannot be locked: {}", errno.desc()),
        ),
    }
}

/// The rules on what kind of file it must be.
fn judge(facts: &FileStat, owner: u32) -> Result<(), (&'static str, String)> {
    let kind = SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT;
    if kind != SFlag::S_IFREG {
        return Err(("cert.kind", "is not a regular file".to_owned()));
    }
    if facts.st_uid != owner {
        let why = format!(
            "belongs to uid {}, not to its caller (uid {owner})",
            facts.st_uid
        );
        return Err(("cert.owner", why));
    }
    let mode = facts.st_mode & 0o7777;
    if mode & !0o700 != 0 {
        let why = format!("has mode {mode:04o}; only its owner may have access (chmod 600)");
        return Err(("cert.mode", why));
    }
    Ok(())
}

/// False: somebody else has held it all the time. The lock goes with the descriptor.
fn take_lock(file: &OwnedFd, lock: Lock) -> Result<bool, Errno> {
    let end = Instant::now() + PATIENCE;
    loop {
        let outcome = match lock {
            Lock::Disabled => return Ok(true),
            Lock::Flock => sys::lock_shared(file.as_fd()),
            Lock::Fcntl => {
                let whole = libc::flock {
                    l_type: SHARED,
                    l_whence: 0,
                    l_start: 0,
                    l_len: 0,
                    l_pid: 0,
                };
                fcntl(file, FcntlArg::F_SETLK(&whole)).map(drop)
            }
        };
        match outcome {
            Ok(()) => return Ok(true),
            // Some file systems have no locks; then nobody holds one.
            Err(Errno::ENOLCK | Errno::ENOSYS | Errno::EOPNOTSUPP) => return Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) if Instant::now() < end => {
                let _ = poll(&mut [], PollTimeout::from(PAUSE));
            }
            Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) => return Ok(false),
            Err(errno) => return Err(errno),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a constant below 3")]
const SHARED: libc::c_short = libc::F_RDLCK as libc::c_short;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn code(path: &Path) -> String {
        match open_private("GLEXEC_CLIENT_CERT", path, Lock::Flock) {
            Ok(_) => "fine".to_owned(),
            Err(failure) => {
                assert_eq!(failure.status.number(), 201);
                assert!(!failure.may_succeed_later);
                failure.code.into_owned()
            }
        }
    }

    #[test]
    fn g4_only_a_private_regular_file_will_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("cert");
        std::fs::write(&file, "x").expect("written");
        for mode in 0..=0o7777_u32 {
            std::fs::set_permissions(&file, Permissions::from_mode(mode)).expect("set");
            let private = mode & !0o700 == 0;
            let readable = mode & 0o400 != 0 || getuid().is_root();
            let expected = match (readable, private) {
                (false, _) => "cert.unreadable",
                (true, true) => "fine",
                (true, false) => "cert.mode",
            };
            assert_eq!(code(&file), expected, "{mode:o}");
        }
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
        let link = folder.path().join("link");
        symlink(&file, &link).expect("made");
        assert_eq!(code(&link), "cert.kind");
        assert_eq!(code(folder.path()), "cert.kind");
        assert_eq!(code(Path::new("/dev/null")), "cert.kind");
        assert_eq!(code(Path::new("/dev/zero")), "cert.kind");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("made");
        // Nobody writes into it, and still nobody waits.
        assert_eq!(code(&pipe), "cert.kind");
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        assert_eq!(code(&socket), "cert.kind");
        assert_eq!(code(&folder.path().join("none")), "cert.unreadable");
    }

    #[test]
    fn g4_somebody_elses_file_will_not_do() {
        let facts = fstat(File::open("/proc/self/exe").expect("there")).expect("facts");
        let mut private = facts;
        private.st_mode = libc::S_IFREG | 0o600;
        private.st_uid = 1000;
        assert_eq!(judge(&private, 1000), Ok(()));
        assert!(judge(&private, 1001).is_err_and(|(code, _)| code == "cert.owner"));
        assert!(judge(&private, 0).is_err_and(|(code, _)| code == "cert.owner"));
    }

    #[test]
    fn s7_a_lock_is_tried_and_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cert");
        std::fs::write(&path, "x").expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("set");
        let holder = File::open(&path).expect("opens");
        holder.lock().expect("locked");
        let begin = Instant::now();
        assert_eq!(code(&path), "cert.locked");
        assert!(begin.elapsed() < PATIENCE * 3);
        assert!(open_private("X", &path, Lock::Disabled).is_ok());
        drop(holder);
        assert_eq!(code(&path), "fine");
    }
}
