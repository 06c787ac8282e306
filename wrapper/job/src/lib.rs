//! The agent: runs as the payload's account, opens files beneath the sandbox for the pilot, and
//! becomes the payload by `execve`.
//!
//! `sailplane-switch` starts it with the account's ids, no capabilities, `no_new_privs`, its own
//! session, a parent-death signal, /dev/null on 0 to 2 and one socket on 3
//! ([`launch_protocol::CONTROL_FD`]). It trusts the pilot with everything the account may do, and
//! nobody else: what lies in the sandbox may have been left by a hostile payload, so every path is
//! resolved by the kernel beneath the sandbox's descriptor.
//!
//! Not its business: privileges (it has none), protecting itself from other processes of the same
//! account (they could do the same things), limits of the group (the broker's).

mod become_payload;
mod channel;
mod files;
mod list;
mod sys;
mod words;

use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use launch_protocol::agent::{Reply, Request};
use launch_protocol::exec::FAILED_EXIT;
use nix::errno::Errno;
use nix::sys::prctl;

use crate::channel::{Channel, Incoming};
use crate::files::Sandbox;

/// What went wrong and the sentence for it; travels as [`Reply::Failed`] or [`Reply::Trouble`].
#[derive(Debug)]
pub(crate) struct Failure {
    errno: Errno,
    message: String,
}

impl Failure {
    fn new(errno: Errno, message: String) -> Self {
        Self { errno, message }
    }

    /// "cannot DO PATH: reason".
    fn of(what: &str, path: &Path, errno: Errno) -> Self {
        Self {
            errno,
            message: format!("cannot {what} {}: {}", path.display(), errno.desc()),
        }
    }
}

/// Serves until the pilot closes the socket (status 0), the payload takes over (no return), or the
/// channel breaks (status 1). `arguments` are the program's name and the sandbox's absolute path.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some(mut channel) = Channel::take() else {
        words::complain("sailplane-job is started by sailplane-switch, not by hand");
        return ExitCode::from(2);
    };
    // Another payload of the same account must not trace this one; `execve` gives that back.
    let _ = prctl::set_dumpable(false);
    let path = arguments
        .into_iter()
        .nth(1)
        .map(PathBuf::from)
        .unwrap_or_default();
    sys::clear_umask();
    let sandbox = match Sandbox::enter(path) {
        Ok(sandbox) => sandbox,
        Err(failure) => {
            let trouble = Reply::Trouble {
                errno: failure.errno as i32,
                message: failure.message,
            };
            // If it does not arrive, the pilot sees the end of the channel instead.
            let _ = channel.send(&trouble, None);
            return ExitCode::FAILURE;
        }
    };
    if channel.send(&Reply::Ready, None).is_err() {
        return ExitCode::FAILURE;
    }
    loop {
        match channel.receive() {
            Incoming::Request(request, descriptors) => {
                match serve(&channel, &sandbox, request, descriptors) {
                    Ok(Next::Serve) => {}
                    Ok(Next::Exit) => return exit_failed(),
                    Err(_) => return ExitCode::FAILURE,
                }
            }
            Incoming::End => return ExitCode::SUCCESS,
            Incoming::Malformed => return ExitCode::FAILURE,
        }
    }
}

enum Next {
    Serve,
    Exit,
}

fn exit_failed() -> ExitCode {
    ExitCode::from(u8::try_from(FAILED_EXIT).unwrap_or(u8::MAX))
}

/// Answers one request. An error means that the pilot is gone.
fn serve(
    channel: &Channel,
    sandbox: &Sandbox,
    request: Request,
    descriptors: Vec<OwnedFd>,
) -> Result<Next, Errno> {
    let done = |outcome: Result<(), Failure>| outcome.map(|()| (Reply::Done, None));
    let outcome = match request {
        Request::MakeDir { path, mode } => done(sandbox.make_dir(&path, mode)),
        Request::Create { path, mode } => sandbox
            .create(&path, mode)
            .map(|file| (Reply::Opened, Some(file))),
        Request::OpenRead { path, follow } => sandbox.open_read(&path, follow).map(|opened| {
            (
                Reply::OpenedRead {
                    size: opened.size,
                    mode: opened.mode,
                },
                Some(opened.file),
            )
        }),
        Request::SetMode { path, mode } => done(sandbox.set_mode(&path, mode)),
        Request::Remove { path } => done(sandbox.remove(&path)),
        Request::List { path } => match list::list(sandbox, &path) {
            Ok(packets) => {
                for packet in packets {
                    channel.send(&packet, None)?;
                }
                return Ok(Next::Serve);
            }
            Err(failure) => Err(failure),
        },
        Request::Exec => match become_payload::prepare(descriptors) {
            Ok(payload) => {
                channel.send(&Reply::ExecStarting, Some(payload.report()))?;
                payload.run(sandbox);
                return Ok(Next::Exit);
            }
            Err(failure) => Err(failure),
        },
    };
    let (reply, file) = outcome.unwrap_or_else(|failure| {
        let reply = Reply::Failed {
            errno: failure.errno as i32,
            message: failure.message,
        };
        (reply, None)
    });
    channel.send(&reply, file.as_ref().map(|file| file.as_fd()))?;
    Ok(Next::Serve)
}
