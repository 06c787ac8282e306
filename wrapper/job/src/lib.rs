//! Everything that is done in a payload's account: `sailplane-switch` starts this program with the
//! account's ids, no capabilities, `no_new_privs`, its own session and a parent-death signal. So
//! whatever a hostile payload has prepared, it leads to no more than the payload could do itself.
//!
//! - `sailplane-job [--no-links] [--not-owned-by UID]... [SANDBOX]` is the agent, with one socket on
//!   descriptor 3 ([`launch_protocol::CONTROL_FD`]): see `agent`.
//! - `--remove`, `--alone`, `--kill-all`, `--members`, `--signal`, `--sweep`, `--put-proxy` are errands of
//!   the broker: they do one thing and tell by their exit status how it went: see `errands`.
//! - `--init` is the first process of a payload with its own process numbers. It runs as nobody.
//!
//! Not its business: privileges (it has none), protecting itself from other processes of the same
//! account (they could do the same things), limits of the group (the broker's).

mod agent;
mod become_payload;
mod below;
mod channel;
mod errands;
mod files;
mod keys;
mod list;
mod proxy;
pub mod remover;
mod sys;
mod system_v;
mod words;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::prctl;

/// What went wrong and the sentence for it.
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

/// The whole program. `arguments` are the program's name and root's orders.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Another process of the same account must not trace this one; `execve` gives that back.
    let _ = prctl::set_dumpable(false);
    let mut words = arguments.into_iter().skip(1).peekable();
    match words.peek().and_then(|word| errands::named(word)) {
        Some(errand) => {
            words.next();
            ExitCode::from(errand(&mut words))
        }
        None => agent::run(words),
    }
}
