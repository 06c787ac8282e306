//! What follows from the latest outcomes: whether jobs may come, and what the slot ad says about it. Pure.

use classad::Expr;

use crate::check::{Check, Severity};
use crate::findings::{Class, Verdict};
use crate::outcome::{Attribute, Failure, MetricValue, Outcome, Status};

/// Whether jobs may come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Open,
    /// Not as long as this is so; one sentence.
    Closed(String),
    /// Never again; one sentence, and the class.
    Drain(String, Class),
}

impl Standing {
    /// What follows from these outcomes.
    #[must_use]
    pub fn of<'a>(all: impl IntoIterator<Item = (&'a Check, &'a Outcome)>) -> Self {
        let (mut drain, mut closed) = (None, Vec::new());
        for (check, outcome) in all {
            let Some(failure) = outcome.failure() else {
                continue;
            };
            match outcome.severity(check) {
                Severity::Drain => {
                    drain.get_or_insert_with(|| (sentence(check, failure), Class::of(failure)));
                }
                Severity::Fail => closed.push(sentence(check, failure)),
                Severity::Warn | Severity::AttributeOnly => {}
            }
        }
        match (drain, closed.as_slice()) {
            (Some((why, class)), _) => Self::Drain(why, class),
            (None, []) => Self::Open,
            (None, [one]) => Self::Closed(one.clone()),
            (None, [first, rest @ ..]) => {
                Self::Closed(format!("{first} (and {} more)", rest.len()))
            }
        }
    }
}

/// A failure with its check, for a log line or an attribute.
#[must_use]
pub fn sentence(check: &Check, failure: &Failure) -> String {
    format!("check {} failed: {}", check.name, failure.why)
}

/// How much of the results goes into the slot ad.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// The verdict, what failed and why, and what checks publish themselves.
    Summary,
    /// And each check's result.
    Results,
    /// And each metric.
    #[default]
    All,
}

impl Detail {
    /// From the word of a configuration.
    #[must_use]
    pub fn of(word: Option<&str>) -> Self {
        match word {
            Some("SUMMARY") => Self::Summary,
            Some("RESULTS") => Self::Results,
            _ => Self::All,
        }
    }
}

/// Longest text that goes into an ad, bytes.
const TEXT_MAX: usize = 1000;

/// The attributes of a slot ad. What checks publish themselves comes last, in the order of `published`, so that of two
/// that publish the same name the later one counts; none replaces what the engine says.
#[must_use]
pub fn attributes<'a>(
    all: impl IntoIterator<Item = (&'a Check, &'a Outcome)> + Clone,
    published: impl IntoIterator<Item = &'a Attribute>,
    detail: Detail,
    now: i64,
) -> Vec<(String, Expr)> {
    let mut own = Vec::new();
    let mut add = |name: String, value: Expr| own.push((name, value));
    let verdict = Verdict::of(all.clone());
    add("SailplaneValidation".to_owned(), verdict.word().into());
    add("SailplaneValidationTime".to_owned(), now.into());
    let mut failed: Vec<_> = all
        .clone()
        .into_iter()
        .filter_map(|(check, outcome)| Some((check, outcome.failure()?, outcome.severity(check))))
        // What only publishes attributes has not failed, for whoever reads the ad.
        .filter(|(.., severity)| *severity > Severity::AttributeOnly)
        .collect();
    failed.sort_by_key(|(.., severity)| std::cmp::Reverse(*severity));
    let names: Vec<&str> = failed
        .iter()
        .map(|(check, ..)| check.name.as_str())
        .collect();
    add(
        "SailplaneChecksFailed".to_owned(),
        names.join(",").as_str().into(),
    );
    if let Some((check, failure, _)) = failed.first() {
        for (name, text) in [
            ("Check", check.name.as_str()),
            ("Reason", failure.why.as_str()),
            ("Hint", failure.hint.as_str()),
            ("Whose", failure.whose.word()),
            ("Class", Class::of(failure).word()),
        ] {
            add(format!("SailplaneFailure{name}"), text_of(text).into());
        }
    }
    for (check, outcome) in all {
        let name = format!("SailplaneCheck{}", check.name.camel());
        if detail >= Detail::Results {
            let word = match outcome.status {
                Status::Passed => "passed",
                Status::Skipped { .. } => "skipped",
                Status::Failed(_) => "failed",
            };
            add(name.clone(), word.into());
        }
        if detail == Detail::All {
            for metric in &outcome.metrics {
                let value = match &metric.value {
                    MetricValue::Number(number) => number_of(*number),
                    MetricValue::Text(text) => text_of(text).into(),
                };
                add(format!("{name}_{}", identifier(&metric.name)), value);
            }
        }
    }
    let mut list: Vec<(String, Expr)> = published
        .into_iter()
        .map(|attribute| (attribute.name().to_owned(), attribute.value().clone()))
        .collect();
    list.retain(|(name, _)| {
        !own.iter()
            .any(|(known, _)| known.eq_ignore_ascii_case(name))
    });
    own.extend(list);
    own
}

/// Whole numbers stay whole.
fn number_of(number: f64) -> Expr {
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < WHOLE {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole, and smaller than what a double counts in ones"
        )]
        return (number as i64).into();
    }
    number.into()
}

fn identifier(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

/// One line, and not too long.
#[must_use]
pub fn text_of(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        if line.len() >= TEXT_MAX {
            line.push_str("...");
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Threshold, Whose};

    fn failed(why: &str) -> Outcome {
        Outcome::failed(Failure::site(why, "mend it"))
    }

    #[test]
    fn severity_decides_what_a_failure_means() {
        let check = |severity| Check::new("disk", "").severity(severity);
        let bad = failed("no space");
        let standing = |severity| Standing::of([(&check(severity), &bad)]);
        assert_eq!(standing(Severity::AttributeOnly), Standing::Open);
        assert_eq!(standing(Severity::Warn), Standing::Open);
        let why = "check disk failed: no space".to_owned();
        assert_eq!(standing(Severity::Fail), Standing::Closed(why.clone()));
        assert_eq!(standing(Severity::Drain), Standing::Drain(why, Class::Site));
        let passed = Outcome::passed();
        assert_eq!(
            Standing::of([(&check(Severity::Fail), &passed)]),
            Standing::Open
        );
        let skipped = Outcome::skipped("nothing to look at");
        assert_eq!(
            Standing::of([(&check(Severity::Fail), &skipped)]),
            Standing::Open
        );
    }

    #[test]
    fn the_ad_says_what_failed_whose_it_is_and_what_to_do() {
        let disk = Check::new("disk-space", "");
        let proxy = Check::new("http-proxy", "").severity(Severity::Warn);
        let full =
            failed("no\nspace").number("free_mib", 12.0, "MiB", Some(Threshold::AtLeast(100.0)));
        let slow = Outcome::failed(Failure::new(Whose::Factory, "slow", "wait").transient())
            .number("seconds", 0.5, "s", None)
            .attribute("SQUID", "http://x")
            .attribute("SailplaneValidation", "healthy");
        let gpu = Check::new("gpu", "").severity(Severity::AttributeOnly);
        let none = failed("no GPU");
        let all = [(&proxy, &slow), (&disk, &full), (&gpu, &none)];
        let text = |detail| {
            attributes(all, &slow.attributes, detail, 7)
                .into_iter()
                .map(|(name, value)| format!("{name}={}", value.to_old()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            text(Detail::All),
            [
                "SailplaneValidation=\"unfit\"",
                "SailplaneValidationTime=7",
                "SailplaneChecksFailed=\"disk-space,http-proxy\"",
                "SailplaneFailureCheck=\"disk-space\"",
                "SailplaneFailureReason=\"no space\"",
                "SailplaneFailureHint=\"mend it\"",
                "SailplaneFailureWhose=\"site\"",
                "SailplaneFailureClass=\"site\"",
                "SailplaneCheckHttpProxy=\"failed\"",
                "SailplaneCheckHttpProxy_seconds=0.5",
                "SailplaneCheckDiskSpace=\"failed\"",
                "SailplaneCheckDiskSpace_free_mib=12",
                "SailplaneCheckGpu=\"failed\"",
                "SQUID=\"http://x\"",
            ]
        );
        assert_eq!(text(Detail::Results).len(), 12);
        assert_eq!(text(Detail::Summary).len(), 9);
    }
}
