//! Logging: to stderr, and to `$(LOG)/SailplaneLog` when `LOG` is set.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Name of the log file within `LOG`.
pub const LOG_FILE: &str = "SailplaneLog";

/// Environment variable with a filter such as `debug` or `sailplane=trace,cedar=debug`.
pub const FILTER_VARIABLE: &str = "SAILPLANE_LOG";

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log folder or file cannot be opened.
    #[error("cannot write the log file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The filter in the environment does not parse.
    #[error("{FILTER_VARIABLE} is not a filter for the log")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Somebody else has set up logging in this process.
    #[error("logging is set up already")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Sends log lines to stderr and, with `folder`, to a file there. Levels: error, a job or the pilot is lost; warn,
/// somebody should look; info, a step in the life of pilot, claim or job; debug, every message.
///
/// # Errors
/// [`LogError`].
pub fn start(format: LogFormat, folder: Option<&Path>) -> Result<(), LogError> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(text)?,
        _ => EnvFilter::new("info"),
    };
    let stderr = layer(format, io::stderr, io::stderr().is_terminal());
    let file = folder
        .map(open)
        .transpose()?
        .map(|file| layer(format, file, false));
    tracing_subscriber::registry()
        .with(stderr.and_then(file).with_filter(filter))
        .try_init()?;
    Ok(())
}

fn layer<W>(format: LogFormat, writer: W, colour: bool) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    match format {
        LogFormat::Text => fmt::layer()
            .with_writer(writer)
            .with_ansi(colour)
            .with_target(false)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(writer)
            .boxed(),
    }
}

fn open(folder: &Path) -> Result<File, LogError> {
    let path = folder.join(LOG_FILE);
    let opened = fs::create_dir_all(folder)
        .and_then(|()| OpenOptions::new().create(true).append(true).open(&path));
    opened.map_err(|source| LogError::File { path, source })
}
