//! Entry points of the fuzz targets. Not part of the interface.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::area::Scope;
use super::condition::ad_of;
use super::dashboard::{Dashboard, Key, Line};
use super::publish::publish;
use super::{cron, result, vars};
use crate::fetch::Location;
use crate::manifest::{Limits, Manifest, pin};

/// The dashboard: what is read is written as it was, what is set is read, and nothing else changes.
pub fn fuzz_dashboard(data: &[u8]) {
    let mut board = Dashboard::parse(data);
    assert_eq!(Dashboard::parse(&board.render()), board);
    let _ = ad_of(&board);
    let before: BTreeMap<Key, Vec<u8>> = board
        .entries()
        .map(|(key, value)| (key.clone(), value.to_vec()))
        .collect();
    board.trim();
    for (key, value) in &before {
        assert_eq!(board.get(key.as_bytes()), Some(value.as_slice()));
    }
    let Some((key, value)) = before.first_key_value() else {
        return;
    };
    let (line, _) = Line::first_of(value);
    board.set(key.clone(), line.clone());
    assert_eq!(board.get(key.as_bytes()), Some(line.as_bytes()));
    assert_eq!(board.entries().count(), before.len());
}

/// A result file of a check: what is understood of it is written so that it is understood again.
pub fn fuzz_check_result(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = result::usable(&text, true);
    let Some(read) = result::read(&text) else {
        return;
    };
    let document = read.render("id", "2027-03-01T09:30:00+00:00");
    let Some(again) = result::usable(&document, read.ok) else {
        // A status inside a text can be taken for the document's.
        return;
    };
    assert_eq!(again.ok, read.ok);
    assert_eq!(
        result::unescape(&result::escape(&text)).chars().count(),
        text.chars().count()
    );
    let _ = cron::read(data, cron::DEFAULT_PREFIX);
}

/// A file of variables, and a dashboard with the values, parted by an empty line.
pub fn fuzz_condor_vars(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (file, board) = text.split_once("\n\n").unwrap_or((&text, ""));
    let (entries, errors) = vars::parse(file);
    for error in &errors {
        assert!(!error.to_string().contains('\n'));
    }
    let names = entries.len();
    let published = publish(
        &Dashboard::parse(board.as_bytes()),
        &[(Scope::Factory, entries)],
        &BTreeMap::new(),
        Some(1 << 20),
    );
    assert!(published.attributes.len() <= names && published.environment.len() <= names);
    for attribute in &published.attributes {
        // What goes into an ad can be read from it.
        let line = format!("{} = {}", attribute.name(), attribute.value().to_old());
        assert!(classad::parse_assignment_old(&line).is_ok(), "{line}");
    }
}

/// A manifest: what is accepted names files that stay in their folder, from addresses that are allowed.
pub fn fuzz_manifest(data: &[u8]) {
    let _ = pin::signatures(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = crate::manifest::Source::parse(text);
    }
    let Ok(base) = Location::parse("https://h/f/manifest.json") else {
        return;
    };
    let limits = Limits { total: 1 << 30 };
    let Ok(manifest) = Manifest::parse(data, &base, limits, Timestamp::UNIX_EPOCH) else {
        return;
    };
    let Ok(selected) = manifest.select(None, None, limits) else {
        return;
    };
    let mut total: u64 = 0;
    for (_, item) in selected.in_order() {
        let one = std::path::Path::new(&item.name).components().count();
        assert!(one == 1 && !item.name.contains(['/', '\0']) && item.name != "..");
        assert!(item.location.file().is_some() || item.location.as_str().starts_with("https://"));
        total += item.expected.size;
    }
    assert!(total <= limits.total);
}

#[cfg(test)]
mod tests {
    /// The corpus of the fuzz targets, run as a test.
    #[test]
    fn the_corpus_holds() {
        let targets: [crate::corpus::Target; 4] = [
            ("custom_dashboard", super::fuzz_dashboard),
            ("custom_result", super::fuzz_check_result),
            ("custom_vars", super::fuzz_condor_vars),
            ("custom_manifest", super::fuzz_manifest),
        ];
        crate::corpus::holds(&targets);
    }
}
