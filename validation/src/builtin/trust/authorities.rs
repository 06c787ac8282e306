//! `ca-directory`: there are CAs, and their revocation lists are in force. `crl-age`: every one of the lists is.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::simple::{ad_number, float, gather_and_judge, probe};
use super::der::{self, Times};
use super::{Directory, ca_directory, nobody_says};
use crate::check::{Check, Severity};
use crate::outcome::{Failure, Outcome, Threshold, Whose};
use crate::probe::{Context, Probe};

/// Read of each file: its times are at its beginning.
const HEAD: u64 = 32 * 1024;
/// How many files are named.
const NAMED: usize = 5;

/// The checks.
pub(in super::super) fn checks() -> [Arc<dyn Probe>; 2] {
    let hour = Duration::from_secs(3600);
    [
        probe(
            Check::new(
                "ca-directory",
                "certificate authorities, and most of their revocation lists",
            )
            .every(hour),
            |context| {
                let limits = Limits::of(context);
                if let Some(why) = nobody_says(context.setup()) {
                    return Box::pin(std::future::ready(Outcome::skipped(why)));
                }
                let directory = ca_directory(context.setup());
                Box::pin(gather_and_judge(
                    context,
                    move || gather(directory),
                    move |facts| judge(facts, limits, now()),
                ))
            },
        ),
        probe(
            Check::new("crl-age", "age of every revocation list")
                .severity(Severity::Warn)
                .every(hour),
            |context| {
                let grace = Limits::of(context).grace;
                if let Some(why) = nobody_says(context.setup()) {
                    return Box::pin(std::future::ready(Outcome::skipped(why)));
                }
                let directory = ca_directory(context.setup());
                Box::pin(gather_and_judge(
                    context,
                    move || gather(directory),
                    move |facts| judge_lists(facts, grace, now()),
                ))
            },
        ),
    ]
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Least number of CAs.
    least: u64,
    /// Seconds that a list may be over.
    grace: i64,
    /// Largest share of lists that may be over, percent.
    percent: u64,
}

impl Limits {
    fn of(context: &Context) -> Self {
        let knobs = context.knobs();
        Self {
            least: knobs.count("SAILPLANE_CHECK_CAS"),
            grace: i64::try_from(knobs.count("SAILPLANE_CHECK_CRL_GRACE")).unwrap_or(i64::MAX),
            percent: knobs.count("SAILPLANE_CHECK_CRL_EXPIRED"),
        }
    }
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        })
}

#[derive(Debug, Clone)]
struct Facts {
    directory: Directory,
    /// Why the directory cannot be read.
    error: Option<String>,
    /// Name and times; no times: it is none, or cannot be read.
    authorities: Vec<(String, Option<Times>)>,
    lists: Vec<(String, Option<Times>)>,
}

fn gather(directory: Directory) -> Facts {
    let mut facts = Facts {
        directory,
        error: None,
        authorities: Vec::new(),
        lists: Vec::new(),
    };
    let entries = match fs::read_dir(&facts.directory.path) {
        Ok(entries) => entries,
        Err(error) => {
            facts.error = Some(super::super::net::system_words(&error));
            return facts;
        }
    };
    let mut names: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    names.sort_unstable();
    for path in names {
        let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str())
            .map(str::to_owned)
        else {
            continue;
        };
        match kind(&name) {
            Some(Kind::Authority) => facts
                .authorities
                .push((name, read(&path).and_then(|head| der::certificate(&head)))),
            Some(Kind::List) => facts
                .lists
                .push((name, read(&path).and_then(|head| der::list(&head)))),
            None => {}
        }
    }
    facts
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)
        .ok()?
        .take(HEAD)
        .read_to_end(&mut head)
        .ok()?;
    Some(head)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Authority,
    List,
}

/// `0123abcd.0` is a CA, `0123abcd.r0` a list.
fn kind(name: &str) -> Option<Kind> {
    let (hash, tail) = name.split_once('.')?;
    let is_hash = hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    let (kind, number) = tail
        .strip_prefix('r')
        .map_or((Kind::Authority, tail), |number| (Kind::List, number));
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (is_hash && is_number).then_some(kind)
}

/// The lists that are over, or no lists.
fn bad_lists(facts: &Facts, grace: i64, now: i64) -> Vec<String> {
    facts
        .lists
        .iter()
        .filter_map(|(name, times)| match times {
            None => Some(format!("{name} (cannot be read)")),
            Some(Times {
                until: Some(until), ..
            }) if until.saturating_add(grace) < now => {
                let hours = now.saturating_sub(*until) / 3600;
                Some(format!("{name} (over for {hours} h)"))
            }
            Some(Times { from, .. }) if *from > now.saturating_add(300) => {
                Some(format!("{name} (of the future)"))
            }
            Some(_) => None,
        })
        .collect()
}

fn names(all: &[String]) -> String {
    let more = match all.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown: Vec<&str> = all.iter().take(NAMED).map(String::as_str).collect();
    format!("{}{more}", shown.join(", "))
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

const FETCH: &str = "run fetch-crl on the node, or on the server that the directory comes from, and see that it runs every few hours";

fn judge(facts: &Facts, limits: Limits, now: i64) -> Outcome {
    let (path, by) = (facts.directory.path.display(), &facts.directory.said_by);
    let install = "install the CAs (packages ca-policy-egi-core, osg-ca-certs, or CVMFS with grid.cern.ch), and name their directory";
    if let Some(error) = &facts.error {
        if !facts.directory.is_needed {
            return Outcome::skipped(format!(
                "there is no CA directory {path}, and none is configured"
            ));
        }
        let why = format!(
            "the CA directory {path} (named by {by}) cannot be read: {error}; no credential can be verified"
        );
        return Outcome::failed(Failure::site(why, install).kind("WN_Resource"));
    }
    let good = facts
        .authorities
        .iter()
        .filter(|(_, times)| times.is_some_and(|times| times.until.is_none_or(|until| until > now)))
        .count();
    let bad = bad_lists(facts, limits.grace, now);
    let (all_lists, percent) = (count(facts.lists.len()), limits.percent);
    let outcome = if count(good) < limits.least {
        let why = format!(
            "the CA directory {path} (named by {by}) has {good} valid CAs (files like 0123abcd.0), and at least {} are asked for",
            limits.least
        );
        Outcome::failed(Failure::site(why, install).kind("WN_Resource"))
    } else if count(bad.len()).saturating_mul(100) > all_lists.saturating_mul(percent) {
        let why = format!(
            "{} of {all_lists} revocation lists in {path} are not in force, and no credential of their CAs is accepted: {}",
            bad.len(),
            names(&bad)
        );
        Outcome::failed(Failure::site(why, FETCH).kind("WN_Resource"))
    } else {
        Outcome::passed()
    };
    outcome
        .number(
            "authorities",
            float(count(good)),
            "",
            Some(Threshold::AtLeast(float(limits.least))),
        )
        .number("lists", float(all_lists), "", None)
        .number("lists_over", float(count(bad.len())), "", None)
        .attribute("SailplaneCAs", ad_number(count(good)))
}

fn judge_lists(facts: &Facts, grace: i64, now: i64) -> Outcome {
    if facts.lists.is_empty() {
        return Outcome::skipped(format!(
            "there are no revocation lists in {}",
            facts.directory.path.display()
        ));
    }
    let bad = bad_lists(facts, grace, now);
    let next = facts
        .lists
        .iter()
        .filter_map(|(_, times)| times.and_then(|times| times.until))
        .map(|until| until.saturating_sub(now))
        .min();
    let outcome = if bad.is_empty() {
        Outcome::passed()
    } else {
        let why = format!(
            "{} of {} revocation lists in {} are not in force: {}",
            bad.len(),
            facts.lists.len(),
            facts.directory.path.display(),
            names(&bad)
        );
        Outcome::failed(Failure::new(Whose::Site, why, FETCH).kind("WN_Resource"))
    };
    let outcome = outcome.number(
        "over",
        float(count(bad.len())),
        "",
        Some(Threshold::AtMost(0.0)),
    );
    match next {
        #[allow(clippy::cast_precision_loss, reason = "hours for people")]
        Some(left) => outcome.number("next_due", (left / 360) as f64 / 10.0, "h", None),
        None => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000;

    fn facts(until: &[i64]) -> Facts {
        let times = |until: i64| {
            Some(Times {
                from: NOW - 1000,
                until: Some(until),
            })
        };
        Facts {
            directory: Directory {
                path: "/ca".into(),
                said_by: "SAILPLANE_CA_DIRECTORY".into(),
                is_needed: true,
            },
            error: None,
            authorities: vec![("0123abcd.0".into(), times(NOW + 5))],
            lists: until
                .iter()
                .map(|until| ("0123abcd.r0".to_owned(), times(*until)))
                .collect(),
        }
    }

    const LIMITS: Limits = Limits {
        least: 1,
        grace: 0,
        percent: 50,
    };

    #[test]
    fn some_lists_over_are_a_warning_and_most_are_a_failure() {
        let some = facts(&[NOW + 1, NOW + 1, NOW - 7200]);
        assert!(judge(&some, LIMITS, NOW).is_passed());
        let outcome = judge_lists(&some, 0, NOW);
        assert!(
            outcome
                .failure()
                .unwrap()
                .why
                .ends_with("0123abcd.r0 (over for 2 h)")
        );
        assert!(judge_lists(&some, 7200, NOW).is_passed());
        let most = facts(&[NOW - 1]);
        assert!(
            judge(&most, LIMITS, NOW)
                .failure()
                .unwrap()
                .why
                .contains("1 of 1 revocation lists")
        );
    }

    #[test]
    fn no_directory_matters_only_where_one_is_needed() {
        let mut gone = facts(&[]);
        gone.error = Some("No such file or directory".into());
        assert!(
            judge(&gone, LIMITS, NOW)
                .failure()
                .unwrap()
                .why
                .contains("SAILPLANE_CA_DIRECTORY")
        );
        gone.directory.is_needed = false;
        assert!(judge(&gone, LIMITS, NOW).failure().is_none());
        let mut empty = facts(&[]);
        empty.authorities.clear();
        assert!(
            judge(&empty, LIMITS, NOW)
                .failure()
                .unwrap()
                .why
                .contains("0 valid CAs")
        );
    }

    #[test]
    fn names_of_files() {
        assert_eq!(kind("0123abcd.0"), Some(Kind::Authority));
        assert_eq!(kind("0123ABCD.r12"), Some(Kind::List));
        for other in [
            "0123abcd.signing_policy",
            "x.0",
            "0123abcd.r",
            "0123abcd.pem",
            "0123abcd0",
        ] {
            assert_eq!(kind(other), None, "{other}");
        }
    }
}
