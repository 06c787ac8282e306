//! The effective configuration, and the manual.

use std::fmt::Write;

use condorconf::{Config, Origin};

use super::reader::{effective, is_configured};
use super::table::{self, Kind, Knob};

/// Every knob with its value and origin, in the language itself; then the knobs that are set but not read.
pub(super) fn dump(config: &Config) -> String {
    let mut text = String::new();
    for knob in table::all() {
        let name = effective(config, knob);
        // Dumped values were checked before; one that cannot be expanded is among the mistakes.
        let value = config.get(name).ok().flatten();
        let origin = config.origin(name).unwrap_or(&Origin::Default);
        let unit = if knob.unit.is_empty() {
            String::new()
        } else {
            format!(" ({})", knob.unit)
        };
        match value {
            Some(value) => entry(&mut text, &format!("{origin}{unit}"), name, &value),
            None => line(&mut text, &format!("# {name} is not set{unit}")),
        }
    }
    let other: Vec<_> = config
        .iter()
        .filter(|knob| is_configured(Some(knob.origin)))
        .filter(|knob| {
            table::find(
                knob.name
                    .rsplit_once('.')
                    .map_or(knob.name, |(_, bare)| bare),
            )
            .is_none()
        })
        .collect();
    if !other.is_empty() {
        line(
            &mut text,
            "\n# The following are not knobs of the pilot; others or the slot ads may refer to them.",
        );
    }
    for knob in other {
        entry(&mut text, &knob.origin.to_string(), knob.name, knob.raw);
    }
    text
}

fn entry(text: &mut String, comment: &str, name: &str, value: &str) {
    line(text, &format!("# {comment}"));
    if value.contains('\n') {
        line(text, &format!("{name} @=end\n{value}\n@end"));
    } else {
        line(text, &format!("{name} = {value}"));
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// The knobs as a page of the manual, in Markdown.
#[must_use]
pub fn manual() -> String {
    let mut text = String::from(
        "# Knobs\n\n\
         What the pilot reads from its configuration. The language is HTCondor's; the order from weak to strong is\n\
         defaults, the files of `--config` (or `$CONDOR_CONFIG`) and the local files they name, `_CONDOR_<KNOB>` in the\n\
         environment, `--set`. `STARTD.<KNOB>` counts before `<KNOB>`. An unknown `SAILPLANE_` knob is an error.\n\
         HTCondor's other knobs are not read. `sailplane config dump` shows every value and where it is from.\n",
    );
    for knob in table::all() {
        describe(&mut text, knob);
    }
    text
}

fn describe(text: &mut String, knob: &Knob) {
    let names: Vec<String> = knob.names.iter().map(|name| format!("`{name}`")).collect();
    let default = knob
        .default
        .map_or_else(|| "not set".to_owned(), |default| format!("`{default}`"));
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\n## {}\n\n{}. Default: {default}.\n\n{}\n",
        names.join(", else "),
        kind(knob),
        knob.help
    );
}

fn kind(knob: &Knob) -> String {
    let unit = match knob.unit {
        "" => String::new(),
        unit => format!(" ({unit})"),
    };
    match knob.kind {
        Kind::Text => format!("Text{unit}"),
        Kind::List => "List, items separated by commas or blanks".to_owned(),
        Kind::Path => "Absolute path".to_owned(),
        Kind::Integer(low, high) => format!("Whole number{unit}, from {low} to {high}"),
        Kind::Expression => format!("ClassAd expression{unit}"),
        Kind::Environment => "List of NAME=VALUE".to_owned(),
        Kind::Wish => "REQUIRED, PREFERRED, OPTIONAL or NEVER".to_owned(),
        Kind::Flag => "True or False".to_owned(),
        Kind::Choice(words) => format!("One of {}", words.join(", ")),
    }
}
