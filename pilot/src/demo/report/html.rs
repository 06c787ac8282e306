//! The page: one file without references to anything outside it.

use std::fmt::Write as _;

use super::{Ending, Job, Report, seconds, timeline};

const STYLE: &str = include_str!("style.css");

/// The page.
pub(in crate::demo) fn page(report: &Report) -> String {
    let mut out = String::with_capacity(64 * 1024);
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>sailplane demo</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    );
    head(&mut out, report);
    out.push_str("<main>\n<h2>When each job waited and ran</h2>\n<figure>\n");
    out.push_str(&timeline::svg(report));
    legend(&mut out, report);
    out.push_str("</figure>\n");
    jobs(&mut out, report);
    outputs(&mut out, report);
    out.push_str("</main>\n</body>\n</html>\n");
    out
}

fn head(out: &mut String, report: &Report) {
    let (class, word) = if report.good() {
        ("yes", "all as it should be")
    } else {
        ("no", "not all as it should be")
    };
    let users: std::collections::BTreeSet<_> = report.jobs.iter().map(|job| &job.user).collect();
    let _ = write!(
        out,
        "<header>\n<h1>{} jobs of {} users on one pilot</h1>\n\
         <p class=\"soft\">sailplane {} on {}, {}, {} in all</p>\n\
         <p><span class=\"verdict {class}\">{word}</span></p>\n<ul class=\"checks\">\n",
        report.jobs.len(),
        users.len(),
        escape(&report.version),
        escape(&report.host),
        escape(&report.when),
        seconds(report.took),
    );
    for check in &report.checks {
        let (class, sign, word) = if check.seen {
            ("yes", "\u{2713}", "seen")
        } else {
            ("no", "\u{2715}", "not seen")
        };
        let _ = write!(
            out,
            "<li><b class=\"{class}\" role=\"img\" aria-label=\"{word}\">{sign}</b>{}",
            escape(&check.what)
        );
        if !check.detail.is_empty() {
            let _ = write!(out, " <small>{}</small>", escape(&check.detail));
        }
        out.push_str("</li>\n");
    }
    out.push_str("</ul>\n");
    if let Some(why) = &report.not_shown {
        let _ = writeln!(
            out,
            "<p class=\"note\"><b>Not shown:</b> each user\u{2019}s jobs under an account of their own: {}</p>",
            escape(why)
        );
    }
    out.push_str("</header>\n");
}

fn legend(out: &mut String, report: &Report) {
    out.push_str("<ul class=\"legend\">\n");
    let mut users: Vec<(usize, &str)> = report
        .jobs
        .iter()
        .map(|job| (job.user_index, job.user.as_str()))
        .collect();
    users.sort_unstable();
    users.dedup();
    for (index, user) in users {
        let _ = writeln!(
            out,
            "<li><i class=\"u{}\"></i>{} runs</li>",
            index % 4,
            escape(user)
        );
    }
    out.push_str(
        "<li><i style=\"background:var(--line)\"></i>in the queue</li>\n\
         <li><i style=\"background:var(--moving)\"></i>files and credential on their way</li>\n\
         <li>\u{2715} failed</li>\n<li>\u{2016} held</li>\n<li>\u{2298} removed by its user</li>\n</ul>\n",
    );
}

fn jobs(out: &mut String, report: &Report) {
    out.push_str(
        "<h2>The jobs</h2>\n<div class=\"table\"><table>\n<thead><tr><th>Job</th><th class=\"wide\">What it shows</th><th>User</th>\
         <th>Account it ran under</th><th class=\"number\">Waited</th><th class=\"number\">Ran</th><th class=\"wide\">Result</th></tr></thead>\n<tbody>\n",
    );
    let time = |time: Option<u64>| time.map_or_else(|| "\u{2013}".to_owned(), seconds);
    for job in &report.jobs {
        let _ = writeln!(
            out,
            "<tr><td class=\"nowrap\">{}<small>{}</small></td><td>{}</td>\
             <td class=\"nowrap\"><span class=\"dot u{}\"></span>{}</td><td>{}</td>\
             <td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"{}\">{}{}{}</td></tr>",
            escape(&job.name),
            escape(&job.id),
            escape(&job.shows),
            job.user_index % 4,
            escape(&job.user),
            job.account
                .as_deref()
                .map_or_else(|| "\u{2013}".to_owned(), escape),
            time(job.waited()),
            time(job.ran()),
            class(job),
            escape(&job.result),
            job.reason
                .as_deref()
                .map_or_else(String::new, |reason| format!(
                    "<small>{}</small>",
                    escape(reason)
                )),
            if job.as_meant {
                ""
            } else {
                "<small class=\"wrong\">not as it should be</small>"
            },
        );
    }
    out.push_str("</tbody>\n</table></div>\n");
}

fn class(job: &Job) -> &'static str {
    match job.end {
        Ending::Good => "good",
        Ending::Failed => "failed",
        Ending::Held | Ending::Open => "held",
        Ending::Removed => "removed",
    }
}

fn outputs(out: &mut String, report: &Report) {
    if report.jobs.iter().all(|job| job.output.is_empty()) {
        return;
    }
    out.push_str("<h2>What came back</h2>\n");
    for job in report.jobs.iter().filter(|job| !job.output.is_empty()) {
        let _ = writeln!(
            out,
            "<details><summary>{} <span>of {}</span></summary>",
            escape(&job.name),
            escape(&job.user)
        );
        for (name, text) in &job.output {
            let _ = writeln!(
                out,
                "<p class=\"soft\">{}</p><pre>{}</pre>",
                escape(name),
                escape(text)
            );
        }
        out.push_str("</details>\n");
    }
}

/// Text for HTML and for quoted attributes.
pub(super) fn escape(text: impl AsRef<str>) -> String {
    let mut out = String::with_capacity(text.as_ref().len());
    for letter in text.as_ref().chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter if letter.is_control() && letter != '\n' && letter != '\t' => {
                out.push('\u{fffd}');
            }
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn what_users_wrote_stays_text_and_nothing_is_fetched() {
        let text = page(&example());
        assert!(
            text.contains("job-0 &lt;&amp;&gt;")
                && !text.contains("<&>")
                && !text.contains("<b>\n")
        );
        for outside in ["http:", "https:", "src=", "url(", "@import", "<script"] {
            assert!(!text.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_verdict_comes_first() {
        let text = page(&example());
        let verdict = text.find("not all as it should be").unwrap();
        assert!(verdict < text.find("<svg").unwrap());
    }

    #[test]
    fn every_job_has_a_lane_and_a_row() {
        let text = page(&example());
        assert_eq!(text.matches("class=\"name\"").count(), 13);
        assert_eq!(text.matches("<tr><td").count(), 13);
    }
}
