//! The child: one process that is an owner, and opens files for the pool.
//!
//! It is this program again, started with [`ARGUMENT`], the account's numbers, and one packet socket on descriptor 0.
//! Everything it could do more than the account it gives up before it reads the first request. It trusts the pool, and
//! the pool trusts nothing it does beyond what the kernel allows the account.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, getresgid, getresuid, setgroups, setresgid, setresuid, setsid};

use super::channel::{self, Incoming};
use super::operations::{self, Outcome, Trouble};
use super::protocol::{Reply, Request};
use super::sys;

/// The first argument that makes this program a child; see [`child_main`].
pub const ARGUMENT: &str = "pool-user-files";

/// Requests served at a time: one that hangs on a dead file server does not hold up the others.
const THREADS: usize = 4;

/// Files a new one may not be written by group and others, whatever mode was asked for.
const UMASK: Mode = Mode::S_IWGRP.union(Mode::S_IWOTH);

/// The whole life of a child. The program's `main` calls it, before anything else and while it has one thread only,
/// when its first argument is [`ARGUMENT`]; `arguments` are those after it. Returns when the pool closes the socket.
#[must_use]
pub fn child_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some(account) = parse(arguments) else {
        return ExitCode::from(2);
    };
    // What the pool's other threads may have leaked between a fork and an exec; 0 to 2 were given to us.
    if sys::close_from(3).is_err() {
        return ExitCode::from(2);
    }
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned() else {
        return ExitCode::from(2);
    };
    let ready = become_owner(&account);
    let first = match ready {
        Ok(()) => Reply::Ready,
        Err(errno) => Reply::Failed {
            errno: errno as i32,
        },
    };
    if send(&socket, &first.encode(0), None).is_err() || ready.is_err() {
        return ExitCode::FAILURE;
    }
    let socket = Arc::new(socket);
    let others: Vec<_> = (1..THREADS)
        .filter_map(|_| {
            let socket = Arc::clone(&socket);
            std::thread::Builder::new()
                .stack_size(512 * 1024)
                .spawn(move || serve(&socket))
                .ok()
        })
        .collect();
    serve(&socket);
    // The pool is gone, so whatever the other threads are doing is for nobody.
    drop(others);
    ExitCode::SUCCESS
}

struct Target {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// `UID GID GROUP,GROUP,...`.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<Target> {
    let mut words = arguments.into_iter().map(OsString::into_string);
    let mut word = || words.next()?.ok();
    let uid = word()?.parse().ok().map(Uid::from_raw)?;
    let gid = word()?.parse().ok().map(Gid::from_raw)?;
    let groups = word()?
        .split(',')
        .map(|group| group.parse().ok().map(Gid::from_raw))
        .collect::<Option<Vec<_>>>()?;
    (!uid.is_root()).then_some(Target { uid, gid, groups })
}

fn become_owner(target: &Target) -> Result<(), Errno> {
    // EPERM: it leads a session already.
    let _ = setsid();
    prctl::set_no_new_privs()?;
    if Uid::effective().is_root() {
        setgroups(&target.groups)?;
        setresgid(target.gid, target.gid, target.gid)?;
        setresuid(target.uid, target.uid, target.uid)?;
    }
    let user = getresuid()?;
    let group = getresgid()?;
    let is_owner = [user.real, user.effective, user.saved]
        .iter()
        .all(|uid| *uid == target.uid)
        && [group.real, group.effective, group.saved]
            .iter()
            .all(|gid| *gid == target.gid);
    // A way back to root would mean that something above did not do what it says.
    if !is_owner || setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
        return Err(Errno::EPERM);
    }
    umask(UMASK);
    chdir("/")
}

/// Answers requests until the pool closes.
fn serve(socket: &OwnedFd) {
    let mut buffer = channel::buffer();
    loop {
        let length = match channel::receive(socket, &mut buffer) {
            Ok(Incoming::Packet(length, _)) => length,
            Err(Errno::EINTR) => continue,
            Ok(Incoming::End) | Err(_) => return,
        };
        let Some(Ok((id, request))) = buffer.get(..length).map(Request::decode) else {
            return;
        };
        if answer(socket, id, &request).is_err() {
            return;
        }
    }
}

fn answer(socket: &OwnedFd, id: u64, request: &Request) -> Result<(), Errno> {
    match operations::perform(request) {
        Ok(Outcome::Done) => send(socket, &Reply::Done.encode(id), None),
        Ok(Outcome::Opened(file, facts)) => {
            send(socket, &Reply::Opened(facts).encode(id), Some(file.as_fd()))
        }
        Ok(Outcome::Facts(facts)) => send(socket, &Reply::Facts(facts).encode(id), None),
        Ok(Outcome::Entries(entries)) => {
            for packet in operations::packets(entries) {
                send(socket, &Reply::Entries(packet).encode(id), None)?;
            }
            send(socket, &Reply::Done.encode(id), None)
        }
        Err(Trouble::NotRegular) => send(socket, &Reply::NotRegular.encode(id), None),
        Err(Trouble::Errno(errno)) => send(
            socket,
            &Reply::Failed {
                errno: errno as i32,
            }
            .encode(id),
            None,
        ),
    }
}

fn send(socket: &OwnedFd, packet: &[u8], beside: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    loop {
        match channel::send(socket, packet, beside) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}
