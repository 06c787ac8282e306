//! The table, for somebody who reads it at three in the morning.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Run;

/// Runs as a table in the time of `zone`, newest last.
pub(super) fn table(runs: &[&Run], zone: &TimeZone) -> String {
    const HEAD: [&str; 6] = ["FROM", "TO", "UID", "ACCOUNT", "JOB", "WHO"];
    let rows: Vec<[String; 6]> = runs
        .iter()
        .map(|run| {
            let to = match (&run.refused, run.to) {
                (Some(_), _) => "refused".to_owned(),
                (None, Some(to)) => clock(to, zone),
                (None, None) => "no end recorded".to_owned(),
            };
            let uid = run
                .uid
                .map_or_else(|| "-".to_owned(), |uid| uid.to_string());
            let word = |text: &str| match text {
                "" => "-".to_owned(),
                text => shown(text),
            };
            [
                clock(run.from, zone),
                to,
                uid,
                word(&run.account),
                word(&run.job),
                word(&run.identity),
            ]
        })
        .collect();
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut out = String::new();
    line(&mut out, &HEAD.map(str::to_owned), &widths);
    for (row, run) in rows.iter().zip(runs) {
        line(&mut out, row, &widths);
        let indent = widths.iter().take(5).map(|width| width + 2).sum::<usize>();
        for note in notes(run) {
            let _ = writeln!(out, "{:indent$}{note}", "");
        }
    }
    out
}

/// What else is known, a line each.
fn notes(run: &Run) -> Vec<String> {
    let uid = run
        .caller_uid
        .map_or_else(|| "?".to_owned(), |uid| uid.to_string());
    let caller = if run.caller.is_empty() {
        "no name"
    } else {
        &run.caller
    };
    let mut notes = vec![format!("called by {} (uid {uid})", shown(caller))];
    if !run.fqans.is_empty() {
        notes.push(format!("attributes {}", shown(&run.fqans.join(" "))));
    }
    if !run.source.is_empty() {
        notes.push(format!("mapped by {}", shown(&run.source)));
    }
    if let Some(why) = &run.refused {
        notes.push(format!("refused: {}", shown(why)));
    }
    notes
}

fn line(out: &mut String, cells: &[String; 6], widths: &[usize; 6]) {
    let mut text = String::new();
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(text, "{cell:width$}  ");
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

#[expect(clippy::cast_possible_truncation, reason = "whole seconds are wanted")]
fn clock(unix: f64, zone: &TimeZone) -> String {
    match Timestamp::from_second(unix as i64) {
        Ok(time) => time
            .to_zoned(zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S")
            .to_string(),
        Err(_) => "-".to_owned(),
    }
}

/// Text of strangers on a terminal: printable characters only.
fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
        .collect()
}
