//! What the demo saw, and how it is shown: a table for the terminal, a page for the browser.
//!
//! Pure: a [`Report`] goes in, text comes out.

mod html;
mod table;
mod timeline;

pub(super) use html::page;
pub(super) use table::table;

/// Everything the demo saw.
#[derive(Debug, Clone)]
pub(super) struct Report {
    /// When it began, for a person.
    pub(super) when: String,
    /// The machine.
    pub(super) host: String,
    /// Our version.
    pub(super) version: String,
    /// Why identities could not be switched, if so.
    pub(super) not_shown: Option<String>,
    /// How long it took, in milliseconds.
    pub(super) took: u64,
    /// The jobs, in the order in which they were sent.
    pub(super) jobs: Vec<Job>,
    /// What was to be shown, and whether it was seen.
    pub(super) checks: Vec<Check>,
}

/// One job.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Number in the queue.
    pub(super) id: String,
    /// Name.
    pub(super) name: String,
    /// Who sent it.
    pub(super) user: String,
    /// Which of the users that is, from 0, for the colour.
    pub(super) user_index: usize,
    /// What it is meant to show.
    pub(super) shows: String,
    /// The account it ran under: name and number, or the number alone.
    pub(super) account: Option<String>,
    /// How it ended, in words.
    pub(super) result: String,
    /// Why, if it is held.
    pub(super) reason: Option<String>,
    /// Whether that is how it was meant to end.
    pub(super) as_meant: bool,
    /// How it ended, for the colour.
    pub(super) end: Ending,
    /// Its life.
    pub(super) spans: Vec<Span>,
    /// The files that came back, with their beginning.
    pub(super) output: Vec<(String, String)>,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// By itself, exit code 0.
    Good,
    /// By itself, another exit code or a signal.
    Failed,
    /// Held.
    Held,
    /// Removed.
    Removed,
    /// It had not ended when the demo's patience was over.
    Open,
}

/// A part of a job's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// What the job did.
    pub(super) phase: Phase,
    /// Milliseconds since the demo began to send jobs.
    pub(super) from: u64,
    /// The same.
    pub(super) to: u64,
}

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// In the queue.
    Waiting,
    /// Its files and its credential go to the node.
    Sending,
    /// Its program runs.
    Running,
    /// Its files come back.
    Returning,
}

/// Something that was to be shown.
#[derive(Debug, Clone)]
pub(super) struct Check {
    /// In words.
    pub(super) what: String,
    /// Whether it was seen.
    pub(super) seen: bool,
    /// What was seen instead, or more about it.
    pub(super) detail: String,
}

impl Job {
    /// Milliseconds its program ran.
    pub(super) fn ran(&self) -> Option<u64> {
        let running = self
            .spans
            .iter()
            .filter(|span| span.phase == Phase::Running);
        let total: u64 = running.map(|span| span.to.saturating_sub(span.from)).sum();
        (total > 0).then_some(total)
    }

    /// Milliseconds from the queue to the first instruction of its program.
    pub(super) fn waited(&self) -> Option<u64> {
        let running = self
            .spans
            .iter()
            .find(|span| span.phase == Phase::Running)?;
        let first = self.spans.first()?;
        Some(running.from.saturating_sub(first.from))
    }
}

impl Report {
    /// True if all that was to be shown was seen.
    pub(super) fn good(&self) -> bool {
        self.checks.iter().all(|check| check.seen) && self.jobs.iter().all(|job| job.as_meant)
    }

    /// Milliseconds until the last thing happened.
    pub(super) fn end(&self) -> u64 {
        let ends = self
            .jobs
            .iter()
            .flat_map(|job| &job.spans)
            .map(|span| span.to);
        ends.max().unwrap_or(0).max(1000)
    }
}

/// Milliseconds as seconds.
pub(super) fn seconds(milliseconds: u64) -> String {
    format!("{}.{:01} s", milliseconds / 1000, milliseconds % 1000 / 100)
}

#[cfg(test)]
pub(super) fn example() -> Report {
    let span = |phase, from, to| Span { phase, from, to };
    let users = ["alice", "bob", "carol", "dave"];
    let job = |index: u64, end, as_meant| Job {
        id: format!("{}.0", index + 1),
        name: format!("job-{index} <&>"),
        user: users[(index % 4) as usize].to_owned(),
        user_index: (index % 4) as usize,
        shows: "which account it runs under".to_owned(),
        account: Some(format!(
            "grid-{} (6090{})",
            users[(index % 4) as usize],
            index % 4
        )),
        result: "exit code 0".to_owned(),
        reason: (end == Ending::Held).then(|| "its proxy is bad".to_owned()),
        as_meant,
        end,
        spans: vec![
            span(Phase::Waiting, 100, 1500 + 700 * index),
            span(Phase::Sending, 1500 + 700 * index, 1600 + 700 * index),
            span(Phase::Running, 1600 + 700 * index, 4000 + 900 * index),
            span(Phase::Returning, 4000 + 900 * index, 4100 + 900 * index),
        ],
        output: vec![("output.txt".to_owned(), "uid=60901\n<b>\n".to_owned())],
    };
    Report {
        when: "2026-11-25 18:00:00 UTC".to_owned(),
        host: "node7.example.org".to_owned(),
        version: "0.1.0".to_owned(),
        not_shown: None,
        took: 34_512,
        jobs: (0..13)
            .map(|index| match index {
                3 => job(index, Ending::Failed, true),
                5 => job(index, Ending::Held, true),
                7 => job(index, Ending::Removed, true),
                8 => job(index, Ending::Good, false),
                _ => job(index, Ending::Good, true),
            })
            .collect(),
        checks: vec![
            Check {
                what: "four users, four accounts".to_owned(),
                seen: true,
                detail: String::new(),
            },
            Check {
                what: "nothing is left".to_owned(),
                seen: false,
                detail: "a process is".to_owned(),
            },
        ],
    }
}
