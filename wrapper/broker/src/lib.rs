//! The broker: speaks with one pilot, has credentials verified, decides who runs as whom, watches
//! payloads, accounts and cleans up. It has a user number that nobody else has and no privilege; the
//! monitor (`sailplane-switch`), which has started it, does for it what only root can do. See
//! `launch_protocol::monitor` for what that is.
//!
//! Order: `start` asks the monitor for the site's files and reads them, and only when the caller has been
//! admitted there is a pilot's socket to listen to; the loop in `broker` then does everything. Nothing in
//! it waits for the pilot, a payload or a servant; it waits for the monitor, which answers at once, and for
//! a short errand now and then.
//!
//! Not its business: what a credential means (`sailplane-verify`), what names mean (`sailplane-names`), files
//! of a sandbox (`sailplane-job`), whether an account may be a target at all (the monitor).

mod broker;
mod channel;
mod dynamic;
mod error;
mod expiry;
mod group;
mod hooks;
mod line;
mod monitor;
mod mounts;
mod names;
mod opening;
mod payload;
mod pool;
mod proc;
mod ready;
mod recover;
mod refuse;
mod release;
mod site;
mod start;
mod sweep;
mod sys;
#[cfg(test)]
mod testing;
mod verifiers;
mod writing;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::rc::Rc;

use nix::sys::prctl;
use nix::sys::socket::{SockType, getsockopt, sockopt};

use crate::monitor::Monitor;

/// Where the monitor's socket is.
const SOCKET: i32 = 0;
/// Where the eventfd is.
const BELL: i32 = 3;

/// The whole program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<_> = arguments.into_iter().skip(1).collect();
    if words.first().is_some_and(|word| word == "--version") {
        let version = concat!("sailplane-broker ", env!("CARGO_PKG_VERSION"));
        let _ = writeln!(std::io::stdout(), "{version}");
        return ExitCode::SUCCESS;
    }
    let socket = getsockopt(&std::io::stdin().as_fd(), sockopt::SockType);
    // A program of the site that runs under the same number does not look into this one.
    if socket != Ok(SockType::SeqPacket) || prctl::set_dumpable(false).is_err() {
        let text = "sailplane-broker: started by sailplane-switch, not by hand";
        let _ = writeln!(std::io::stderr(), "{text}");
        return ExitCode::from(2);
    }
    // A panic message could carry foreign bytes into the log.
    std::panic::set_hook(Box::new(|_| {}));
    let monitor = Rc::new(Monitor::new(sys::own(SOCKET), sys::own(BELL)));
    match start::serve(&monitor, words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            monitor.decline(failure.refusal());
            ExitCode::FAILURE
        }
    }
}
