//! A broker without privileges: serves the launch protocol under the pilot's own account, where there is no
//! identity-switch helper.
//!
//! It is this program again, started with a hidden first argument ([`ARGUMENT`]), and it separates nothing: every
//! payload runs as the pilot's account and can do to the pilot, and to the other payloads, whatever that account can.
//! What it does promise is order: a sandbox of its own (0700) for each payload, no process of it left at its end, its
//! usage counted, and all of that also when the pilot is killed.
//!
//! ```text
//! pilot ── socket ── router ── socket ── keeper of payload 1 ── agent, then payload ── ...
//!              ▲        └───── socket ── keeper of payload 2 ...
//!              └─ the keepers answer on it themselves
//! ```
//!
//! A keeper is the child subreaper of its payload: whatever the payload starts, however it detaches it, descends from
//! the keeper and from no other, so that the process table alone says whose a process is (`census`).

mod census;
mod credentials;
mod keeper;
mod remover;
mod router;
mod sandbox;
mod socket;
#[allow(
    unsafe_code,
    reason = "fork of a process with one thread, and what a child does before it becomes the agent"
)]
mod sys;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) use credentials::NO_END;

/// First argument of the program when it is to be this broker. Not for people: its socket must be descriptor 3.
pub const ARGUMENT: &str = "own-account-broker";

/// This program, for [`Broker::start_own`](super::Broker::start_own); also when its file has been replaced meanwhile.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// What this broker says of the way it follows processes (`SailplaneTracking`).
const TRACKING: &str = "subreaper";
/// Where its memory figures come from (`SailplaneMemorySource`).
const MEMORY_SOURCE: &str = "proc";

/// How to start payloads under the pilot's own account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnAccount {
    /// The agent's program, `sailplane-job`.
    pub agent: PathBuf,
    /// Where the CAs are that credentials are verified against; without it only a credential's end is read.
    pub ca_directory: Option<PathBuf>,
}

impl OwnAccount {
    /// The arguments of the program.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        let fixed = [OsString::from(ARGUMENT), self.agent.clone().into()];
        fixed
            .into_iter()
            .chain(self.ca_directory.clone().map(OsString::from))
            .collect()
    }

    fn from_arguments(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        Some(Self {
            agent: arguments.next()?.into(),
            ca_directory: arguments.next().map(PathBuf::from),
        })
    }
}

/// Serves as the broker and returns its exit status, if that is what the program was started for. Must be called before
/// the first thread starts.
#[must_use]
pub fn main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    Some(match OwnAccount::from_arguments(arguments) {
        Some(own) => router::run(own),
        None => ExitCode::from(2),
    })
}
