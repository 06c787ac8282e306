//! The programs that the monitor starts beside agents: broker, name service, verifier. None of them has
//! any privilege.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use launch_protocol::CONTROL_FD;
use launch_protocol::monitor::{BROKER_UIDS, FIRST_BROKER_UID, Mode, Numbers};
use launch_protocol::verdict::words_packet;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::Pid;

use crate::CONFDIR;
use crate::error::StartupError;
use crate::spawn::{CANNOT_START, Child, NOBODY, packet_sockets};
use crate::startup;
use crate::sys::{self, errno};
use crate::trusted::{self, TrustError};

/// The configuration.
pub fn conf() -> PathBuf {
    Path::new(CONFDIR).join("switch.conf")
}

/// A trusted directory with our programs.
#[derive(Debug)]
pub(crate) struct Libexec {
    dir: OwnedFd,
    path: PathBuf,
}

impl Libexec {
    pub(crate) fn open(path: &Path) -> Result<Self, TrustError> {
        Ok(Self { dir: trusted::open_dir(path)?, path: path.to_owned() })
    }

    /// The one this program is in: there those are that must be known before the configuration is.
    pub(crate) fn own() -> Result<Self, StartupError> {
        let own = startup::own_path();
        let opened = Self::open(own.parent().unwrap_or_else(|| Path::new("/")));
        opened.map_err(|error| StartupError::untrusted("libexec", &error))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// One of them.
    pub(crate) fn find(&self, name: &str) -> Result<PathBuf, TrustError> {
        trusted::check_in(&self.dir, &self.path, name).map(|()| self.path.join(name))
    }
}

/// One that must be known before the configuration is.
///
/// # Errors
/// If it cannot be trusted.
pub fn beside_ourselves(name: &str) -> Result<PathBuf, StartupError> {
    let found = Libexec::own()?.find(name);
    found.map_err(|error| StartupError::untrusted("libexec", &error))
}

/// Starts a program as nobody, with these on 0 and so on.
pub(crate) fn start_as_nobody(
    program: &Path,
    descriptors: &[BorrowedFd<'_>],
) -> Result<Pid, Errno> {
    start(program, std::iter::empty(), &NOBODY, descriptors)
}

/// A verifier that has not been told anything.
#[derive(Debug)]
pub(crate) struct Verifier {
    program: PathBuf,
    pid: Pid,
    socket: OwnedFd,
}

impl Verifier {
    pub(crate) fn start(program: PathBuf, null: BorrowedFd<'_>) -> Result<Self, Errno> {
        let (socket, theirs) = packet_sockets()?;
        let pid = start_as_nobody(&program, &[theirs.as_fd(), null, null])?;
        Ok(Self { program, pid, socket })
    }

    pub(crate) fn is_of(&self, program: &Path) -> bool {
        self.program == program
    }

    /// Tells it what it may trust. If it is gone, whoever gets the socket will see that.
    pub(crate) fn instruct(self, words: &[String]) -> Result<(Pid, OwnedFd), Errno> {
        let packet = words_packet(words).map_err(|_| Errno::E2BIG)?;
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let _ = send(self.socket.as_raw_fd(), &packet, flags);
        Ok((self.pid, self.socket))
    }
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
