//! How the checks speak to the pool: as the pilot will.

use cedar::net::{Client, ClientConfig, Error, SessionCache, Step};
use cedar::security::Wish;
use cedar::{Blame, Sinful, command};
use classad::ClassAd;
use validation::probe::Pong;
use validation::{Endpoint, PingError, PoolPing, Running};

use super::assemble::PROGRAM;
use crate::join::wants_token;
use crate::knobs::Knobs;

/// Longest answer to a question for the clock, bytes: names of collectors.
const LONGEST: usize = 1 << 20;

/// Asks daemons of the pool.
pub(super) struct Ping {
    client: Client,
    /// Reads what everybody may read: nothing else is left to a pilot whose credentials seem to be over because its
    /// clock is wrong.
    nobody: Client,
    /// Without a token the pilot asks for one.
    asks_for_token: bool,
}

impl Ping {
    pub(super) fn new(knobs: &Knobs) -> Self {
        let mut config = ClientConfig::new("STARTD", PROGRAM);
        config.policy = knobs.client_policy.clone();
        config.credentials = knobs.credentials.clone();
        config.trust_domain.clone_from(&knobs.trust_domain);
        let mut nobody = ClientConfig::new("TOOL", PROGRAM);
        nobody.policy.authentication = Wish::Never;
        nobody.policy.encryption = Wish::Never;
        nobody.policy.integrity = Wish::Never;
        Self {
            client: Client::new(config, SessionCache::new()),
            nobody: Client::new(nobody, SessionCache::new()),
            asks_for_token: knobs.token_request.is_some(),
        }
    }

    fn failed(&self, error: &Error) -> PingError {
        let text = crate::blame::chain(error);
        match error.step() {
            Step::Resolve | Step::Connect => PingError::Unreachable(text),
            _ if error.blame() == Blame::Network => PingError::Unreachable(text),
            _ if error.blame() == Blame::Peer => PingError::Malformed(text),
            _ if self.asks_for_token && wants_token(error) => PingError::Waiting(text),
            _ => PingError::Refused(text),
        }
    }
}

impl PoolPing for Ping {
    fn ping<'a>(&'a self, endpoint: &'a Endpoint) -> Running<'a, Result<Pong, PingError>> {
        Box::pin(async move {
            let address = address(endpoint)?;
            let identity = self
                .client
                .query_authorization(&address, command::UPDATE_STARTD_AD)
                .await
                .map_err(|error| self.failed(&error))?;
            Ok(Pong {
                identity,
                ..Pong::default()
            })
        })
    }

    fn is_clock_within<'a>(
        &'a self,
        collector: &'a Endpoint,
        from: Option<i64>,
        to: Option<i64>,
    ) -> Running<'a, Result<bool, PingError>> {
        Box::pin(async move {
            let address = address(collector)?;
            let condition = condition(from, to);
            let asked = match ask(&self.client, &address, &condition).await {
                Err(error) if !matches!(error.step(), Step::Resolve | Step::Connect) => {
                    ask(&self.nobody, &address, &condition)
                        .await
                        // Why the pilot itself may not ask says more.
                        .map_err(|_| error)
                }
                asked => asked,
            };
            asked.map_err(|error| self.failed(&error))
        })
    }
}

fn address(endpoint: &Endpoint) -> Result<Sinful, PingError> {
    Sinful::parse(&endpoint.text)
        .or_else(|_| Sinful::from_contact(&endpoint.text, endpoint.port))
        .map_err(|error| PingError::Unreachable(error.to_string()))
}

/// The collector evaluates the requirements of a query: its clock is the only one that counts in them. No ad tells the time:
/// `MyCurrentTime` of its own is that of its last update, up to 15 minutes old
/// (`htcondor:src/condor_collector.V6/collector.cpp`, `COLLECTOR_UPDATE_INTERVAL`).
fn condition(from: Option<i64>, to: Option<i64>) -> String {
    let from = from.map(|from| format!("time() >= {from}"));
    let to = to.map(|to| format!("time() <= {to}"));
    let terms: Vec<String> = from.into_iter().chain(to).collect();
    if terms.is_empty() {
        "true".to_owned()
    } else {
        terms.join(" && ")
    }
}

/// Whether a collector has a collector's ad, its own for one, that suits.
async fn ask(client: &Client, address: &Sinful, condition: &str) -> Result<bool, Error> {
    let mut stream = client
        .start_command(address, command::QUERY_COLLECTOR_ADS)
        .await?;
    stream.set_max_message(LONGEST);
    let mut query = ClassAd::new();
    query.insert("MyType", "Query");
    query.insert("TargetType", "Collector");
    query.insert("Projection", "Name");
    query.insert("LimitResults", 1);
    if query.insert_expr("Requirements", condition).is_err() {
        tracing::error!(condition, "this is no expression");
    }
    let mut message = stream.message();
    message.ad(&query);
    stream.send(message).await?;
    let answer = stream.recv().await?;
    // What cannot be read is no ad, either.
    Ok(answer.reader().int().is_ok_and(|more| more != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        assert_eq!(condition(Some(-5), Some(7)), "time() >= -5 && time() <= 7");
        assert_eq!(condition(None, Some(7)), "time() <= 7");
        assert_eq!(condition(None, None), "true");
        assert!(classad::Expr::parse_old(&condition(Some(-5), Some(7))).is_ok());
    }
}
