//! The section about launches.

use std::fmt::Write as _;

use crate::bench::stats::Sample;

/// One way to launch.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    /// Milliseconds to the payload's first instruction, and to its end.
    pub(crate) first: Sample,
    pub(crate) end: Sample,
    pub(crate) cost: Cost,
}

/// What a launch costs beside time.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    /// MiB.
    pub(crate) memory: Option<f64>,
    /// System calls.
    pub(crate) calls: Option<f64>,
}

/// Statements that the table must bear out: ours, a peer, and the words for it.
const CLAIMS: [(&str, &str, &str); 6] = [
    (
        "one-shot",
        "sudo",
        "one-shot, proxy verified, ahead of `sudo` without verification",
    ),
    (
        "one-shot-voms",
        "sudo",
        "one-shot, VOMS proxy verified, ahead of `sudo` without verification",
    ),
    (
        "opened",
        "setpriv",
        "resident, account open, ahead of `setpriv`",
    ),
    (
        "plain",
        "setpriv",
        "resident, proxy verified, ahead of `setpriv`",
    ),
    (
        "voms",
        "setpriv",
        "resident, VOMS proxy verified, ahead of `setpriv`",
    ),
    (
        "opened",
        "minimal",
        "resident, account open, ahead of a minimal setuid program",
    ),
];

/// The heading, by which the section is found again in the page.
pub(crate) const HEADING: &str = "## Launch under another account";

pub(crate) fn section(
    rows: &[Row],
    missing: &[String],
    storm: usize,
    storm_seconds: f64,
) -> String {
    let mut text = format!(
        "{HEADING}\n\n\
         All ways take turns in one run. The payload is a static program of three system calls that writes the time of its\n\
         first instruction. Milliseconds from the order (ours) or from before the program is started (peers), median (from the\n\
         10th to the 90th percentile). Memory: peak of the largest process (commands); of all the helper's processes together,\n\
         shared pages divided (resident). System calls include the payload's.\n\n\
         | way | to the first instruction, ms | to the end, ms | n | memory, MiB | system calls |\n\
         | --- | --- | --- | --- | --- | --- |\n"
    );
    let spread = |sample: &Sample| {
        format!(
            "{:.2} ({:.2} to {:.2})",
            sample.median(),
            sample.low(),
            sample.high()
        )
    };
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "?".to_owned(), |value| format!("{value:.digits$}"))
    };
    for row in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            row.label,
            spread(&row.first),
            spread(&row.end),
            row.first.n(),
            number(row.cost.memory, 1),
            number(row.cost.calls, 0)
        );
    }
    text.push_str("\n| how many times quicker, to the first instruction | |\n| --- | --- |\n");
    let median = |key: &str| {
        rows.iter()
            .find(|row| row.key == key)
            .map(|row| row.first.median())
    };
    for (ours, theirs, words) in CLAIMS {
        if let (Some(ours), Some(theirs)) = (median(ours), median(theirs)) {
            let _ = writeln!(text, "| {words} | {:.2} |", theirs / ours);
        }
    }
    let _ = writeln!(
        text,
        "\n{storm} payloads cancelled at once: the last process, sandbox, group and lease are gone after {storm_seconds:.2} s, without asking\n\
         for any authorization."
    );
    text.push_str(
        "\nA number below 1 means behind. The one-shot form's memory is that of the front alone, without the broker that it starts.\n\
         `sudo-rs` is built as its authors publish it.\n",
    );
    for sentence in missing {
        let _ = writeln!(text, "\n{sentence}");
    }
    text
}
