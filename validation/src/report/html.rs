//! The page: one file without a script and without references to anything outside it, to be mailed. The verdict first,
//! then what to fix and how, then what was not tried, then everything.

use std::fmt::Write as _;

use super::civil;
use super::view::{self, Item, Mark, Reading};
use crate::findings::{Report, Verdict};
use crate::outcome::Failure;

const STYLE: &str = include_str!("style.css");

/// The page.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut out = String::with_capacity(64 * 1024);
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{}: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        escape(&report.node.host),
        escape(&view::headline(report)),
    );
    head(&mut out, report);
    out.push_str("<main>\n");
    fixes(&mut out, &view::to_fix(report));
    notes(&mut out, &view::noted(report));
    skips(&mut out, &view::reasons_not_tried(report));
    everything(&mut out, report);
    node(&mut out, report);
    settings(&mut out, report);
    out.push_str("</main>\n");
    let _ = write!(
        out,
        "<footer>\n<p>Made by sailplane {} on {}. Form {} of the report; the same as JSON: <code>--format json</code>.</p>\n\
         </footer>\n</body>\n</html>\n",
        escape(&report.version),
        civil::for_people(report.started),
        report.format,
    );
    out
}

/// The class by which the style sheet colours a mark.
const fn class(mark: Mark) -> &'static str {
    match mark {
        Mark::Failed | Mark::Draining => "bad",
        Mark::Warned => "warn",
        Mark::Noted | Mark::Skipped => "none",
        Mark::Passed => "good",
    }
}

/// A sign, for eyes only, and the word.
fn marked(mark: Mark) -> String {
    format!(
        "<span aria-hidden=\"true\">{}</span> {}",
        mark.sign(),
        mark.word()
    )
}

fn head(out: &mut String, report: &Report) {
    let mark = match report.verdict {
        _ if view::is_empty(report) => Mark::Skipped,
        Verdict::Healthy => Mark::Passed,
        Verdict::Degraded => Mark::Warned,
        Verdict::Draining => Mark::Draining,
        Verdict::Unfit { .. } => Mark::Failed,
    };
    let node = &report.node;
    let _ = write!(
        out,
        "<header>\n<div class=\"verdict {}\">\n<h1><span aria-hidden=\"true\">{}</span> {}</h1>\n\
         <p><b>{}</b>, {}</p>\n<p>Looked at by {} ({}) in {}.</p>\n</div>\n<ul class=\"counts\" aria-label=\"Checks\">\n",
        class(mark),
        mark.sign(),
        escape(&view::headline(report)),
        escape(&node.host),
        civil::for_people(report.started),
        escape(&node.account),
        node.uid,
        view::took(report.elapsed),
    );
    for mark in Mark::ALL {
        let count = view::count(report, mark);
        if count > 0 {
            let _ = writeln!(
                out,
                "<li class=\"{}\"><b>{count}</b> {}</li>",
                class(mark),
                marked(mark)
            );
        }
    }
    out.push_str("</ul>\n</header>\n");
}

fn fixes(out: &mut String, items: &[Item<'_>]) {
    out.push_str("<section aria-labelledby=\"fix\">\n<h2 id=\"fix\">What to fix</h2>\n");
    if items.is_empty() {
        out.push_str("<p>Nothing.</p>\n</section>\n");
        return;
    }
    cards(out, items);
    out.push_str("</section>\n");
}

fn notes(out: &mut String, items: &[Item<'_>]) {
    if items.is_empty() {
        return;
    }
    out.push_str(
        "<section aria-labelledby=\"note\">\n<h2 id=\"note\">Good to know</h2>\n\
         <p class=\"soft\">What this node does not have. Jobs that ask for it go elsewhere; all others run.</p>\n",
    );
    cards(out, items);
    out.push_str("</section>\n");
}

fn cards(out: &mut String, items: &[Item<'_>]) {
    out.push_str("<ol class=\"fixes\">\n");
    for item in items {
        if let Some(failure) = item.failure() {
            fix(out, item, failure);
        }
    }
    out.push_str("</ol>\n");
}

fn fix(out: &mut String, item: &Item<'_>, failure: &Failure) {
    let class = class(item.mark);
    let _ = write!(
        out,
        "<li class=\"{class}\">\n<h3>{} <span class=\"{class}\">{}</span></h3>\n\
         <p class=\"soft\">{}</p>\n<p>{}</p>\n",
        escape(item.check.name.as_str()),
        marked(item.mark),
        escape(&item.check.about),
        escape(&failure.why),
    );
    if !failure.hint.is_empty() {
        let _ = writeln!(
            out,
            "<p class=\"do\"><b>To do:</b> {}</p>",
            escape(&failure.hint)
        );
    }
    let _ = writeln!(
        out,
        "<p class=\"soft\">For the {}. {}</p>",
        failure.whose,
        if failure.transient {
            "It may pass by itself."
        } else {
            "It stays until somebody acts."
        },
    );
    // What says the same again is said once.
    if let Some(detail) = item
        .outcome
        .detail
        .as_ref()
        .filter(|text| **text != failure.why)
    {
        let _ = writeln!(out, "<pre>{}</pre>", escape(detail));
    }
    out.push_str("</li>\n");
}

fn skips(out: &mut String, reasons: &[(&str, String)]) {
    if reasons.is_empty() {
        return;
    }
    out.push_str("<section aria-labelledby=\"skip\">\n<h2 id=\"skip\">What was not tried</h2>\n<ul class=\"skips\">\n");
    for (why, names) in reasons {
        let _ = writeln!(out, "<li><b>{}</b>: {}</li>", escape(names), escape(why));
    }
    out.push_str("</ul>\n</section>\n");
}

fn everything(out: &mut String, report: &Report) {
    out.push_str("<section aria-labelledby=\"all\">\n<h2 id=\"all\">All checks</h2>\n");
    if report.entries.is_empty() {
        out.push_str("<p>There were none.</p>\n</section>\n");
        return;
    }
    out.push_str(
        "<table>\n<caption>In the order in which they were given</caption>\n\
         <thead><tr><th scope=\"col\">Check</th><th scope=\"col\">Result</th><th scope=\"col\" class=\"took\">Took</th></tr></thead>\n\
         <tbody>\n",
    );
    for item in view::items(report) {
        row(out, &item);
    }
    out.push_str("</tbody>\n</table>\n</section>\n");
}

fn row(out: &mut String, item: &Item<'_>) {
    let _ = write!(
        out,
        "<tr><th scope=\"row\">{}<small>{}</small></th><td><span class=\"word {}\">{}</span>",
        escape(item.check.name.as_str()),
        escape(&item.check.about),
        class(item.mark),
        marked(item.mark),
    );
    let why = item
        .failure()
        .map(|failure| failure.why.as_str())
        .or_else(|| item.skipped());
    if let Some(why) = why {
        let _ = write!(out, "<small>{}</small>", escape(why));
    }
    if !item.outcome.metrics.is_empty() {
        out.push_str("<ul class=\"numbers\">");
        for metric in &item.outcome.metrics {
            let _ = write!(
                out,
                "<li>{} {}</li>",
                escape(&view::spaced(&metric.name)),
                escape(&Reading(metric).to_string())
            );
        }
        out.push_str("</ul>");
    }
    // What a failure has to say stands above, with the failure.
    if item.failure().is_none()
        && let Some(detail) = &item.outcome.detail
    {
        let _ = write!(out, "<small class=\"lines\">{}</small>", escape(detail));
    }
    let _ = writeln!(
        out,
        "</td><td class=\"took\">{}</td></tr>",
        view::took(item.outcome.elapsed)
    );
}

fn node(out: &mut String, report: &Report) {
    let node = &report.node;
    out.push_str("<section aria-labelledby=\"node\">\n<h2 id=\"node\">The node</h2>\n<dl>\n");
    for (name, value) in [
        ("Host", &node.host),
        ("Operating system", &node.system),
        ("Kernel", &node.kernel),
        ("Architecture", &node.arch),
    ] {
        pair(out, name, value);
    }
    for fact in &node.facts {
        pair(out, &fact.name, &fact.value);
    }
    out.push_str("</dl>\n</section>\n");
}

fn settings(out: &mut String, report: &Report) {
    if report.settings.is_empty() {
        return;
    }
    out.push_str(
        "<section aria-labelledby=\"settings\">\n<h2 id=\"settings\">Settings</h2>\n<dl>\n",
    );
    for setting in &report.settings {
        let gap = if setting.unit.is_empty() { "" } else { " " };
        let default = if setting.default { " (default)" } else { "" };
        pair(
            out,
            &setting.knob,
            &format!("{}{gap}{}{default}", setting.value, setting.unit),
        );
    }
    out.push_str("</dl>\n</section>\n");
}

fn pair(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
}

/// Text for HTML and for quoted attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in view::printable(text).chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    #[test]
    fn what_others_wrote_stays_text_and_nothing_is_fetched() {
        for report in [testing::broken(), testing::healthy(), testing::empty()] {
            let page = html(&report);
            for outside in [
                "http:", "https:", "src=", "url(", "@import", "<script", "<link", "onload",
                "style=\"",
            ] {
                assert!(!page.contains(outside), "{outside}");
            }
            assert!(!page.contains(['\u{1b}', '\u{7}', '\u{202e}']));
        }
        assert!(html(&testing::broken()).contains("&lt;script&gt;alert(&#39;x&#39;)"));
    }

    #[test]
    fn the_verdict_comes_first_then_what_to_fix_then_everything() {
        let page = html(&testing::broken());
        let place = |what: &str| page.find(what).unwrap_or_else(|| panic!("no {what}"));
        let order = [
            "<h1>",
            "id=\"fix\"",
            "<b>To do:</b> chown",
            "id=\"skip\"",
            "id=\"all\"",
            "id=\"node\"",
            "id=\"settings\"",
        ];
        assert!(order.is_sorted_by_key(|what| place(what)));
        assert_eq!(page.matches("<th scope=\"row\">").count(), 11);
        assert!(html(&testing::healthy()).contains("<p>Nothing.</p>"));
    }
}
