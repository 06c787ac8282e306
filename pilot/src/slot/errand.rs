//! What the slot says to the schedd of its own accord: ALIVE and RELEASE_CLAIM, in the session of the claim
//! (02, sections 2.5 and 2.8).

use std::time::Duration;

use cedar::net::{Client, Error};
use cedar::{ClaimId, Sinful, command};
use tokio::time::timeout;

use super::event::ClaimNumber;

/// Limit of one errand.
const LIMIT: Duration = Duration::from_secs(20);

/// What came of an errand.
#[derive(Debug)]
pub(super) enum Errand {
    /// The answer to ALIVE; `None` when there was none.
    Alive {
        /// The claim.
        claim: ClaimNumber,
        /// Whether the schedd knows it.
        known: Option<bool>,
    },
    /// The release was delivered, or not: the lease has to do then.
    Released,
}

/// Sends ALIVE and waits for the answer: -1 is "unknown", anything else renews.
pub(super) async fn alive(
    client: Client,
    schedd: Sinful,
    claim: ClaimNumber,
    id: ClaimId,
) -> Errand {
    let talk = async {
        let mut stream = client
            .start_command_in_session(&schedd, command::ALIVE, id.session_id())
            .await?;
        let mut message = stream.message();
        message.str(id.as_str());
        stream.send(message).await?;
        let answer = stream.recv().await?;
        Ok::<_, Error>(
            answer
                .reader()
                .int()
                .map(|value| value != -1)
                .unwrap_or(true),
        )
    };
    let known = match timeout(LIMIT, talk).await {
        Ok(Ok(known)) => Some(known),
        Ok(Err(error)) => {
            tracing::warn!(claim = id.public(), %schedd, "no answer to the keep-alive: {error}");
            None
        }
        Err(_) => None,
    };
    Errand::Alive { claim, known }
}

/// Tells the schedd that the claim is over.
pub(super) async fn release(client: Client, schedd: Sinful, id: ClaimId) -> Errand {
    let talk = async {
        let mut stream = client
            .start_command_in_session(&schedd, command::RELEASE_CLAIM, id.session_id())
            .await?;
        let mut message = stream.message();
        message.str(id.as_str());
        stream.send(message).await?;
        stream.shutdown().await
    };
    match timeout(LIMIT, talk).await {
        Ok(Ok(())) => {
            tracing::debug!(claim = id.public(), %schedd, "told the schedd that the claim is over")
        }
        Ok(Err(error)) => {
            tracing::info!(claim = id.public(), %schedd, "could not tell the schedd that the claim is over: {error}");
        }
        Err(_) => {
            tracing::info!(claim = id.public(), %schedd, "no time to tell the schedd that the claim is over")
        }
    }
    Errand::Released
}
