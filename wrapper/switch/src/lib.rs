//! The set-uid root helper: a broker that verifies, maps, switches, watches, kills, accounts and
//! cleans up for one pilot.
//!
//! Order of trust: `startup` makes the process independent of whoever started it, before anything
//! is read; all uids become root's; `trusted` opens the site's files; the caller is judged; only then
//! does the loop in `broker` listen to the pilot. Nothing that a stranger wrote is parsed here: helpers
//! running as nobody do that, and their bounded answers are checked again.
//!
//! Not its business: what a credential means (`sailplane-verify`), what the site's files say
//! (`sailplane-policy`), files of a sandbox (`sailplane-job`), which job to run (the pilot).

mod account;
mod audit;
mod broker;
mod cgroup;
mod channel;
mod dynamic;
mod errands;
pub mod error;
mod expiry;
mod front;
#[doc(hidden)]
pub mod fuzzing;
mod guardian;
mod hooks;
mod isolate;
mod lease;
mod mounts;
mod nest;
mod opening;
mod payload;
mod pool;
mod proc;
mod recover;
mod refuse;
mod release;
mod sandbox;
mod servant;
mod site;
mod spawn;
mod startup;
mod sweep;
mod sys;
mod trace;
pub mod trusted;
mod verifiers;

use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;

use launch_protocol::broker::Answer;
use launch_protocol::policy::Caller;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::audit::{Audit, Line};
use crate::broker::{Broker, Tools};
use crate::cgroup::Tracking;
use crate::errands::Runner;
use crate::error::StartupError;
use crate::guardian::Guardian;
use crate::lease::LeaseDir;
use crate::nest::{Kit, Nursery};
use crate::site::Site;
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
    let caller = site::real_caller();
    let words: Vec<_> = arguments.into_iter().collect();
    let call = front::Call { words, environment };
    if call.is_meant() {
        let half = |control| broker(caller.clone(), limits.clone(), control);
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
        Some(word) if word == "--trace" => {
            let query = call.words.get(2..).unwrap_or_default();
            return complain(&trace::trace(caller.uid, query));
        }
        Some(word) if word == "--release-leases" => {
            return match release(caller) {
                Ok(count) => {
                    say(&mut std::io::stdout(), &format!("{count} leases released"));
                    ExitCode::SUCCESS
                }
                Err(error) => complain(&error),
            };
        }
        Some(word) if word == "--sweep" => {
            return match sweep(caller, call.words) {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => complain(&error),
            };
        }
        _ => return complain(&StartupError::Usage),
    }
    let control = match startup::control_socket() {
        Ok(control) => control,
        Err(error) => return complain(&error),
    };
    ExitCode::from(broker(caller, limits, control))
}

/// The broker of a pilot's socket; its exit status.
fn broker(caller: Caller, limits: SavedLimits, control: OwnedFd) -> u8 {
    // A second handle, for the last word if the broker stops with an error.
    let last_word = control.try_clone();
    match startup::leave_directory().and_then(|()| serve(caller, limits, control)) {
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

fn serve(caller: Caller, limits: SavedLimits, control: OwnedFd) -> Result<(), StartupError> {
    let system = |call| move |errno| StartupError::System(call, errno);
    let (mut site, audit, null) = prepare(caller)?;
    let agent = site.program("sailplane-job")?;
    let mut verifiers = site.verifiers()?;
    verifiers.warm_up(null.as_fd());
    let kit = Kit {
        program: &agent,
        limits: &limits,
        null: null.as_fd(),
        own_numbers: site.settings.isolation.private_pid,
    };
    // The name service takes its time; meanwhile everything that needs no names.
    let (mut tracking, mut nursery) = (Tracking::default(), Nursery::default());
    let meanwhile = || {
        tracking = Tracking::discover();
        nursery.warm_up(&tracking, kit);
    };
    if let Err(refusal) = site.admit(null.as_fd(), meanwhile) {
        nursery.close();
        let line = started(&site, "refused").text("code", &refusal.code);
        audit.record(line.text("reason", &refusal.message));
        return Err(refusal.into());
    }
    let leases = LeaseDir::open(&site.settings.rundir)
        .map_err(|error| StartupError::Untrusted("rundir", error))?;
    let signals =
        sys::signal_descriptor(&[libc::SIGCHLD, libc::SIGTERM]).map_err(system("signalfd"))?;
    let runner = Runner {
        program: &agent,
        null: null.as_fd(),
    };
    let recovered = recover::recover(&leases, runner, &audit).to_string();
    tracking.remove_orphans();
    let line = started(&site, "accepted")
        .text("tracking", tracking.word())
        .text("memory", tracking.memory_source())
        .text("recovered", &recovered);
    audit.record(line);
    let guardian = Guardian::start(&site.settings, &tracking, &agent)
        .map_err(system("starting the guardian"))?;
    let tools = Tools {
        site,
        limits,
        tracking,
        leases,
        audit,
        null,
        signals,
        agent,
        verifiers,
    };
    if Broker::new(tools, nursery, control)?.run()? {
        guardian.dismiss();
    }
    Ok(())
}

fn release(caller: Caller) -> Result<usize, StartupError> {
    if caller.uid != 0 {
        return Err(StartupError::NotRoot);
    }
    let (mut site, audit, null) = prepare(caller)?;
    release::release_leases(&mut site, &audit, null.as_fd())
}

fn sweep(caller: Caller, words: Vec<OsString>) -> Result<bool, StartupError> {
    if caller.uid != 0 {
        return Err(StartupError::NotRoot);
    }
    let wish = sweep::Wish::parse(words.into_iter().skip(2)).ok_or(StartupError::Usage)?;
    let (mut site, audit, null) = prepare(caller)?;
    let agent = site.program("sailplane-job")?;
    let runner = Runner {
        program: &agent,
        null: null.as_fd(),
    };
    sweep::sweep(&mut site, &audit, runner, &wish, &mut std::io::stdout())
}

/// What every task begins with: no caller's uid any more, the configuration, the log.
fn prepare(caller: Caller) -> Result<(Site, Audit, OwnedFd), StartupError> {
    startup::self_check()?;
    startup::become_root()?;
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| StartupError::System("opening /dev/null", errno))?;
    let site = Site::read(caller, null.as_fd())?;
    let audit = Audit::open(&site.settings.audit)
        .map_err(|error| StartupError::Untrusted("log_file", error))?;
    Ok((site, audit, null))
}

fn started(site: &Site, verdict: &str) -> Line {
    let name = site.caller.name.as_deref().unwrap_or("");
    Line::new("start")
        .text("verdict", verdict)
        .number("caller_uid", site.caller.uid)
        .text("caller", name)
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
