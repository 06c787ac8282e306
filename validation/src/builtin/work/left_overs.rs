//! `left-overs`: what earlier pilots have left in the work folder.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};

use super::super::simple::{ad_number, float, gather_and_judge, probe};
use super::trial_file;
use crate::check::{Check, Severity};
use crate::outcome::{Failure, Outcome, Threshold};
use crate::probe::{Context, Probe, Running};

/// How many entries are named.
const NAMED: usize = 5;

/// How the names begin of what pilots make in a work folder: HTCondor's starter and our helpers, glideinWMS, and these
/// checks.
const PREFIXES: [&str; 4] = ["dir_", "glide_", "condor_", trial_file::PREFIX];

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    let check = Check::new("left-overs", "what earlier pilots left in the work folder")
        .severity(Severity::Warn);
    probe(check, run)
}

fn run(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let folder = context.setup().execute.clone();
        let scratch = context.setup().scratch.clone();
        let age = context.knobs().seconds("SAILPLANE_CHECK_LEFT_OVERS");
        let limit = Duration::from_secs(2).min(context.remaining() / 2);
        let gathered = gather_and_judge(
            context,
            move || gather(&folder, &scratch, SystemTime::now(), limit),
            move |facts| judge(facts, age),
        );
        gathered.await
    })
}

#[derive(Debug, Default)]
struct Facts {
    folder: PathBuf,
    entries: Vec<Entry>,
}

/// Something in the work folder that looks like a pilot's.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    uid: u32,
    /// Since anything in its top level changed.
    age: Duration,
    /// What it holds, as far as it could be counted.
    bytes: u64,
    /// Nobody holds it: a running pilot locks its sandboxes, and a process of our process table may work in it.
    is_unused: bool,
}

fn gather(folder: &Path, scratch: &Path, now: SystemTime, limit: Duration) -> Facts {
    let until = std::time::Instant::now().checked_add(limit);
    let is_time_up = move || until.is_some_and(|until| std::time::Instant::now() >= until);
    let busy = working_directories();
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        let is_pilots = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        if !is_pilots || scratch.starts_with(&path) {
            continue;
        }
        let Ok(facts) = fs::symlink_metadata(&path) else {
            continue;
        };
        let is_worked_in = busy.iter().any(|directory| directory.starts_with(&path));
        entries.push(Entry {
            name,
            uid: facts.uid(),
            age: facts
                .modified()
                .ok()
                .and_then(|changed| now.duration_since(changed).ok())
                .unwrap_or_default(),
            bytes: size(&path, 0, &is_time_up),
            is_unused: !is_worked_in && !is_locked(&path),
        });
    }
    Facts {
        folder: folder.to_owned(),
        entries,
    }
}

/// Where the processes that we may look at are at work.
fn working_directories() -> Vec<PathBuf> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .iter()
                .all(u8::is_ascii_digit)
        })
        .filter_map(|entry| fs::read_link(entry.path().join("cwd")).ok())
        .collect()
}

/// Whether a running pilot holds its sandbox. What we may not open belongs to somebody else, and says nothing.
fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
}

fn size(path: &Path, depth: u32, is_time_up: &impl Fn() -> bool) -> u64 {
    /// Deeper trees are cut: a figure for people need not be exact.
    const DEEPEST: u32 = 32;
    let own = fs::symlink_metadata(path).map_or(0, |facts| facts.blocks().saturating_mul(512));
    let is_directory = fs::symlink_metadata(path).is_ok_and(|facts| facts.is_dir());
    if !is_directory || depth >= DEEPEST || is_time_up() {
        return own;
    }
    fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| size(&entry.path(), depth + 1, is_time_up))
        .fold(own, u64::saturating_add)
}

fn judge(facts: &Facts, age: Duration) -> Outcome {
    let mut left: Vec<&Entry> = facts
        .entries
        .iter()
        .filter(|entry| entry.is_unused && entry.age >= age)
        .collect();
    left.sort_by_key(|entry| std::cmp::Reverse(entry.bytes));
    let bytes = left
        .iter()
        .map(|entry| entry.bytes)
        .fold(0, u64::saturating_add);
    let outcome = if left.is_empty() {
        Outcome::passed()
    } else {
        let names: Vec<String> = left
            .iter()
            .take(NAMED)
            .map(|entry| {
                format!(
                    "{} (uid {}, {} MiB)",
                    entry.name,
                    entry.uid,
                    entry.bytes >> 20
                )
            })
            .collect();
        let more = match left.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let why = format!(
            "earlier pilots left {} entries with {} MiB in the work folder {}: {}{more}",
            left.len(),
            bytes >> 20,
            facts.folder.display(),
            names.join(", ")
        );
        let hint = "remove them as root; `sailplane-switch --sweep` cleans up after helpers that were killed, and the \
                    batch system's epilogue should remove a job's folder";
        Outcome::failed(Failure::site(why, hint).kind("WN_Resource"))
    };
    let count = u64::try_from(left.len()).unwrap_or(u64::MAX);
    outcome
        .number("entries", float(count), "", Some(Threshold::AtMost(0.0)))
        .number("size", float(bytes >> 20), "MiB", None)
        .attribute("SailplaneLeftOvers", ad_number(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, hours: u64, is_unused: bool) -> Entry {
        Entry {
            name: name.to_owned(),
            uid: 1000,
            age: Duration::from_secs(hours * 3600),
            bytes: 5 << 20,
            is_unused,
        }
    }

    #[test]
    fn what_is_old_and_unused_is_named() {
        let facts = Facts {
            folder: "/w".into(),
            entries: vec![
                entry("dir_1", 30, true),
                entry("dir_2", 30, false),
                entry("dir_3", 1, true),
            ],
        };
        let outcome = judge(&facts, Duration::from_secs(86_400));
        let why = &outcome.failure().unwrap().why;
        assert!(
            why.contains("1 entries with 5 MiB") && why.contains("dir_1 (uid 1000"),
            "{why}"
        );
        assert!(judge(&Facts::default(), Duration::ZERO).is_passed());
    }

    #[test]
    fn a_real_left_over_is_found_and_a_locked_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "dir_own_1_1_0",
            "dir_own_2_1_0",
            "something-else",
            "glide_Ab12",
        ] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("dir_own_1_1_0/core"), vec![1; 3 << 20]).unwrap();
        let held = File::open(folder.path().join("dir_own_2_1_0")).unwrap();
        let lock = Flock::lock(held, FlockArg::LockExclusiveNonblock).unwrap();
        let scratch = folder.path().join("glide_Ab12/x");
        let facts = gather(
            folder.path(),
            &scratch,
            SystemTime::now(),
            Duration::from_secs(5),
        );
        let outcome = judge(&facts, Duration::ZERO);
        let why = &outcome.failure().unwrap().why;
        assert!(
            why.contains("1 entries with 3 MiB") && why.contains("dir_own_1_1_0"),
            "{why}"
        );
        drop(lock);
    }
}
