//! The one kind of error: a refusal.

use launch_protocol::broker::Refusal;
pub use launch_protocol::refuse::*;
use nix::errno::Errno;

/// A system call for something failed that may work the next time.
pub fn failed(code: &'static str, what: &'static str) -> impl Fn(Errno) -> Refusal {
    move |errno| trouble(code, format!("{what}: {}", errno.desc()))
}

/// A system call that the start needs has failed.
pub fn system(call: &'static str) -> impl Fn(Errno) -> Refusal {
    move |errno| site("startup.system", format!("{call} failed: {}", errno.desc()))
}

/// Unknown command line.
pub fn usage() -> Refusal {
    let text = "usage: sailplane-switch [--] COMMAND [ARGUMENT...], as gLExec; or --broker, started by a \
                pilot with a socket on descriptor 3";
    caller("startup.usage", text)
}

/// Only root may ask for this.
pub fn not_root() -> Refusal {
    caller("caller.not_root", "only root may do that")
}
