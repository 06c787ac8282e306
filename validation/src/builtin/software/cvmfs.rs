//! `cvmfs`: the repositories are mounted, new enough, and can be read. `cvmfs-errors`: their clients have had no errors.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::net::system_words;
use super::super::simple::{float, probe};
use super::super::sys::extended_attribute;
use crate::check::{Check, Severity};
use crate::outcome::{Failure, Outcome, Threshold, Whose};
use crate::probe::{Context, Probe, Running};

/// Where repositories are.
const ROOT: &str = "/cvmfs";
/// Of a file that is read in trial.
const TRIAL_BYTES: u64 = 64 * 1024;
/// How many entries of a repository are looked at for a file to read.
const ENTRIES: usize = 64;

/// The checks. Automatic mounting may take long.
pub(in super::super) fn checks() -> [Arc<dyn Probe>; 2] {
    let check = |name, about| {
        Check::new(name, about)
            .limit(Duration::from_secs(60))
            .every(Duration::from_secs(900))
    };
    [
        probe(
            check("cvmfs", "CVMFS repositories: mounted, new enough, readable"),
            |context| run(context, |context, seen| judge(&seen, seconds(context))),
        ),
        probe(
            check("cvmfs-errors", "errors that CVMFS clients have counted")
                .severity(Severity::Warn),
            |context| {
                run(context, |context, seen| {
                    judge_errors(&seen, context.knobs().count("SAILPLANE_CHECK_CVMFS_ERRORS"))
                })
            },
        ),
    ]
}

fn seconds(context: &Context) -> u64 {
    context.knobs().count("SAILPLANE_CHECK_CVMFS_TIME")
}

/// A repository that is wanted, `atlas.cern.ch` or `atlas.cern.ch:1234`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    name: String,
    /// Least revision.
    revision: Option<u64>,
}

impl Wanted {
    fn parse(text: &str) -> Option<Self> {
        let (name, revision) = match text.split_once(':') {
            Some((name, revision)) => (name, Some(revision.parse().ok()?)),
            None => (text, None),
        };
        let is_name = name.split('.').all(|part| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
        is_name.then(|| Self {
            name: name.to_owned(),
            revision,
        })
    }
}

/// What was seen of one.
#[derive(Debug, Clone, Default)]
struct Facts {
    /// Why it cannot be looked at.
    error: Option<String>,
    /// It has entries.
    is_filled: bool,
    /// A file in it that cannot be read, and why.
    unreadable: Option<(PathBuf, String)>,
    /// As its client says.
    revision: Option<u64>,
    errors: Option<u64>,
    proxy: Option<String>,
}

/// A repository, and what was seen of it; nothing if it did not answer.
type Seen = (Wanted, Option<Facts>);

fn run<'a>(context: &'a Context, judge: fn(&Context, Vec<Seen>) -> Outcome) -> Running<'a> {
    Box::pin(async move {
        let words = context.knobs().list("SAILPLANE_CHECK_CVMFS");
        if words.is_empty() {
            return Outcome::skipped("SAILPLANE_CHECK_CVMFS is empty");
        }
        let mut threads = Vec::new();
        for word in words {
            let Some(wanted) = Wanted::parse(word) else {
                let why = format!("SAILPLANE_CHECK_CVMFS has {word:?}, which names no repository");
                return Outcome::failed(
                    Failure::new(
                        Whose::Frontend,
                        why,
                        "write NAME or NAME:REVISION, as in atlas.cern.ch:12345",
                    )
                    .kind("Config"),
                );
            };
            // A thread for each: a file system that hangs holds up no other, and is left to itself.
            let path = Path::new(ROOT).join(&wanted.name);
            let (sender, answer) = tokio::sync::oneshot::channel();
            let thread = std::thread::Builder::new().spawn(move || {
                // Nobody may wait any more.
                let _ = sender.send(look(&path));
            });
            threads.push((wanted, thread.is_ok().then_some(answer)));
        }
        let until = tokio::time::Instant::now()
            + Duration::from_secs(seconds(context)).min(context.remaining());
        let mut seen = Vec::new();
        for (wanted, answer) in threads {
            let facts = match answer {
                Some(answer) => tokio::time::timeout_at(until, answer)
                    .await
                    .ok()
                    .and_then(Result::ok),
                None => None,
            };
            seen.push((wanted, facts));
        }
        judge(context, seen)
    })
}

fn look(path: &Path) -> Facts {
    let number = |name: &str| extended_attribute(path, name).ok()?.trim().parse().ok();
    let mut facts = Facts::default();
    match fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries.take(ENTRIES) {
                match entry {
                    Ok(entry) => {
                        facts.is_filled = true;
                        let path = entry.path();
                        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
                        if is_file && let Err(error) = read_some(&path) {
                            // Not everything is for everybody to read.
                            if error.kind() != std::io::ErrorKind::PermissionDenied {
                                facts.unreadable = Some((path, system_words(&error)));
                            }
                        }
                    }
                    Err(error) => facts.error = Some(system_words(&error)),
                }
            }
        }
        Err(error) => facts.error = Some(system_words(&error)),
    }
    facts.revision = number("user.revision");
    facts.errors = number("user.nioerr");
    facts.proxy = extended_attribute(path, "user.proxy").ok();
    facts
}

fn read_some(path: &Path) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    fs::File::open(path)?
        .take(TRIAL_BYTES)
        .read_to_end(&mut buffer)?;
    Ok(())
}

/// What is wrong with one.
fn trouble(wanted: &Wanted, facts: Option<&Facts>, within: u64) -> Option<Failure> {
    let path = format!("{ROOT}/{}", wanted.name);
    let site = |why: String, hint: String| Some(Failure::site(why, hint).kind("WN_Resource"));
    let mount = format!(
        "see `cvmfs_config probe {}`, CVMFS_REPOSITORIES in /etc/cvmfs/default.local, and the automounter",
        wanted.name
    );
    let Some(facts) = facts else {
        return site(
            format!("{path} does not answer: nothing within {within} s"),
            format!("restart its client (`cvmfs_config killall`); {mount}"),
        );
    };
    if let Some(error) = &facts.error {
        return site(
            format!("the CVMFS repository {path} is not there: {error}"),
            mount,
        );
    }
    if !facts.is_filled {
        return site(
            format!("the CVMFS repository {path} is not mounted: the directory is empty"),
            mount,
        );
    }
    if let Some((file, error)) = &facts.unreadable {
        return site(
            format!(
                "{} of the CVMFS repository cannot be read: {error}",
                file.display()
            ),
            format!(
                "look at the client's log and cache (`cvmfs_config chksetup`, `cvmfs_talk -i {} internal affairs`) and at the proxies",
                wanted.name
            ),
        );
    }
    match (wanted.revision, facts.revision) {
        (Some(least), Some(revision)) if revision < least => site(
            format!("{path} has revision {revision}, and at least {least} is asked for"),
            format!(
                "let the client catch up (`cvmfs_talk -i {} remount sync`), and see whether its proxies give it old catalogues",
                wanted.name
            ),
        ),
        (Some(least), None) => site(
            format!("{path} does not tell its revision, and at least {least} is asked for"),
            "mount it with a CVMFS client, or ask for no revision".to_owned(),
        ),
        _ => None,
    }
}

fn judge(seen: &[Seen], within: u64) -> Outcome {
    let failures: Vec<Failure> = seen
        .iter()
        .filter_map(|(wanted, facts)| trouble(wanted, facts.as_ref(), within))
        .collect();
    let mut outcome = match failures.as_slice() {
        [] => Outcome::passed(),
        [only] => Outcome::failed(only.clone()),
        [first, others @ ..] => {
            let mut failure = first.clone();
            failure.why = format!(
                "{}; and {} more of {} repositories fail",
                first.why,
                others.len(),
                seen.len()
            );
            let lines: Vec<&str> = failures
                .iter()
                .map(|failure| failure.why.as_str())
                .collect();
            Outcome::failed(failure).detail(lines.join("\n"))
        }
    };
    for (wanted, facts) in seen {
        let Some(facts) = facts else { continue };
        let name = wanted.name.replace(['.', '-'], "_");
        if let Some(revision) = facts.revision {
            let threshold = wanted
                .revision
                .map(|least| Threshold::AtLeast(float(least)));
            outcome = outcome.number(&format!("revision_{name}"), float(revision), "", threshold);
        }
        if let Some(proxy) = &facts.proxy {
            outcome = outcome.text(&format!("proxy_{name}"), proxy.clone());
        }
        outcome = outcome.attribute(
            &format!("HAS_CVMFS_{name}"),
            trouble(wanted, Some(facts), within).is_none(),
        );
    }
    outcome
}

fn judge_errors(seen: &[Seen], most: u64) -> Outcome {
    let told: Vec<(&Wanted, u64)> = seen
        .iter()
        .filter_map(|(wanted, facts)| Some((wanted, facts.as_ref()?.errors?)))
        .collect();
    if told.is_empty() {
        return Outcome::skipped("no CVMFS client tells its errors");
    }
    let worst = told.iter().max_by_key(|(_, errors)| *errors);
    let mut outcome = match worst {
        Some((wanted, errors)) if *errors > most => {
            let why = format!(
                "the CVMFS client of {ROOT}/{} has had {errors} I/O errors since it was mounted, and {most} are tolerated",
                wanted.name
            );
            let hint = format!(
                "look at its log for what went wrong, at its cache and its proxies; `cvmfs_talk -i {} reset error counters` begins anew",
                wanted.name
            );
            Outcome::failed(Failure::site(why, hint).kind("WN_Resource"))
        }
        _ => Outcome::passed(),
    };
    for (wanted, errors) in told {
        let name = format!("errors_{}", wanted.name.replace(['.', '-'], "_"));
        outcome = outcome.number(
            &name,
            float(errors),
            "",
            Some(Threshold::AtMost(float(most))),
        );
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> Wanted {
        Wanted::parse(text).unwrap()
    }

    fn good(revision: u64) -> Facts {
        Facts {
            is_filled: true,
            revision: Some(revision),
            errors: Some(0),
            proxy: Some("http://squid:3128".into()),
            ..Facts::default()
        }
    }

    #[test]
    fn each_trouble_is_named() {
        let why = |text: &str, facts: Option<Facts>| {
            judge(&[(wanted(text), facts)], 9)
                .failure()
                .map(|failure| failure.why.clone())
        };
        assert_eq!(why("atlas.cern.ch:100", Some(good(100))), None);
        assert!(
            why("atlas.cern.ch:100", Some(good(99)))
                .unwrap()
                .contains("revision 99")
        );
        assert!(why("a.b", None).unwrap().contains("within 9 s"));
        assert!(
            why("a.b", Some(Facts::default()))
                .unwrap()
                .contains("empty")
        );
        let unreadable = Facts {
            unreadable: Some(("/cvmfs/a.b/f".into(), "Input/output error".into())),
            ..good(1)
        };
        assert!(
            why("a.b", Some(unreadable))
                .unwrap()
                .contains("/cvmfs/a.b/f")
        );
        let gone = Facts {
            error: Some("Transport endpoint is not connected".into()),
            ..Facts::default()
        };
        assert!(
            why("a.b", Some(gone))
                .unwrap()
                .contains("Transport endpoint")
        );
    }

    #[test]
    fn counted_errors_are_a_matter_of_their_own() {
        let bad = Facts {
            errors: Some(7),
            ..good(1)
        };
        let seen = [(wanted("a.b"), Some(bad))];
        assert!(judge(&seen, 9).is_passed());
        assert!(
            judge_errors(&seen, 0)
                .failure()
                .unwrap()
                .why
                .contains("7 I/O errors")
        );
        assert!(judge_errors(&seen, 7).is_passed());
    }

    #[test]
    fn names_of_repositories() {
        assert_eq!(wanted("cms.cern.ch:5").revision, Some(5));
        for bad in ["", "a/b", "..", "a:b", "a.b:", "a..b"] {
            assert_eq!(Wanted::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_empty_directory_and_a_missing_one_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!look(folder.path()).is_filled);
        assert!(look(Path::new("/no/such/place")).error.is_some());
        fs::write(folder.path().join("file"), "x").unwrap();
        let facts = look(folder.path());
        assert!(facts.is_filled && facts.unreadable.is_none());
    }
}
