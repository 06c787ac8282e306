//! What was there before, and what is left after.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use validation::{Failure, Outcome};

use super::ground::{self, Ground};
use super::results::{Found, Results, check};
use super::session::Touched;

/// Files that must not change, and things that must not become more.
#[derive(Debug)]
pub(super) struct Inventory {
    files: BTreeMap<PathBuf, Stamp>,
    leases: BTreeSet<String>,
    /// Control groups of helpers.
    groups: BTreeSet<PathBuf>,
}

/// A file as it is: number, owner, group, mode, size, time of its last change.
type Stamp = (u64, u32, u32, u32, u64, i64);

/// The folder in `gridmapdir` in which the exact names of leases are kept.
const EXACT: &str = ".sailplane";

impl Inventory {
    /// As it is now.
    pub(super) fn take(ground: &Ground) -> Self {
        let mut paths: Vec<PathBuf> = [
            "/etc/passwd",
            "/etc/group",
            "/etc/shadow",
            "/etc/gshadow",
            "/etc/subuid",
        ]
        .map(PathBuf::from)
        .to_vec();
        paths.push(ground.helper.clone());
        paths.push(ground.config_path.clone());
        let programs = fs::read_dir(&ground.programs)
            .into_iter()
            .flatten()
            .flatten();
        paths.extend(programs.map(|entry| entry.path()));
        if let Ok(config) = &ground.config {
            paths.extend(config.settings.policy_files.iter().cloned());
            paths.extend(config.settings.verifier.files.iter().cloned());
            for dir in &config.settings.verifier.directories {
                paths.extend(
                    fs::read_dir(dir)
                        .into_iter()
                        .flatten()
                        .flatten()
                        .map(|entry| entry.path()),
                );
            }
        }
        let files = paths
            .into_iter()
            .filter_map(|path| Some((path.clone(), stamp(&path)?)))
            .collect();
        Self {
            files,
            leases: gridmapdir(ground).map(names_in).unwrap_or_default(),
            groups: groups().into_iter().collect(),
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let facts = fs::symlink_metadata(path).ok()?;
    Some((
        facts.ino(),
        facts.uid(),
        facts.gid(),
        facts.mode(),
        facts.len(),
        facts.mtime(),
    ))
}

fn gridmapdir(ground: &Ground) -> Option<&Path> {
    ground
        .config
        .as_ref()
        .ok()
        .and_then(|config| config.settings.gridmapdir.as_deref())
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// The look at what is left. Removes the leases that the test itself has taken.
pub(super) fn examine(
    results: &mut Results,
    ground: &Ground,
    before: &Inventory,
    touched: &Touched,
) {
    results.run_always(
        check(
            "nothing-changed",
            "accounts, programs, configuration and policy are as before",
        ),
        || {
            let now = Inventory::take(ground);
            let changed: Vec<String> = before
                .files
                .iter()
                .filter(|(path, stamp)| now.files.get(*path) != Some(*stamp))
                .map(|(path, _)| path.display().to_string())
                .collect();
            if changed.is_empty() {
                return Ok(Outcome::passed());
            }
            Err(Failure::site(
                format!("during the test these were changed: {}", changed.join(", ")),
                "see who did: this program does not, but a configuration system may have",
            )
            .transient())
        },
    );
    results.run_always(
        check(
            "nothing-left",
            "no process, folder, mount, control group or lease of the test is left",
        ),
        || {
            end_leases(ground, before, touched);
            left(ground, before, touched)
        },
    );
}

/// Takes back leases of pool accounts that nobody had before.
fn end_leases(ground: &Ground, before: &Inventory, touched: &Touched) {
    let Some(folder) = gridmapdir(ground).filter(|_| ground.is_root) else {
        return;
    };
    for lease in touched
        .leases
        .iter()
        .filter(|lease| !before.leases.contains(*lease))
    {
        let _ = fs::remove_file(folder.join(lease));
        let _ = fs::remove_file(folder.join(EXACT).join(lease));
    }
}

/// How long the last traces may take to go: the kernel removes control groups in its own time.
const PATIENCE: Duration = Duration::from_secs(3);

fn left(ground: &Ground, before: &Inventory, touched: &Touched) -> Found {
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let found = leavings(ground, before, touched);
        let Some(first) = found.first() else {
            return Ok(Outcome::passed());
        };
        if std::time::Instant::now() >= end {
            let failure = Failure::site(
                format!(
                    "{first} is left{}",
                    if found.len() > 1 { ", and more" } else { "" }
                ),
                "end or remove it by hand, and look into the helper's log for why it was left",
            );
            return Ok(Outcome::failed(failure).detail(found.join("\n")));
        }
        ground::pause(Duration::from_millis(50));
    }
}

fn leavings(ground: &Ground, before: &Inventory, touched: &Touched) -> Vec<String> {
    let mut found = Vec::new();
    let is_alone = !other_helpers(touched);
    for process in helpers() {
        if touched.helpers.contains(&process.session) {
            found.push(format!(
                "{} with process number {}",
                process.name, process.pid
            ));
        }
    }
    for path in groups() {
        // Named after a helper's process.
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let is_ours = touched.helpers.iter().any(|pid| {
            let prefix = format!("sailplane-{pid}-");
            name.as_deref()
                .is_some_and(|name| name.starts_with(&prefix))
        });
        if is_ours || is_alone && !before.groups.contains(&path) {
            found.push(format!("the control group {}", path.display()));
        }
    }
    // Other pilots on the node may have been given the same numbers since.
    if is_alone {
        for uid in &touched.own_uids {
            for pid in processes_of(*uid) {
                found.push(format!("the process {pid} of uid {uid}"));
            }
        }
        for folder in ["/tmp", "/var/tmp", "/dev/shm"] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry
                    .metadata()
                    .is_ok_and(|facts| touched.own_uids.contains(&facts.uid()))
                {
                    found.push(format!(
                        "{}, which belongs to a payload's account,",
                        entry.path().display()
                    ));
                }
            }
        }
    }
    if let Some(work) = &touched.work {
        if fs::symlink_metadata(work).is_ok() {
            found.push(format!("the folder {}", work.display()));
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let name = work.display().to_string();
        for line in mounts.lines().filter(|line| line.contains(&name)) {
            found.push(format!("the mount {line}"));
        }
    }
    if let Some(folder) = gridmapdir(ground) {
        let now = names_in(folder);
        for lease in touched
            .leases
            .iter()
            .filter(|lease| now.contains(*lease) && !before.leases.contains(*lease))
        {
            found.push(format!("the lease {}", folder.join(lease).display()));
        }
    }
    found
}

/// A process of a helper.
struct Helper {
    pid: u32,
    name: String,
    /// Helpers make a session of their own, which is numbered after the first process of theirs.
    session: u32,
}

/// Processes called `sailplane-...`, as far as they can be seen.
fn helpers() -> Vec<Helper> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
            // State, parent, group, session.
            let session = rest.split_whitespace().nth(3)?.parse().ok()?;
            let is_helper = name.starts_with("sailplane-") && !name.starts_with("sailplane-site");
            is_helper.then(|| Helper {
                pid,
                name: name.to_owned(),
                session,
            })
        })
        .collect()
}

fn other_helpers(touched: &Touched) -> bool {
    helpers()
        .iter()
        .any(|process| !touched.helpers.contains(&process.session))
}

/// Control groups of helpers.
fn groups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with("sailplane-")
            {
                found.push(entry.path());
            } else {
                folders.push(entry.path());
            }
        }
    }
    found
}

/// Processes with this real user number, those that have ended excepted.
pub(super) fn processes_of(uid: u32) -> BTreeSet<u32> {
    let wanted = format!("\nUid:\t{uid}\t");
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains(&wanted) && !status.contains("\nState:\tZ")
        })
        .collect()
}
