//! The set-uid root helper: a broker that verifies, maps, switches, watches, kills, accounts and
//! cleans up for one pilot.
//!
//! Order of trust: `startup` makes the process independent of whoever started it, before anything
//! is read; `config` and `trusted` read root's policy; the caller is checked; all uids become
//! root's; only then does the loop in `broker` listen to the pilot. Certificates are never parsed
//! here: a verifier running as nobody does that, and its fixed-size answer is checked again.
//!
//! Not its business: what a credential means (`sailplane-verify`), files of a sandbox
//! (`sailplane-job`), which job to run (the pilot).

mod account;
mod audit;
mod broker;
mod caller;
mod cgroup;
mod channel;
pub mod config;
mod errands;
pub mod error;
mod front;
#[doc(hidden)]
pub mod fuzzing;
pub mod gridmap;
mod guardian;
mod hooks;
mod isolate;
mod lease;
mod mapping;
mod mounts;
mod names;
mod nest;
mod opening;
mod payload;
mod proc;
mod recover;
mod refuse;
mod sandbox;
mod spawn;
mod startup;
mod sys;
pub mod trusted;
mod verifiers;
mod warmth;

use std::ffi::OsString;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use launch_protocol::broker::Answer;
use launch_protocol::policy::AuditSettings;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::getuid;

use crate::audit::Audit;
use crate::broker::{Broker, Tools};
use crate::cgroup::Tracking;
use crate::config::{Config, MAX_CONFIG};
use crate::errands::Runner;
use crate::error::StartupError;
use crate::guardian::Guardian;
use crate::lease::LeaseDir;
use crate::startup::SavedLimits;
use crate::trusted::Kind;
use crate::verifiers::Verifiers;

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
    let words: Vec<_> = arguments.into_iter().collect();
    let call = front::Call { words, environment };
    if call.is_meant() {
        let half = |control| broker(limits.clone(), control);
        return complain(&front::split(&call, &limits, half));
    }
    match call.words.get(1) {
        Some(word) if word == "--broker" => {}
        Some(word) if word == "--version" => {
            say(
                &mut std::io::stdout(),
                concat!("sailplane-switch ", env!("CARGO_PKG_VERSION")),
            );
            return ExitCode::SUCCESS;
        }
        _ => return complain(&StartupError::Usage),
    }
    let control = match startup::control_socket() {
        Ok(control) => control,
        Err(error) => return complain(&error),
    };
    ExitCode::from(broker(limits, control))
}

/// The broker of a pilot's socket; its exit status.
fn broker(limits: SavedLimits, control: OwnedFd) -> u8 {
    // A second handle, for the last word if the broker stops with an error.
    let last_word = control.try_clone();
    match startup::leave_directory().and_then(|()| serve(limits, control)) {
        Ok(()) => 0,
        Err(error) => {
            if let Ok(socket) = last_word {
                channel::send_last_word(socket.as_fd(), Answer::Refused(error.refusal()));
            }
            complain(&error);
            error.status()
        }
    }
}

fn serve(limits: SavedLimits, control: OwnedFd) -> Result<(), StartupError> {
    startup::self_check()?;
    let config = read_config(&Path::new(CONFDIR).join("switch.conf"))?;
    let system = |call| move |errno| StartupError::System(call, errno);
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(system("opening /dev/null"))?;
    let audit = Audit::open(&AuditSettings {
        file: config.log_file.clone(),
        ..AuditSettings::default()
    })
    .map_err(|error| StartupError::Untrusted("log_file", error))?;
    let uid = getuid().as_raw();
    let (caller, known) = match caller::authorise(uid, &config, null.as_fd()) {
        Ok(found) => found,
        Err(error) => {
            let uid = uid.to_string();
            let why = error.to_string();
            audit.write(
                "start",
                &[("verdict", "refused"), ("caller", &uid), ("why", &why)],
            );
            return Err(error);
        }
    };
    startup::become_root()?;
    let libexec = config.libexec.clone().unwrap_or_else(|| {
        startup::own_path()
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default()
    });
    let (agent, verifier) = (
        libexec.join("sailplane-job"),
        libexec.join("sailplane-verify"),
    );
    let trusted = |key, path: &PathBuf, kind| {
        trusted::check(path, kind).map_err(|error| StartupError::Untrusted(key, error))
    };
    trusted("libexec", &agent, Kind::File)?;
    trusted("libexec", &verifier, Kind::File)?;
    trusted("certdir", &config.certdir, Kind::Directory)?;
    if let Some(gridmap) = &config.gridmap {
        trusted("gridmap", gridmap, Kind::File)?;
    }
    let leases =
        LeaseDir::open(&config.rundir).map_err(|error| StartupError::Untrusted("rundir", error))?;
    let signals =
        sys::signal_descriptor(&[libc::SIGCHLD, libc::SIGTERM]).map_err(system("signalfd"))?;
    let runner = Runner {
        program: &agent,
        null: null.as_fd(),
    };
    let recovered = recover::recover(&leases, runner, &audit).to_string();
    let tracking = Tracking::discover();
    tracking.remove_orphans();
    let number = uid.to_string();
    audit.write(
        "start",
        &[
            ("verdict", "accepted"),
            ("caller", &number),
            ("caller_name", caller.name.as_deref().unwrap_or("")),
            ("tracking", tracking.word()),
            ("memory", tracking.memory_source()),
            ("recovered", &recovered),
        ],
    );
    let verifiers = Verifiers::new(verifier, config.certdir.clone());
    let tools = Tools {
        config,
        caller,
        limits,
        tracking,
        leases,
        audit,
        null,
        signals,
        agent,
        known,
        verifiers,
    };
    let guardian = Guardian::start(&tools.config, &tools.tracking, &tools.agent)
        .map_err(system("starting the guardian"))?;
    if Broker::new(tools, control).run()? {
        guardian.dismiss();
    }
    Ok(())
}

fn read_config(path: &Path) -> Result<Config, StartupError> {
    let file = trusted::open_file(path)
        .map_err(|error| StartupError::Untrusted("configuration", error))?;
    let mut text = Vec::new();
    file.take(MAX_CONFIG + 1)
        .read_to_end(&mut text)
        .map_err(|error| {
            let errno = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
            StartupError::System("reading the configuration", errno)
        })?;
    let parsed = if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_CONFIG {
        Err(Config::too_large())
    } else {
        Config::parse(&text)
    };
    parsed.map_err(|error| StartupError::Config(path.to_owned(), error))
}

/// Prints one line; nobody listening is no reason to fail.
fn say(out: &mut dyn std::io::Write, line: &str) {
    let _ = out.write_all(format!("{line}\n").as_bytes());
}

fn complain(error: &StartupError) -> ExitCode {
    say(
        &mut std::io::stderr(),
        &format!("sailplane-switch: {error} [{}]", error.code()),
    );
    ExitCode::from(error.status())
}
