//! Called as gLExec: with a command instead of a pilot's socket.
//!
//! The process splits. The child is the broker of a new socket, as if a pilot had started it. The parent
//! keeps its number and its working directory, gives up root for good and becomes `sailplane-glexec`,
//! which reads the caller's words, variables and files under the caller's own rights (requirement S7)
//! and asks the broker like any pilot. So nothing of what a caller can write is ever read as root.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use launch_protocol::CONTROL_FD;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::prctl;
use nix::unistd::{Uid, execve, getgid, getresgid, getresuid, getuid, setresgid, setresuid};

use crate::error::StartupError;
use crate::spawn::{CANNOT_START, cstring, packet_sockets};
use crate::startup::{self, SavedLimits};
use crate::sys;
use crate::trusted::{self, Kind};

/// What the program was called with.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) words: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
}

impl Call {
    /// Called by gLExec's name, or with a command?
    pub(crate) fn is_meant(&self) -> bool {
        let name = self.words.first().map(Path::new).and_then(Path::file_name);
        name.is_some_and(|name| name == "glexec") || self.has_command()
    }

    fn has_command(&self) -> bool {
        let words: Vec<_> = self.words.iter().map(|word| word.as_bytes()).collect();
        matches!(words.as_slice(), [_, b"--", _, ..])
            || matches!(words.as_slice(), [_, word, ..] if !word.starts_with(b"-"))
    }
}

/// Splits the process. Returns only if the front could not be started; `broker` is the other half's work.
pub(crate) fn split(
    call: &Call,
    limits: &SavedLimits,
    broker: impl FnOnce(OwnedFd) -> u8,
) -> StartupError {
    let front = startup::own_path().with_file_name("sailplane-glexec");
    // Options are answered without a broker, and where none can work the front says why.
    let trouble = startup::self_check().err();
    if trouble.is_none()
        && let Err(error) = trusted::check(&front, Kind::File)
    {
        return StartupError::untrusted("sailplane-glexec", &error);
    }
    let Err((step, errno)) = attempt(call, &front, trouble.as_ref(), limits, broker);
    StartupError::system(step, errno)
}

fn attempt(
    call: &Call,
    front: &Path,
    trouble: Option<&StartupError>,
    limits: &SavedLimits,
    broker: impl FnOnce(OwnedFd) -> u8,
) -> Result<Infallible, (&'static str, Errno)> {
    let at = |step| move |errno| (step, errno);
    // What the caller has on 3 is for its own report, and goes out of the way of our socket.
    let spare = fcntl(sys::borrow(CONTROL_FD), FcntlArg::F_DUPFD_CLOEXEC(16));
    let spare = spare.ok().map(sys::own);
    let (ours, theirs) = packet_sockets().map_err(at("socketpair"))?;
    if trouble.is_none() && call.has_command() {
        sys::child(None, || detach(theirs.as_fd(), broker)).map_err(at("fork"))?;
    }
    limits.restore_hard().map_err(at("resource limits"))?;
    if trouble.is_none() {
        prctl::set_no_new_privs().map_err(at("no_new_privs"))?;
    }
    become_caller()?;
    let spare = spare.as_ref().map(|file| file.as_fd());
    exec(call, front, trouble, ours.as_fd(), spare).map_err(at("execve of sailplane-glexec"))
}

/// The other half: none of the caller's streams, the socket where every broker has it.
fn detach(control: BorrowedFd<'_>, broker: impl FnOnce(OwnedFd) -> u8) -> u8 {
    if sys::place(control, CONTROL_FD).is_err() || startup::drop_streams().is_err() {
        return CANNOT_START;
    }
    sys::close_from(CONTROL_FD + 1);
    broker(sys::own(CONTROL_FD))
}

/// Gives up what the set-uid bit has given, reads it back and tries to regain it.
fn become_caller() -> Result<(), (&'static str, Errno)> {
    let at = |step| move |errno| (step, errno);
    let (uid, gid) = (getuid(), getgid());
    setresgid(gid, gid, gid).map_err(at("setresgid"))?;
    setresuid(uid, uid, uid).map_err(at("setresuid"))?;
    let uids = getresuid().map_err(at("getresuid"))?;
    let gids = getresgid().map_err(at("getresgid"))?;
    let mut kept = [uids.real, uids.effective, uids.saved] == [uid; 3]
        && [gids.real, gids.effective, gids.saved] == [gid; 3];
    if !uid.is_root() {
        sys::clear_capabilities().map_err(at("clearing capabilities"))?;
        let root = Uid::from_raw(0);
        kept &= setresuid(root, root, root).is_err() && sys::any_capability() == Ok(0);
    }
    kept.then_some(()).ok_or(("reading the ids back", Errno::EPERM))
}

/// Variables with which loader, C library or runtime would do more than run the front.
const DANGEROUS: [&[u8]; 5] = [b"LD_", b"MALLOC_", b"GCONV_PATH", b"GLIBC_TUNABLES", b"RUST_"];

fn exec(
    call: &Call,
    front: &Path,
    trouble: Option<&StartupError>,
    control: BorrowedFd<'_>,
    spare: Option<BorrowedFd<'_>>,
) -> Result<Infallible, Errno> {
    let string = |word: OsString| CString::new(word.into_vec()).map_err(|_| Errno::EINVAL);
    let state = trouble.map_or("broker", StartupError::code);
    let sentence = trouble.map(ToString::to_string).unwrap_or_default();
    let own = ["sailplane-glexec", state, &sentence].map(OsString::from);
    let words = own.into_iter().chain(call.words.iter().cloned());
    let variables = call.environment.iter().filter_map(|(name, value)| {
        let bytes = name.as_bytes();
        let harmless = !DANGEROUS.iter().any(|bad| bytes.starts_with(bad));
        harmless.then(|| OsString::from_vec([bytes, b"=", value.as_bytes()].concat()))
    });
    let words = words.map(string).collect::<Result<Vec<_>, _>>()?;
    let variables = variables.map(string).collect::<Result<Vec<_>, _>>()?;
    // It may be on its place already, and would stay close-on-exec there.
    let control = fcntl(control, FcntlArg::F_DUPFD_CLOEXEC(16)).map(sys::own)?;
    let control = control.as_fd();
    sys::place(control, CONTROL_FD)?;
    if let Some(spare) = spare {
        sys::place(spare, CONTROL_FD + 1)?;
    }
    sys::close_from(CONTROL_FD + 1 + i32::from(spare.is_some()));
    let Err(errno) = execve(&cstring(front.as_os_str())?, &words, &variables);
    // What this process owned is closed, so it must not go on to close it.
    crate::complain(&StartupError::system("execve of sailplane-glexec", errno));
    sys::exit_now(crate::error::ADMINISTRATOR)
}
