//! How a manifest is named and pinned: `ADDRESS#sha256=DIGEST` or `ADDRESS#ed25519=KEY`.
//!
//! Ed25519 and not CMS or OpenPGP: what is checked before anything can be believed should be small. A signature is 64
//! bytes and a key 32, there is nothing to choose and nothing to parse (no ASN.1, no certificates, no clock), each key is
//! one word on a command line, and any OpenSSL since 1.1.1 makes and checks the same signatures.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::pkey::{Id, PKey, Public};
use openssl::sign::Verifier;
use thiserror::Error;

use crate::fetch::{Digest, Location, LocationError};

/// What makes a manifest believable.
#[derive(Debug, Clone)]
pub enum Pin {
    /// It is exactly this one.
    Digest(Digest),
    /// It is signed by one of these keys.
    Keys(Vec<Key>),
}

/// A public key.
#[derive(Clone)]
pub struct Key {
    text: String,
    key: PKey<Public>,
}

/// A manifest, as the configuration names it.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it is.
    pub location: Location,
    /// What makes it believable.
    pub pin: Pin,
}

/// Text that names no manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BadPin {
    /// Its address.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// No pin.
    #[error(
        "{0} is not pinned: write #sha256=DIGEST behind it for this very manifest, or #ed25519=KEY for whatever that key \
         has signed"
    )]
    Missing(String),
    /// A pin of another kind, or one that is none.
    #[error("{0:?} pins nothing: it has to be sha256=DIGEST or ed25519=KEY")]
    Unknown(String),
    /// A key that is none.
    #[error(
        "{0:?} is no Ed25519 key: it is base64 of 32 bytes, as sailplane manifest key prints it"
    )]
    Key(String),
}

impl Source {
    /// Reads what the configuration says. Several keys are joined by `&`: the old and the new one while they change.
    ///
    /// # Errors
    /// [`BadPin`].
    pub fn parse(text: &str) -> Result<Self, BadPin> {
        let (address, pin) = text
            .split_once('#')
            .ok_or_else(|| BadPin::Missing(text.chars().take(200).collect()))?;
        let location = Location::parse(address)?;
        let unknown = |word: &str| BadPin::Unknown(word.chars().take(100).collect());
        if let Some(digest) = pin.strip_prefix("sha256=") {
            let digest = Digest::parse(digest).map_err(|_| unknown(pin))?;
            return Ok(Self {
                location,
                pin: Pin::Digest(digest),
            });
        }
        let keys = pin
            .split('&')
            .map(|word| {
                let key = word.strip_prefix("ed25519=").ok_or_else(|| unknown(word))?;
                Key::parse(key)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            location,
            pin: Pin::Keys(keys),
        })
    }
}

impl Key {
    /// Reads base64 of the 32 bytes.
    ///
    /// # Errors
    /// [`BadPin::Key`].
    pub fn parse(text: &str) -> Result<Self, BadPin> {
        let bad = || BadPin::Key(text.chars().take(100).collect());
        let bytes = STANDARD.decode(text).map_err(|_| bad())?;
        if bytes.len() != 32 {
            return Err(bad());
        }
        let key = PKey::public_key_from_raw_bytes(&bytes, Id::ED25519).map_err(|_| bad())?;
        Ok(Self {
            text: text.to_owned(),
            key,
        })
    }

    /// Whether it has signed this.
    #[must_use]
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        Verifier::new_without_digest(&self.key)
            .and_then(|mut verifier| verifier.verify_oneshot(signature, message))
            .unwrap_or(false)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ed25519={}", self.text)
    }
}

/// Reads a file of signatures: 64 bytes as OpenSSL writes them, or lines of base64. Nothing: there is none in it.
#[must_use]
pub fn signatures(file: &[u8]) -> Vec<Vec<u8>> {
    if file.len() == 64 {
        return vec![file.to_vec()];
    }
    String::from_utf8_lossy(file)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .take(16)
        .filter_map(|line| STANDARD.decode(line).ok())
        .filter(|signature| signature.len() == 64)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_pinned_is_not_taken() {
        let digest = Digest::of(b"");
        assert!(Source::parse(&format!("https://h/m.json#sha256={digest}")).is_ok());
        for bad in [
            "https://h/m.json",
            "https://h/m.json#",
            "https://h/m.json#sha256=12",
            "https://h/m.json#md5=12",
            "https://h/m.json#ed25519=AAAA",
            "http://h/m.json#sha256=00",
        ] {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signatures_come_raw_or_as_lines() {
        assert_eq!(signatures(&[7; 64]).len(), 1);
        let line = STANDARD.encode([7; 64]);
        assert_eq!(
            signatures(format!("# old\n{line}\n\n{line}\nAAAA\n").as_bytes()).len(),
            2
        );
        assert_eq!(signatures(b"").len(), 0);
    }
}
