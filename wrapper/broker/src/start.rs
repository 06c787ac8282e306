//! From the first question to whatever the monitor has been started for.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use launch_protocol::broker::Refusal;
use launch_protocol::monitor::{Ask, Mode, Reply, SINGLE};
use sailplane_policy::Files;

use crate::broker::{Broker, Tools};
use crate::error::Failure;
use crate::group::Hierarchies;
use crate::line::Line;
use crate::monitor::Monitor;
use crate::mounts;
use crate::names::{Names, confused};
use crate::ready::Ready;
use crate::recover::{have_recovered, recover};
use crate::release::release_leases;
use crate::site::Site;
use crate::sweep::{self, sweep};
use crate::verifiers::Verifiers;

/// Does what the monitor wants; false if something could not be cleaned up. `words`: those behind
/// `--sweep`, or [`SINGLE`].
pub(crate) fn serve(monitor: &Rc<Monitor>, words: Vec<OsString>) -> Result<bool, Failure> {
    let begun = begin(monitor)?;
    let (mode, number) = (begun.mode, begun.number);
    let mut site = begun.site;
    let wish = match mode {
        Mode::Sweep => sweep::Wish::parse(words.iter().cloned()).ok_or(Failure::Usage)?,
        _ => sweep::Wish::default(),
    };
    // The name service takes its time; meanwhile everything that needs no names.
    let question = match mode {
        Mode::Recover => None,
        _ => Some(site.ask(monitor)?),
    };
    if mode == Mode::Serve {
        // Nobody has to wait for that before the first credential has been verified.
        site.warm_up(monitor);
    }
    let configured = Ask::Configured(Box::new(site.settings.clone()));
    let (reply, files) = monitor.ask_with(&configured, &[])?;
    if reply != Reply::Files {
        return Err(monitor.confused().into());
    }
    let single = words.first().is_some_and(|word| word == SINGLE);
    let mut verifiers = Verifiers::new(single);
    if mode == Mode::Serve {
        verifiers.warm_up(monitor);
    }
    let files = site.load(files, monitor);
    if let Some(question) = question {
        site.learn(question, monitor)
            .or_else(|refusal| refuse(monitor, mode, &site, refusal))?;
    }
    let mut knows_dynamic = false;
    if matches!(mode, Mode::Serve | Mode::Configure) {
        let files = files.and_then(|files| files.ok_or_else(confused));
        let admitted = files.and_then(|files| admit(&files, &site));
        (site.may_omit_key, knows_dynamic) =
            admitted.or_else(|refusal| refuse(monitor, mode, &site, refusal))?;
    }
    let (control, hierarchies) = admitted(monitor, mode, &site)?;
    site.names.be_distrusted();
    let mut serial = 0;
    let Some(control) = control else {
        return match mode {
            Mode::Serve => Err(monitor.confused().into()),
            Mode::Configure => Ok(true),
            Mode::Recover => {
                recover(monitor, &mut serial);
                Ok(true)
            }
            Mode::Sweep => {
                let mut out = std::io::stdout();
                Ok(sweep(monitor, &mut site, &mut serial, &wish, &mut out)?)
            }
            Mode::Release => {
                let count = release_leases(monitor, &mut site, &mut serial)?;
                // Nobody listening is no reason to fail.
                let _ = writeln!(std::io::stdout(), "{count} leases released");
                Ok(true)
            }
        };
    };
    let recovered = have_recovered(monitor);
    let line = started(&site, "accepted")
        .text("tracking", hierarchies.word())
        .text("memory", hierarchies.memory_source())
        .text("recovered", if recovered { "yes" } else { "no" });
    monitor.record(line);
    let mut ready = Ready::new(site.settings.execute_dirs.first().cloned());
    ready.expected = knows_dynamic;
    let tools = Tools {
        monitor: Rc::clone(monitor),
        number,
        site,
        hierarchies,
        verifiers,
        ready,
        single,
        serial,
    };
    Broker::new(tools, control)?.run()?;
    Ok(true)
}

/// What is known before anybody has been admitted.
struct Begun {
    mode: Mode,
    /// The monitor's process number.
    number: i32,
    site: Site,
}

fn begin(monitor: &Monitor) -> Result<Begun, Failure> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (mounts, own) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
    let hierarchies = mounts::hierarchies(&mounts, &own);
    let (reply, beside) = monitor.ask_with(&Ask::Begin { hierarchies }, &[])?;
    let beside = <[OwnedFd; 2]>::try_from(beside);
    let (
        Reply::Begun {
            mode,
            monitor: number,
            caller,
        },
        Ok([config, witness]),
    ) = (reply, beside)
    else {
        return Err(monitor.confused().into());
    };
    Ok(Begun {
        mode,
        number,
        site: Site::read(*caller, &File::from(config), Names::new(Some(witness)))?,
    })
}

/// May the caller call? And may it present a credential without its key; is there any way to a dynamic
/// account?
fn admit(files: &Files, site: &Site) -> Result<(bool, bool), Refusal> {
    let may_omit_key = files.admit(&site.caller)?;
    Ok((may_omit_key, files.knows_dynamic()))
}

/// Tells the monitor whom to admit; the pilot's socket, if there is a pilot, and where groups are made.
fn admitted(
    monitor: &Monitor,
    mode: Mode,
    site: &Site,
) -> Result<(Option<OwnedFd>, Hierarchies), Refusal> {
    let ask = Ask::Admitted {
        caller: Box::new(site.caller.clone()),
        may_omit_key: site.may_omit_key,
        hooks: site.hook_numbers(),
    };
    match monitor.ask_with(&ask, &[])? {
        (Reply::Admitted { tracking }, beside) => {
            let control = beside.into_iter().next().filter(|_| mode == Mode::Serve);
            Ok((control, Hierarchies::new(tracking)))
        }
        _ => Err(monitor.confused()),
    }
}

/// Writes down that nobody is served.
fn refuse<T>(monitor: &Monitor, mode: Mode, site: &Site, refusal: Refusal) -> Result<T, Refusal> {
    if mode == Mode::Serve {
        let line = started(site, "refused").text("code", &refusal.code);
        monitor.record(line.text("reason", &refusal.message));
    }
    Err(refusal)
}

fn started(site: &Site, verdict: &str) -> Line {
    let name = site.caller.name.as_deref().unwrap_or("");
    Line::new("start")
        .text("verdict", verdict)
        .number("caller_uid", site.caller.uid)
        .text("caller", name)
}
