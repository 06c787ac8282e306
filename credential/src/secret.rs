//! A credential with its private key: wiped when dropped, never printed.

use std::fmt;

use zeroize::Zeroizing;

/// A PEM bundle that holds a private key. `Debug` shows only its length; the memory is wiped on
/// drop. Write it to a file of mode 0600 and nowhere else.
#[derive(Clone)]
pub struct SecretPem(Zeroizing<Vec<u8>>);

impl SecretPem {
    pub(crate) fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The PEM text, key included.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretPem({} bytes)", self.0.len())
    }
}
