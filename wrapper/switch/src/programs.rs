//! The programs that the monitor starts beside agents: broker, name service, verifier. None of them has
//! any privilege.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use launch_protocol::CONTROL_FD;
use launch_protocol::broker::Refusal;
use launch_protocol::monitor::{Mode, broker_numbers};
use launch_protocol::verdict::words_packet;
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::CONFDIR;
use crate::introduce::Ground;
use crate::refuse::{status, system};
use crate::spawn::{CANNOT_START, Child, NOBODY, packet_sockets};
use crate::startup;
use crate::sys::{self, errno};
use crate::trusted::{self, Kind};
use crate::wire::transmit;

/// The configuration.
pub fn conf() -> PathBuf {
    Path::new(CONFDIR).join("switch.conf")
}

/// A trusted directory with our programs.
#[derive(Debug)]
pub(crate) struct Libexec {
    dir: OwnedFd,
    pub(crate) path: PathBuf,
}

impl Libexec {
    pub(crate) fn open(path: &Path) -> Result<Self, Refusal> {
        let path = path.to_owned();
        trusted::open("libexec", &path, Kind::Directory).map(|dir| Self { dir, path })
    }

    /// The one this program is in: there those are that must be known before the configuration is.
    pub(crate) fn own() -> Result<Self, Refusal> {
        Self::open(startup::own_path().parent().unwrap_or_else(|| Path::new("/")))
    }

    /// One of them.
    pub(crate) fn find(&self, name: &str) -> Result<PathBuf, Refusal> {
        let path = self.path.join(name);
        trusted::check_in(&self.dir, "libexec", &path).map(|()| path)
    }

    /// The name service, and what it may become.
    pub(crate) fn find_names(&self) -> Result<PathBuf, Refusal> {
        self.find("sailplane-names-nss")?;
        self.find("sailplane-names")
    }
}

/// One that must be known before the configuration is.
///
/// # Errors
/// If it cannot be trusted.
pub fn beside_ourselves(name: &str) -> Result<PathBuf, Refusal> {
    Libexec::own()?.find(name)
}

/// Starts a program as nobody, with these on 0 and so on.
pub(crate) fn start_as_nobody(program: &Path, descriptors: &[BorrowedFd<'_>]) -> Result<Pid, Errno> {
    Child::plain(&NOBODY, program, &[], descriptors).start()
}

/// A verifier that has not been told anything.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) program: PathBuf,
    pid: Pid,
    socket: OwnedFd,
}

impl Verifier {
    pub(crate) fn start(program: PathBuf, null: BorrowedFd<'_>) -> Result<Self, Errno> {
        let (socket, theirs) = packet_sockets()?;
        let pid = start_as_nobody(&program, &[theirs.as_fd(), null, null])?;
        Ok(Self { program, pid, socket })
    }

    /// Tells it what it may trust. If it is gone, whoever gets the socket will see that.
    pub(crate) fn instruct(self, words: &[String]) -> Result<(Pid, OwnedFd), Errno> {
        let packet = words_packet(words).map_err(|_| Errno::E2BIG)?;
        let _ = transmit(self.socket.as_fd(), &packet, &[]);
        Ok((self.pid, self.socket))
    }
}

/// Starts a broker, under a number of its own. Its end of the socket comes back.
pub(crate) fn start_broker(
    program: &Path,
    mode: Mode,
    words: &[OsString],
    ground: &Ground,
) -> Result<(Pid, OwnedFd), Errno> {
    let (ours, theirs) = packet_sockets()?;
    let null = ground.null.as_fd();
    let [out, err] = match mode {
        Mode::Sweep | Mode::Release => [sys::borrow(1), sys::borrow(2)],
        _ => [null; 2],
    };
    let words: Vec<_> = words.iter().map(OsString::as_os_str).collect();
    let descriptors = [theirs.as_fd(), out, err, ground.bell.as_fd()];
    let own = broker_numbers(mode, std::process::id());
    Child::plain(&own, program, &words, &descriptors).start().map(|pid| (pid, ours))
}

/// Becomes the program for what only root may ask for, which has no set-uid bit. Whoever else is root already has
/// no need of ours.
pub(crate) fn become_admin(words: &[OsString]) -> Refusal {
    match beside_ourselves("sailplane-admin") {
        Ok(program) => {
            let failed = Command::new(program).args(words).env_clear().exec();
            system("starting sailplane-admin")(errno(failed))
        }
        Err(refusal) => refusal,
    }
}

/// Starts it, still root, to clean up after monitors that are gone.
pub(crate) fn start_recovery() -> Result<Pid, Errno> {
    sys::child(None, || {
        if startup::drop_streams().is_err() {
            return CANNOT_START;
        }
        sys::close_from(CONTROL_FD);
        status(&become_admin(&["--recover".into()]))
    })
}
