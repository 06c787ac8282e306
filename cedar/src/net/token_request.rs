//! Asking a pool for a token that its administrator approves (protocol 01 section 9.1).

use classad::ClassAd;

use super::client::Client;
use super::error::Error;
use crate::Sinful;
use crate::command::{DC_FINISH_TOKEN_REQUEST, DC_START_TOKEN_REQUEST};
use crate::entropy::{Entropy, Purpose, SystemEntropy};
use crate::secret::SecretText;
use crate::security::Level;
use crate::security::token::{Token, TokenError};

/// `ErrorCode` of a request that is not known (any more), or of another client.
const UNKNOWN: i64 = 3;

/// `ErrorCode` of a request that has waited too long, and of asking too often.
const EXPIRED: i64 = 5;

/// Longest text of the server that is passed on, in characters.
const MAX_TEXT: usize = 300;

/// The token that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenWish {
    /// The identity; one without `@` is of the server's trust domain.
    pub identity: String,
    /// What the token shall be good for; empty: all that the identity may do.
    pub scopes: Vec<Level>,
    /// Its life in seconds; `None`: what the server gives.
    pub lifetime: Option<i64>,
    /// Names the asking program for the administrator: letters, digits, `-`.
    pub client_name: String,
}

/// A token as the server sent it.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// The token, for a file.
    pub text: SecretText,
    /// What it says.
    pub token: Token,
}

/// What became of asking.
#[derive(Debug, Clone)]
pub enum TokenAnswer {
    /// It was approved at once.
    Issued(IssuedToken),
    /// An administrator has to approve it.
    Pending(PendingToken),
}

/// A request that waits for approval.
#[derive(Debug, Clone)]
pub struct PendingToken {
    /// The number to tell the administrator.
    pub request_id: String,
    /// The identity that was asked for.
    pub identity: String,
    /// The secret that only the asking client has.
    client_id: SecretText,
}

/// There is no token, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenRequestError {
    /// The connection failed, or the handshake.
    #[error(transparent)]
    Net(#[from] Error),
    /// The connection is not encrypted: whoever listens would get the token.
    #[error("the connection is not encrypted, so no token is asked for")]
    NotEncrypted,
    /// The identity is one without a domain, and the server does not tell its own.
    #[error(
        "the server does not tell its trust domain; name the identity with its domain, NAME@DOMAIN"
    )]
    NoDomain,
    /// The server said no.
    #[error("the server refuses the request (code {code}): {text}")]
    Refused {
        /// `ErrorCode`.
        code: i64,
        /// `ErrorString`.
        text: String,
    },
    /// The answer is none.
    #[error("the server's answer to the request has no valid {0}")]
    Malformed(&'static str),
    /// The token that came is none.
    #[error("the server sent a token that cannot be used: {0}")]
    BadToken(#[from] TokenError),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] crate::entropy::EntropyError),
}

impl TokenRequestError {
    /// True if the request is dead: it was denied, forgotten, or has waited too long. Ask anew.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: UNKNOWN | EXPIRED,
                ..
            }
        )
    }
}

impl Client {
    /// Asks the daemon at `address` for a token. `may_ask` is told the server's trust domain before anything is asked;
    /// if it says no, nothing is, and the answer is `None`.
    ///
    /// The server must prove who it is: use a client whose methods do that, such as SSL.
    ///
    /// # Errors
    ///
    /// [`TokenRequestError`].
    pub async fn request_token(
        &self,
        address: &Sinful,
        wish: &TokenWish,
        may_ask: impl FnOnce(Option<&str>) -> bool,
    ) -> Result<Option<TokenAnswer>, TokenRequestError> {
        // Only a handshake tells the server's trust domain.
        self.forget(address);
        let mut stream = self.start_command(address, DC_START_TOKEN_REQUEST).await?;
        if !stream.is_encrypted() {
            return Err(TokenRequestError::NotEncrypted);
        }
        let domain = stream.trust_domain();
        if !may_ask(domain) {
            return Ok(None);
        }
        let identity = match (wish.identity.contains('@'), domain) {
            (true, _) => wish.identity.clone(),
            (false, Some(domain)) => format!("{}@{domain}", wish.identity),
            (false, None) => return Err(TokenRequestError::NoDomain),
        };
        let client_id = client_id(&wish.client_name, &mut SystemEntropy)?;
        let mut message = stream.message();
        message.ad(&request(wish, &identity, &client_id));
        stream.send(message).await?;
        let ad = stream.recv().await?.reader().ad();
        let ad = ad.map_err(|_| TokenRequestError::Malformed("ad"))?;
        if let Some(issued) = issued(&ad)? {
            return Ok(Some(TokenAnswer::Issued(issued)));
        }
        let request_id = ad
            .string("RequestId")
            .filter(|id| {
                !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric())
            })
            .ok_or(TokenRequestError::Malformed("RequestId"))?;
        Ok(Some(TokenAnswer::Pending(PendingToken {
            request_id,
            identity,
            client_id,
        })))
    }

    /// Asks whether the request has been approved; `None`: not yet. The server limits how often that may be asked:
    /// once in five seconds is HTCondor's own pace. A token is handed out once.
    ///
    /// # Errors
    ///
    /// [`TokenRequestError`].
    pub async fn requested_token(
        &self,
        address: &Sinful,
        pending: &PendingToken,
    ) -> Result<Option<IssuedToken>, TokenRequestError> {
        let mut stream = self.start_command(address, DC_FINISH_TOKEN_REQUEST).await?;
        if !stream.is_encrypted() {
            return Err(TokenRequestError::NotEncrypted);
        }
        let mut ad = ClassAd::new();
        ad.insert("ClientId", pending.client_id.expose());
        ad.insert("RequestId", pending.request_id.as_str());
        let mut message = stream.message();
        message.ad(&ad);
        stream.send(message).await?;
        let ad = stream.recv().await?.reader().ad();
        issued(&ad.map_err(|_| TokenRequestError::Malformed("ad"))?)
    }
}

/// A text that nobody can guess, and that names the asking program for the administrator.
fn client_id(name: &str, entropy: &mut dyn Entropy) -> Result<SecretText, TokenRequestError> {
    use std::fmt::Write as _;
    let mut random = [0u8; 16];
    entropy.fill(Purpose::Name, &mut random)?;
    let mut text = format!("{name}-");
    for byte in random {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(SecretText::new(text))
}

fn request(wish: &TokenWish, identity: &str, client_id: &SecretText) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("ClientId", client_id.expose());
    ad.insert("User", identity);
    if !wish.scopes.is_empty() {
        let names: Vec<_> = wish.scopes.iter().map(|scope| scope.name()).collect();
        ad.insert("LimitAuthorization", names.join(","));
    }
    if let Some(lifetime) = wish.lifetime {
        ad.insert("TokenLifetime", lifetime);
    }
    ad
}

/// The token in an answer; `None` if there is none yet.
pub(crate) fn issued(ad: &ClassAd) -> Result<Option<IssuedToken>, TokenRequestError> {
    if let Some(code) = ad.int("ErrorCode").filter(|code| *code != 0) {
        let text = ad.string("ErrorString").unwrap_or_default();
        let text = text.chars().filter(|c| !c.is_control());
        return Err(TokenRequestError::Refused {
            code,
            text: text.take(MAX_TEXT).collect(),
        });
    }
    match ad.string("Token").map(SecretText::new) {
        None => Ok(None),
        Some(text) if text.expose().is_empty() => Ok(None),
        Some(text) => {
            let token = Token::parse(text.expose())?;
            Ok(Some(IssuedToken { text, token }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ad(text: &str) -> ClassAd {
        ClassAd::parse_old(text).unwrap()
    }

    #[test]
    fn an_answer_is_a_token_a_refusal_or_patience() {
        assert!(issued(&ad("Token = \"\"")).unwrap().is_none());
        assert!(issued(&ad("RequestId = \"1234567\"")).unwrap().is_none());
        let refused = issued(&ad("ErrorCode = 3\nErrorString = \"Request unknown.\"")).unwrap_err();
        assert!(refused.is_over());
        assert!(refused.to_string().contains("Request unknown."));
        assert!(matches!(
            issued(&ad("Token = \"nonsense\"")),
            Err(TokenRequestError::BadToken(_))
        ));
        let mut keys = crate::security::token::SigningKeys::new();
        keys.add_file("POOL", &[1; 32]).unwrap();
        let text = keys
            .issue("POOL", r#"{"iss":"test.pool","sub":"pilot@test.pool"}"#)
            .unwrap()
            .unwrap();
        let found = issued(&ad(&format!("Token = \"{text}\"")))
            .unwrap()
            .unwrap();
        assert_eq!(found.token.claims().subject, "pilot@test.pool");
        assert_eq!(found.text.expose(), text);
        assert!(!format!("{found:?}").contains(&text));
    }

    #[test]
    fn the_request_says_what_is_wanted() {
        let wish = TokenWish {
            identity: "pilot".to_owned(),
            scopes: vec![Level::AdvertiseStartd, Level::Read],
            lifetime: Some(3600),
            client_name: "sailplane-node".to_owned(),
        };
        let id = client_id(&wish.client_name, &mut SystemEntropy).unwrap();
        assert!(id.expose().starts_with("sailplane-node-") && id.expose().len() > 40);
        let ad = request(&wish, "pilot@test.pool", &id);
        assert_eq!(ad.string("User").as_deref(), Some("pilot@test.pool"));
        assert_eq!(
            ad.string("LimitAuthorization").as_deref(),
            Some("ADVERTISE_STARTD,READ")
        );
        assert_eq!(ad.int("TokenLifetime"), Some(3600));
    }
}
