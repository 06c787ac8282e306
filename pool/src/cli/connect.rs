//! How the tools reach the pool.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use cedar::Sinful;
use cedar::net::{Client, Error, SessionCache, Stream, chain};
use cedar::sinful::SinfulError;
use condorconf::Config;
use thiserror::Error;

use crate::config::Sources;
use crate::security::{Place, Security, SecurityErrors};

/// The collector's own port, where `COLLECTOR_HOST` names none.
pub const COLLECTOR_PORT: u16 = 9618;

/// What we call ourselves within version banners.
pub const PROGRAM: &str = concat!("sailplane-", env!("CARGO_PKG_VERSION"));

/// Which pool a command is for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Target {
    /// The pool, HOST:PORT [default: the one on this machine if its address file is there, else COLLECTOR_HOST]
    #[arg(long, value_name = "ADDRESS")]
    pub pool: Option<String>,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub sources: Sources,
}

/// Why a tool got no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ToolError {
    /// The configuration has mistakes.
    #[error("the configuration is wrong\n{0}")]
    Configuration(#[from] condorconf::Errors),
    /// A knob has no usable value.
    #[error("the configuration is wrong\n{0}")]
    Knob(#[from] condorconf::Error),
    /// What the configuration says about security.
    #[error("the configuration is wrong\n{0}")]
    Security(#[from] SecurityErrors),
    /// The address is none.
    #[error("{text:?} is not the address of a pool; write it as HOST:PORT")]
    Address {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: SinfulError,
    },
    /// The pool did not answer, or refused.
    #[error("{what} at the pool {address} failed: {}", chain(source))]
    Wire {
        /// What was tried.
        what: &'static str,
        /// The pool.
        address: String,
        /// The cause.
        source: Box<Error>,
    },
    /// The pool answered with a refusal of its own.
    #[error("{0}")]
    Refused(String),
    /// The answer was not understood.
    #[error("the pool {address} sent an answer that is not one")]
    Answer {
        /// The pool.
        address: String,
        /// What is wrong with it.
        #[source]
        source: cedar::WireError,
    },
    /// Something on this machine.
    #[error("{what}: {source}")]
    Local {
        /// What was tried, with the file.
        what: String,
        /// The cause.
        source: std::io::Error,
    },
}

/// A pool that can be asked.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Starts commands there.
    pub client: Client,
    /// Where it is.
    pub address: Sinful,
    /// The configuration the address was taken from.
    pub config: std::sync::Arc<Config>,
}

impl Target {
    /// Reads the configuration and finds the pool. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ToolError`] about configuration and address.
    pub fn open(&self) -> Result<Pool, ToolError> {
        let config = self.sources.load("TOOL")?;
        let address = self.address(&config)?;
        let security = Security::client(&config, &Place::here(), "TOOL")?;
        let client = Client::new(security, SessionCache::new());
        Ok(Pool {
            client,
            address,
            config: std::sync::Arc::new(config),
        })
    }

    fn address(&self, config: &Config) -> Result<Sinful, ToolError> {
        let text = match &self.pool {
            Some(text) => text.clone(),
            None => address_file(config)?.map_or_else(|| config.required("COLLECTOR_HOST"), Ok)?,
        };
        Sinful::from_contact(&text, COLLECTOR_PORT).map_err(|source| ToolError::Address {
            text: text.clone(),
            source,
        })
    }
}

/// The first line of the file in which a pool on this machine says where it is. A collector that somebody named in a
/// file or on the command line comes first, unless its port is 0: then the pool chose one itself, and only the file
/// knows it.
fn address_file(config: &Config) -> Result<Option<String>, ToolError> {
    let named = config.origin("COLLECTOR_HOST");
    let chosen = config.required("COLLECTOR_HOST")?.trim().ends_with(":0");
    if !chosen && named.is_some_and(|origin| *origin != condorconf::Origin::Default) {
        return Ok(None);
    }
    let path = config.required("COLLECTOR_ADDRESS_FILE")?;
    let text = fs::read_to_string(path).unwrap_or_default();
    Ok(text
        .lines()
        .next()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty()))
}

impl Pool {
    /// Starts a command; `what` names it in errors, such as "the query".
    ///
    /// # Errors
    /// [`ToolError::Wire`].
    pub async fn start(&self, command: i32, what: &'static str) -> Result<Stream, ToolError> {
        let started = self.client.start_command(&self.address, command).await;
        started.map_err(|error| self.failed(what, error))
    }

    /// An error of the connection, with what was tried.
    pub fn failed(&self, what: &'static str, error: Error) -> ToolError {
        ToolError::Wire {
            what,
            address: self.address.to_string(),
            source: Box::new(error),
        }
    }

    /// An answer that could not be read.
    pub fn malformed(&self, source: cedar::WireError) -> ToolError {
        ToolError::Answer {
            address: self.address.to_string(),
            source,
        }
    }
}

/// Runs a tool to its end; an error is printed for a person, and the status is 1.
pub fn run(work: impl Future<Output = Result<ExitCode, ToolError>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(work),
        Err(source) => Err(ToolError::Local {
            what: "cannot start".to_owned(),
            source,
        }),
    };
    result.unwrap_or_else(|error| {
        complain(&error.to_string());
        ExitCode::FAILURE
    })
}

/// A message to the person who runs the tool.
#[expect(clippy::print_stderr, reason = "the tool's channel to its user")]
pub fn complain(text: &str) {
    eprintln!("sailplane pool: {text}");
}

/// An error of this machine's files.
pub fn local(what: &str, path: &Path, source: std::io::Error) -> ToolError {
    ToolError::Local {
        what: format!("{what} {}", path.display()),
        source,
    }
}
