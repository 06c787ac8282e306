//! The only place that prints.

use std::io::Write;

/// A line on standard output. A reader that has gone away is no failure.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A line on standard error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "xtask: {text}");
}
