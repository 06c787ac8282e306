//! `sailplane pool token requests`, `approve`, `deny` and `auto-approve`.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use cedar::command::{
    DC_APPROVE_TOKEN_REQUEST, DC_AUTO_APPROVE_TOKEN_REQUEST, DC_LIST_TOKEN_REQUEST,
    SAILPLANE_DENY_TOKEN_REQUEST,
};
use classad::ClassAd;
use serde_json::json;

use super::{ask, refusal, say};
use crate::cli::connect::{Pool, Target, ToolError};
use crate::cli::table::{Column, Table, terminal_width};

/// Most requests taken from a pool.
const MOST: usize = 10_000;

/// Show the requests that wait for a decision
///
/// An administrator sees all, others see those for their own identity.
#[derive(Debug, Clone, clap::Args)]
pub struct Requests {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// Approve a request
///
/// Compare the number with the one that the requester has: anybody can ask.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  sailplane pool token approve 1234567")]
pub struct Approve {
    /// The number of the request
    #[arg(value_name = "NUMBER")]
    id: String,
    /// Do not ask back
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

/// Deny a request
#[derive(Debug, Clone, clap::Args)]
pub struct Deny {
    /// The number of the request
    #[arg(value_name = "NUMBER")]
    id: String,
    #[command(flatten)]
    target: Target,
}

/// Approve requests of daemons from a network without asking, for a while
///
/// Only for the identity condor@... and only for the levels ADVERTISE_STARTD, ADVERTISE_SCHEDD and ADVERTISE_MASTER.
/// Whoever can use an address of the network can join the pool in that time.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  sailplane pool token auto-approve --network 192.0.2.0/24 --lifetime 10m"
)]
pub struct AutoApprove {
    /// The network, such as 192.0.2.0/24
    #[arg(long, value_name = "NETWORK")]
    network: String,
    /// How long: seconds, or a number with m, h or d
    #[arg(long, value_name = "TIME", value_parser = super::lifetime)]
    lifetime: Duration,
    #[command(flatten)]
    target: Target,
}

impl Requests {
    pub(super) async fn run(&self) -> Result<ExitCode, ToolError> {
        let pool = self.target.open()?;
        let ads = requests(&pool, None).await?;
        if self.json {
            let all: Vec<_> = ads.iter().map(as_json).collect();
            say(&format!("{:#}", serde_json::Value::from(all)))?;
            return Ok(ExitCode::SUCCESS);
        }
        if ads.is_empty() {
            say("No request waits for a decision of yours.")?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut table = Table::new(vec![
            Column::left("Request"),
            Column::left("Identity"),
            Column::left("Scopes").shrinks_to(12),
            Column::left("Lifetime"),
            Column::left("Asked by"),
            Column::left("From"),
        ]);
        for ad in &ads {
            let text = |name: &str| ad.string(name).unwrap_or_default();
            table.row(vec![
                text("RequestId"),
                text("RequestedIdentity"),
                ad.string("LimitAuthorization")
                    .unwrap_or_else(|| "all".to_owned()),
                ad.int("TokenLifetime")
                    .map_or_else(|| "for ever".to_owned(), |life| format!("{life} s")),
                text("AuthenticatedIdentity"),
                text("PeerLocation"),
            ]);
        }
        say(&table.render(terminal_width()))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Approve {
    pub(super) async fn run(&self) -> Result<ExitCode, ToolError> {
        let pool = self.target.open()?;
        let ads = requests(&pool, Some(&self.id)).await?;
        let Some(request) = ads.first() else {
            return Err(ToolError::Refused(format!(
                "no request {} waits for a decision of yours",
                self.id
            )));
        };
        let text = |name: &str| request.string(name).unwrap_or_default();
        let summary = format!(
            "request {} from {} for a token of {} ({})",
            self.id,
            text("PeerLocation"),
            text("RequestedIdentity"),
            request.string("LimitAuthorization").map_or_else(
                || "with all its rights".to_owned(),
                |scopes| format!("limited to {scopes}")
            ),
        );
        if !self.yes && !agreed(&summary)? {
            return Err(ToolError::Refused("nothing was approved".to_owned()));
        }
        let mut ad = ClassAd::new();
        ad.insert("RequestId", self.id.as_str());
        ad.insert("ClientId", text("ClientId"));
        ask(&pool, DC_APPROVE_TOKEN_REQUEST, "the approval", &ad).await?;
        say(&format!("Approved: {summary}."))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Deny {
    pub(super) async fn run(&self) -> Result<ExitCode, ToolError> {
        let pool = self.target.open()?;
        let mut ad = ClassAd::new();
        ad.insert("RequestId", self.id.as_str());
        ask(&pool, SAILPLANE_DENY_TOKEN_REQUEST, "the denial", &ad).await?;
        say(&format!("Denied: request {}.", self.id))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl AutoApprove {
    pub(super) async fn run(&self) -> Result<ExitCode, ToolError> {
        let pool = self.target.open()?;
        let seconds = i64::try_from(self.lifetime.as_secs()).unwrap_or(i64::MAX);
        let mut ad = ClassAd::new();
        ad.insert("Subnet", self.network.as_str());
        ad.insert("Lifetime", seconds);
        ask(&pool, DC_AUTO_APPROVE_TOKEN_REQUEST, "the rule", &ad).await?;
        say(&format!(
            "Requests of daemons from {} are approved without asking.",
            self.network
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Asks the person at the terminal.
fn agreed(summary: &str) -> Result<bool, ToolError> {
    let fail = |error| ToolError::Local {
        what: "cannot ask back".to_owned(),
        source: error,
    };
    if !io::stdin().is_terminal() {
        return Err(ToolError::Refused(format!(
            "there is nobody to ask whether this is meant: {summary}; add --yes"
        )));
    }
    let mut err = io::stderr();
    write!(err, "{summary}\nApprove it? Type yes: ").map_err(fail)?;
    err.flush().map_err(fail)?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(fail)?;
    Ok(line.trim() == "yes")
}

/// The requests we may see.
async fn requests(pool: &Pool, id: Option<&str>) -> Result<Vec<ClassAd>, ToolError> {
    const WHAT: &str = "the list of requests";
    let mut stream = pool.start(DC_LIST_TOKEN_REQUEST, WHAT).await?;
    let mut ad = ClassAd::new();
    if let Some(id) = id {
        ad.insert("RequestId", id);
    }
    let mut message = stream.message();
    message.ad(&ad);
    let sent = stream.send(message).await;
    sent.map_err(|error| pool.failed(WHAT, error))?;
    let mut ads = Vec::new();
    loop {
        let answer = stream.recv().await;
        let answer = answer.map_err(|error| pool.failed(WHAT, error))?;
        let ad = answer.reader().ad();
        let ad = ad.map_err(|error| pool.malformed(error))?;
        // The last one says how it went.
        if ad.int("Owner") == Some(0) {
            return refusal(&ad).map_or(Ok(ads), Err);
        }
        if ads.len() < MOST {
            ads.push(ad);
        }
    }
}

fn as_json(ad: &ClassAd) -> serde_json::Value {
    json!({
        "id": ad.string("RequestId"),
        "identity": ad.string("RequestedIdentity"),
        "scopes": ad.string("LimitAuthorization"),
        "lifetime": ad.int("TokenLifetime"),
        "requester": ad.string("AuthenticatedIdentity"),
        "from": ad.string("PeerLocation"),
    })
}
