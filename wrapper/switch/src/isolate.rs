//! How the machine looks to a payload: its own process numbers, its own `/tmp`, another root directory.
//! All mounts that root makes are made here, in a mount namespace that ends with the payload
//! (requirement S21).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use launch_protocol::order::{Place, View};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{chdir, chroot, pipe2};

use crate::spawn::{Child, Failure, NOBODY, at};
use crate::sys;
use crate::trusted::{self, Kind};

/// A payload's own process numbers. Dropped, its first process ends, and with that everything that
/// has such a number: no fork can outrun it.
pub(crate) type Numbers = OwnedFd;

/// Makes process numbers of their own, with a first process in them, and a child by `hatch` that is
/// the second one; both are this process's children, and seen from here they have ordinary numbers.
pub(crate) fn with_own_numbers<T>(
    program: &Path,
    null: BorrowedFd<'_>,
    hatch: impl FnOnce() -> Result<T, Errno>,
) -> Result<(T, Numbers), Errno> {
    let ours = File::open("/proc/self/ns/pid").map_err(|_| Errno::ENOENT)?;
    let (pipe, first) = pipe2(OFlag::O_CLOEXEC)?;
    unshare(CloneFlags::CLONE_NEWPID)?;
    let words = [OsStr::new("--init")];
    let descriptors = [pipe.as_fd(), null, null];
    let first_process = Child::plain(&NOBODY, program, &words, &descriptors);
    let born = Child { sees_parent: false, ..first_process }.start().and_then(|_| hatch());
    if setns(&ours, CloneFlags::CLONE_NEWPID).is_err() {
        // Whatever root starts from now on would be the payload's. Nothing can be.
        sys::exit_now(sys::CHILD_PANICKED);
    }
    Ok((born?, first))
}

const NONE: Option<&str> = None;

/// In the child, still root: makes the machine look as ordered.
pub(crate) fn enter(view: &View) -> Result<(), Failure> {
    let View { own_proc, own_tmp, tmp, chroot: other_root, sandbox } = view;
    if !own_proc && !own_tmp && other_root.is_none() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNS).map_err(at("a mount namespace"))?;
    // Nothing goes out. What the machine mounts later comes in: automounted file systems need that.
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(NONE, "/", NONE, slave, NONE).map_err(at("private mounts"))?;
    let root = other_root.as_deref().unwrap_or_else(|| Path::new("/"));
    if other_root.is_some() {
        trusted::check("chroot", root, Kind::Directory)
            .map_err(|_| Errno::EPERM)
            .and_then(|()| furnish(root, !own_proc, sandbox.as_ref()))
            .map_err(at("furnishing the other root directory"))?;
    }
    if *own_proc {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), &root.join("proc"), Some("proc"), flags, NONE).map_err(at("mounting /proc"))?;
    }
    if *own_tmp {
        for (number, name) in ["tmp", "var/tmp"].into_iter().enumerate() {
            let target = root.join(name);
            match tmp.get(number) {
                Some(place) => bind(place, &target),
                None => memory(&target, "mode=1777"),
            }
            .map_err(at("mounting /tmp"))?;
        }
    }
    if other_root.is_some() {
        chroot(root).and_then(|()| chdir("/")).map_err(at("changing the root directory"))?;
    }
    Ok(())
}

/// What a program needs to find in another root directory.
fn furnish(root: &Path, with_proc: bool, sandbox: Option<&(Place, PathBuf)>) -> Result<(), Errno> {
    for (name, wanted) in [("dev", true), ("sys", true), ("proc", with_proc)] {
        let target = root.join(name);
        if wanted && target.is_dir() {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(&Path::new("/").join(name)), &target, NONE, flags, NONE)?;
        }
    }
    let Some((sandbox, below)) = sandbox else {
        return Ok(());
    };
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    umask(Mode::from_bits_truncate(0o022));
    // The directory must be there; what is on the way from it to the sandbox is made in memory.
    memory(&inside(below), "mode=755")?;
    let target = inside(&sandbox.path);
    fs::create_dir_all(&target).map_err(|_| Errno::ENOENT)?;
    bind(sandbox, &target)
}

fn memory(target: &Path, options: &str) -> Result<(), Errno> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("sailplane"), target, Some("tmpfs"), flags, Some(options))
}

/// Shows what the broker has made, if it still is that, elsewhere.
fn bind(place: &Place, target: &Path) -> Result<(), Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = open(&place.path, flags, Mode::empty())?;
    let facts = fstat(&dir)?;
    if (facts.st_dev, facts.st_ino) != (place.device, place.inode) {
        return Err(Errno::ESTALE);
    }
    let source = format!("/proc/self/fd/{}", dir.as_raw_fd());
    mount(Some(source.as_str()), target, NONE, MsFlags::MS_BIND, NONE)
}
