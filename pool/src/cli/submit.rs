//! `sailplane pool submit`: reads a submit file and sends the jobs to the queue.

use std::process::ExitCode;

use super::connect::Target;

/// Submit jobs.
#[derive(Debug, Clone, clap::Args)]
pub struct Submit {
    /// Where the pool is.
    #[command(flatten)]
    pub target: Target,
}

/// Submits; the status is 0 if the jobs are in the queue.
#[must_use]
pub fn run(submit: &Submit) -> ExitCode {
    let _ = submit;
    todo!()
}
