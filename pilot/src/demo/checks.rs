//! What the demo was to show, and whether it did.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::job_log;
use super::people::{Person, Proxy};
use super::play::Sent;
use super::report::{Check, Ending, Report};
use super::scene::Scene;
use super::stories::End;

/// What the checks look at.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    /// The jobs.
    pub(super) report: &'a Report,
    /// The same, with their folders and events.
    pub(super) sent: &'a [Sent<'a>],
    /// Where sandboxes were.
    pub(super) scene: &'a Scene,
    /// Processes of jobs found after the last job's end.
    pub(super) left: &'a [String],
    /// Whether the pilot ended well.
    pub(super) retired: bool,
    /// Whether the pool ended well.
    pub(super) stopped: bool,
    /// The last words of the pool.
    pub(super) pool_words: &'a str,
}

/// The checks.
pub(super) fn all(seen: &Seen<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    if seen.report.not_shown.is_none() {
        checks.push(own_accounts(seen));
        checks.push(truth(seen));
    }
    checks.push(endings(seen));
    checks.push(held(seen));
    checks.push(files(seen));
    checks.push(nothing_left(seen));
    checks.push(Check {
        what: "pilot and pool ended by themselves when asked to".to_owned(),
        seen: seen.retired && seen.stopped,
        detail: if seen.stopped {
            String::new()
        } else {
            seen.pool_words.to_owned()
        },
    });
    checks
}

/// No account served two users.
fn own_accounts(seen: &Seen<'_>) -> Check {
    let mut users: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut accounts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for job in &seen.report.jobs {
        if let Some(account) = &job.account {
            users.entry(&job.user).or_default().insert(account);
            accounts.entry(account).or_default().insert(&job.user);
        }
    }
    let apart = accounts.values().all(|users| users.len() == 1);
    let none_is_pilots = seen.scene.pilot.as_ref().is_none_or(|pilot| {
        !accounts
            .keys()
            .any(|account| account.contains(&pilot.id.to_string()))
    });
    Check {
        what: "the jobs of each user ran under accounts that no other user's jobs ran under, nor the pilot".to_owned(),
        seen: apart && none_is_pilots && users.len() == seen.scene.people.len(),
        detail: format!("{} users, {} accounts", users.len(), accounts.len()),
    }
}

/// Each job saw the account that the helper wrote down.
fn truth(seen: &Seen<'_>) -> Check {
    let mut compared = 0;
    let mut wrong = Vec::new();
    for (job, sent) in seen.report.jobs.iter().zip(seen.sent) {
        if let (Some(account), Some(uid)) = (&job.account, printed_uid(&sent.folder)) {
            compared += 1;
            if *account != account_name(&uid, &seen.scene.people) {
                wrong.push(format!("{} saw uid {uid}", job.name));
            }
        }
    }
    Check {
        what: "what the jobs said about themselves is what the helper wrote into its log"
            .to_owned(),
        seen: compared > 0 && wrong.is_empty(),
        detail: if wrong.is_empty() {
            format!("{compared} jobs")
        } else {
            wrong.join(", ")
        },
    }
}

fn endings(seen: &Seen<'_>) -> Check {
    let wrong: Vec<&str> = seen
        .report
        .jobs
        .iter()
        .filter(|job| !job.as_meant)
        .map(|job| job.name.as_str())
        .collect();
    Check {
        what: "every job ended as it was meant to".to_owned(),
        seen: wrong.is_empty(),
        detail: wrong.join(", "),
    }
}

/// The two jobs with a bad proxy: one never ran, one was stopped; both say why.
fn held(seen: &Seen<'_>) -> Check {
    let mut problems = Vec::new();
    for (job, sent) in seen.report.jobs.iter().zip(seen.sent) {
        if sent.story.end != End::Held {
            continue;
        }
        let ran = job_log::began(&sent.events).is_some();
        let (must_run, word) = match sent.story.proxy {
            Proxy::EndsSoon => (true, "before their proxy ends"),
            _ => (false, "trusted"),
        };
        let reason = job.reason.as_deref().unwrap_or_default();
        if job.end != Ending::Held || ran != must_run || !reason.contains(word) {
            problems.push(format!("{}: {} {reason}", job.name, job.result));
        }
    }
    Check {
        what: "the job with the forged proxy never ran; the one whose proxy ended was stopped before its end; both say why".to_owned(),
        seen: problems.is_empty(),
        detail: problems.join(", "),
    }
}

fn files(seen: &Seen<'_>) -> Check {
    let found = seen
        .sent
        .iter()
        .find(|sent| sent.story.name == "files-in-and-out");
    let text = found
        .map(|sent| fs::read_to_string(sent.folder.join("words-in-order.txt")).unwrap_or_default())
        .unwrap_or_default();
    let mut lines: Vec<&str> = text.lines().collect();
    let count = lines.len();
    let sorted = lines.is_sorted();
    lines.dedup();
    Check {
        what: "files went in and came back under the name the user wanted".to_owned(),
        seen: count == 7 && sorted && lines.len() == 7,
        detail: String::new(),
    }
}

fn nothing_left(seen: &Seen<'_>) -> Check {
    let mut left: Vec<String> = seen.left.to_vec();
    for entry in fs::read_dir(&seen.scene.execute)
        .into_iter()
        .flatten()
        .flatten()
    {
        left.push(entry.file_name().to_string_lossy().into_owned());
    }
    Check {
        what: "nothing of the jobs is left on the node: no process, no sandbox".to_owned(),
        seen: left.is_empty(),
        detail: left.join(", "),
    }
}

/// Processes that still run a program of a job: even one whose environment was emptied has its script as an argument.
pub(super) fn left_behind() -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(words) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        if words.contains("leaves-a-child.sh") {
            found.push(format!(
                "process {}: {}",
                entry.file_name().to_string_lossy(),
                words.trim()
            ));
        }
    }
    found
}

/// The account under which a job ran, out of the helper's log.
pub(super) fn account(audit: &str, cluster: &str, people: &[Person]) -> Option<String> {
    // The job stands there by its global name, SCHEDD#CLUSTER.PROC#TIME.
    let wanted = format!("#{cluster}.0#");
    let line = audit
        .lines()
        .rev()
        .find(|line| line.contains("verdict=accepted") && line.contains(&wanted))?;
    let uid = line.split(' ').find_map(|word| word.strip_prefix("uid="))?;
    Some(account_name(uid, people))
}

/// A number with the name of its account, if the demo made one for it.
pub(super) fn account_name(uid: &str, people: &[Person]) -> String {
    let own = nix::unistd::getuid();
    if !own.is_root() && own.to_string() == uid {
        return format!("yours ({uid})");
    }
    match people
        .iter()
        .find(|person| person.account.id.to_string() == uid)
    {
        Some(person) => format!("{} ({uid})", person.account.name),
        None => format!("lent ({uid})"),
    }
}

/// What a job said about itself.
pub(super) fn printed_uid(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("output.txt")).ok()?;
    let line = text.lines().next()?;
    Some(line.strip_prefix("uid=")?.to_owned())
}
