//! `sailplane pool token create`.

use std::process::ExitCode;

use super::{Wanted, hand_over, with_domain};
use crate::cli::connect::ToolError;
use crate::config::Sources;
use crate::security::{Place, Security};

/// Make a token with the pool's signing key, on the machine of the pool
///
/// Nothing is asked of the running pool: whoever can read the key can make tokens.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example, a token with which pilots may join the pool for a month:\n  sailplane pool token create --identity pilot --scope ADVERTISE_STARTD --scope READ --lifetime 30d"
)]
pub struct Create {
    #[command(flatten)]
    wanted: Wanted,
    /// The key that signs [default: SEC_TOKEN_ISSUER_KEY, which is POOL]
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    #[command(flatten)]
    sources: Sources,
}

impl Create {
    pub(super) fn run(&self) -> Result<ExitCode, ToolError> {
        let config = self.sources.load("TOOL")?;
        let place = Place::here();
        let security = Security::load(&config, &place)?;
        let identity = with_domain(&self.wanted.identity, security.uid_domain());
        let key = self.key.as_deref().unwrap_or_else(|| security.issuer_key());
        let token = security
            .mint(key, &identity, &self.wanted.scope, self.wanted.lifetime)
            .map_err(|error| ToolError::Refused(error.to_string()))?;
        let client = Security::client(&config, &place, "TOOL")?;
        let directory = client.credentials.token_directories.first();
        hand_over(
            &token,
            self.wanted.file.as_deref(),
            directory.map(AsRef::as_ref),
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
