//! For a person at a terminal: the verdict, what to fix and how, what was not tried, everything.

use std::fmt::Write as _;

use super::view::{self, Item, Mark, Reading};
use super::{Look, civil};
use crate::findings::{Report, Verdict};

/// The report as text.
pub(super) fn text(report: &Report, look: Look) -> String {
    let mut page = Page {
        out: String::with_capacity(4096),
        look,
    };
    page.head(report);
    let fixes = view::to_fix(report);
    if !fixes.is_empty() {
        page.title("What to fix");
        for item in &fixes {
            page.fix(item);
        }
    }
    let noted = view::noted(report);
    if !noted.is_empty() {
        page.title("Good to know");
        for item in &noted {
            page.fix(item);
        }
    }
    let skipped = view::reasons_not_tried(report);
    if !skipped.is_empty() {
        page.title("Not tried");
        for (why, names) in &skipped {
            page.item(Mark::Skipped, &format!("{names}: {}", view::line(why)));
        }
    }
    if !report.entries.is_empty() {
        page.title("All checks");
        page.table(report);
    }
    page.out
}

struct Page {
    out: String,
    look: Look,
}

impl Page {
    fn head(&mut self, report: &Report) {
        let mark = match report.verdict {
            _ if view::is_empty(report) => Mark::Skipped,
            Verdict::Healthy => Mark::Passed,
            Verdict::Degraded => Mark::Warned,
            Verdict::Draining => Mark::Draining,
            Verdict::Unfit { .. } => Mark::Failed,
        };
        let head = format!("{} {}", mark.sign(), view::headline(report));
        let head = self.paint(mark, &head);
        let _ = writeln!(self.out, "{head}");
        self.paragraph("  ", &format!("{}.", view::tally(report)));
        let node = &report.node;
        let place = format!(
            "{} as {} ({}), {}, in {}; version {}",
            view::line(&node.host),
            view::line(&node.account),
            node.uid,
            civil::for_people(report.started),
            view::took(report.elapsed),
            report.version,
        );
        self.paragraph("  ", &place);
    }

    fn title(&mut self, text: &str) {
        let text = if self.look.colour {
            format!("\u{1b}[1m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        };
        let _ = writeln!(self.out, "\n{text}");
    }

    fn fix(&mut self, item: &Item<'_>) {
        let Some(failure) = item.failure() else {
            return;
        };
        let for_whom = if failure.transient {
            format!("{}; may pass by itself", failure.whose)
        } else {
            failure.whose.to_string()
        };
        let head = format!(
            "{} ({}): for the {for_whom}",
            item.check.name,
            item.mark.word()
        );
        self.item(item.mark, &head);
        self.paragraph("    ", &view::line(&failure.why));
        if !failure.hint.is_empty() {
            self.paragraph("    To do: ", &view::line(&failure.hint));
        }
        if let Some(detail) = &item.outcome.detail {
            for line in view::printable(detail).lines().take(DETAIL_LINES) {
                self.paragraph("    | ", line);
            }
        }
    }

    /// A line that begins with a mark's sign.
    fn item(&mut self, mark: Mark, text: &str) {
        let start = self.out.len();
        self.paragraph("  ", text);
        // The first two columns are blank: the sign goes there.
        let sign = format!("{} ", self.paint(mark, mark.sign()));
        self.out.replace_range(start..start + 2, &sign);
    }

    fn table(&mut self, report: &Report) {
        let items: Vec<_> = view::items(report).collect();
        let names = items.iter().map(|item| item.check.name.as_str().len());
        let name_width = names.max().unwrap_or(0).min(NAME_COLUMNS);
        let times: Vec<_> = items
            .iter()
            .map(|item| view::took(item.outcome.elapsed))
            .collect();
        let time_width = times.iter().map(String::len).max().unwrap_or(0);
        for (item, time) in items.iter().zip(&times) {
            let word = self.paint(item.mark, &format!("{:9}", item.mark.word()));
            let start = self.out.len();
            let indent = 9 + 2 + name_width + 2 + time_width + 2;
            let about = view::line(&item.check.about);
            // Where names leave too little room, what a check is about goes below its name.
            if indent + 20 > self.look.width {
                let _ = writeln!(self.out, "{word}  {}  {time}", item.check.name);
                self.paragraph(&" ".repeat(11), &about);
            } else {
                self.paragraph(&" ".repeat(indent), &about);
                let columns = format!(
                    "{word}  {:name_width$}  {time:>time_width$}  ",
                    item.check.name.as_str()
                );
                self.out.replace_range(start..start + indent, &columns);
            }
            for metric in &item.outcome.metrics {
                let reading = view::line(&Reading(metric).to_string());
                self.paragraph(
                    &" ".repeat(11),
                    &format!("{} {reading}", view::spaced(&metric.name)),
                );
            }
        }
    }

    /// Text in lines that fit; `first` stands before the first, blanks of its width before the others.
    fn paragraph(&mut self, first: &str, text: &str) {
        let columns = first.chars().count();
        let room = self.look.width.saturating_sub(columns).max(20);
        let mut lines = wrap(text, room).into_iter();
        let _ = writeln!(self.out, "{first}{}", lines.next().unwrap_or_default());
        for line in lines {
            let _ = writeln!(self.out, "{:columns$}{line}", "");
        }
    }

    fn paint(&self, mark: Mark, text: &str) -> String {
        let colour = match mark {
            Mark::Failed | Mark::Draining => "31",
            Mark::Warned => "33",
            Mark::Passed => "32",
            Mark::Noted | Mark::Skipped => "2",
        };
        if self.look.colour {
            format!("\u{1b}[{colour}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Columns of names in the table; a longer one pushes its own line to the right.
const NAME_COLUMNS: usize = 32;

/// Lines of a check's detail that are shown; the page and JSON have all of them.
const DETAIL_LINES: usize = 12;

/// Breaks text at blanks. A word that does not fit stands alone on its line, whole: a path can then still be copied.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if used + 1 + length <= room => {
                line.push(' ');
                line.push_str(word);
                used += 1 + length;
            }
            _ => {
                lines.push(word.to_owned());
                used = length;
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    fn plain(report: &Report) -> String {
        text(report, Look::default())
    }

    #[test]
    fn the_verdict_comes_first_then_what_to_fix_the_gravest_before_the_others() {
        let text = plain(&testing::broken());
        assert!(
            text.starts_with(
                "\u{2715} Not fit for jobs: the site has to act\n  2 of 11 checks failed"
            ),
            "{text}"
        );
        let place = |what: &str| {
            text.find(what)
                .unwrap_or_else(|| panic!("no {what:?} in\n{text}"))
        };
        let order = [
            "What to fix",
            "helper-mode (failed): for the site",
            "To do: chown root:root",
            "shutdown (drains): for the site; may pass by itself",
            "crl-age (warning)",
            "Good to know",
            "gpu (noted)",
            "Not tried",
            "cvmfs: no repository is asked for",
            "All checks",
        ];
        assert!(order.is_sorted_by_key(|what| place(what)), "{text}");
        assert!(text.contains("free 812 MiB (at least 20480 MiB)"), "{text}");
    }

    #[test]
    fn colours_are_for_terminals_only_and_say_nothing_that_words_do_not() {
        let report = testing::broken();
        let colourful = text(
            &report,
            Look {
                colour: true,
                ..Look::default()
            },
        );
        let mut stripped = String::new();
        let mut rest = colourful.as_str();
        while let Some((before, after)) = rest.split_once("\u{1b}[") {
            stripped.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        stripped.push_str(rest);
        assert_ne!(colourful, stripped);
        assert_eq!(stripped, plain(&report));
        assert!(
            !plain(&report).contains('\u{1b}'),
            "a script's own escape sequences came through"
        );

        let colour =
            |terminal, no_color, term| Look::of_terminal(terminal, no_color, term, None).colour;
        assert!(colour(true, None, Some("xterm")) && colour(true, Some(""), None));
        assert!(!colour(false, None, Some("xterm")), "into a pipe");
        assert!(!colour(true, Some("1"), Some("xterm")) && !colour(true, None, Some("dumb")));
    }

    #[test]
    fn lines_fit() {
        for width in [40, 80, 140] {
            let text = text(
                &testing::broken(),
                Look {
                    colour: false,
                    width,
                },
            );
            for line in text.lines() {
                // A word that does not fit is left whole.
                let is_whole =
                    line.contains("with-quite-a-long-name") || line.split_whitespace().count() <= 3;
                assert!(line.chars().count() <= width || is_whole, "{width}: {line}");
            }
        }
    }

    #[test]
    fn columns_stand_below_each_other() {
        let text = plain(&testing::healthy());
        let table: Vec<_> = text
            .lines()
            .skip_while(|line| *line != "All checks")
            .skip(1)
            .collect();
        assert!(
            table[0].starts_with("passed     disk-space  3 ms  space"),
            "{text}"
        );
        assert!(
            table[2].starts_with("passed     clock       0 ms  the clock"),
            "{text}"
        );
    }
}
