//! Result files: what a check says of itself (`otrb_output.xml`), and what the runner makes of it (`otrx_output.xml`).
//!
//! Checks write these files with our [writer](super::gconfig), with one of their own, or by hand, and not all of it is
//! well-formed; so this is read by lines and tags, as the field reads it, and no XML parser is asked.

use std::fmt::Write as _;

/// The version that the documents name.
pub const FORM: &str = "4.3.1";

/// Largest result file that is read, bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// What a check says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckResult {
    /// Whether it says that all is well.
    pub ok: bool,
    /// Its word for the kind of failure.
    pub failure: Option<String>,
    /// Everything it measured: name and value, in its order, without `failure`.
    pub metrics: Vec<(String, String)>,
    /// What it says of its failure.
    pub detail: Option<String>,
}

impl CheckResult {
    /// The document that a check writes.
    #[must_use]
    pub fn render(&self, id: &str, stamp: &str) -> String {
        let mut text = String::from("<?xml version=\"1.0\"?>\n");
        let _ = writeln!(
            text,
            "<OSGTestResult id=\"{}\" version=\"{FORM}\">",
            escape(id)
        );
        text.push_str(&self.body(stamp));
        text.push_str("</OSGTestResult>\n");
        text
    }

    /// The elements `result` and `detail`.
    pub(super) fn body(&self, stamp: &str) -> String {
        let mut text = String::from("  <result>\n");
        let status = if self.ok { "OK" } else { "ERROR" };
        let _ = writeln!(text, "    <status>{status}</status>");
        let failure = self.failure.iter().map(|kind| ("failure", kind.as_str()));
        let metrics = self
            .metrics
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in failure.chain(metrics) {
            let _ = writeln!(
                text,
                "    <metric name=\"{}\" ts=\"{stamp}\" uri=\"local\">{}</metric>",
                escape(name),
                escape(value)
            );
        }
        text.push_str("  </result>\n");
        if let Some(detail) = &self.detail {
            text.push_str("  <detail>\n");
            for line in escape(detail).lines() {
                let _ = writeln!(text, "    {line}");
            }
            text.push_str("  </detail>\n");
        }
        text
    }
}

/// How the runner ran a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run<'a> {
    /// `<scope id>/<file name>`.
    pub id: &'a str,
    /// Where.
    pub cwd: &'a str,
    /// Program and arguments.
    pub command: &'a str,
    /// Unix seconds of its start.
    pub start: i64,
    /// Unix seconds of its end.
    pub end: i64,
    /// Exit status 0.
    pub passed: bool,
    /// Said where the check left no usable file: `exit status 3`, `killed after 600 s`.
    pub how: &'a str,
}

/// A check's own file, if it is usable: complete, and of one mind with the exit status.
#[must_use]
pub fn usable(text: &str, passed: bool) -> Option<CheckResult> {
    let lines: Vec<&str> = text.lines().collect();
    let early = |tag: &str, within: usize| lines.iter().take(within).any(|line| line.contains(tag));
    let late = |tag: &str, within: usize| {
        lines
            .iter()
            .rev()
            .filter(|line| !line.trim().is_empty())
            .take(within)
            .any(|line| line.contains(tag))
    };
    let complete = early("<OSGTestResult", 4)
        && early("<result>", 8)
        && text.contains("</result>")
        && late("</OSGTestResult>", 4);
    if !complete {
        return None;
    }
    let read = read(text)?;
    (read.ok == passed).then_some(read)
}

/// What a document says; nothing if it has no status.
#[must_use]
pub fn read(text: &str) -> Option<CheckResult> {
    let status = between(text, "<status>", "</status>")?;
    let mut result = CheckResult {
        ok: status.trim() == "OK",
        ..CheckResult::default()
    };
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("<metric ") {
        let Some((head, tail)) = after.split_once('>') else {
            break;
        };
        let Some((value, next)) = tail.split_once("</metric>") else {
            break;
        };
        rest = next;
        let Some(name) = between(head, "name=\"", "\"") else {
            continue;
        };
        match name {
            "failure" if result.failure.is_none() => result.failure = Some(unescape(value)),
            _ => result.metrics.push((unescape(name), unescape(value))),
        }
    }
    result.detail = between(text, "<detail>", "</detail>")
        .map(|detail| unescape(&without_margin(detail)))
        .filter(|detail| !detail.is_empty());
    Some(result)
}

/// The runner's document: where and when, and what the check said, or what its exit status says.
#[must_use]
pub fn augmented(run: &Run<'_>, own: Option<&CheckResult>) -> String {
    format!("<?xml version=\"1.0\"?>\n{}", element(run, own))
}

/// The same without the XML declaration, to be put beside others.
#[must_use]
pub fn element(run: &Run<'_>, own: Option<&CheckResult>) -> String {
    let end = super::stamp::local(run.end);
    let minimal;
    let result = match own {
        Some(own) => own,
        None => {
            minimal = without_file(run);
            &minimal
        }
    };
    format!(
        "<OSGTestResult id=\"{}\" version=\"{FORM}\">\n  <operatingenvironment>\n    <env name=\"cwd\">{}</env>\n  \
         </operatingenvironment>\n  <test>\n      <cmd>{}</cmd>\n      <tStart>{}</tStart>\n      <tEnd>{end}</tEnd>\n  \
         </test>\n{}</OSGTestResult>\n",
        escape(run.id),
        escape(run.cwd),
        escape(run.command),
        super::stamp::local(run.start),
        result.body(&end),
    )
}

/// What is said of a check that left nothing usable: its exit status decides.
#[must_use]
pub fn without_file(run: &Run<'_>) -> CheckResult {
    CheckResult {
        ok: run.passed,
        failure: (!run.passed).then(|| "Unknown".to_owned()),
        metrics: Vec::new(),
        detail: Some(format!(
            "The check left no usable result file ({}).",
            run.how
        )),
    }
}

/// A text without the blanks that writers put before its lines.
fn without_margin(text: &str) -> String {
    let lines: Vec<&str> = text
        .trim()
        .lines()
        .map(|line| line.strip_prefix("    ").unwrap_or(line))
        .collect();
    lines.join("\n")
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    Some(text.split_once(open)?.1.split_once(close)?.0)
}

/// Text as content or attribute value of XML. What XML cannot hold becomes a question mark.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' => out.push(c),
            c if c < ' ' || matches!(c, '\u{7f}' | '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

/// The text that was escaped. What is no escape stays as it is: not every writer escapes.
#[must_use]
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let known = [
            ("amp;", '&'),
            ("lt;", '<'),
            ("gt;", '>'),
            ("quot;", '"'),
            ("apos;", '\''),
        ];
        match known
            .iter()
            .find_map(|(name, c)| Some((after.strip_prefix(name)?, c)))
        {
            Some((next, c)) => {
                out.push(*c);
                rest = next;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failed() -> CheckResult {
        CheckResult {
            ok: false,
            failure: Some("WN_Resource".to_owned()),
            metrics: vec![
                ("scratch_free_mb".to_owned(), "812".to_owned()),
                ("path".to_owned(), "/a & b/<x>".to_owned()),
            ],
            detail: Some("Too \"small\".\nTwo lines & more.".to_owned()),
        }
    }

    fn run(passed: bool) -> Run<'static> {
        Run {
            id: "client/scratch_check.sh",
            cwd: "/w/glide_AbC123",
            command: "/w/glide_AbC123/client/scratch_check.sh glidein_config",
            start: 1_803_893_398,
            end: 1_803_893_400,
            passed,
            how: "exit status 3",
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = failed().render("scratch_check", "2027-03-01T09:30:00+00:00");
        assert_eq!(usable(&text, false), Some(failed()));
        assert_eq!(usable(&text, true), None, "status and exit status differ");
        assert!(!text.contains("<x>"), "{text}");
    }

    #[test]
    fn a_passing_result_has_no_detail() {
        let ok = CheckResult {
            ok: true,
            ..CheckResult::default()
        };
        let text = ok.render("x", "t");
        assert_eq!(usable(&text, true), Some(ok));
        assert!(!text.contains("detail") && !text.contains("failure"));
    }

    #[test]
    fn files_that_are_cut_or_odd_are_not_usable() {
        let text = failed().render("x", "t");
        for cut in 0..text.len() - "</OSGTestResult>\n".len() {
            assert_eq!(usable(text.get(..cut).unwrap(), false), None);
        }
        assert_eq!(usable("", true), None);
        assert_eq!(usable(&format!("\n\n\n\n\n{text}"), false), None);
        assert_eq!(usable(&text.replace("status", "state"), false), None);
    }

    #[test]
    fn unescaped_files_of_other_writers_are_read() {
        let text = "<?xml version=\"1.0\"?>\n<OSGTestResult id=\"x\" version=\"4.3.1\">\n  <result>\n    \
                    <status>ERROR</status>\n    <metric name=\"failure\" ts=\"t\" uri=\"local\">Config</metric>\n    \
                    <metric name=\"cmd\" ts=\"t\" uri=\"local\">a < b && c</metric>\n  </result>\n  <detail>\n    \
                    5 < 6 & so on\n  </detail>\n</OSGTestResult>\n";
        let read = usable(text, false).unwrap();
        assert_eq!(read.metrics, [("cmd".to_owned(), "a < b && c".to_owned())]);
        assert_eq!(read.detail.as_deref(), Some("5 < 6 & so on"));
    }

    #[test]
    fn the_exit_status_decides_without_a_file() {
        let text = augmented(&run(false), None);
        assert!(text.contains("<status>ERROR</status>") && text.contains("exit status 3"));
        assert!(text.contains("id=\"client/scratch_check.sh\""));
        assert!(augmented(&run(true), None).contains("<status>OK</status>"));
        assert!(!element(&run(true), None).contains("<?xml"));
    }

    proptest! {
        #[test]
        fn escaping_loses_nothing_that_can_be_shown(text in "[ -~\n\t]{0,40}") {
            prop_assert_eq!(unescape(&escape(&text)), text);
        }
    }
}
