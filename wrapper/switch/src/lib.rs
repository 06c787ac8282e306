//! The set-uid root helper: a monitor that starts an unprivileged broker for one pilot, and does for it what
//! only root can do.
//!
//! Order of trust: `startup` makes the process independent of whoever started it, before anything is read;
//! all uids become root's; `introduce` starts broker and name service, which have no privilege, and learns from
//! them what the site has configured and that the caller may call, out of files that root has opened by the rule
//! of trusted paths (`trusted`). Only then the broker gets the pilot's socket, and the loop in `monitor` answers
//! its questions (`answer`). Nothing that a stranger wrote is parsed here.
//!
//! `sailplane-admin`, which has no set-uid bit, is the same monitor with answers for administrators besides.
//!
//! Not its business: what a pilot wants and what a credential allows (`sailplane-broker`), what a credential
//! says (`sailplane-verify`), files of a sandbox (`sailplane-job`).

pub mod account;
pub mod answer;
mod audit;
pub mod cgroup;
mod front;
mod guardian;
pub mod held;
pub mod introduce;
mod isolate;
pub mod lease;
pub mod monitor;
mod names;
mod nest;
pub mod pool;
pub mod programs;
pub mod refuse;
pub mod sandbox;
mod spawn;
mod startup;
mod sys;
pub mod trusted;
mod wire;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;

use launch_protocol::broker::Refusal;
use launch_protocol::front::is_meant;
use launch_protocol::monitor::{Mode, SINGLE};
use launch_protocol::policy::Caller;

use crate::monitor::Further;
use crate::refuse::{not_root, status, usage};
use crate::startup::SavedLimits;

/// Directory of the configuration, fixed when the program is built.
pub const CONFDIR: &str = match option_env!("SAILPLANE_CONFDIR") {
    Some(dir) => dir,
    None => "/etc/sailplane",
};

/// The whole program. `arguments` are read only after the process has freed itself from its caller.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Kept aside, unread: only the half that has given up root looks at it.
    let environment = std::env::vars_os().collect();
    let limits = match startup::sanitise() {
        Ok(limits) => limits,
        Err(error) => return complain(&error),
    };
    let caller = startup::real_caller();
    let words: Vec<_> = arguments.into_iter().collect();
    let call = front::Call { words, environment };
    if is_meant(&call.words) {
        let half = |control| serve(caller.clone(), limits.clone(), control, &[SINGLE.into()]);
        return complain(&front::split(&call, &limits, half));
    }
    let words = call.words.get(1..).unwrap_or_default();
    match words.first().and_then(|word| word.to_str()) {
        Some("--broker") => match startup::control_socket() {
            Ok(control) => ExitCode::from(serve(caller, limits, control, &[])),
            Err(error) => complain(&error),
        },
        Some("--version") => {
            let version = concat!("sailplane-switch ", env!("CARGO_PKG_VERSION"), "\n");
            let _ = std::io::stdout().write_all(version.as_bytes());
            ExitCode::SUCCESS
        }
        Some("--trace" | "--release-leases" | "--sweep") => complain(&match caller.uid {
            0 => programs::become_admin(words),
            _ => not_root(),
        }),
        _ => complain(&usage()),
    }
}

/// The monitor of a pilot's socket, with these words for its broker; its exit status.
fn serve(caller: Caller, limits: SavedLimits, control: OwnedFd, words: &[OsString]) -> u8 {
    // A second handle, for the last word if it ends with an error.
    let last_word = control.try_clone();
    let served = startup::leave_directory().and_then(|()| prepare(&caller));
    match served.and_then(|()| monitor::run(Mode::Serve, words, (caller, limits), Some(control), None)) {
        Ok(_) => 0,
        Err(error) => {
            if let Ok(socket) = last_word {
                wire::send_last_word(socket.as_fd(), error.clone());
            }
            complain(&error);
            status(&error)
        }
    }
}

/// What only root may ask a program for that has no set-uid bit: `words` for its broker, its own answers to that.
///
/// # Errors
/// If somebody else asks, or it cannot be.
pub fn administer(mode: Mode, words: &[OsString], further: Further) -> Result<u8, Refusal> {
    let limits = startup::sanitise()?;
    let caller = startup::real_caller();
    if caller.uid != 0 {
        return Err(not_root());
    }
    startup::leave_directory()?;
    prepare(&caller)?;
    monitor::run(mode, words, (caller, limits), None, Some(further))
}

/// What every task begins with: no caller's uid any more.
fn prepare(caller: &Caller) -> Result<(), Refusal> {
    if account::is_brokers(caller.uid) {
        let text = "your user number is one of those that brokers run under";
        return Err(refuse::caller("caller.number", text));
    }
    startup::self_check()?;
    startup::become_root()
}

/// Nobody listening is no reason to fail.
fn complain(error: &Refusal) -> ExitCode {
    let line = format!("sailplane-switch: {} [{}]\n", error.message, error.code);
    let _ = std::io::stderr().write_all(line.as_bytes());
    ExitCode::from(status(error))
}
