//! The programs that the monitor starts beside agents: broker, name service, verifier. None of them has
//! any privilege.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use launch_protocol::CONTROL_FD;
use launch_protocol::monitor::{BROKER_UIDS, FIRST_BROKER_UID, Mode, Numbers};
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::CONFDIR;
use crate::error::StartupError;
use crate::spawn::{CANNOT_START, Child, NOBODY, packet_sockets};
use crate::startup;
use crate::sys::{self, errno};
use crate::trusted::{self, Kind};

/// The configuration.
pub fn conf() -> PathBuf {
    Path::new(CONFDIR).join("switch.conf")
}

/// One of our programs that must be known before the configuration is: it lies beside this one.
///
/// # Errors
/// If it cannot be trusted.
pub fn beside_ourselves(name: &str) -> Result<PathBuf, StartupError> {
    let path = startup::own_path().with_file_name(name);
    match trusted::check(&path, Kind::File) {
        Ok(()) => Ok(path),
        Err(error) => Err(StartupError::untrusted("libexec", &error)),
    }
}

/// Starts a program as nobody, with these on 0 and so on.
pub(crate) fn start_as_nobody(
    program: &Path,
    words: &[String],
    descriptors: &[BorrowedFd<'_>],
) -> Result<Pid, Errno> {
    start(program, words.iter().map(OsStr::new), &NOBODY, descriptors)
}

/// Starts a broker, under a number of its own. Its end of the socket comes back.
pub(crate) fn start_broker(
    program: &Path,
    mode: Mode,
    words: &[OsString],
    streams: [BorrowedFd<'_>; 2],
    bell: BorrowedFd<'_>,
) -> Result<(Pid, OwnedFd), Errno> {
    let (ours, theirs) = packet_sockets()?;
    let [out, err] = streams;
    let words = words.iter().map(|word| word.as_os_str());
    // The one that has heard a pilot must have no power over the one that is to be believed.
    let block = BROKER_UIDS / 2;
    let first = FIRST_BROKER_UID + if mode == Mode::Configure { block } else { 0 };
    let own = first + std::process::id() % block;
    let descriptors = [theirs.as_fd(), out, err, bell];
    let own = Numbers { uid: own, gid: own, groups: Vec::new() };
    start(program, words, &own, &descriptors).map(|pid| (pid, ours))
}

fn start<'a>(
    program: &'a Path,
    words: impl Iterator<Item = &'a OsStr>,
    who: &Numbers,
    descriptors: &[BorrowedFd<'_>],
) -> Result<Pid, Errno> {
    let words: Vec<_> = program.file_name().into_iter().chain(words).collect();
    Child::plain(who, program, &words, descriptors).start()
}

/// Becomes the program for what only root may ask for, which has no set-uid bit. Whoever else is root already has
/// no need of ours.
pub(crate) fn become_admin(words: &[OsString]) -> StartupError {
    let program = match beside_ourselves("sailplane-admin") {
        Ok(program) => program,
        Err(error) => return error,
    };
    let failed = Command::new(program).args(words).env_clear().exec();
    StartupError::system("starting sailplane-admin", errno(failed))
}

/// Starts it, still root, to clean up after monitors that are gone.
pub(crate) fn start_recovery() -> Result<Pid, Errno> {
    sys::child(None, || {
        if startup::drop_streams().is_err() {
            return CANNOT_START;
        }
        sys::close_from(CONTROL_FD);
        become_admin(&["--recover".into()]).status()
    })
}
