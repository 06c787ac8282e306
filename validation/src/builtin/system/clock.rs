//! `clock`: the node's clock against the pool's, a web server's, and times that must lie in the past.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::net::http;
use super::super::simple::{float, probe};
use super::super::sys;
use crate::check::Check;
use crate::outcome::{Failure, Outcome, Threshold};
use crate::probe::{Context, Probe, Running};

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    let check =
        Check::new("clock", "the node's clock against the pool's").every(Duration::from_secs(1800));
    probe(check, run)
}

fn run(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let most = context.knobs().count("SAILPLANE_CHECK_CLOCK");
        let facts = gather(context).await;
        judge(&facts, most)
    })
}

/// A clock that was read.
#[derive(Debug, Clone, PartialEq)]
struct Reading {
    whose: String,
    /// How far ours is ahead of it, seconds.
    ahead: f64,
    /// How far that may be from the truth, seconds.
    slack: f64,
}

#[derive(Debug, Clone, Default)]
struct Facts {
    now: i64,
    readings: Vec<Reading>,
    /// What is in the past for sure: what, and when.
    past: Vec<(String, i64)>,
    is_synchronised: Option<bool>,
}

async fn gather(context: &Context) -> Facts {
    let setup = context.setup();
    let mut readings = Vec::new();
    if let (Some(pool), Some(collector)) = (context.pool(), setup.collectors.first()) {
        let before = SystemTime::now();
        if let Ok(pong) = pool.ping(collector).await
            && let Some(theirs) = pong.time
        {
            readings.push(reading(
                format!("the collector {}", collector.text),
                before,
                theirs,
            ));
        }
    }
    let url = context
        .knobs()
        .text("SAILPLANE_CHECK_HTTP_URL")
        .unwrap_or("");
    if readings.is_empty()
        && let Some(url) = http::Url::parse(url)
    {
        let before = SystemTime::now();
        if let Ok(response) = http::get(None, &url, context.remaining() / 2).await
            && let Some(theirs) = response.date
        {
            readings.push(reading(
                format!("the web server {}", url.host),
                before,
                theirs,
            ));
        }
    }
    let paths: Vec<PathBuf> = setup
        .program
        .iter()
        .chain(&setup.pilot_proxy)
        .cloned()
        .collect();
    let proxy = setup.pilot_proxy.clone();
    let past = context
        .blocking(move || past(&paths, proxy.as_deref()))
        .await;
    Facts {
        now: unix(SystemTime::now()),
        readings,
        past: past.unwrap_or_default(),
        is_synchronised: sys::clock_is_synchronised(),
    }
}

fn reading(whose: String, before: SystemTime, theirs: i64) -> Reading {
    let took = before.elapsed().unwrap_or_default().as_secs_f64();
    let middle = unix_float(before) + took / 2.0;
    // They tell whole seconds.
    Reading {
        whose,
        ahead: middle - (seconds(theirs) + 0.5),
        slack: took / 2.0 + 0.5,
    }
}

/// Times that were before this moment, wherever the clock is.
fn past(files: &[PathBuf], proxy: Option<&Path>) -> Vec<(String, i64)> {
    let mut past: Vec<(String, i64)> = files
        .iter()
        .filter_map(|path| {
            let written = std::fs::metadata(path).ok()?.modified().ok()?;
            Some((format!("{} was written", path.display()), unix(written)))
        })
        .collect();
    if let Some(path) = proxy
        && let Ok(bundle) = std::fs::read(path)
        && let Ok(seen) = credential::inspect_bundle(&bundle)
        && let Some(begin) = seen.certificates.iter().map(|one| one.not_before).max()
    {
        past.push((
            format!("the proxy {} begins to be valid", path.display()),
            begin,
        ));
    }
    past
}

fn unix(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

fn unix_float(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

#[allow(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 have room in a double"
)]
const fn seconds(time: i64) -> f64 {
    time as f64
}

fn judge(facts: &Facts, most: u64) -> Outcome {
    let limit = float(most);
    let worst = facts
        .readings
        .iter()
        .map(|reading| (reading, (reading.ahead.abs() - reading.slack).max(0.0)))
        .max_by(|(_, one), (_, other)| one.total_cmp(other));
    let hint = "start chronyd, ntpd or systemd-timesyncd on the node, and let its traffic (UDP 123) through";
    let ahead_of = facts
        .past
        .iter()
        .map(|(what, when)| (what, when.saturating_sub(facts.now)))
        .max_by_key(|(_, ahead)| *ahead)
        .filter(|(_, ahead)| *ahead > i64::try_from(most).unwrap_or(i64::MAX));
    let outcome = match (worst, ahead_of) {
        (Some((reading, off)), _) if off > limit => {
            let direction = if reading.ahead > 0.0 {
                "ahead of"
            } else {
                "behind"
            };
            let why = format!(
                "the node's clock is {:.0} s {direction} that of {}, and {most} s are tolerated",
                reading.ahead.abs(),
                reading.whose
            );
            Outcome::failed(Failure::site(why, hint).kind("WN_Resource"))
        }
        (None, Some((what, ahead))) => {
            let why = format!(
                "the node's clock is at least {ahead} s behind: by it, {what} in the future"
            );
            Outcome::failed(Failure::site(why, hint).kind("WN_Resource"))
        }
        (None, None) if facts.is_synchronised.is_none() => {
            Outcome::skipped("nobody was there to compare the node's clock with")
        }
        _ => Outcome::passed(),
    };
    let outcome = match facts.is_synchronised {
        Some(yes) => outcome
            .text(
                "kernel",
                if yes {
                    "synchronised"
                } else {
                    "not synchronised"
                },
            )
            .attribute("SailplaneClockSynchronised", yes),
        None => outcome,
    };
    match worst {
        Some((reading, _)) => outcome.number(
            "ahead",
            (reading.ahead * 10.0).round() / 10.0,
            "s",
            Some(Threshold::AtMost(limit)),
        ),
        None => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(ahead: f64) -> Facts {
        Facts {
            now: 1_790_000_000,
            readings: vec![Reading {
                whose: "the collector c.example".into(),
                ahead,
                slack: 1.0,
            }],
            past: Vec::new(),
            is_synchronised: Some(false),
        }
    }

    #[test]
    fn a_wrong_clock_is_measured() {
        assert!(judge(&facts(60.5), 60).is_passed());
        let outcome = judge(&facts(-3600.0), 60);
        assert_eq!(
            outcome.failure().unwrap().why,
            "the node's clock is 3600 s behind that of the collector c.example, and 60 s are tolerated"
        );
        assert!(
            judge(&facts(62.0), 60)
                .failure()
                .unwrap()
                .why
                .contains("ahead of")
        );
    }

    #[test]
    fn without_anybody_to_ask_the_past_is_a_witness() {
        let mut alone = facts(0.0);
        alone.readings.clear();
        alone.past = vec![("the proxy /p begins to be valid".into(), alone.now + 90)];
        assert!(
            judge(&alone, 60)
                .failure()
                .unwrap()
                .why
                .contains("at least 90 s behind")
        );
        assert!(judge(&alone, 100).is_passed());
        alone.past.clear();
        alone.is_synchronised = None;
        assert!(matches!(
            judge(&alone, 60).status,
            crate::outcome::Status::Skipped { .. }
        ));
    }
}
