//! The pool password (protocol 01 section 5.3).

use crate::crypto::unscramble;
use crate::secret::SecretBytes;

/// Why a password cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// There is nothing in it.
    #[error("the pool password is empty")]
    Empty,
}

/// The password that all daemons of a pool share. `Debug` does not show it.
#[derive(Debug, Clone)]
pub struct PoolPassword {
    text: SecretBytes,
}

impl PoolPassword {
    /// The password itself.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Empty`].
    pub fn new(text: &str) -> Result<Self, PasswordError> {
        Self::of(text.as_bytes())
    }

    /// The password in the content of a file that `condor_store_cred` made: scrambled, and over at
    /// the first NUL.
    ///
    /// # Errors
    ///
    /// [`PasswordError::Empty`].
    pub fn from_file_content(content: &[u8]) -> Result<Self, PasswordError> {
        let clear = SecretBytes::new(unscramble(content));
        let text = clear.expose().split(|byte| *byte == 0).next();
        Self::of(text.unwrap_or_default())
    }

    fn of(text: &[u8]) -> Result<Self, PasswordError> {
        if text.is_empty() {
            return Err(PasswordError::Empty);
        }
        Ok(Self {
            text: SecretBytes::new(text.to_vec()),
        })
    }

    /// The secret that the keys of the method are derived from: the text twice.
    pub(crate) fn shared(&self) -> SecretBytes {
        SecretBytes::new(self.text.expose().repeat(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_unscrambled_and_ends_at_the_first_nul() {
        let content: Vec<u8> = b"secret\0rest"
            .iter()
            .zip([0xDE, 0xAD, 0xBE, 0xEF].iter().cycle())
            .map(|(byte, mask)| byte ^ mask)
            .collect();
        let password = PoolPassword::from_file_content(&content).unwrap();
        assert_eq!(password.shared().expose(), b"secretsecret");
        assert!(!format!("{password:?}").contains("secret"));
    }

    #[test]
    fn an_empty_password_protects_nothing_and_is_refused() {
        assert_eq!(PoolPassword::new("").err(), Some(PasswordError::Empty));
        let scrambled_nul = [0xDE];
        let refused = PoolPassword::from_file_content(&scrambled_nul).err();
        assert_eq!(refused, Some(PasswordError::Empty));
    }
}
