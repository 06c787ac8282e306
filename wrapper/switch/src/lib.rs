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
pub mod error;
mod front;
#[doc(hidden)]
pub mod fuzzing;
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
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;

use launch_protocol::monitor::Mode;
use launch_protocol::policy::Caller;

use crate::error::StartupError;
use crate::monitor::{Call, Further};
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
    if call.is_meant() {
        let half = |control| serve(caller.clone(), limits.clone(), control);
        return complain(&front::split(&call, &limits, half));
    }
    let words = call.words.get(1..).unwrap_or_default();
    match words.first().and_then(|word| word.to_str()) {
        Some("--broker") => match startup::control_socket() {
            Ok(control) => ExitCode::from(serve(caller, limits, control)),
            Err(error) => complain(&error),
        },
        Some("--version") => {
            let version = concat!("sailplane-switch ", env!("CARGO_PKG_VERSION"));
            say(&mut std::io::stdout(), version);
            ExitCode::SUCCESS
        }
        Some("--trace" | "--release-leases" | "--sweep") if caller.uid != 0 => {
            complain(&StartupError::not_root())
        }
        Some("--trace" | "--release-leases" | "--sweep") => {
            complain(&programs::become_admin(words))
        }
        _ => complain(&StartupError::usage()),
    }
}

/// The monitor of a pilot's socket; its exit status.
fn serve(caller: Caller, limits: SavedLimits, control: OwnedFd) -> u8 {
    // A second handle, for the last word if it ends with an error.
    let last_word = control.try_clone();
    let call = Call {
        mode: Mode::Serve,
        words: Vec::new(),
        caller,
        limits,
        control: Some(control),
        further: None,
    };
    let served = startup::leave_directory().and_then(|()| prepare(&call.caller));
    match served.and_then(|()| monitor::run(call)) {
        Ok(_) => 0,
        Err(error) => {
            if let Ok(socket) = last_word {
                wire::send_last_word(socket.as_fd(), error.refusal());
            }
            complain(&error);
            error.status()
        }
    }
}

/// What only root may ask a program for that has no set-uid bit: `words` for its broker, its own answers to that.
///
/// # Errors
/// If somebody else asks, or it cannot be.
pub fn administer(mode: Mode, words: Vec<OsString>, further: Further) -> Result<u8, StartupError> {
    let limits = startup::sanitise()?;
    let caller = startup::real_caller();
    if caller.uid != 0 {
        return Err(StartupError::not_root());
    }
    startup::leave_directory()?;
    prepare(&caller)?;
    monitor::run(Call { mode, words, caller, limits, control: None, further: Some(further) })
}

/// What every task begins with: no caller's uid any more.
fn prepare(caller: &Caller) -> Result<(), StartupError> {
    if account::is_brokers(caller.uid) {
        let text = "your user number is one of those that brokers run under";
        return Err(StartupError::caller(error::NOT_AUTHORISED, "caller.number", text));
    }
    startup::self_check()?;
    startup::become_root()
}

/// Prints one line; nobody listening is no reason to fail.
fn say(out: &mut dyn std::io::Write, line: &str) {
    let _ = out.write_all(format!("{line}\n").as_bytes());
}

fn complain(error: &StartupError) -> ExitCode {
    say(&mut std::io::stderr(), &format!("sailplane-switch: {error} [{}]", error.code()));
    ExitCode::from(error.status())
}
