//! `sailplane-switch --sweep`: what accounts that no broker uses have left on this machine goes. The
//! work is done by `sailplane-job` as each account; root itself only takes their jobs out of the spool
//! folders of cron and at, whose content it does not read.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use launch_protocol::policy::Query;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, pipe2, unlinkat};

use crate::account::{Rules, TargetAccount};
use crate::audit::{Audit, Line};
use crate::cgroup::Tracking;
use crate::errands::Runner;
use crate::error::StartupError;
use crate::lease::{LeaseDir, Taken};
use crate::pool::Pool;
use crate::recover;
use crate::site::Site;
use crate::spawn::Identity;
use crate::trusted::{self, file_kind};

/// Folders of cron and at: their parent is root's alone, and only root's or the daemon's programs write
/// in them.
const SPOOLS: [(&str, &str); 6] = [
    ("/var/spool", "cron"),
    ("/var/spool/cron", "crontabs"),
    ("/var/spool/cron", "tabs"),
    ("/var/spool/cron", "atjobs"),
    ("/var/spool", "at"),
    ("/var/spool/atd", "jobs"),
];
/// Numbers of root and of `daemon`.
const SYSTEM: [u32; 2] = [0, 1];
/// How long one account may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is wanted.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    /// Pool accounts too: nothing else on this machine uses them.
    pool: bool,
    json: bool,
    /// Shared folders, if not the usual ones.
    places: Vec<OsString>,
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
                _ => wish.places.push(word),
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
    site: &mut Site,
    audit: &Audit,
    runner: Runner<'_>,
    wish: &Wish,
    out: &mut dyn Write,
) -> Result<bool, StartupError> {
    let leases = LeaseDir::open(&site.settings.rundir)
        .map_err(|error| StartupError::Untrusted("rundir", error))?;
    let recovered = recover::recover(&leases, runner, audit);
    Tracking::discover().remove_orphans();
    let mut rows = Vec::new();
    let (mut looked_at, mut in_use, mut is_clean) = (0, 0, true);
    for account in accounts(site, wish, runner)? {
        looked_at += 1;
        let Some(found) = sweep_account(&account, &leases, runner, wish) else {
            in_use += 1;
            continue;
        };
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
        let (name, uid) = (account.name(), account.uid());
        let line = Line::new("sweep").text("account", name).number("uid", uid);
        let line = line.number("processes", processes).number("files", files);
        audit.record(line.number("objects", objects).number("left", left));
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
    site: &mut Site,
    wish: &Wish,
    runner: Runner<'_>,
) -> Result<Vec<TargetAccount>, StartupError> {
    loop {
        let unknown = site.dynamic.unknown();
        if unknown.is_empty() {
            break;
        }
        let entries = site.look_up(&unknown, runner.null)?;
        site.dynamic.learn(&unknown, &entries);
    }
    let pool = site.settings.gridmapdir.as_ref().filter(|_| wish.pool);
    let names = match pool {
        None => Vec::new(),
        Some(dir) => Pool::open(dir)
            .map_err(|error| StartupError::Untrusted("gridmapdir", error))?
            .accounts()
            .map_err(|errno| StartupError::System("reading the gridmapdir", errno))?,
    };
    let queries: Vec<_> = names.into_iter().map(Query::Account).collect();
    let entries = site.look_up(&queries, runner.null)?;
    let rules = Rules {
        settings: &site.settings,
        caller: &site.caller,
        groups: None,
    };
    let named = entries.iter().flatten();
    let named = named.filter_map(|entry| TargetAccount::named(entry, rules).ok());
    Ok(site.dynamic.free(rules).chain(named).collect())
}

/// `None`: a broker uses it.
fn sweep_account(
    account: &TargetAccount,
    leases: &LeaseDir,
    runner: Runner<'_>,
    wish: &Wish,
) -> Option<Found> {
    let name = match account.is_dynamic() {
        true => account.uid().to_string(),
        false => sweep_lease(account),
    };
    let Ok(Taken::Fresh(lease)) = leases.take(&name) else {
        return None;
    };
    // A broker takes its own lease first and looks for ours then, so one of us sees the other.
    let prefix = format!("{}-", account.name());
    let used = |other: &String| other.starts_with(&prefix) && *other != name;
    let found = if !account.is_dynamic() && leases.names().iter().any(used) {
        None
    } else {
        Some(clean(account, runner, wish))
    };
    leases.release(lease);
    found
}

/// The lease that says that a named account is being swept.
pub(crate) fn sweep_lease(account: &TargetAccount) -> String {
    format!("{}-sweep", account.name())
}

fn clean(account: &TargetAccount, runner: Runner<'_>, wish: &Wish) -> Found {
    let (jobs, jobs_left) = remove_spooled(account.uid());
    let mut found = Found {
        jobs,
        left: jobs_left,
        ..Found::default()
    };
    let done = pipe2(OFlag::O_CLOEXEC).and_then(|(read, write)| {
        let who = Identity::from(account);
        let child = runner.sweep(&who, &wish.places, write.as_fd())?;
        drop(write);
        let _ = recover::wait_until(child, Instant::now() + PATIENCE);
        let mut text = String::new();
        let _ = File::from(read).take(128).read_to_string(&mut text);
        let numbers: Vec<u32> = text.split_ascii_whitespace().flat_map(str::parse).collect();
        <[u32; 6]>::try_from(numbers).map_err(|_| Errno::EIO)
    });
    match done {
        Ok([processes, files, objects, alive, files_left, objects_left]) => {
            (found.processes, found.files, found.objects) = (processes, files, objects);
            found.left += alive + files_left + objects_left;
        }
        // It has not said, so nobody knows.
        Err(_) => found.left += 1,
    }
    found
}

/// Jobs of an account for cron and at: how many, and how many could not be removed.
fn remove_spooled(uid: u32) -> (u32, u32) {
    let (mut removed, mut left) = (0, 0);
    for (parent, name) in SPOOLS {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Ok(dir) = trusted::open_dir(Path::new(parent))
            .map_err(drop)
            .and_then(|parent| openat(&parent, name, flags, Mode::empty()).map_err(drop))
        else {
            continue;
        };
        let trusted = fstat(&dir)
            .is_ok_and(|facts| SYSTEM.contains(&facts.st_uid) && facts.st_mode & 0o002 == 0);
        let Some(mut list) = Dir::openat(&dir, ".", flags, Mode::empty())
            .ok()
            .filter(|_| trusted)
        else {
            continue;
        };
        for entry in list.iter().flatten() {
            let name = entry.file_name();
            let theirs = fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)
                .is_ok_and(|facts| facts.st_uid == uid && file_kind(&facts) == SFlag::S_IFREG);
            if theirs {
                let gone = unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir).is_ok();
                *(if gone { &mut removed } else { &mut left }) += 1;
            }
        }
    }
    (removed, left)
}
