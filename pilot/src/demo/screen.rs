//! What the person sees while the demo runs: a line for each job on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The screen.
#[derive(Debug)]
pub(super) struct Screen {
    jobs: MultiProgress,
    live: bool,
}

/// One job on the screen.
#[derive(Debug)]
pub(super) struct Line {
    bar: ProgressBar,
    name: String,
    state: &'static str,
    live: bool,
}

impl Screen {
    /// Standard error is where progress goes; the result goes to standard output.
    pub(super) fn new() -> Self {
        Self {
            jobs: MultiProgress::new(),
            live: io::stderr().is_terminal(),
        }
    }

    /// Says what comes next.
    pub(super) fn step(&self, text: &str) {
        if self.live {
            // A terminal that is gone has no reader either.
            let _ = self.jobs.println(format!("==> {text}"));
        } else {
            say(&format!("==> {text}"));
        }
    }

    /// A line for a job.
    pub(super) fn job(&self, name: &str) -> Line {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("    {spinner} {prefix:34} {wide_msg}");
        if let Ok(style) = style {
            bar.set_style(style.tick_chars("\u{2808}\u{2810}\u{2820}\u{2804}\u{2802}\u{2801} "));
        }
        let bar = if self.live { self.jobs.add(bar) } else { bar };
        bar.set_prefix(name.to_owned());
        if self.live {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Line {
            bar,
            name: name.to_owned(),
            state: "",
            live: self.live,
        }
    }
}

impl Line {
    /// Shows how far the job is.
    pub(super) fn show(&mut self, state: &'static str, over: bool, more: &str) {
        if state == self.state {
            return;
        }
        self.state = state;
        let text = if more.is_empty() {
            state.to_owned()
        } else {
            more.to_owned()
        };
        match (self.live, over) {
            (true, true) => self.bar.finish_with_message(text),
            (true, false) => self.bar.set_message(text),
            (false, _) => say(&format!("    {:34} {text}", self.name)),
        }
    }
}

/// One line for the person.
fn say(text: &str) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
