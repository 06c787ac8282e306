//! Id tokens: reading them, choosing one, checking them (protocol 01 section 5.2).

mod directory;
mod search;
mod signing;

use std::fmt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

pub use directory::read_directory;
pub use search::{FoundToken, Rejection, SearchedPlace, TokenSearch, TokenSet};
pub use signing::{SigningKeyError, SigningKeys};

use super::identity::TokenFacts;
use crate::crypto::Hash;
use crate::secret::{SecretBytes, SecretText};

/// Longest token accepted, in bytes.
pub const MAX_LEN: usize = 64 * 1024;

/// Key id of the pool's own signing key, also meant by a token without key id.
pub const POOL_KEY: &str = "POOL";

/// Why a text is no id token. The text itself is secret and never shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than [`MAX_LEN`].
    #[error("it is longer than {MAX_LEN} bytes")]
    TooLong,
    /// Not three parts separated by dots.
    #[error("it does not have the form header.payload.signature")]
    NotCompact,
    /// A part is not base64url.
    #[error("its {0} is not base64url")]
    NotBase64(&'static str),
    /// A part is no JSON object.
    #[error("its {0} is not a JSON object")]
    NotJson(&'static str),
    /// Signed with something else than HMAC.
    #[error("it is not signed with HS256, HS384 or HS512")]
    BadAlgorithm,
    /// A claim is missing or has the wrong type.
    #[error("it has no valid {0}")]
    BadClaim(&'static str),
}

/// What a token says, without its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenClaims {
    /// Hash of the signature.
    pub hash: Hash,
    /// `kid`, or [`POOL_KEY`].
    pub key_id: String,
    /// `iss`: the trust domain.
    pub issuer: String,
    /// `sub`: the identity.
    pub subject: String,
    /// `jti`.
    pub id: Option<String>,
    /// `iat`, unix time.
    pub issued_at: Option<i64>,
    /// `nbf`, unix time.
    pub not_before: Option<i64>,
    /// `exp`, unix time.
    pub expires: Option<i64>,
    /// `scope`.
    pub scopes: Option<String>,
}

impl TokenClaims {
    /// Reads `header.payload`, the part of a token that travels in the handshake.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn parse(signed: &str) -> Result<Self, TokenError> {
        if signed.len() > MAX_LEN {
            return Err(TokenError::TooLong);
        }
        let (header, payload) = signed.split_once('.').ok_or(TokenError::NotCompact)?;
        let header = json_part(header, "header")?;
        let payload = json_part(payload, "payload")?;
        let text = |object: &serde_json::Value, name: &str| {
            object.get(name).and_then(|v| v.as_str()).map(str::to_owned)
        };
        let hash = match header.get("alg").and_then(|alg| alg.as_str()) {
            Some("HS256") => Hash::Sha256,
            Some("HS384") => Hash::Sha384,
            Some("HS512") => Hash::Sha512,
            _ => return Err(TokenError::BadAlgorithm),
        };
        let key_id = text(&header, "kid")
            .filter(|kid| !kid.is_empty())
            .unwrap_or_else(|| POOL_KEY.to_owned());
        let issuer = text(&payload, "iss").ok_or(TokenError::BadClaim("iss"))?;
        let subject = text(&payload, "sub")
            .filter(|sub| !sub.is_empty() && !sub.contains(|c: char| c.is_control()))
            .ok_or(TokenError::BadClaim("sub"))?;
        Ok(Self {
            hash,
            key_id,
            issuer,
            subject,
            id: text(&payload, "jti"),
            issued_at: date(&payload, "iat")?,
            not_before: date(&payload, "nbf")?,
            expires: date(&payload, "exp")?,
            scopes: match payload.get("scope") {
                None => None,
                Some(serde_json::Value::String(scope)) => Some(scope.clone()),
                Some(_) => return Err(TokenError::BadClaim("scope")),
            },
        })
    }

    /// The facts to remember about a peer with this token.
    pub fn facts(&self) -> TokenFacts {
        TokenFacts {
            subject: self.subject.clone(),
            issuer: self.issuer.clone(),
            id: self.id.clone(),
            scopes: self.scopes.clone(),
            expires: self.expires,
        }
    }
}

/// What a server checks about a token beyond its signature, dates and issuer: revocation, age.
pub trait TokenRule: Send + Sync {
    /// Judges a token that names one of our keys, before its bearer proves that it has the signature.
    ///
    /// # Errors
    ///
    /// A sentence that says why the token is not accepted, for the server's log.
    fn check(&self, claims: &TokenClaims, now: i64) -> Result<(), String>;
}

/// A token we own. `Debug` shows its claims, never its text.
#[derive(Clone)]
pub struct Token {
    text: SecretText,
    signed_len: usize,
    claims: TokenClaims,
    origin: Option<PathBuf>,
}

impl Token {
    /// Reads a token in compact form.
    ///
    /// # Errors
    ///
    /// [`TokenError`].
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let (signed, signature) = text.rsplit_once('.').ok_or(TokenError::NotCompact)?;
        let claims = TokenClaims::parse(signed)?;
        if signature.is_empty() || URL_SAFE_NO_PAD.decode(signature).is_err() {
            return Err(TokenError::NotBase64("signature"));
        }
        Ok(Self {
            text: SecretText::new(text.to_owned()),
            signed_len: signed.len(),
            claims,
            origin: None,
        })
    }

    /// What the token says.
    pub fn claims(&self) -> &TokenClaims {
        &self.claims
    }

    /// The file the token came from.
    pub fn origin(&self) -> Option<&PathBuf> {
        self.origin.as_ref()
    }

    /// `header.payload`, exactly as issued.
    pub(crate) fn signed_part(&self) -> &str {
        self.text.expose().get(..self.signed_len).unwrap_or("")
    }

    /// The decoded signature, the secret shared with the server.
    pub(crate) fn signature(&self) -> SecretBytes {
        let text = self.text.expose().get(self.signed_len + 1..).unwrap_or("");
        // `parse` decoded it before.
        SecretBytes::new(URL_SAFE_NO_PAD.decode(text).unwrap_or_default())
    }

    pub(crate) fn with_origin(mut self, origin: PathBuf) -> Self {
        self.origin = Some(origin);
        self
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("claims", &self.claims)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

fn json_part(text: &str, part: &'static str) -> Result<serde_json::Value, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|_| TokenError::NotBase64(part))?;
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|_| TokenError::NotJson(part))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(TokenError::NotJson(part))
    }
}

/// A date: a JSON number, possibly with a fraction.
fn date(payload: &serde_json::Value, name: &'static str) -> Result<Option<i64>, TokenError> {
    let Some(value) = payload.get(name) else {
        return Ok(None);
    };
    if let Some(whole) = value.as_i64() {
        return Ok(Some(whole));
    }
    let real = value
        .as_f64()
        .filter(|real| (0.0..1e15).contains(real))
        .ok_or(TokenError::BadClaim(name))?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range was checked, and the fraction of a second does not matter"
    )]
    let whole = real as i64;
    Ok(Some(whole))
}
