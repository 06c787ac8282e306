//! `sailplane pool token request`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cedar::command::{DC_FINISH_TOKEN_REQUEST, DC_START_TOKEN_REQUEST};
use classad::ClassAd;

use super::{Wanted, ask, hand_over, token_directory, with_domain};
use crate::cli::connect::{Target, ToolError, complain};
use crate::security::{Place, Security};

/// Seconds between two looks at the request, as HTCondor's tools take.
const PAUSE: Duration = Duration::from_secs(5);

/// Ask the pool for a token, and wait until somebody approves it
///
/// For machines without any credential. The pool must be able to prove itself, by SSL; on the pool's own machine FS
/// does too.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example, on the machine of a pilot:\n  sailplane pool token request --pool pool.example.org --identity pilot@example.org --scope ADVERTISE_STARTD --file pilot"
)]
pub struct Request {
    #[command(flatten)]
    wanted: Wanted,
    /// Give up after so long: seconds, or a number with m, h or d
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = super::lifetime)]
    wait: Duration,
    #[command(flatten)]
    target: Target,
}

impl Request {
    pub(super) async fn run(&self) -> Result<ExitCode, ToolError> {
        let pool = self.target.open()?;
        let domain = Security::uid_domain_of(&pool.config, &Place::here())?;
        let mut secret = [0u8; 16];
        openssl::rand::rand_bytes(&mut secret).map_err(|error| ToolError::Local {
            what: "cannot make a request id".to_owned(),
            source: error.into(),
        })?;
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let client_id = format!("sailplane-{}-{hex}", Place::here().host_name);
        let mut ad = ClassAd::new();
        ad.insert("ClientId", client_id.as_str());
        ad.insert("User", with_domain(&self.wanted.identity, &domain));
        if !self.wanted.scope.is_empty() {
            let names: Vec<_> = self.wanted.scope.iter().map(|scope| scope.name()).collect();
            ad.insert("LimitAuthorization", names.join(","));
        }
        if let Some(lifetime) = self.wanted.lifetime {
            let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
            ad.insert("TokenLifetime", seconds);
        }
        let answer = ask(&pool, DC_START_TOKEN_REQUEST, "the token request", &ad).await?;
        let id = answer.string("RequestId").unwrap_or_default();
        let mut token = answer.string("Token").filter(|token| !token.is_empty());
        if token.is_none() {
            complain(&format!(
                "the request has number {id}; an administrator of the pool approves it with: sailplane pool token approve {id}"
            ));
        }
        let mut poll = ClassAd::new();
        poll.insert("ClientId", client_id.as_str());
        poll.insert("RequestId", id.as_str());
        let begin = Instant::now();
        while token.is_none() {
            if begin.elapsed() >= self.wait {
                return Err(ToolError::Refused(format!(
                    "nobody has approved the request {id} in time"
                )));
            }
            tokio::time::sleep(PAUSE.min(self.wait)).await;
            let answer = ask(&pool, DC_FINISH_TOKEN_REQUEST, "the token request", &poll).await?;
            token = answer.string("Token").filter(|token| !token.is_empty());
        }
        let directory = token_directory(&pool);
        hand_over(
            &token.unwrap_or_default(),
            self.wanted.file.as_deref(),
            directory.as_deref(),
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
