//! `sailplane pool ...`: one file for each command.

pub mod act;
pub mod ads;
pub mod connect;
pub mod dashes;
pub mod history;
mod jobs;
pub mod q;
pub mod serve;
pub mod status;
pub mod submit;
mod sys;
pub mod table;
pub mod token;

use std::process::ExitCode;

use crate::queue::Action;

/// `sailplane pool`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Be the pool: collector, negotiator and job queue in one process, until SIGTERM
    Serve(serve::Serve),
    /// Send jobs to the queue
    Submit(submit::Submit),
    /// Show the jobs in the queue
    Q(q::Q),
    /// Remove jobs
    Rm(act::Act),
    /// Keep jobs from running until they are released
    Hold(act::Act),
    /// Let held jobs run again
    Release(act::Act),
    /// Show jobs that have left the queue
    History(history::History),
    /// Show slots, daemons and submitters
    Status(status::Status),
    /// Make, show, request and approve tokens
    #[command(subcommand)]
    Token(token::Token),
}

/// Runs a command.
pub fn run(command: Command) -> ExitCode {
    match command {
        Command::Serve(serve) => serve::run(&serve),
        Command::Submit(submit) => submit::run(&submit),
        Command::Q(q) => q::run(q),
        Command::Rm(act) => act::run(Action::Remove, act),
        Command::Hold(act) => act::run(Action::Hold, act),
        Command::Release(act) => act::run(Action::Release, act),
        Command::History(history) => history::run(history),
        Command::Status(status) => status::run(status),
        Command::Token(token) => token::run(token),
    }
}
