//! What all renderers say alike: how grave each outcome is, the sentence of the verdict, numbers with their units.

use std::fmt;
use std::time::Duration;

use crate::check::{Check, Severity};
use crate::findings::{Class, Entry, Report, Verdict};
use crate::outcome::{Failure, Metric, MetricValue, Outcome, Status, Threshold};

/// How an outcome counts. In the order in which people want to see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// It keeps jobs away.
    Failed,
    /// It lets no more jobs in.
    Draining,
    /// It is only said.
    Warned,
    /// It changes attributes only.
    Noted,
    /// It was not tried.
    Skipped,
    /// It is well.
    Passed,
}

impl Mark {
    /// All of them.
    pub(super) const ALL: [Self; 6] = [
        Self::Failed,
        Self::Draining,
        Self::Warned,
        Self::Noted,
        Self::Skipped,
        Self::Passed,
    ];

    /// Of an outcome.
    pub(super) fn of(entry: &Entry) -> Self {
        match (&entry.outcome.status, entry.severity()) {
            (Status::Passed, _) => Self::Passed,
            (Status::Skipped { .. }, _) => Self::Skipped,
            (Status::Failed(_), Severity::Fail) => Self::Failed,
            (Status::Failed(_), Severity::Drain) => Self::Draining,
            (Status::Failed(_), Severity::Warn) => Self::Warned,
            (Status::Failed(_), Severity::AttributeOnly) => Self::Noted,
        }
    }

    /// One word, for a column.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Draining => "drains",
            Self::Warned => "warning",
            Self::Noted => "noted",
            Self::Skipped => "not tried",
            Self::Passed => "passed",
        }
    }

    /// A sign beside the word; never without it.
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Failed | Self::Draining => "\u{2715}",
            Self::Warned => "!",
            Self::Noted => "\u{2022}",
            Self::Skipped => "\u{2013}",
            Self::Passed => "\u{2713}",
        }
    }
}

/// An entry with its mark.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'a> {
    /// How it counts.
    pub(super) mark: Mark,
    /// The check.
    pub(super) check: &'a Check,
    /// What came of it.
    pub(super) outcome: &'a Outcome,
}

impl<'a> Item<'a> {
    /// Why it failed, if it did.
    pub(super) const fn failure(&self) -> Option<&'a Failure> {
        self.outcome.failure()
    }

    /// Why it was not tried, if so.
    pub(super) fn skipped(&self) -> Option<&'a str> {
        match &self.outcome.status {
            Status::Skipped { why } => Some(why),
            _ => None,
        }
    }
}

/// All entries, in their order.
pub(super) fn items(report: &Report) -> impl Iterator<Item = Item<'_>> {
    report.entries.iter().map(|entry| Item {
        mark: Mark::of(entry),
        check: &entry.check,
        outcome: &entry.outcome,
    })
}

/// What somebody should look at, the gravest first, and of those what stays before what may pass.
pub(super) fn to_fix(report: &Report) -> Vec<Item<'_>> {
    let mut found: Vec<_> = items(report)
        .filter(|item| item.mark < Mark::Noted)
        .collect();
    found.sort_by_key(|item| (item.mark, item.failure().is_some_and(|one| one.transient)));
    found
}

/// What keeps no job away that does not ask for it.
pub(super) fn noted(report: &Report) -> Vec<Item<'_>> {
    items(report)
        .filter(|item| item.mark == Mark::Noted)
        .collect()
}

/// What was not tried.
pub(super) fn not_tried(report: &Report) -> Vec<Item<'_>> {
    items(report)
        .filter(|item| item.mark == Mark::Skipped)
        .collect()
}

/// Why checks were not tried, each reason once with the names of all whose reason it is, in their order: a dozen tests of a
/// helper that did not start say one thing.
pub(super) fn reasons_not_tried(report: &Report) -> Vec<(&str, String)> {
    let mut reasons: Vec<(&str, String)> = Vec::new();
    for item in not_tried(report) {
        let why = item.skipped().unwrap_or_default();
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => {
                names.push_str(", ");
                names.push_str(item.check.name.as_str());
            }
            None => reasons.push((why, item.check.name.to_string())),
        }
    }
    reasons
}

/// How many entries have this mark.
pub(super) fn count(report: &Report, mark: Mark) -> usize {
    items(report).filter(|item| item.mark == mark).count()
}

/// Nothing was looked at, so nothing can be said.
pub(super) fn is_empty(report: &Report) -> bool {
    report
        .entries
        .iter()
        .all(|entry| matches!(entry.outcome.status, Status::Skipped { .. }))
}

/// The verdict in a few words, beginning with a capital.
pub(super) fn headline(report: &Report) -> String {
    if is_empty(report) {
        return "Nothing was checked".to_owned();
    }
    match report.verdict {
        Verdict::Healthy => "Fit for jobs".to_owned(),
        Verdict::Degraded => "Fit for jobs, with warnings".to_owned(),
        Verdict::Draining => "Takes no new jobs".to_owned(),
        Verdict::Unfit { class } => format!("Not fit for jobs: {}", who(class)),
    }
}

/// Who has to act.
const fn who(class: Class) -> &'static str {
    match class {
        Class::Site => "the site has to act",
        Class::SiteTransient => "at the site, and may pass by itself",
        Class::Pool => "the pool cannot be used",
        Class::Factory => "the factory has to act",
        Class::FactoryTransient => "at the factory, and may pass by itself",
        Class::Frontend => "the frontend has to act",
        Class::FrontendTransient => "at the frontend, and may pass by itself",
        Class::Pilot => "a mistake of the pilot",
    }
}

/// How many of how many, in one sentence without its full stop.
pub(super) fn tally(report: &Report) -> String {
    let all = report.entries.len();
    let mut parts = Vec::new();
    for (mark, words) in [
        (Mark::Failed, "failed"),
        (Mark::Draining, "let no new jobs in"),
        (Mark::Warned, "warned"),
        (Mark::Noted, "changed attributes only"),
        (Mark::Skipped, "could not be tried"),
    ] {
        match count(report, mark) {
            0 => {}
            found => parts.push(format!("{found} {words}")),
        }
    }
    let of = format!("of {all} {}", if all == 1 { "check" } else { "checks" });
    match parts.split_first() {
        None => format!("{all} {of} passed"),
        Some((first, rest)) => {
            let (number, words) = first.split_once(' ').unwrap_or((first, ""));
            let mut text = format!("{number} {of} {words}");
            for part in rest {
                text.push_str(", ");
                text.push_str(part);
            }
            text
        }
    }
}

/// A measured value as people read it, its threshold in brackets behind it.
pub(super) struct Reading<'a>(pub(super) &'a Metric);

impl fmt::Display for Reading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Metric {
            value,
            unit,
            threshold,
            ..
        } = self.0;
        let with_unit = |number: f64| {
            let gap = if unit.is_empty() || unit == "%" {
                ""
            } else {
                " "
            };
            format!("{}{gap}{unit}", number_text(number))
        };
        match value {
            MetricValue::Number(number) => f.write_str(&with_unit(*number))?,
            MetricValue::Text(text) => f.write_str(text)?,
        }
        match threshold {
            Some(Threshold::AtLeast(least)) => write!(f, " (at least {})", with_unit(*least)),
            Some(Threshold::AtMost(most)) => write!(f, " (at most {})", with_unit(*most)),
            None => Ok(()),
        }
    }
}

/// A number without noise: at most three decimals, none that are zero.
pub(super) fn number_text(number: f64) -> String {
    let text = format!("{number:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0" } else { text }.to_owned()
}

/// A name of a metric as people read it.
pub(super) fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

/// A duration in seconds, or in milliseconds where it is short.
pub(super) fn took(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// Text that others wrote, made harmless for a terminal, a page and a monitoring system: what is no letter, number or
/// sign (control characters, and those that turn the direction of writing) becomes a replacement character. Line feeds
/// and tabs stay.
pub(super) fn printable(text: &str) -> String {
    let harmless = |letter: char| {
        let turns = matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
        !turns && (!letter.is_control() || matches!(letter, '\n' | '\t'))
    };
    let text = text.replace("\r\n", "\n");
    text.chars()
        .map(|letter| if harmless(letter) { letter } else { '\u{fffd}' })
        .collect()
}

/// The same on one line.
pub(super) fn line(text: &str) -> String {
    let text = printable(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    #[test]
    fn the_sentence_counts_what_needs_attention() {
        assert_eq!(
            tally(&testing::broken()),
            "2 of 11 checks failed, 1 let no new jobs in, 2 warned, 1 changed attributes only, 2 could not be tried"
        );
        assert_eq!(tally(&testing::healthy()), "2 of 2 checks passed");
        assert_eq!(headline(&testing::healthy()), "Fit for jobs");
        assert_eq!(
            headline(&testing::broken()),
            "Not fit for jobs: the site has to act"
        );
        assert_eq!(headline(&testing::empty()), "Nothing was checked");
    }

    #[test]
    fn a_reason_that_several_have_is_said_once() {
        let mut report = testing::broken();
        let reasons = reasons_not_tried(&report).len();
        let skipped = Status::Skipped {
            why: "the helper did not start".to_owned(),
        };
        let mut some = report
            .entries
            .iter_mut()
            .filter(|entry| entry.outcome.failure().is_some());
        let names: Vec<String> = some
            .by_ref()
            .take(2)
            .map(|entry| {
                entry.outcome.status = skipped.clone();
                entry.check.name.to_string()
            })
            .collect();
        let found = reasons_not_tried(&report);
        assert_eq!(found.len(), reasons + 1);
        assert!(found.contains(&("the helper did not start", names.join(", "))));
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (2.5, "2.5"),
            (1e6, "1000000"),
            (0.123_456, "0.123"),
        ] {
            assert_eq!(number_text(number), text);
        }
        assert_eq!(took(Duration::from_millis(12)), "12 ms");
        assert_eq!(took(Duration::from_millis(61_250)), "61.2 s");
    }
}
