//! Signing keys: what a server needs to recompute the signature of a token.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{POOL_KEY, TokenClaims};
use crate::crypto::{self, CryptoError, Hash};
use crate::secret::SecretBytes;

/// A key file cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SigningKeyError {
    /// The file is empty.
    #[error("the signing key is empty")]
    Empty,
    /// The key could not be prepared.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// Signing keys by key id.
#[derive(Debug, Clone, Default)]
pub struct SigningKeys {
    hmac_keys: BTreeMap<String, SecretBytes>,
}

impl SigningKeys {
    /// No key at all: tokens cannot be checked.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key from the content of its file. The pool key (`POOL`) is doubled, others are not.
    ///
    /// # Errors
    ///
    /// [`SigningKeyError`].
    pub fn add_file(&mut self, key_id: &str, content: &[u8]) -> Result<(), SigningKeyError> {
        if content.is_empty() {
            return Err(SigningKeyError::Empty);
        }
        let mut key = crypto::unscramble(content);
        if key_id == POOL_KEY {
            key.extend_from_within(..);
        }
        let key = SecretBytes::new(key);
        let hmac_key = crypto::token_hmac_key(key.expose())?;
        self.hmac_keys.insert(key_id.to_owned(), hmac_key);
        Ok(())
    }

    /// The key ids, for `IssuerKeys`.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.hmac_keys.keys().map(String::as_str)
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.hmac_keys.is_empty()
    }

    /// The signature that a token with this `header.payload` must have; `None` for a foreign key.
    pub(crate) fn signature(
        &self,
        claims: &TokenClaims,
        signed_part: &str,
    ) -> Option<Result<SecretBytes, CryptoError>> {
        let key = self.hmac_keys.get(&claims.key_id)?;
        let sign = crypto::hmac(claims.hash, key.expose(), &[signed_part.as_bytes()]);
        Some(sign.map(SecretBytes::new))
    }

    /// Issues a token signed with `key_id`: for pools of ours and for tests. `payload` is the JSON
    /// object of claims. `None` if there is no such key.
    pub fn issue(&self, key_id: &str, payload: &str) -> Option<Result<String, CryptoError>> {
        let key = self.hmac_keys.get(key_id)?;
        let header = serde_json::json!({ "alg": "HS256", "kid": key_id }).to_string();
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = crypto::hmac(Hash::Sha256, key.expose(), &[signed.as_bytes()]);
        Some(signature.map(|bytes| format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))))
    }
}
