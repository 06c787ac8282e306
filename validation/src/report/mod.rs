//! What the checks found, as text: for a terminal, for programs, for the monitoring of a site, and as a page for a
//! browser.
//!
//! Pure: a [`Report`] goes in, text comes out. No renderer reads a clock, a file or a variable; what depends on the
//! place where the text will be shown is an argument ([`Look`]).

#[cfg(test)]
mod browser;
mod civil;
mod html;
mod json;
mod nagios;
mod otrx;
mod terminal;
#[cfg(test)]
mod testing;
mod view;

use std::str::FromStr;

use thiserror::Error;

use crate::Report;

pub use html::html;
pub use nagios::status as nagios_status;

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For a person at a terminal.
    #[default]
    Text,
    /// For programs; `docs/report.schema.json` describes it.
    Json,
    /// `OSGTestResult` documents as factories of glideinWMS collect them.
    Otrx,
    /// The output of a plug-in for Nagios, Icinga and their kin.
    Nagios,
}

impl Format {
    /// Every format with its word on the command line.
    pub const ALL: [(&'static str, Self); 4] = [
        ("text", Self::Text),
        ("json", Self::Json),
        ("otrx", Self::Otrx),
        ("nagios", Self::Nagios),
    ];
}

/// A word that names no format.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0} is no format of reports; give text, json, otrx or nagios")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == word);
        found
            .map(|(_, format)| format)
            .ok_or_else(|| UnknownFormat(word.to_owned()))
    }
}

/// What the place can show, for [`Format::Text`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Colours may be used. They never carry a meaning that no word has.
    pub colour: bool,
    /// Columns to fit into.
    pub width: usize,
}

/// Columns where nobody says how wide the place is.
const WIDTH: usize = 100;

impl Default for Look {
    fn default() -> Self {
        Self {
            colour: false,
            width: WIDTH,
        }
    }
}

impl Look {
    /// Colours for a terminal, unless `NO_COLOR` is set to anything (<https://no-color.org>) or `TERM` is `dumb`.
    #[must_use]
    pub fn of_terminal(
        is_terminal: bool,
        no_color: Option<&str>,
        term: Option<&str>,
        columns: Option<usize>,
    ) -> Self {
        let refused = no_color.is_some_and(|value| !value.is_empty()) || term == Some("dumb");
        Self {
            colour: is_terminal && !refused,
            width: columns.filter(|width| *width >= 40).unwrap_or(WIDTH),
        }
    }
}

/// The report in a format. Ends with a line feed.
#[must_use]
pub fn render(report: &Report, format: Format, look: Look) -> String {
    match format {
        Format::Text => terminal::text(report, look),
        Format::Json => json::document(report),
        Format::Otrx => otrx::document(report),
        Format::Nagios => nagios::output(report),
    }
}
