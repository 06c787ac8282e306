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
mod enclosure;
mod entrance;
mod files;
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
mod warden;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) use credentials::NO_END;

/// First argument of the program when it is to be this broker. Not for people: its socket must be descriptor 3.
pub const ARGUMENT: &str = "own-account-broker";

/// First argument of the program when it is to be a keeper under another account. Its socket is standard input.
pub const INSIDE: &str = "payload-keeper";
/// First argument of the program when it is to kill processes of its account, named by number.
pub(crate) const KILL: &str = "payload-killer";
/// First argument of the program when it is to empty a directory of its account.
pub(crate) const EMPTY: &str = "payload-remover";

/// This program, for [`Broker::start_own`](super::Broker::start_own); also when its file has been replaced meanwhile.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// What this broker says of the way it follows processes (`SailplaneTracking`).
const TRACKING: &str = "subreaper";
/// Where its memory figures come from (`SailplaneMemorySource`).
const MEMORY_SOURCE: &str = "proc";

/// How payloads get to where they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entrance {
    /// They are where the pilot is, under its account.
    Open,
    /// Namespaces of their own, under the pilot's account.
    Namespaces {
        /// Files and directories that they do not see.
        hide: Vec<PathBuf>,
    },
    /// Other accounts, by the site's gLExec.
    Glexec {
        /// It.
        program: PathBuf,
        /// The pilot's own proxy, for sites whose gLExec wants to know who calls.
        pilot_proxy: Option<PathBuf>,
    },
    /// Other accounts, those of their slots, by `sudo -n -u`.
    Sudo {
        /// It.
        program: PathBuf,
    },
}

impl Entrance {
    /// Who payloads run as, for people.
    fn mapping(&self) -> String {
        match self {
            Self::Open | Self::Namespaces { .. } => {
                format!("none: every payload runs as {}", keeper::account())
            }
            Self::Glexec { program, .. } => format!("by {}", program.display()),
            Self::Sudo { .. } => "the account of the slot".to_owned(),
        }
    }

    /// What can be had with it.
    fn features(&self) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Open => &["renew"],
            Self::Namespaces { .. } => &["renew", "private-pid", "private-tmp", "private-ipc"],
            Self::Glexec { .. } | Self::Sudo { .. } => &["renew", "account"],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }
}

/// How to start payloads without our own helper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnAccount {
    /// The agent's program, `sailplane-job`.
    pub agent: PathBuf,
    /// Where the CAs are that credentials are verified against; without it only a credential's end is read.
    pub ca_directory: Option<PathBuf>,
    /// The way in.
    pub entrance: Entrance,
}

impl OwnAccount {
    /// The arguments of the program.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec![ARGUMENT.into(), self.agent.clone().into()];
        let mut add = |word: &str, path: &Path| all.extend([word.into(), path.into()]);
        if let Some(path) = &self.ca_directory {
            add("ca", path);
        }
        match &self.entrance {
            Entrance::Open => {}
            Entrance::Namespaces { hide } => {
                add("namespaces", Path::new(""));
                hide.iter().for_each(|path| add("hide", path));
            }
            Entrance::Glexec {
                program,
                pilot_proxy,
            } => {
                add("glexec", program);
                if let Some(path) = pilot_proxy {
                    add("proxy", path);
                }
            }
            Entrance::Sudo { program } => add("sudo", program),
        }
        all
    }

    fn from_arguments(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let agent = arguments.next()?.into();
        let mut ca_directory = None;
        let mut entrance = Entrance::Open;
        while let Some(word) = arguments.next() {
            let path = PathBuf::from(arguments.next()?);
            match (word.to_str()?, &mut entrance) {
                ("ca", _) => ca_directory = Some(path),
                ("namespaces", _) => entrance = Entrance::Namespaces { hide: Vec::new() },
                ("hide", Entrance::Namespaces { hide }) => hide.push(path),
                ("glexec", _) => {
                    entrance = Entrance::Glexec {
                        program: path,
                        pilot_proxy: None,
                    };
                }
                ("proxy", Entrance::Glexec { pilot_proxy, .. }) => *pilot_proxy = Some(path),
                ("sudo", _) => entrance = Entrance::Sudo { program: path },
                _ => return None,
            }
        }
        Some(Self {
            agent,
            ca_directory,
            entrance,
        })
    }
}

/// Serves as the broker, or as a part of it, and returns its exit status, if that is what the program was started for.
/// Must be called before the first thread starts.
#[must_use]
pub fn main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let word = arguments.next()?;
    Some(match word.to_str()? {
        ARGUMENT => match OwnAccount::from_arguments(arguments) {
            Some(own) => router::run(own),
            None => ExitCode::from(2),
        },
        INSIDE => keep(arguments),
        // Under another account only; root would reach too far.
        KILL | EMPTY if nix::unistd::geteuid().is_root() => ExitCode::from(2),
        KILL => {
            for pid in arguments.filter_map(|pid| pid.to_str()?.parse().ok()) {
                sys::signal(pid, libc::SIGKILL);
            }
            ExitCode::SUCCESS
        }
        EMPTY => match arguments.next().map(PathBuf::from) {
            Some(path) if path.is_absolute() && remover::empty_out(&path).is_ok() => {
                ExitCode::SUCCESS
            }
            _ => ExitCode::FAILURE,
        },
        _ => return None,
    })
}

fn keep(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut path = || arguments.next().map(PathBuf::from);
    let (agent, sandbox) = (path(), path());
    let payload = arguments
        .next()
        .and_then(|text| text.to_str()?.parse().ok());
    let (Some(agent), Some(sandbox), Some(payload), Some(socket)) =
        (agent, sandbox, payload, sys::take_standard_input())
    else {
        return ExitCode::from(2);
    };
    if nix::unistd::geteuid().is_root() {
        return ExitCode::from(2);
    }
    let socket = socket::Socket::new(socket);
    ExitCode::from(keeper::keep_foreign(&agent, &sandbox, payload, &socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_what_its_arguments_say() {
        let path = PathBuf::from;
        for entrance in [
            Entrance::Open,
            Entrance::Namespaces {
                hide: vec![path("/a"), path("/b c")],
            },
            Entrance::Glexec {
                program: path("/g"),
                pilot_proxy: Some(path("/p")),
            },
            Entrance::Sudo {
                program: path("/s"),
            },
        ] {
            for ca_directory in [None, Some(path("/ca"))] {
                let own = OwnAccount {
                    agent: path("/agent"),
                    ca_directory,
                    entrance: entrance.clone(),
                };
                let mut arguments = own.arguments().into_iter();
                assert_eq!(arguments.next().as_deref(), Some(ARGUMENT.as_ref()));
                assert_eq!(OwnAccount::from_arguments(arguments), Some(own));
            }
        }
    }
}
