//! The output of a plug-in for Nagios, Icinga and their kin: one line of text, performance data behind a bar, then more
//! text. As the [guidelines](https://nagios-plugins.org/doc/guidelines.html) have it.

use std::fmt::Write as _;

use super::view::{self, Mark};
use crate::findings::{Report, Verdict};
use crate::outcome::{Metric, MetricValue, Threshold};

/// Longest reason on the first line; pagers cut off more.
const REASON_MAX: usize = 160;

/// Exit status of the plug-in: 0 good, 1 warning, 2 critical, 3 unknown (nothing could be checked).
#[must_use]
pub fn status(report: &Report) -> u8 {
    if view::is_empty(report) {
        return 3;
    }
    match report.verdict {
        Verdict::Healthy => 0,
        Verdict::Degraded | Verdict::Draining => 1,
        Verdict::Unfit { .. } => 2,
    }
}

/// What the plug-in prints.
pub(super) fn output(report: &Report) -> String {
    let word = match status(report) {
        0 => "OK",
        1 => "WARNING",
        2 => "CRITICAL",
        _ => "UNKNOWN",
    };
    let fixes = view::to_fix(report);
    let mut first = format!("SAILPLANE {word} - {}", view::tally(report));
    if let Some(item) = fixes.first()
        && let Some(failure) = item.failure()
    {
        let why = cut(&view::line(&failure.why), REASON_MAX);
        let _ = write!(first, ": {} ({}): {why}", item.check.name, failure.whose);
    }
    let mut out = format!("{} | {}\n", bare(&first), performance(report));
    for item in &fixes {
        let Some(failure) = item.failure() else {
            continue;
        };
        let (why, hint) = (view::line(&failure.why), view::line(&failure.hint));
        let line = format!(
            "[{}] {} (for the {}): {why}{}{hint}",
            item.mark.word(),
            item.check.name,
            failure.whose,
            if hint.is_empty() { "" } else { " - to do: " },
        );
        let _ = writeln!(out, "{}", bare(&line));
    }
    for item in view::not_tried(report) {
        let why = view::line(item.skipped().unwrap_or_default());
        let _ = writeln!(
            out,
            "{}",
            bare(&format!("[not tried] {}: {why}", item.check.name))
        );
    }
    out
}

/// A bar would begin performance data.
fn bare(text: &str) -> String {
    text.replace('|', "/")
}

fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(3)).collect();
    format!("{kept}...")
}

fn performance(report: &Report) -> String {
    let all = report.entries.len();
    let failed = view::count(report, Mark::Failed);
    let warned = view::count(report, Mark::Warned) + view::count(report, Mark::Draining);
    let skipped = view::count(report, Mark::Skipped);
    let time = view::number_text(report.elapsed.as_secs_f64());
    let mut text = format!(
        "checks={all};;;0 failed={failed};;0;0;{all} warnings={warned};0;;0;{all} skipped={skipped};;;0;{all} time={time}s;;;0"
    );
    for item in view::items(report) {
        // What fails this check is critical to whoever watches, or only worth a warning.
        let is_critical = item.outcome.severity(item.check) >= crate::check::Severity::Drain;
        for metric in &item.outcome.metrics {
            if let Some(datum) = datum(item.check.name.as_str(), metric, is_critical) {
                text.push(' ');
                text.push_str(&datum);
            }
        }
    }
    text
}

/// `label=value[unit];[warn];[crit]`; only numbers have one.
fn datum(check: &str, metric: &Metric, is_critical: bool) -> Option<String> {
    let MetricValue::Number(value) = metric.value else {
        return None;
    };
    let name: String = metric
        .name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' {
                c
            } else {
                '_'
            }
        })
        .collect();
    let (factor, unit) = unit(&metric.unit);
    let range = match metric.threshold {
        // Outside of it, alert: below the least, above the most.
        Some(Threshold::AtLeast(least)) => format!("{}:", view::number_text(least * factor)),
        Some(Threshold::AtMost(most)) => format!("~:{}", view::number_text(most * factor)),
        None => String::new(),
    };
    let value = view::number_text(value * factor);
    let mut datum = format!("{check}_{name}={value}{unit}");
    match (range.is_empty(), is_critical) {
        (true, _) => {}
        (false, true) => {
            let _ = write!(datum, ";;{range}");
        }
        (false, false) => {
            let _ = write!(datum, ";{range}");
        }
    }
    Some(datum)
}

/// The units that performance data knows, and the factor to get there.
fn unit(ours: &str) -> (f64, &'static str) {
    match ours {
        "s" => (1.0, "s"),
        "ms" => (0.001, "s"),
        "us" => (0.000_001, "s"),
        "min" => (60.0, "s"),
        "h" => (3_600.0, "s"),
        "d" => (86_400.0, "s"),
        "%" => (1.0, "%"),
        "B" => (1.0, "B"),
        "kB" => (1_000.0, "B"),
        "KiB" => (1_024.0, "B"),
        "MiB" => (1_048_576.0, "B"),
        "GiB" => (1_073_741_824.0, "B"),
        "TiB" => (1_099_511_627_776.0, "B"),
        _ => (1.0, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    #[test]
    fn the_exit_status_is_that_of_a_plug_in() {
        assert_eq!(status(&testing::healthy()), 0);
        assert_eq!(status(&testing::broken()), 2);
        assert_eq!(status(&testing::empty()), 3);
        let mut warned = testing::broken();
        for verdict in [Verdict::Degraded, Verdict::Draining] {
            warned.verdict = verdict;
            assert_eq!(status(&warned), 1);
        }
    }

    #[test]
    fn one_line_then_data_then_more() {
        let text = output(&testing::broken());
        let (first, rest) = text.split_once('\n').unwrap();
        let (said, data) = first.split_once(" | ").unwrap();
        assert!(
            said.starts_with("SAILPLANE CRITICAL - 2 of 11 checks failed")
                && said.contains(": helper-mode (site): /usr/lib"),
            "{said}"
        );
        let mut labels = Vec::new();
        for datum in data.split(' ') {
            let (label, value) = datum.split_once('=').unwrap();
            labels.push(label);
            let number: String = value
                .chars()
                .take_while(|c| c.is_ascii_digit() || *c == '.' || *c == '-')
                .collect();
            assert!(number.parse::<f64>().is_ok(), "{datum}");
        }
        assert!(labels.contains(&"disk-space_free"), "{data}");
        assert!(
            data.contains("disk-space_free=851443712B;;21474836480:"),
            "{data}"
        );
        assert!(data.contains("crl-age_overdue=3;~:0"), "{data}");
        assert!(
            !rest.contains('|'),
            "a second set of performance data would begin:\n{rest}"
        );
        assert!(
            rest.contains("[drains] shutdown (for the site): ")
                && rest.contains("[not tried] cvmfs: "),
            "{rest}"
        );
        assert!(
            output(&testing::healthy())
                .starts_with("SAILPLANE OK - 2 of 2 checks passed | checks=2;;;0 ")
        );
        assert!(output(&testing::empty()).starts_with("SAILPLANE UNKNOWN - "));
    }
}
