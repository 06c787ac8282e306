//! Holders of key material and secret text: wiped when dropped, never printed.

use std::fmt;

use zeroize::Zeroize;

/// An AES-256 session key, 32 bytes.
#[derive(Clone)]
pub struct SessionKey([u8; Self::LEN]);

impl SessionKey {
    /// Length of the key in bytes.
    pub const LEN: usize = 32;

    /// Takes over 32 bytes of key material; the caller wipes its own copy.
    pub fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The raw key bytes, for the cipher.
    pub fn expose(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl Drop for SessionKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(hidden)")
    }
}

/// Secret bytes of any length: signing keys, token signatures, derived AKEP2 keys.
#[derive(Clone, Default)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes over the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes hidden)", self.0.len())
    }
}

/// Secret text: claim ids, tokens.
#[derive(Clone, Default)]
pub struct SecretText(String);

impl SecretText {
    /// Takes over the text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretText({} bytes hidden)", self.0.len())
    }
}
