//! `shutdown`: the site has announced the end of the node, or of the pilot's job on it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::simple::{float, probe};
use super::features::{self, Features};
use crate::check::{Check, Severity};
use crate::outcome::{Failure, Outcome, Threshold};
use crate::probe::{Context, Probe, Running};

/// What systemd writes when a shutdown is scheduled.
const SYSTEMD: &str = "/run/systemd/shutdown/scheduled";
/// Nobody may log in when these are there: the node goes down, or is being worked on.
const NO_LOGIN: [&str; 3] = ["/run/nologin", "/etc/nologin", "/var/run/nologin"];

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    let check = Check::new("shutdown", "an end of the node that the site has announced")
        .severity(Severity::Drain)
        .every(Duration::from_secs(60));
    probe(check, run)
}

fn run(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let notice = context.knobs().count("SAILPLANE_CHECK_SHUTDOWN");
        let stop = context.knobs().path("SAILPLANE_CHECK_STOP_FILE").cloned();
        let features = features::read(context).await;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let facts = gather(&features, stop.as_deref());
        judge(&facts, now, notice)
    })
}

/// An announcement: when, Unix seconds (0: now), and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Announced {
    at: u64,
    by: String,
}

fn gather(features: &Features, stop: Option<&Path>) -> Vec<Announced> {
    let mut all: Vec<Announced> = ["shutdowntime", "shutdowntime_job"]
        .iter()
        .filter_map(|name| {
            let at = features
                .values
                .get(name)?
                .parse()
                .ok()
                .filter(|at| *at > 0)?;
            let variable = if name.ends_with("_job") {
                "JOBFEATURES"
            } else {
                "MACHINEFEATURES"
            };
            Some(Announced {
                at,
                by: format!("{name} in {variable}"),
            })
        })
        .collect();
    if let Some(at) = fs::read_to_string(SYSTEMD)
        .ok()
        .and_then(|text| scheduled(&text))
    {
        all.push(Announced {
            at,
            by: SYSTEMD.to_owned(),
        });
    }
    if let Some(path) = NO_LOGIN.iter().find(|path| Path::new(path).exists()) {
        all.push(Announced {
            at: 0,
            by: (*path).to_owned(),
        });
    }
    if let Some(path) = stop.filter(|path| path.exists()) {
        all.push(Announced {
            at: 0,
            by: format!("{} (SAILPLANE_CHECK_STOP_FILE)", path.display()),
        });
    }
    all
}

/// `USEC=1790000000000000`, `WARN_WALL=1`, `MODE=poweroff`.
fn scheduled(text: &str) -> Option<u64> {
    let micros: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("USEC="))?
        .trim()
        .parse()
        .ok()?;
    Some(micros / 1_000_000)
}

fn judge(announced: &[Announced], now: u64, notice: u64) -> Outcome {
    let Some(first) = announced.iter().min_by_key(|announced| announced.at) else {
        return Outcome::passed().attribute("SailplaneShutdownAnnounced", false);
    };
    let left = first.at.saturating_sub(now);
    let outcome = if left < notice || first.at == 0 {
        let when = if left == 0 {
            "now".to_owned()
        } else {
            format!("in {left} s")
        };
        let why = format!("the site ends this node {when}, as {} says", first.by);
        let hint = "nothing has to be done: the pilot takes no more jobs; if the announcement is old, the site should take it back";
        Outcome::failed(Failure::site(why, hint).transient().kind("WN_Resource"))
    } else {
        Outcome::passed()
    };
    outcome
        .number(
            "left",
            float(left),
            "s",
            Some(Threshold::AtLeast(float(notice))),
        )
        .attribute("SailplaneShutdownAnnounced", true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_counts_when_it_is_near() {
        let at = |at| Announced {
            at,
            by: "shutdowntime in MACHINEFEATURES".into(),
        };
        assert!(judge(&[], 1000, 3600).is_passed());
        assert!(judge(&[at(10_000)], 1000, 3600).is_passed());
        let outcome = judge(&[at(10_000), at(4000)], 1000, 3600);
        assert_eq!(
            outcome.failure().unwrap().why,
            "the site ends this node in 3000 s, as shutdowntime in MACHINEFEATURES says"
        );
        assert!(
            judge(&[at(0)], 1000, 0)
                .failure()
                .unwrap()
                .why
                .contains("now")
        );
        assert!(
            judge(&[at(900)], 1000, 1)
                .failure()
                .unwrap()
                .why
                .contains("now")
        );
    }

    #[test]
    fn where_announcements_are() {
        assert_eq!(
            scheduled("USEC=1790000000123456\nWARN_WALL=1\nMODE=poweroff\n"),
            Some(1_790_000_000)
        );
        assert_eq!(scheduled("MODE=reboot\n"), None);
        let folder = tempfile::tempdir().unwrap();
        let stop = folder.path().join("stop");
        let mut features = Features::default();
        features.values.insert("shutdowntime_job", "77".into());
        let without = gather(&features, Some(&stop)).len();
        fs::write(&stop, "").unwrap();
        let all = gather(&features, Some(&stop));
        assert_eq!(all.len(), without + 1);
        assert_eq!(all[0].by, "shutdowntime_job in JOBFEATURES");
    }
}
