//! The engine's knobs, and what they change of a check.

use std::sync::Arc;
use std::time::Duration;

use crate::check::{Check, CheckName, Period, Severity};
use crate::knob::{Kind, Knob, Knobs, knob};
use crate::outcome::Outcome;
use crate::probe::{Context, Probe, Running};

/// The largest time, in seconds: ten years and a bit.
const LONG: i64 = 315_576_000;

/// Knobs of the engine.
pub static KNOBS: &[Knob] = &[
    knob(
        &["SAILPLANE_VALIDATION"],
        Kind::Choice(&["FULL", "REPORT", "NONE"]),
        Some("FULL"),
        "",
        "Whether the node is checked before the pilot takes jobs, and while it does. FULL: what fails keeps jobs away, as \
         severe as it is. REPORT: everything is checked and published, and nothing keeps jobs away. NONE: nothing is checked. \
         `sailplane validate` checks always.",
    ),
    knob(
        &["SAILPLANE_CHECKS_OFF"],
        Kind::List,
        None,
        "",
        "Checks that are not run: names, or beginnings of names with a * behind. They are reported as skipped, and so is what \
         needs them.",
    ),
    knob(
        &["SAILPLANE_CHECKS_SEVERITY"],
        Kind::List,
        None,
        "",
        "Other severities than those of the checks, each as NAME=SEVERITY: fail, drain, warn or attribute-only. A name may end \
         in *; the last that suits counts.",
    ),
    knob(
        &["SAILPLANE_CHECKS_PERIOD"],
        Kind::List,
        None,
        "",
        "Other periods than those of the checks, each as NAME=SECONDS; 0 is once only. A name may end in *; the last that suits \
         counts.",
    ),
    knob(
        &["SAILPLANE_CHECKS_LIMIT"],
        Kind::List,
        None,
        "",
        "Other time limits than those of the checks, each as NAME=SECONDS; 0 is none. A name may end in *; the last that suits \
         counts.",
    ),
    knob(
        &["SAILPLANE_CHECK_ATTRIBUTES"],
        Kind::Choice(&["ALL", "RESULTS", "SUMMARY"]),
        Some("ALL"),
        "",
        "How much of the results goes into the slot ads. SUMMARY: the verdict, what failed, why, whose it is and what to do, and \
         what checks publish themselves. RESULTS: and the result of each check. ALL: and each metric.",
    ),
    knob(
        &["SAILPLANE_RESULT_FILE"],
        Kind::Path,
        None,
        "",
        "File that the report is written to, as JSON, when the checks before joining have ended, and again when a later one changes \
         the verdict. If not set: sailplane-validation.json in LOG, if that is set.",
    ),
    knob(
        &["SAILPLANE_FAILURE_AD", "GLIDEIN_Report_Failed"],
        Kind::Choice(&["FULL", "ALIVEONLY", "NEVER"]),
        Some("FULL"),
        "",
        "Whether a pilot that cannot start shows an ad in the pool while it naps: with the reason (FULL), without it (ALIVEONLY), or \
         not at all. Its Start is False, so that it takes no jobs.",
    ),
    knob(
        &["SAILPLANE_FAILURE_NAP"],
        Kind::Integer(0, LONG),
        Some("1200"),
        "s",
        "How long a pilot that cannot start because of its node stays before it ends, so that the batch system does not send one \
         after the other to a broken node. SIGTERM, SIGINT and SIGQUIT end it at once. 0 is not at all; a pilot whose standard error is \
         a terminal does not nap either.",
    ),
    knob(
        &["SAILPLANE_BLACK_HOLE_FAILURES"],
        Kind::Integer(0, 10_000),
        Some("5"),
        "",
        "So many launches that the environment (helper, sandbox, disk) made fail within SAILPLANE_BLACK_HOLE_WINDOW, and at least \
         half of all, stop matching. What jobs say of themselves, such as exit codes, does not count. 0: never.",
    ),
    knob(
        &["SAILPLANE_BLACK_HOLE_WINDOW"],
        Kind::Integer(1, LONG),
        Some("600"),
        "s",
        "How long a launch counts for SAILPLANE_BLACK_HOLE_FAILURES.",
    ),
    knob(
        &["SAILPLANE_BLACK_HOLE_PAUSE"],
        Kind::Integer(1, LONG),
        Some("300"),
        "s",
        "How long matching is stopped; after each further time in a row twice as long. The next job is a trial: if the \
         environment makes it fail, too, matching stops at once.",
    ),
    knob(
        &["SAILPLANE_BLACK_HOLE_TIMES"],
        Kind::Integer(0, 1000),
        Some("4"),
        "",
        "After so many times in a row the pilot retires; 0: never.",
    ),
];

/// What the knobs say about one check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    off: bool,
    severity: Option<Severity>,
    period: Option<Period>,
    limit: Option<Duration>,
}

/// A check as the knobs want it.
pub(super) fn adjust(probe: Arc<dyn Probe>, knobs: &Knobs) -> Arc<dyn Probe> {
    let wanted = wanted(&probe.check().name, knobs);
    if wanted == Wanted::default() {
        return probe;
    }
    let mut check = probe.check().clone();
    check.severity = wanted.severity.unwrap_or(check.severity);
    check.period = wanted.period.unwrap_or(check.period);
    check.limit = wanted.limit.unwrap_or(check.limit);
    if wanted.off {
        check.prerequisites.clear();
        check.after.clear();
        check.period = Period::Once;
    }
    Arc::new(Adjusted {
        check,
        probe,
        off: wanted.off,
    })
}

fn wanted(name: &CheckName, knobs: &Knobs) -> Wanted {
    let last = |knob: &str| {
        knobs
            .list(knob)
            .iter()
            .filter_map(|item| item.split_once('='))
            .filter(|(pattern, _)| suits(pattern, name))
            .map(|(_, value)| value)
            .next_back()
    };
    let seconds = |knob: &str| last(knob).and_then(|text| text.parse().ok());
    Wanted {
        off: knobs
            .list("SAILPLANE_CHECKS_OFF")
            .iter()
            .any(|pattern| suits(pattern, name)),
        severity: last("SAILPLANE_CHECKS_SEVERITY").and_then(severity),
        period: seconds("SAILPLANE_CHECKS_PERIOD").map(|seconds| match seconds {
            0 => Period::Once,
            seconds => Period::Every(Duration::from_secs(seconds)),
        }),
        limit: seconds("SAILPLANE_CHECKS_LIMIT").map(Duration::from_secs),
    }
}

fn suits(pattern: &str, name: &CheckName) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => name.as_str().starts_with(begin),
        None => name.as_str() == pattern,
    }
}

fn severity(word: &str) -> Option<Severity> {
    [
        Severity::Fail,
        Severity::Drain,
        Severity::Warn,
        Severity::AttributeOnly,
    ]
    .into_iter()
    .find(|severity| severity.word() == word)
}

/// What is wrong with the values of the engine's knobs, each with its knob and one sentence. The kinds are right.
#[must_use]
pub fn mistakes(knobs: &Knobs) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for knob in [
        "SAILPLANE_CHECKS_SEVERITY",
        "SAILPLANE_CHECKS_PERIOD",
        "SAILPLANE_CHECKS_LIMIT",
    ] {
        for item in knobs.list(knob) {
            let good = item.split_once('=').is_some_and(|(_, value)| match knob {
                "SAILPLANE_CHECKS_SEVERITY" => severity(value).is_some(),
                _ => value.parse::<u32>().is_ok(),
            });
            if !good {
                let form = if knob == "SAILPLANE_CHECKS_SEVERITY" {
                    "NAME=SEVERITY, of fail, drain, warn and attribute-only"
                } else {
                    "NAME=SECONDS"
                };
                all.push((knob, format!("{item:?} has to be written as {form}")));
            }
        }
    }
    all
}

/// A check that the knobs changed.
struct Adjusted {
    check: Check,
    probe: Arc<dyn Probe>,
    off: bool,
}

impl Probe for Adjusted {
    fn check(&self) -> &Check {
        &self.check
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        if self.off {
            return Box::pin(std::future::ready(Outcome::skipped(
                "SAILPLANE_CHECKS_OFF names it",
            )));
        }
        self.probe.run(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_suits_counts() {
        let knobs = Knobs::defaults()
            .with(
                "SAILPLANE_CHECKS_SEVERITY",
                "*=warn, disk-*=fail, disk-io=drain",
            )
            .unwrap()
            .with("SAILPLANE_CHECKS_PERIOD", "disk-io=0, clock=60")
            .unwrap()
            .with("SAILPLANE_CHECKS_OFF", "net*")
            .unwrap();
        let wanted = |name: &str| wanted(&CheckName::parse(name).unwrap(), &knobs);
        assert_eq!(wanted("disk-io").severity, Some(Severity::Drain));
        assert_eq!(wanted("disk-io").period, Some(Period::Once));
        assert_eq!(wanted("disk-space").severity, Some(Severity::Fail));
        assert_eq!(wanted("clock").severity, Some(Severity::Warn));
        assert_eq!(
            wanted("clock").period,
            Some(Period::Every(Duration::from_secs(60)))
        );
        assert!(wanted("network").off && !wanted("clock").off);
        assert!(mistakes(&knobs).is_empty());
    }

    #[test]
    fn mistakes_are_named() {
        let knobs = Knobs::defaults()
            .with("SAILPLANE_CHECKS_SEVERITY", "disk=fatal")
            .unwrap()
            .with("SAILPLANE_CHECKS_LIMIT", "disk, clock=-3")
            .unwrap();
        let mistakes = mistakes(&knobs);
        assert_eq!(mistakes.len(), 3);
        assert_eq!(
            mistakes[0].1,
            "\"disk=fatal\" has to be written as NAME=SEVERITY, of fail, drain, warn and attribute-only"
        );
    }
}
