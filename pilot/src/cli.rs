//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use validation::report::Format;

use crate::blame::Exit;
use crate::credential_command;
use crate::demo::Demo;
use crate::log::LogFormat;
use crate::manifest_command;

/// Joins an HTCondor pool and runs each user's jobs under that user's own account
#[derive(Debug, Parser)]
#[command(name = "sailplane", version, after_help = exit_help(), arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Be a pilot, in the foreground, until retired
    ///
    /// SIGTERM retires: no new jobs, running ones may use MAXJOBRETIREMENTTIME, then they are stopped softly, then hard.
    /// A second SIGTERM, SIGINT or SIGQUIT stops them at once.
    #[command(
        after_help = "Example:\n  sailplane run --config pilot.conf --set NUM_SLOTS=2 --log-format json"
    )]
    Run(Run),
    /// Check this node as a pilot would before it takes jobs, and stop
    ///
    /// Nothing joins the pool, and no jobs are run but those of the checks themselves.
    #[command(
        after_help = "Examples:\n  sailplane validate --config pilot.conf --html report.html\n  \
                      sailplane validate --config pilot.conf --format nagios"
    )]
    Validate(Validate),
    /// Look at the configuration
    #[command(subcommand)]
    Config(Config),
    /// The embedded pool: serve it, or use it
    #[command(subcommand)]
    Pool(Box<pool::cli::Command>),
    /// Look at a proxy or a token, or verify it as a site would
    #[command(subcommand)]
    Credential(credential_command::Command),
    /// Look at, sign and pin the list of checks that a factory or frontend sends along
    #[command(subcommand)]
    Manifest(manifest_command::Command),
    /// Show it all on this machine: a pool, a pilot, jobs of four users, a report
    #[command(after_help = "Example:\n  sailplane demo --html report.html")]
    Demo(Demo),
}

/// `sailplane run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub sources: Sources,
    /// Form of the log lines
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub log_format: LogFormat,
    /// Ends when the process that started it ends
    #[arg(long, hide = true)]
    pub die_with_parent: bool,
}

/// `sailplane validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub sources: Sources,
    /// Form of the report: text, json, otrx or nagios. With nagios the exit status is that of a Nagios plug-in (0 to 3)
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,
    /// Also write the report as a page for a browser
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `sailplane config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Print every value and where it came from
    #[command(after_help = "Example:\n  sailplane config dump --config pilot.conf")]
    Dump(Sources),
    /// Say whether a pilot would start with it
    #[command(
        after_help = "Example:\n  sailplane config check --config pilot.conf --set START=FALSE"
    )]
    Check(Sources),
}

/// Where the configuration comes from: the files in their order, then `_CONDOR_*` of the environment, then `--set`.
#[derive(Debug, Args, Clone)]
pub struct Sources {
    /// Configuration file; may be given more than once [default: $CONDOR_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// A single knob; wins over files and environment
    #[arg(long, value_name = "KNOB=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((knob, value)) if !knob.trim().is_empty() => {
            Ok((knob.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write it as KNOB=VALUE".to_owned()),
    }
}

fn exit_help() -> String {
    let mut text = String::from("Exit status:");
    for exit in Exit::ALL {
        text.push_str(&format!("\n  {:>2}  {}", exit.code(), exit.meaning()));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn knobs_are_split_at_the_first_equals_sign() {
        let cli = Cli::try_parse_from(["sailplane", "run", "--set", "START = A == 1"]).unwrap();
        let Command::Run(run) = cli.command else {
            panic!("not a run")
        };
        assert_eq!(run.sources.set, [("START".to_owned(), "A == 1".to_owned())]);
        assert!(Cli::try_parse_from(["sailplane", "run", "--set", "=1"]).is_err());
    }
}
