//! Namespaces of its own for a payload that runs under the pilot's account: users, processes, mounts and IPC.
//!
//! What is inside sees neither the pilot nor another payload, and can neither signal nor trace what it does not see. Of
//! the files of the account it sees its own sandbox: [`hide`] puts empty directories over the others. What this is
//! not: another account. The network, and sockets in it that trust the account, are shared.
//!
//! Payloads cannot undo it. They have no capability here (a program that an ordinary account executes gets none, and
//! `no_new_privs` keeps files from giving any), and what they mount in namespaces of their own making does not come
//! loose from what was mounted above them.

use std::ffi::CString;
use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::stat::Mode;
use nix::unistd::{chdir, getegid, geteuid};

use super::sys;

/// Directories that programs need; neither they nor what is above them is ever hidden.
const NEEDED: [&str; 9] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/dev", "/proc", "/sys",
];

/// What hidden directories become: small, so that nobody fills the memory with them.
const EMPTY: &str = "size=64k,nr_inodes=256,mode=0755";

/// A step that failed.
#[derive(Debug)]
pub(super) struct Failed {
    step: String,
    errno: Errno,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.step, self.errno.desc())
    }
}

fn failed(step: impl Into<String>) -> impl FnOnce(Errno) -> Failed {
    let step = step.into();
    move |errno| Failed { step, errno }
}

/// What the inside is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inside<'a> {
    /// Stays where it is; `None` only in a trial.
    pub(super) sandbox: Option<&'a Path>,
    /// Takes the place of `/tmp` and `/var/tmp`.
    pub(super) tmp: Option<&'a Path>,
    /// Files and directories that are not seen.
    pub(super) hide: &'a [PathBuf],
}

/// Gives the calling process namespaces of its own. Its next child is the first process of the new process namespace,
/// and has to [`furnish`] the inside.
pub(super) fn leave() -> Result<(), Failed> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(
        CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID,
    )
    .map_err(failed("make namespaces"))?;
    // The kernel lets nobody but root write to these files of an undumpable process.
    prctl::set_dumpable(true).map_err(failed("open the own proc files"))?;
    let write = |file: &str, text: String| {
        fs::write(format!("/proc/self/{file}"), text).map_err(|error| Failed {
            step: format!("write {file}"),
            errno: errno_of(&error),
        })
    };
    let written = write("setgroups", "deny".to_owned())
        .and_then(|()| write("uid_map", format!("{uid} {uid} 1")))
        .and_then(|()| write("gid_map", format!("{gid} {gid} 1")));
    prctl::set_dumpable(false).map_err(failed("close the own proc files"))?;
    written
}

/// Arranges the inside as its first process. What could not be hidden is an error; nothing may run then.
pub(super) fn furnish(inside: Inside<'_>) -> Result<(), Failed> {
    let none: Option<&str> = None;
    // What the node mounts later (autofs, CVMFS) still comes in; nothing goes out.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
        .map_err(failed("part from the node's mounts"))?;
    let sandbox = inside.sandbox.map(Held::open).transpose()?;
    let tmp = inside.tmp.map(Held::open).transpose()?;
    if let Some(tmp) = &tmp {
        for place in ["/tmp", "/var/tmp"] {
            if Path::new(place).is_dir() {
                tmp.appear_at(Path::new(place))?;
            }
        }
    }
    let mut paths: Vec<&Path> = inside.hide.iter().map(PathBuf::as_path).collect();
    // What is above goes first and takes along what is below.
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        hide(path)?;
    }
    let runtime = PathBuf::from(format!("/run/user/{}", geteuid()));
    hide(&runtime)?;
    if let Some(sandbox) = &sandbox {
        make_way(&sandbox.path)?;
        sandbox.appear_at(&sandbox.path)?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    if Path::new("/dev/shm").is_dir() {
        mount(
            Some("tmpfs"),
            "/dev/shm",
            Some("tmpfs"),
            flags,
            Some("mode=1777"),
        )
        .map_err(failed("mount /dev/shm"))?;
    }
    if Path::new("/dev/mqueue").is_dir() {
        let flags = flags | MsFlags::MS_NOEXEC;
        mount(Some("mqueue"), "/dev/mqueue", Some("mqueue"), flags, none)
            .map_err(failed("mount /dev/mqueue"))?;
    }
    terminals()?;
    // A control group that the account may write to would reach the pilot.
    sys::make_read_only(Path::new("/sys")).map_err(failed("make /sys read-only"))?;
    let flags = flags | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).map_err(failed(
        "mount /proc (in a container with a masked /proc nobody but root can)",
    ))?;
    sys::new_session_keyring().map_err(failed("leave the keyring"))?;
    prctl::set_no_new_privs().map_err(failed("renounce new privileges"))?;
    chdir("/").map_err(failed("enter /"))
}

/// The terminals of the account: whoever could open one could write to it, and read.
fn terminals() -> Result<(), Failed> {
    let place = Path::new("/dev/pts");
    if !place.is_dir() {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = Some("newinstance,ptmxmode=0666,mode=0620");
    if mount(Some("devpts"), place, Some("devpts"), flags, options).is_ok() {
        return Ok(());
    }
    hide(place)
}

/// Puts nothing in the place of a file or directory, if it is there.
fn hide(path: &Path) -> Result<(), Failed> {
    if NEEDED
        .iter()
        .any(|needed| Path::new(needed).starts_with(path))
        || path == Path::new("/")
    {
        return Ok(());
    }
    let Ok(facts) = fs::metadata(path) else {
        // It is not there, is hidden already, or cannot be reached.
        return Ok(());
    };
    let step = format!("hide {}", path.display());
    let none: Option<&str> = None;
    let hidden = if facts.is_dir() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(EMPTY))
    } else {
        mount(Some("/dev/null"), path, none, MsFlags::MS_BIND, none)
    };
    hidden.map_err(failed(step))
}

/// Makes the directories that lead to a sandbox whose own ones were hidden.
fn make_way(path: &Path) -> Result<(), Failed> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(|error| Failed {
            step: format!("make the way to {}", path.display()),
            errno: errno_of(&error),
        })
}

/// A directory that was opened before it was hidden.
struct Held {
    path: PathBuf,
    directory: OwnedFd,
}

impl Held {
    fn open(path: &Path) -> Result<Self, Failed> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory =
            open(path, flags, Mode::empty()).map_err(failed(format!("open {}", path.display())))?;
        Ok(Self {
            path: path.to_owned(),
            directory,
        })
    }

    /// Binds it there. The proc file system is still the old one.
    fn appear_at(&self, place: &Path) -> Result<(), Failed> {
        let source = format!("/proc/self/fd/{}", self.directory.as_raw_fd());
        let none: Option<&str> = None;
        mount(Some(source.as_str()), place, none, MsFlags::MS_BIND, none)
            .map_err(failed(format!("bind {}", place.display())))
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// A path for a system call.
pub(super) fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}
