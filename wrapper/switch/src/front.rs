//! Called as gLExec: with a command instead of a pilot's socket.
//!
//! The process splits. The child is the broker of a new socket, as if a pilot had started it. The parent
//! keeps its number and its working directory, gives up root for good and becomes `sailplane-glexec`,
//! which reads the caller's words, variables and files under the caller's own rights (requirement S7)
//! and asks the broker like any pilot. So nothing of what a caller can write is ever read as root.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use launch_protocol::CONTROL_FD;
use launch_protocol::broker::Refusal;
use launch_protocol::front::{harmless, has_command, words};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::prctl;
use nix::unistd::{Uid, execve, getgid, getuid, setresgid, setresuid};

use crate::refuse::{ADMINISTRATOR, system};
use crate::spawn::{CANNOT_START, Failure, at, cstring, packet_sockets, read_back};
use crate::startup::{self, SavedLimits};
use crate::sys;
use crate::trusted::{self, Kind};

/// What the program was called with.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) words: Vec<OsString>,
    pub(crate) environment: Vec<(OsString, OsString)>,
}

/// Splits the process. Returns only if the front could not be started; `broker` is the other half's work.
pub(crate) fn split(call: &Call, limits: &SavedLimits, broker: impl FnOnce(OwnedFd) -> u8) -> Refusal {
    let front = startup::own_path().with_file_name("sailplane-glexec");
    // Options are answered without a broker, and where none can work the front says why.
    let trouble = startup::self_check().err();
    let check = || trusted::check("sailplane-glexec", &front, Kind::File);
    if let (None, Err(refusal)) = (&trouble, check()) {
        return refusal;
    }
    let Err((step, errno)) = attempt(call, &front, trouble.as_ref(), limits, broker);
    system(step)(errno)
}

fn attempt(
    call: &Call,
    front: &Path,
    trouble: Option<&Refusal>,
    limits: &SavedLimits,
    broker: impl FnOnce(OwnedFd) -> u8,
) -> Result<Infallible, Failure> {
    // What the caller has on 3 is for its own report, and goes out of the way of our socket.
    let spare = fcntl(sys::borrow(CONTROL_FD), FcntlArg::F_DUPFD_CLOEXEC(16));
    let spare = spare.ok().map(sys::own);
    let (ours, theirs) = packet_sockets().map_err(at("socketpair"))?;
    if trouble.is_none() && has_command(&call.words) {
        sys::child(None, || detach(theirs.as_fd(), broker)).map_err(at("fork"))?;
    }
    limits.restore_hard().map_err(at("resource limits"))?;
    if trouble.is_none() {
        prctl::set_no_new_privs().map_err(at("no_new_privs"))?;
    }
    become_caller()?;
    let string = |word: OsString| CString::new(word.into_vec());
    let state = trouble.map_or(("broker", ""), |it| (&it.code, &it.message));
    let words = words(state, &call.words).into_iter().map(string).collect::<Result<Vec<_>, _>>();
    let variables = harmless(&call.environment).map(string).collect::<Result<Vec<_>, _>>();
    let (Ok(words), Ok(variables)) = (words, variables) else {
        return Err(("execve of sailplane-glexec", Errno::EINVAL));
    };
    // It may be on its place already, and would stay close-on-exec there.
    let control = fcntl(&ours, FcntlArg::F_DUPFD_CLOEXEC(16)).map(sys::own);
    let control = control.map_err(at("fcntl"))?;
    sys::place(control.as_fd(), CONTROL_FD).map_err(at("dup2"))?;
    if let Some(spare) = &spare {
        sys::place(spare.as_fd(), CONTROL_FD + 1).map_err(at("dup2"))?;
    }
    sys::close_from(CONTROL_FD + 1 + i32::from(spare.is_some()));
    let program = cstring(front.as_os_str()).map_err(at("the program's name"))?;
    let Err(errno) = execve(&program, &words, &variables);
    // What this process owned is closed, so it must not go on to close it.
    crate::complain(&system("execve of sailplane-glexec")(errno));
    sys::exit_now(ADMINISTRATOR)
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
fn become_caller() -> Result<(), Failure> {
    let (uid, gid) = (getuid(), getgid());
    setresgid(gid, gid, gid).map_err(at("setresgid"))?;
    setresuid(uid, uid, uid).map_err(at("setresuid"))?;
    read_back(uid, gid)?;
    if !uid.is_root() {
        sys::clear_capabilities().map_err(at("clearing capabilities"))?;
        let root = Uid::from_raw(0);
        if setresuid(root, root, root).is_ok() || sys::any_capability() != Ok(0) {
            return Err(("trying to regain root", Errno::EPERM));
        }
    }
    Ok(())
}
