//! `sailplane-switch --sweep`: what accounts that no broker uses have left on this machine goes. The
//! work is done by `sailplane-job` as each account; the monitor takes their jobs out of the spool folders
//! of cron and at.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use launch_protocol::broker::Refusal;
use launch_protocol::monitor::{Account, Ask, Errand, Reply, Target};
use launch_protocol::policy::Query;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::line::Line;
use crate::monitor::Monitor;
use crate::recover;
use crate::release::list;
use crate::site::Site;

/// How long one account may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is wanted.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    /// Pool accounts too: nothing else on this machine uses them.
    pool: bool,
    json: bool,
    /// Shared folders, if not the usual ones.
    places: Vec<PathBuf>,
}

impl Wish {
    /// `[--pool] [--format json|table] [FOLDER]...`
    pub(crate) fn parse(mut words: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut wish = Self::default();
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--pool") => wish.pool = true,
                Some("--format") => {
                    let format = words.next()?;
                    wish.json = format == "json";
                    (wish.json || format == "table").then_some(())?;
                }
                Some(word) if word.starts_with('-') => return None,
                _ => wish.places.push(PathBuf::from(word)),
            }
        }
        Some(wish)
    }
}

/// What was found of an account and removed, in numbers; `left` could not be.
#[derive(Default)]
struct Found {
    processes: u32,
    files: u32,
    objects: u32,
    jobs: u32,
    left: u32,
}

/// Sweeps; true if nothing is left.
pub(crate) fn sweep(
    monitor: &Monitor,
    site: &mut Site,
    serial: &mut u32,
    wish: &Wish,
    out: &mut dyn Write,
) -> Result<bool, Refusal> {
    let recovered = recover::recover(monitor, serial);
    let mut rows = Vec::new();
    let (mut looked_at, mut in_use, mut is_clean) = (0, 0, true);
    for (account, target) in accounts(monitor, site, wish)? {
        looked_at += 1;
        *serial += 1;
        let payload = *serial;
        let lease = Ask::Lease {
            payload,
            target,
            groups: None,
            sweep: true,
        };
        if monitor.account(&lease).is_err() {
            // A broker uses it.
            in_use += 1;
            continue;
        }
        let found = clean(monitor, payload, wish);
        let _ = monitor.order(&Ask::Bury { payload });
        is_clean &= found.left == 0;
        let Found {
            processes,
            files,
            objects,
            jobs,
            left,
        } = found;
        if [processes, files, objects, jobs, left] == [0; 5] {
            continue;
        }
        let (name, uid) = (&account.name, account.uid);
        let line = Line::new("sweep").text("account", name).number("uid", uid);
        let line = line.number("processes", processes).number("files", files);
        monitor.record(line.number("objects", objects).number("left", left));
        rows.push(if wish.json {
            format!(
                "{{\"account\":\"{name}\",\"uid\":{uid},\"processes\":{processes},\"files\":{files},\
                 \"objects\":{objects},\"jobs\":{jobs},\"left\":{left}}}"
            )
        } else {
            format!("{name:<24} {uid:>10} {processes:>9} {files:>7} {objects:>7} {jobs:>5} {left:>5}\n")
        });
    }
    let text = if wish.json {
        let rows = rows.join(",");
        format!(
            "{{\"looked_at\":{looked_at},\"in_use\":{in_use},\"recovered\":{recovered},\"swept\":[{rows}]}}\n"
        )
    } else {
        let title = "ACCOUNT                         UID PROCESSES   FILES OBJECTS  JOBS  LEFT\n";
        let head = if rows.is_empty() { "" } else { title };
        let rows = rows.concat();
        format!(
            "{head}{rows}{looked_at} accounts looked at, {in_use} in use, {recovered} payloads recovered\n"
        )
    };
    let _ = out.write_all(text.as_bytes());
    Ok(is_clean)
}

/// Every account that is for payloads only.
fn accounts(
    monitor: &Monitor,
    site: &mut Site,
    wish: &Wish,
) -> Result<Vec<(Account, Target)>, Refusal> {
    loop {
        let unknown = site.dynamic.unknown();
        if unknown.is_empty() {
            break;
        }
        let entries = site.names.look_up(&unknown, monitor)?;
        site.dynamic.learn(&unknown, &entries);
    }
    let names = match wish.pool && site.settings.gridmapdir.is_some() {
        false => Vec::new(),
        true => list(monitor)?.accounts(),
    };
    let queries: Vec<_> = names.iter().cloned().map(Query::Account).collect();
    // The monitor hears it, too.
    site.names.look_up(&queries, monitor)?;
    let mut free = site.dynamic.free();
    free.sort_unstable();
    let dynamic = free.into_iter().map(Target::Dynamic);
    let targets = dynamic.chain(names.into_iter().map(Target::Named));
    let judge = |target: Target| {
        let ask = Ask::Judge {
            target: target.clone(),
            groups: None,
        };
        monitor.account(&ask).ok().map(|account| (account, target))
    };
    Ok(targets.filter_map(judge).collect())
}

fn clean(monitor: &Monitor, payload: u32, wish: &Wish) -> Found {
    let mut found = Found::default();
    match monitor.ask(&Ask::Spool { payload }) {
        Ok(Reply::Spool { removed, left }) => (found.jobs, found.left) = (removed, left),
        _ => found.left += 1,
    }
    let errand = Errand::Sweep {
        places: wish.places.clone(),
    };
    let report = pipe2(OFlag::O_CLOEXEC).ok().and_then(|(report, theirs)| {
        let errand = Ask::Errand { payload, errand };
        let started = monitor.ask_with(&errand, &[theirs.as_fd()]);
        drop(theirs);
        let (Reply::Started { child }, _) = started.ok()? else {
            return None;
        };
        monitor.wait_for(child, PATIENCE);
        read_report(report)
    });
    match report {
        Some([processes, files, objects, alive, files_left, objects_left]) => {
            (found.processes, found.files, found.objects) = (processes, files, objects);
            found.left += alive + files_left + objects_left;
        }
        // It has not said, so nobody knows.
        None => found.left += 1,
    }
    found
}

fn read_report(report: OwnedFd) -> Option<[u32; 6]> {
    let mut text = String::new();
    let _ = File::from(report).take(128).read_to_string(&mut text);
    let numbers: Vec<u32> = text.split_ascii_whitespace().flat_map(str::parse).collect();
    numbers.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Option<Wish> {
        Wish::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_is_understood_or_refused() {
        let wish = parse(&["--pool", "--format", "json", "/a"]).expect("good");
        assert!(wish.pool && wish.json && wish.places == [PathBuf::from("/a")]);
        for bad in [&["--format"][..], &["--format", "xml"], &["--fool"]] {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }
}
