//! `sailplane pool rm`, `hold`, `release`: what users do to their jobs.

use std::process::ExitCode;

use super::connect::Target;
use crate::queue::Action;

/// Which jobs, and why
#[derive(Debug, clap::Args)]
pub struct Act {
    #[command(flatten)]
    target: Target,
}

/// Runs it; `action` is [`Action::Remove`], [`Action::Hold`] or [`Action::Release`].
pub fn run(_action: Action, _act: Act) -> ExitCode {
    todo!()
}
