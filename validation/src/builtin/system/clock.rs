//! `clock`: the node's clock against the pool's, a web server's, and times that must lie in the past.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::timeout;

use super::super::net::{http, proxy};
use super::super::simple::{float, probe};
use super::super::sys;
use super::clock_search::{Found, Next, Search};
use crate::check::Check;
use crate::outcome::{Failure, Outcome, Threshold};
use crate::probe::{Context, PingError, PoolPing, Probe, Running};
use crate::setup::Endpoint;

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    let check = Check::new("clock", "the node's clock against the pool's")
        // The session is there then, and whoever cannot be reached is known.
        .after("collector-ping")
        .every(Duration::from_secs(1800));
    probe(check, run)
}

/// What to do about a clock that nobody keeps.
const SYNCHRONISE: &str =
    "start chronyd, ntpd or systemd-timesyncd on the node, and let its traffic (UDP 123) through";

fn run(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let most = context.knobs().count("SAILPLANE_CHECK_CLOCK");
        let facts = gather(context, most).await;
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
    /// Whose clock shows what ours shows, as far as that matters.
    agrees: Option<String>,
    /// Why somebody could not be asked.
    silent: Vec<String>,
    /// What is in the past for sure: what, and when.
    past: Vec<(String, i64)>,
    is_synchronised: Option<bool>,
}

async fn gather(context: &Context, most: u64) -> Facts {
    let setup = context.setup();
    let mut facts = Facts::default();
    if let Some(pool) = context.pool() {
        let within = context.knobs().seconds("SAILPLANE_CHECK_CONNECT_TIME");
        for collector in &setup.collectors {
            let within = within.min(context.remaining() / 2);
            let whose = format!("the collector {}", collector.text);
            match timeout(within, ask(pool, collector, &whose, most)).await {
                Ok(Ok(Some(reading))) if reading.is_within(most) => facts.agrees = Some(whose),
                Ok(Ok(Some(reading))) => facts.readings.push(reading),
                Ok(Ok(None)) => {
                    let why = "it shows nothing to us, so that its clock cannot be asked for";
                    facts.silent.push(format!("{whose}: {why}"));
                }
                Ok(Err(error)) => facts.silent.push(format!("{whose}: {error}")),
                Err(_) => facts
                    .silent
                    .push(format!("{whose}: no answer within {} s", within.as_secs())),
            }
            // One whose clock is right is enough; one that is wrong may be wrong itself.
            if facts.agrees.is_some() {
                break;
            }
        }
    }
    if facts.agrees.is_none() && facts.readings.is_empty() {
        facts.readings.extend(web(context).await);
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
    facts.past = past.unwrap_or_default();
    facts.now = unix(SystemTime::now());
    facts.is_synchronised = sys::clock_is_synchronised();
    facts
}

/// The clock of a collector; `None`: nothing that it has is shown to us, so that it cannot be read.
async fn ask(
    pool: &dyn PoolPing,
    collector: &Endpoint,
    whose: &str,
    most: u64,
) -> Result<Option<Reading>, PingError> {
    let mut search = Search::new(most);
    // Their answer is from some time between question and answer.
    let mut slack = 0.0_f64;
    loop {
        let question = match search.next() {
            Next::Ask(question) => question,
            Next::Found(found) => {
                let ahead = match found {
                    Found::Right => 0.0,
                    Found::Ahead(ahead) => seconds(ahead),
                    Found::Mute => return Ok(None),
                };
                return Ok(Some(Reading {
                    whose: whose.to_owned(),
                    ahead,
                    slack,
                }));
            }
        };
        let before = SystemTime::now();
        let now = unix(before);
        let at = |difference: Option<i64>| difference.map(|off| now.saturating_add(off));
        let yes = pool
            .is_clock_within(collector, at(question.from), at(question.to))
            .await?;
        slack = slack.max(before.elapsed().unwrap_or_default().as_secs_f64());
        search.answer(yes);
    }
}

/// The clock of a web server or a proxy, if one is known.
async fn web(context: &Context) -> Option<Reading> {
    let url = context
        .knobs()
        .text("SAILPLANE_CHECK_HTTP_URL")
        .and_then(http::Url::parse);
    let within = context.knobs().seconds("SAILPLANE_CHECK_CONNECT_TIME");
    let within = within.min(context.remaining() / 4);
    if let Some(url) = &url {
        let before = SystemTime::now();
        if let Ok(response) = http::get(None, url, within).await
            && let Some(theirs) = response.date
        {
            let whose = format!("the web server {}", url.host);
            return Some(reading(whose, before, theirs));
        }
    }
    // What a proxy says of a request that it cannot do has the time as well.
    let any = url.or_else(|| http::Url::parse("http://localhost/"))?;
    for proxy in proxy::known(context) {
        let before = SystemTime::now();
        if let Ok(response) = http::get(Some(&proxy), &any, within).await
            && let Some(theirs) = response.date
        {
            let whose = format!("the HTTP proxy {}", proxy.text);
            return Some(reading(whose, before, theirs));
        }
    }
    None
}

impl Reading {
    /// How far we are off for sure, seconds.
    fn off(&self) -> f64 {
        (self.ahead.abs() - self.slack).max(0.0)
    }

    fn is_within(&self, most: u64) -> bool {
        self.off() <= float(most)
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
    // The one that is nearest to ours: of two that differ, one is wrong.
    let nearest = facts
        .readings
        .iter()
        .min_by(|one, other| one.off().total_cmp(&other.off()));
    let outcome = match (&facts.agrees, nearest) {
        (None, Some(reading)) if !reading.is_within(most) => {
            Outcome::failed(wrong(reading, most, facts.is_synchronised == Some(true)))
        }
        (None, None) => without_witness(facts, most),
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
    let outcome = match &facts.agrees {
        Some(whose) => outcome.text("agrees_with", whose.clone()),
        None => outcome,
    };
    let outcome = match nearest {
        Some(reading) if facts.agrees.is_none() => outcome.number(
            "ahead",
            (reading.ahead * 10.0).round() / 10.0,
            "s",
            Some(Threshold::AtMost(limit)),
        ),
        _ => outcome,
    };
    let others = facts.readings.iter().map(|reading| {
        let ahead = reading.ahead;
        format!(
            "{} is {:.0} s {} us",
            reading.whose,
            ahead.abs(),
            if ahead > 0.0 { "behind" } else { "ahead of" }
        )
    });
    let lines: Vec<String> = others.chain(facts.silent.iter().cloned()).collect();
    if lines.is_empty() {
        outcome
    } else {
        outcome.detail(lines.join("\n"))
    }
}

/// A long time in a unit that people see through.
fn in_words(seconds: f64) -> String {
    const HOUR: f64 = 3600.0;
    if seconds < 2.0 * HOUR {
        String::new()
    } else if seconds < 48.0 * HOUR {
        format!(" (about {:.0} hours)", seconds / HOUR)
    } else {
        format!(" (about {:.0} days)", seconds / (24.0 * HOUR))
    }
}

fn wrong(reading: &Reading, most: u64, is_synchronised: bool) -> Failure {
    let direction = if reading.ahead > 0.0 {
        "ahead of"
    } else {
        "behind"
    };
    let why = format!(
        "the node's clock is {:.0} s{} {direction} that of {}, and {most} s are tolerated (SAILPLANE_CHECK_CLOCK)",
        reading.ahead.abs(),
        in_words(reading.ahead.abs()),
        reading.whose
    );
    let hint = if is_synchronised {
        "the kernel says that the clock is kept by a time server: see which (`chronyc sources`, `timedatectl show-timesync`) \
         and whether its time is right; if other nodes say the same, the other side's clock is wrong"
    } else {
        SYNCHRONISE
    };
    Failure::site(why, hint).kind("WN_Resource")
}

/// Times that must be in the past are all that there is.
fn without_witness(facts: &Facts, most: u64) -> Outcome {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let ahead_of = facts
        .past
        .iter()
        .map(|(what, when)| (what, when.saturating_sub(facts.now)))
        .max_by_key(|(_, ahead)| *ahead)
        .filter(|(_, ahead)| *ahead > most);
    match ahead_of {
        Some((what, ahead)) => {
            let why = format!(
                "the node's clock is at least {ahead} s behind: by it, {what} in the future"
            );
            Outcome::failed(Failure::site(why, SYNCHRONISE).kind("WN_Resource"))
        }
        None if facts.is_synchronised.is_none() => {
            Outcome::skipped("nobody was there to compare the node's clock with")
        }
        None => Outcome::passed(),
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
            is_synchronised: Some(false),
            ..Facts::default()
        }
    }

    #[test]
    fn a_wrong_clock_is_measured() {
        assert!(judge(&facts(60.5), 60).is_passed());
        let outcome = judge(&facts(-3600.0), 60);
        assert_eq!(
            outcome.failure().unwrap().why,
            "the node's clock is 3600 s behind that of the collector c.example, and 60 s are tolerated (SAILPLANE_CHECK_CLOCK)"
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
    fn of_two_collectors_that_differ_one_that_agrees_is_enough() {
        let mut two = facts(7200.0);
        two.agrees = Some("the collector d.example".into());
        let outcome = judge(&two, 60);
        assert!(
            outcome.is_passed()
                && outcome
                    .detail
                    .unwrap()
                    .contains("c.example is 7200 s behind us")
        );
        two.agrees = None;
        two.readings.push(Reading {
            whose: "the collector d.example".into(),
            ahead: 90.0,
            slack: 1.0,
        });
        let failure = judge(&two, 60).failure().unwrap().clone();
        assert!(
            failure
                .why
                .contains("90 s ahead of that of the collector d.example")
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
