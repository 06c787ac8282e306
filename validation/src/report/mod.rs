//! The findings for people and programs.

use crate::findings::{Report, Verdict};

/// A form of the report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people, on a terminal.
    #[default]
    Text,
    /// For programs.
    Json,
    /// The result document of glideinWMS and OSG.
    Otrx,
    /// One line with performance data, for a monitoring system.
    Nagios,
}

/// The findings in one form.
#[must_use]
pub fn render(report: &Report, _format: Format) -> String {
    serde_json::to_string_pretty(report).unwrap_or_default() + "\n"
}

/// The findings as one page.
#[must_use]
pub fn html(_report: &Report) -> String {
    String::new()
}

/// Exit status of a Nagios plugin: 0 good, 1 warning, 2 critical, 3 unknown.
#[must_use]
pub fn nagios_status(report: &Report) -> u8 {
    match report.verdict {
        Verdict::Healthy => 0,
        Verdict::Degraded | Verdict::Draining => 1,
        Verdict::Unfit { .. } => 2,
    }
}
