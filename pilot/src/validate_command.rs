//! `sailplane validate`: what a pilot checks before it takes jobs, for a person or for a monitoring system.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use validation::Report;
use validation::report::{Format, Look, html, nagios_status, render};

use crate::advertise::facts::NodeFacts;
use crate::blame::Exit;
use crate::cli::Validate;
use crate::knobs::Knobs;
use crate::program::{load, report};
use crate::run::checks::Checks;
use crate::run::{StartError, result_file};
use crate::threads::{self, NoThreads};

/// Exit status of a Nagios plug-in that could not look.
const UNKNOWN: u8 = 3;

/// Checks the node and prints the report. Call it before the first thread starts.
#[must_use]
pub fn run(args: &Validate) -> ExitCode {
    match perform(args) {
        Ok(code) => ExitCode::from(code),
        Err(_) if args.format == Format::Nagios => ExitCode::from(UNKNOWN),
        Err(exit) => exit.into(),
    }
}

fn perform(args: &Validate) -> Result<u8, Exit> {
    let knobs = load(&args.sources)?;
    // Opened first: a page that cannot be written is better known before than after.
    let page = match &args.html {
        None => None,
        Some(path) => Some((
            path,
            fs::File::create(path).map_err(|error| {
                let hint = format!(
                    "choose a file for --html that can be written: {}",
                    path.display()
                );
                report(Exit::Usage, &error, Some(&hint))
            })?,
        )),
    };
    let no_threads = |error: NoThreads| report(Exit::SiteTransient, &error, Some(error.hint()));
    // Where there is hardly any thread to be had, one check can be run in this one: the one that says so.
    let (runtime, only) = match threads::runtime(2) {
        Ok(runtime) => (runtime, None),
        Err(_) => (
            threads::small_runtime().map_err(no_threads)?,
            Some("processes"),
        ),
    };
    let (findings, verdict) = runtime.block_on(check(&knobs, only))?;
    // A check that hangs in the kernel must not keep its caller.
    runtime.shutdown_background();
    if let Some((path, mut file)) = page {
        file.write_all(html(&findings).as_bytes())
            .map_err(|error| {
                let hint = format!("there may be no room for {}", path.display());
                report(Exit::Pilot, &error, Some(&hint))
            })?;
    }
    show(&render(&findings, args.format, look()))?;
    Ok(match (args.format, verdict) {
        (Format::Nagios, _) => nagios_status(&findings),
        (_, Ok(())) => Exit::Retired.code(),
        (_, Err(error)) => error.exit().code(),
    })
}

async fn check(
    knobs: &Knobs,
    only: Option<&str>,
) -> Result<(Report, Result<(), StartError>), Exit> {
    let checks = Checks::new(knobs, &NodeFacts::probe(), only)
        .map_err(|error| report(Exit::Pilot, &error, None))?;
    let bar = progress();
    let first = checks.first(|done| {
        bar.inc(1);
        bar.set_message(done.check.name.to_string());
    });
    let checked = tokio::select! {
        checked = first => checked,
        // What was started is killed with us; the directory of the checks goes with the future.
        _ = tokio::signal::ctrl_c() => {
            bar.finish_and_clear();
            return Err(Exit::Retired);
        }
    };
    bar.finish_and_clear();
    let findings = checked.engine.report();
    if let Some(path) = knobs.checks.path("SAILPLANE_RESULT_FILE") {
        result_file::write(path, &findings);
    }
    let verdict = checked.verdict();
    checked.end().await;
    Ok((findings, verdict))
}

/// A line that moves on a terminal, and is nothing elsewhere.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} checks done  {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn look() -> Look {
    let variable = |name| std::env::var(name).ok();
    Look::of_terminal(
        io::stdout().is_terminal(),
        variable("NO_COLOR").as_deref(),
        variable("TERM").as_deref(),
        variable("COLUMNS").and_then(|columns| columns.parse().ok()),
    )
}

fn show(text: &str) -> Result<(), Exit> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads us has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(report(Exit::Pilot, &error, None))
        }
        _ => Ok(()),
    }
}
