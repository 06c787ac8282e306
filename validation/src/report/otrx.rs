//! `OSGTestResult` documents, as factories of glideinWMS collect them from their pilots: one element for the whole
//! validation, and in its list one for each check.
//!
//! A check that only warns has status `WARNING`: it did not stop the pilot, and a factory counts `ERROR`. One that was
//! not tried is `OK` with a metric `skipped` that says why.

use std::fmt::Write as _;

use super::civil;
use super::view::{self, Item, Mark};
use crate::check::Origin;
use crate::findings::Report;
use crate::outcome::{Failure, Whose};

/// Version of the form.
const VERSION: &str = "4.3.1";

/// The whole document.
pub(super) fn document(report: &Report) -> String {
    let mut xml = Xml {
        out: String::from("<?xml version=\"1.0\"?>\n"),
        depth: 0,
        stamp: stamp(report.started),
    };
    xml.open(&format!(
        "OSGTestResult id=\"sailplane/validation\" version=\"{VERSION}\""
    ));
    xml.environment(report);
    xml.open("test");
    xml.leaf("cmd", "", "sailplane");
    xml.leaf("tStart", "", &stamp(report.started));
    let seconds = i64::try_from(report.elapsed.as_secs()).unwrap_or(i64::MAX);
    xml.leaf("tEnd", "", &stamp(report.started.saturating_add(seconds)));
    xml.close("test");
    let first = view::to_fix(report)
        .into_iter()
        .find(|item| item.mark <= Mark::Draining);
    xml.result(first.as_ref(), true);
    if let Some(failure) = first.as_ref().and_then(Item::failure) {
        xml.leaf("detail", "", &explanation(failure, None));
    }
    xml.open("subtestlist");
    for item in view::items(report) {
        xml.check(&item);
    }
    xml.close("subtestlist");
    xml.close("OSGTestResult");
    xml.out
}

/// Local time with an offset is asked for; ours is UTC, and says so.
fn stamp(unix: i64) -> String {
    format!("{}+00:00", civil::iso(unix))
}

/// The word by which factories sort failures.
fn kind(failure: &Failure) -> &str {
    if !failure.kind.is_empty() {
        return &failure.kind;
    }
    match failure.whose {
        Whose::Site => "WN_Resource",
        Whose::Pool => "Network",
        Whose::Factory | Whose::Pilot => "Config",
        Whose::Frontend => "VO_Config",
    }
}

fn explanation(failure: &Failure, detail: Option<&str>) -> String {
    let mut text = format!("{}\nFor the {}", failure.why, failure.whose);
    if !failure.hint.is_empty() {
        let _ = write!(text, ", to do: {}", failure.hint);
    }
    if let Some(detail) = detail {
        let _ = write!(text, "\n{detail}");
    }
    text
}

struct Xml {
    out: String,
    depth: usize,
    stamp: String,
}

impl Xml {
    fn check(&mut self, item: &Item<'_>) {
        let id = match &item.check.origin {
            Origin::BuiltIn => format!("built-in/{}", item.check.name),
            Origin::IdentitySwitch => format!("identity-switch/{}", item.check.name),
            Origin::Custom { scope, file } => format!("{scope}/{file}"),
        };
        self.open(&format!(
            "OSGTestResult id=\"{}\" version=\"{VERSION}\"",
            escape(&id)
        ));
        self.result(Some(item), false);
        let detail = item.outcome.detail.as_deref();
        match item.failure() {
            Some(failure) => self.leaf("detail", "", &explanation(failure, detail)),
            None => {
                if let Some(detail) = detail {
                    self.leaf("detail", "", detail);
                }
            }
        }
        self.close("OSGTestResult");
    }

    /// `is_whole`: of all checks, then `item` is the one that decided.
    fn result(&mut self, item: Option<&Item<'_>>, is_whole: bool) {
        self.open("result");
        let status = match item.map(|item| item.mark) {
            None | Some(Mark::Passed | Mark::Skipped) => "OK",
            Some(Mark::Warned | Mark::Noted) => "WARNING",
            Some(Mark::Failed | Mark::Draining) => "ERROR",
        };
        self.leaf("status", "", status);
        if let Some(item) = item {
            if is_whole {
                self.metric("TestID", item.check.name.as_str());
            }
            if let Some(failure) = item.failure() {
                self.metric("failure", kind(failure));
            }
            if let Some(why) = item.skipped() {
                self.metric("skipped", why);
            }
            for metric in &item.outcome.metrics {
                self.metric(&metric.name, &metric.value.to_string());
            }
        }
        self.close("result");
    }

    fn environment(&mut self, report: &Report) {
        let node = &report.node;
        self.open("operatingenvironment");
        for (name, value) in [
            ("hostname", node.host.as_str()),
            ("user", &node.account),
            ("os", &node.system),
            ("kernel", &node.kernel),
            ("arch", &node.arch),
        ] {
            self.leaf("env", &format!(" name=\"{name}\""), value);
        }
        self.close("operatingenvironment");
    }

    fn metric(&mut self, name: &str, value: &str) {
        let attributes = format!(
            " name=\"{}\" ts=\"{}\" uri=\"local\"",
            escape(name),
            self.stamp
        );
        self.leaf("metric", &attributes, &view::line(value));
    }

    fn open(&mut self, tag: &str) {
        let _ = writeln!(self.out, "{:1$}<{tag}>", "", self.depth);
        self.depth += 2;
    }

    fn close(&mut self, tag: &str) {
        self.depth = self.depth.saturating_sub(2);
        let _ = writeln!(self.out, "{:1$}</{tag}>", "", self.depth);
    }

    fn leaf(&mut self, tag: &str, attributes: &str, text: &str) {
        let text = escape(&view::printable(text));
        let _ = writeln!(
            self.out,
            "{:1$}<{tag}{attributes}>{text}</{tag}>",
            "", self.depth
        );
    }
}

/// Text for XML and for quoted attributes; what XML cannot hold at all becomes a replacement character.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            letter if letter.is_control() && !matches!(letter, '\n' | '\t') => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    /// Every tag that is opened is closed, in order, and outside of tags there is no markup.
    fn is_well_formed(xml: &str) -> bool {
        let mut open = Vec::new();
        let mut rest = xml.strip_prefix("<?xml version=\"1.0\"?>\n").unwrap();
        while let Some((text, after)) = rest.split_once('<') {
            let (tag, behind) = after.split_once('>').unwrap();
            let name = tag.split_whitespace().next().unwrap();
            if text.contains('>') || tag.matches('"').count() % 2 != 0 {
                return false;
            }
            match name.strip_prefix('/') {
                Some(name) if open.pop() != Some(name) => return false,
                Some(_) => {}
                None => open.push(name),
            }
            rest = behind;
        }
        open.is_empty() && rest.trim().is_empty()
    }

    #[test]
    fn every_check_has_its_element_and_text_stays_text() {
        for report in [testing::broken(), testing::healthy(), testing::empty()] {
            let xml = document(&report);
            assert!(is_well_formed(&xml), "{xml}");
            assert_eq!(
                xml.matches("<OSGTestResult ").count(),
                report.entries.len() + 1
            );
        }
        let xml = document(&testing::broken());
        assert!(
            xml.contains("&lt;script&gt;") && !xml.contains('\u{1b}'),
            "{xml}"
        );
    }

    #[test]
    fn what_decided_is_named_with_the_words_of_factories() {
        let xml = document(&testing::broken());
        let head = xml.split("<subtestlist>").next().unwrap();
        for wanted in [
            "<status>ERROR</status>",
            "name=\"TestID\" ts=\"2026-03-01T09:30:00+00:00\" uri=\"local\">helper-mode<",
            "name=\"failure\" ts=\"2026-03-01T09:30:00+00:00\" uri=\"local\">WN_Resource<",
            "<tEnd>2026-03-01T09:30:02+00:00</tEnd>",
            "<env name=\"hostname\">node7.example.org</env>",
        ] {
            assert!(head.contains(wanted), "{wanted}\n{head}");
        }
        assert!(
            xml.contains("id=\"client/check_squid.sh\"") && xml.contains(">TimeOut<"),
            "{xml}"
        );
        assert_eq!(xml.matches("<status>ERROR").count(), 1 + 3);
        assert_eq!(xml.matches("<status>WARNING").count(), 3);
        assert!(document(&testing::healthy()).contains("<status>OK</status>"));
    }
}
