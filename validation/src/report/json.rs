//! For programs. `docs/report.schema.json` describes the form.

use serde::Serialize;

use super::view::{self, Mark};
use crate::findings::Report;

/// The report and what follows from it, so that a reader needs no rules of ours.
#[derive(Debug, Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    summary: Summary,
}

#[derive(Debug, Serialize)]
struct Summary {
    /// As people read it.
    headline: String,
    checks: usize,
    passed: usize,
    skipped: usize,
    failed: usize,
    drains: usize,
    warnings: usize,
    noted: usize,
    /// Exit status of the program, should this report decide it.
    nagios_status: u8,
}

/// The document, indented.
pub(super) fn document(report: &Report) -> String {
    let count = |mark| view::count(report, mark);
    let document = Document {
        report,
        summary: Summary {
            headline: view::headline(report),
            checks: report.entries.len(),
            passed: count(Mark::Passed),
            skipped: count(Mark::Skipped),
            failed: count(Mark::Failed),
            drains: count(Mark::Draining),
            warnings: count(Mark::Warned),
            noted: count(Mark::Noted),
            nagios_status: super::nagios_status(report),
        },
    };
    // A report has no maps with keys that are no text, and no numbers that are none.
    let text = serde_json::to_string_pretty(&document).unwrap_or_else(|error| {
        serde_json::json!({"format": report.format, "error": error.to_string()}).to_string()
    });
    text + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::report::testing;

    /// Where a value is not what the schema says; as much of JSON Schema as ours uses.
    fn faults(schema: &Value, root: &Value, value: &Value, at: &str) -> Vec<String> {
        if let Some(place) = schema["$ref"].as_str() {
            return faults(root.pointer(&place[1..]).unwrap(), root, value, at);
        }
        if let Some(ways) = schema["anyOf"].as_array() {
            let all: Vec<_> = ways
                .iter()
                .map(|way| faults(way, root, value, at))
                .collect();
            return if all.iter().any(Vec::is_empty) {
                Vec::new()
            } else {
                all.concat()
            };
        }
        let is = |kind: &str| match kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            other => panic!("the schema has a type {other}"),
        };
        let fits = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().any(|kind| is(kind.as_str().unwrap())),
            kind => is(kind.as_str().unwrap()),
        };
        if !fits
            || schema["enum"]
                .as_array()
                .is_some_and(|words| !words.contains(value))
        {
            return vec![format!("{at}: {value}")];
        }
        let mut found = Vec::new();
        if let Some(object) = value.as_object() {
            for name in schema["required"].as_array().into_iter().flatten() {
                if !object.contains_key(name.as_str().unwrap()) {
                    found.push(format!("{at} has no {name}"));
                }
            }
            for (name, member) in object {
                match schema["properties"].get(name) {
                    Some(inner) => {
                        found.extend(faults(inner, root, member, &format!("{at}/{name}")))
                    }
                    None => found.push(format!(
                        "{at} has a {name}, which the schema does not describe"
                    )),
                }
            }
        }
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            found.extend(faults(
                &schema["items"],
                root,
                item,
                &format!("{at}/{index}"),
            ));
        }
        found
    }

    #[test]
    fn the_document_is_what_the_published_schema_says() {
        let schema = include_str!("../../../docs/report.schema.json");
        let schema: Value = serde_json::from_str(schema).unwrap();
        for report in [testing::broken(), testing::healthy(), testing::empty()] {
            let document: Value = serde_json::from_str(&document(&report)).unwrap();
            let faults = faults(&schema, &schema, &document, "");
            assert!(faults.is_empty(), "{faults:#?}");
            // And a program of ours can read it back.
            let read: Report = serde_json::from_value(document).unwrap();
            assert_eq!(read, report);
        }
    }
}
