//! `sailplane demo`: a pool, a pilot and some jobs of four users on this machine, and what became of them.
//!
//! Everything is real: the pool is `sailplane pool serve`, the users call `sailplane pool submit` under their own
//! accounts, the pilot is `sailplane run` under another account, and the helper is a setuid program that verifies each
//! job's proxy. What needs root is left out without it, and named.

mod actor;
mod checks;
mod interrupt;
mod job_log;
mod people;
mod play;
mod programs;
mod report;
mod scene;
mod screen;
mod stage;
mod stories;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::blame::{Exit, chain};
use programs::Programs;
use screen::Screen;
use stage::Stage;

/// `sailplane demo`.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Also write the report as a page for a browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Folder with the helper's programs [default: beside this program, or /usr/lib/sailplane]
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// Plays the demo. Call it before the first thread starts.
#[must_use]
pub fn run(demo: &Demo) -> Exit {
    match perform(demo) {
        Ok(exit) => exit,
        Err(error) => {
            // With standard error gone there is nobody left to tell.
            let _ = writeln!(io::stderr().lock(), "sailplane demo: {}", chain(&*error));
            Exit::Pilot
        }
    }
}

fn perform(demo: &Demo) -> Result<Exit, Box<dyn Error>> {
    let programs = Programs::find(demo.programs.as_deref())
        .map_err(|error| format!("{error}; build everything with: bash examples/demo/build"))?;
    // Opened first: a page that cannot be written is better known before than after.
    let page = demo
        .html
        .as_ref()
        .map(|path| {
            fs::File::create(path).map_err(|e| format!("cannot write {}: {e}", path.display()))
        })
        .transpose()?;
    let stage = Stage::build()?;
    interrupt::listen();
    let screen = Screen::new();
    let report = play::play(&stage, &programs, &screen)?;
    drop(stage);
    let mut out = io::stdout().lock();
    writeln!(out, "\n{}", report::table(&report))?;
    if let (Some(mut page), Some(path)) = (page, &demo.html) {
        page.write_all(report::page(&report).as_bytes())?;
        writeln!(out, "the report: {}", path.display())?;
    }
    Ok(if report.good() {
        Exit::Retired
    } else {
        Exit::Pilot
    })
}
