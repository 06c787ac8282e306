//! `sailplane pool q`: the jobs in the queue.

use std::process::ExitCode;

use super::connect::Target;

/// Show the jobs in the queue
#[derive(Debug, clap::Args)]
pub struct Q {
    #[command(flatten)]
    target: Target,
}

/// Runs it.
pub fn run(_q: Q) -> ExitCode {
    todo!()
}
