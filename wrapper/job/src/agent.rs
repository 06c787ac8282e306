//! The agent: opens files beneath the sandbox for the pilot, and becomes the payload by `execve`.
//!
//! It trusts the pilot with everything the account may do, and nobody else: what lies in the sandbox
//! may have been left by a hostile payload, so every path is resolved by the kernel beneath the
//! sandbox's descriptor.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use launch_protocol::agent::{Reply, Request};
use launch_protocol::exec::FAILED_EXIT;
use nix::errno::Errno;

use crate::channel::{Channel, Incoming};
use crate::files::Sandbox;
use crate::{Failure, become_payload, errands, list, proxy, sys, words};

/// What the site allows a payload to be; root says so when it starts the agent.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Programs that are links are refused.
    pub(crate) no_links: bool,
    /// Programs of these accounts are refused.
    pub(crate) forbidden_owners: Vec<u32>,
}

/// What root wants of the agent.
#[derive(Debug, Default)]
struct Orders {
    rules: Rules,
    /// It ends unless it is the account's only process.
    if_alone: bool,
    /// Empty: there is none.
    sandbox: PathBuf,
}

/// `[--if-alone] [--no-links] [--not-owned-by UID]... [SANDBOX]`, as root writes it.
fn orders(words: impl Iterator<Item = OsString>) -> Option<Orders> {
    let mut orders = Orders::default();
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--if-alone") => orders.if_alone = true,
            Some("--no-links") => orders.rules.no_links = true,
            Some("--not-owned-by") => {
                let uid = words.next()?.to_str()?.parse().ok()?;
                orders.rules.forbidden_owners.push(uid);
            }
            _ if words.peek().is_none() => orders.sandbox = word.into(),
            _ => return None,
        }
    }
    Some(orders)
}

/// Serves until the pilot closes the socket (status 0), the payload takes over (no return), or the
/// channel breaks (status 1).
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let taken = Channel::take().zip(orders(arguments));
    let Some((mut channel, orders)) = taken else {
        words::complain("sailplane-job is started by sailplane-switch, not by hand");
        return ExitCode::from(2);
    };
    let Orders {
        rules,
        if_alone,
        sandbox,
    } = orders;
    if if_alone && let Some(status) = errands::unless_alone() {
        return ExitCode::from(status);
    }
    sys::clear_umask();
    let sandbox = (!sandbox.as_os_str().is_empty()).then(|| Sandbox::enter(sandbox));
    let sandbox = match sandbox.transpose() {
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
    let agent = Agent { sandbox, rules };
    loop {
        match channel.receive() {
            Incoming::Request(request, descriptors) => {
                match agent.serve(&channel, request, descriptors) {
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

struct Agent {
    sandbox: Option<Sandbox>,
    rules: Rules,
}

impl Agent {
    fn sandbox(&self) -> Result<&Sandbox, Failure> {
        self.sandbox
            .as_ref()
            .ok_or_else(|| Failure::new(Errno::ENOENT, "this payload has no sandbox".to_owned()))
    }

    /// Answers one request. An error means that the pilot is gone.
    fn serve(
        &self,
        channel: &Channel,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Next, Errno> {
        let outcome = match request {
            Request::List { path } => match self.list(&path) {
                Ok(packets) => {
                    for packet in packets {
                        channel.send(&packet, None)?;
                    }
                    return Ok(Next::Serve);
                }
                Err(failure) => Err(failure),
            },
            Request::Exec | Request::ExecHere => match become_payload::prepare(descriptors) {
                Ok(payload) => {
                    channel.send(&Reply::ExecStarting, Some(payload.report()))?;
                    payload.run(self.sandbox.as_ref().map(Sandbox::path), &self.rules);
                    return Ok(Next::Exit);
                }
                Err(failure) => Err(failure),
            },
            request => self.answer(request, descriptors),
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

    fn list(&self, path: &Path) -> Result<Vec<Reply>, Failure> {
        list::list(self.sandbox()?, path)
    }

    /// What has one answer.
    fn answer(
        &self,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(Reply, Option<OwnedFd>), Failure> {
        let done = |()| (Reply::Done, None);
        match request {
            Request::MakeDir { path, mode } => self.sandbox()?.make_dir(&path, mode).map(done),
            Request::Create { path, mode } => self
                .sandbox()?
                .create(&path, mode)
                .map(|file| (Reply::Opened, Some(file))),
            Request::OpenRead { path, follow } => {
                self.sandbox()?.open_read(&path, follow).map(|opened| {
                    let (size, mode) = (opened.size, opened.mode);
                    (Reply::OpenedRead { size, mode }, Some(opened.file))
                })
            }
            Request::SetMode { path, mode } => self.sandbox()?.set_mode(&path, mode).map(done),
            Request::Remove { path } => self.sandbox()?.remove(&path).map(done),
            Request::PutProxy { path, make_dir } => descriptors
                .into_iter()
                .next()
                .ok_or_else(|| Failure::of("read the credential for", &path, Errno::EBADMSG))
                .and_then(|source| proxy::put(&path, make_dir, source))
                .map(|path| (Reply::ProxyPut { path }, None)),
            Request::List { path } => Err(Failure::of("list", &path, Errno::EINVAL)),
            Request::Exec | Request::ExecHere => Err(Failure::new(
                Errno::EINVAL,
                "this is not answered here".to_owned(),
            )),
        }
    }
}
