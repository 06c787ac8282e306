//! `sailplane pool history`: the jobs that left the queue.

use std::process::ExitCode;

use super::connect::Target;

/// Show the jobs that left the queue
#[derive(Debug, clap::Args)]
pub struct History {
    #[command(flatten)]
    target: Target,
}

/// Runs it.
pub fn run(_history: History) -> ExitCode {
    todo!()
}
