//! The timeline: a lane for each job, as SVG.

use std::fmt::Write as _;

use super::html::escape;
use super::{Ending, Job, Phase, Report, seconds};

const LANE: u64 = 30;
const BAR: u64 = 16;
const LEFT: u64 = 230;
const WIDTH: u64 = 980;
const TOP: u64 = 34;

/// The picture. Colours come from the page's style sheet by class, so that it follows a dark page.
pub(super) fn svg(report: &Report) -> String {
    let end = report.end();
    let height = TOP + LANE * report.jobs.len() as u64 + 8;
    let place = |time: u64| LEFT + time.min(end) * (WIDTH - LEFT - 12) / end;
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"timeline-title\">\n\
         <title id=\"timeline-title\">When each job waited and ran; the table below has the same in numbers</title>\n"
    );
    let step = tick(end);
    for time in (0..=end).step_by(usize::try_from(step).unwrap_or(1000)) {
        let x = place(time);
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{height}\"/>\
             <text class=\"tick\" x=\"{x}\" y=\"{}\">{} s</text>",
            TOP - 8,
            TOP - 14,
            time / 1000
        );
    }
    for (job, index) in report.jobs.iter().zip(0_u64..) {
        let y = TOP + LANE * index;
        lane(&mut out, job, y, &place);
    }
    out.push_str("</svg>\n");
    out
}

fn lane(out: &mut String, job: &Job, y: u64, place: &dyn Fn(u64) -> u64) {
    let middle = y + LANE / 2;
    let _ = writeln!(
        out,
        "<text class=\"name\" x=\"0\" y=\"{base}\">{}</text>\
         <text class=\"user\" x=\"{}\" y=\"{base}\">{}</text>",
        escape(&job.name),
        LEFT - 12,
        escape(&job.user),
        base = middle + 4,
    );
    for span in &job.spans {
        let (from, to) = (place(span.from), place(span.to));
        let width = to.saturating_sub(from).max(2);
        let (class, top, tall) = match span.phase {
            Phase::Waiting => ("waiting".to_owned(), middle - 1, 3),
            Phase::Sending => ("moving".to_owned(), middle - BAR / 2, BAR),
            Phase::Running => (format!("user{}", job.user_index % 4), middle - BAR / 2, BAR),
            Phase::Returning => ("moving".to_owned(), middle - BAR / 2, BAR),
        };
        let _ = writeln!(
            out,
            "<rect class=\"{class}\" x=\"{from}\" y=\"{top}\" width=\"{width}\" height=\"{tall}\" rx=\"2\">\
             <title>{}: {} for {}</title></rect>",
            escape(&job.name),
            span.phase.word(),
            seconds(span.to.saturating_sub(span.from)),
        );
    }
    if let Some(last) = job.spans.last() {
        let x = place(last.to) + 7;
        // Beyond the right edge there is no room.
        let x = x.min(WIDTH - 10);
        let (class, sign) = match job.end {
            Ending::Good => return,
            Ending::Failed => ("sign failed", "\u{2715}"),
            Ending::Held => ("sign held", "\u{2016}"),
            Ending::Removed => ("sign removed", "\u{2298}"),
            Ending::Open => ("sign held", "\u{2026}"),
        };
        let _ = writeln!(
            out,
            "<text class=\"{class}\" x=\"{x}\" y=\"{}\"><title>{}</title>{sign}</text>",
            middle + 5,
            escape(&job.result),
        );
    }
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting in the queue",
            Self::Sending => "files and credential go to the node",
            Self::Running => "running",
            Self::Returning => "files come back",
        }
    }
}

/// Milliseconds between two marks of the axis: about eight marks.
fn tick(end: u64) -> u64 {
    [1000, 2000, 5000, 10_000, 20_000, 60_000]
        .into_iter()
        .find(|step| end / step <= 10)
        .unwrap_or(300_000)
}
