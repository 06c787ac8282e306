//! `sailplane pool serve`.

use std::process::ExitCode;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::connect::complain;
use crate::config::Sources;
use crate::serve::{self, ServeError};

/// Exit status when the configuration is wrong, as of the pilot.
const CONFIGURATION: u8 = 3;

/// `sailplane pool serve`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  sailplane pool serve --set LOCAL_DIR=/srv/pool --set COLLECTOR_HOST=pool.example.org:9618"
)]
pub struct Serve {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub sources: Sources,
    /// Form of the log lines on standard error
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub log_format: LogFormat,
    /// Ends when the process that started it ends
    #[arg(long, hide = true)]
    pub die_with_parent: bool,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Serve {
    /// Whether log lines are JSON objects.
    pub fn json_log(&self) -> bool {
        self.log_format == LogFormat::Json
    }
}

/// Serves until SIGTERM, SIGINT or SIGQUIT.
pub fn run(serve: &Serve) -> ExitCode {
    if serve.die_with_parent
        && let Err(errno) = set_pdeathsig(Signal::SIGTERM)
    {
        complain(&format!("cannot follow the parent process: {errno}"));
        return ExitCode::FAILURE;
    }
    let config = match serve.sources.load("COLLECTOR") {
        Ok(config) => config,
        Err(errors) => {
            complain(&format!("the configuration is wrong\n{errors}"));
            return ExitCode::from(CONFIGURATION);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let served = match runtime {
        Ok(runtime) => runtime.block_on(serve::serve(&config)),
        Err(error) => Err(ServeError::Runtime(error)),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            match error {
                ServeError::Configuration(_) | ServeError::Security(_) => {
                    ExitCode::from(CONFIGURATION)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}
