//! `sailplane pool status`: what `condor_status` shows.

use std::process::ExitCode;

use super::ads::AdOutput;

/// Show slots and daemons of the pool
#[derive(Debug, Clone, clap::Args)]
pub struct Status {
    /// How ads are printed.
    #[command(flatten)]
    pub output: AdOutput,
    /// Only ads for which this expression is true
    #[arg(long, value_name = "EXPRESSION")]
    pub constraint: Vec<String>,
}

/// Runs it.
pub fn run(_status: Status) -> ExitCode {
    todo!()
}
