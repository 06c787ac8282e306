//! What only root may ask the identity-switch helper for: to clean up after monitors that are gone, to sweep
//! accounts, to end leases of pool accounts, to say who was who. It has no set-uid bit; `sailplane-switch` becomes
//! it where root calls that, and where a monitor is gone or has found that another one is.
//!
//! It is the same monitor, with a broker of its own, which it answers more (`recover`, `sweep`, `pool`).
//!
//! Not its business: what to look at and in which order (`sailplane-broker`), what an account has left
//! (`sailplane-job`), what the log says (`sailplane-policy`).

mod pool;
mod recover;
mod spool;
mod sweep;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use launch_protocol::broker::Refusal;
use launch_protocol::monitor::{Ask, Mode};
use nix::errno::Errno;
use nix::poll::{PollTimeout, poll};
use sailplane_switch::monitor::{Answer, Monitor};
use sailplane_switch::programs::{beside_ourselves, conf};
use sailplane_switch::refuse::{caller, status, system, usage};

/// How often the guardian of a monitor that is gone looks: the monitor's locks may end a little later than its
/// pipe.
const LOOKS: u32 = 3;
/// Milliseconds between looks.
const PAUSE: u8 = 100;

/// The whole program.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut words = arguments.into_iter().skip(1);
    let word = words.next();
    let word = word.as_ref().and_then(|word| word.to_str());
    let words: Vec<_> = words.collect();
    let outcome = match word {
        Some("--version") => {
            let version = concat!("sailplane-admin ", env!("CARGO_PKG_VERSION"));
            let _ = writeln!(std::io::stdout(), "{version}");
            Ok(0)
        }
        Some("--sweep") => sailplane_switch::administer(Mode::Sweep, &words, answer),
        Some("--release-leases") => sailplane_switch::administer(Mode::Release, &words, answer),
        Some("--recover") => recover(),
        Some("--guard") => {
            let mut outcome = Ok(0);
            for _ in 0..LOOKS {
                outcome = recover();
                let _ = poll(&mut [], PollTimeout::from(PAUSE));
            }
            outcome
        }
        Some("--trace") => Err(trace(&words)),
        _ => Err(usage()),
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // Under the name by which it was called.
            let _ = writeln!(
                std::io::stderr(),
                "sailplane-switch: {} [{}]",
                error.message,
                error.code
            );
            ExitCode::from(status(&error))
        }
    }
}

fn recover() -> Result<u8, Refusal> {
    sailplane_switch::administer(Mode::Recover, &[], answer)
}

/// Becomes `sailplane-policy`, which opens the log and gives up root before it reads that.
fn trace(words: &[OsString]) -> Refusal {
    let program = match beside_ourselves("sailplane-policy") {
        Ok(program) => program,
        Err(error) => return error,
    };
    let mut command = Command::new(program);
    let failed = command
        .arg("trace")
        .arg(conf())
        .args(words)
        .env_clear()
        .exec();
    let errno = Errno::from_raw(failed.raw_os_error().unwrap_or(0));
    system("starting sailplane-policy")(errno)
}

/// What the monitor of a pilot answers to nobody.
fn answer(monitor: &mut Monitor, ask: Ask) -> Answer {
    match ask {
        Ask::Adopt { payload } => recover::adopt(monitor, payload),
        Ask::Lease {
            payload,
            target,
            groups,
            sweep: true,
        } => sweep::lease(monitor, payload, &target, groups.as_ref()),
        Ask::Spool { payload } => sweep::spool(monitor, payload),
        Ask::PoolList => sailplane_switch::answer::listed(&monitor.pool()?),
        Ask::PoolRelease {
            account,
            lease,
            idle_since,
        } => pool::release(monitor, &account, &lease, idle_since),
        _ => Err(caller("monitor.order", "that is asked at another time")),
    }
}
