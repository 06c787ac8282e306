//! Frames: header, limits, encryption; bytes to messages and back (protocol 01 sections 1.1, 4).

mod opener;
mod sealer;

pub use opener::Opener;
pub use sealer::Sealer;

use crate::crypto::{CryptoError, DIGEST_LEN, NONCE_LEN};
use crate::entropy::{Entropy, Purpose};
use crate::secret::SessionKey;
use crate::wire::Coding;

/// Length of a frame header: end flag and 32-bit length.
pub const HEADER_LEN: usize = 5;

/// Longest frame body. 23.9.6 accepts exactly this and not one byte more.
pub const MAX_BODY: usize = 1_048_576;

/// Largest end flag a peer may send; every non-zero value ends the message.
const MAX_END: u8 = 10;

/// Limit of a message during the handshake, in bytes.
pub const HANDSHAKE_LIMIT: usize = 64 * 1024;

/// Limit of a message on an established connection unless the caller sets another, in bytes.
pub const DEFAULT_LIMIT: usize = 64 * 1024 * 1024;

/// What is wrong with a frame.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame without a body.
    #[error("the peer sent an empty frame")]
    Empty,
    /// A body longer than [`MAX_BODY`].
    #[error("the peer announced a frame of {0} bytes, the limit is {MAX_BODY}")]
    TooLong(u32),
    /// An end flag outside 0..=10; the peer does not speak this protocol.
    #[error("the peer sent {0} where a frame begins with 0 or 1")]
    BadEnd(u8),
    /// A message longer than the limit in force.
    #[error("the peer's message is longer than the {limit} bytes allowed here")]
    MessageTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// A handshake message in several frames.
    #[error("the peer split a handshake message into several frames")]
    Split,
    /// An encrypted frame too short for its nonce and tag.
    #[error("the peer sent an encrypted frame of only {0} bytes")]
    Short(usize),
    /// So many frames that a nonce would be used twice.
    #[error("the connection has carried too many frames for its key")]
    Exhausted,
    /// Encryption was switched on twice.
    #[error("encryption is already on")]
    AlreadySecure,
    /// We were asked to send an empty message.
    #[error("an empty message cannot be sent")]
    EmptyMessage,
    /// Decryption failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// Both directions of one connection, without its socket.
#[derive(Debug)]
pub struct Channel {
    sealer: Sealer,
    opener: Opener,
}

impl Channel {
    /// A connection on which nothing was sent yet. Messages longer than `limit` bytes are refused,
    /// and with `single_frame` also messages of several frames, until encryption is on.
    pub fn new(limit: usize, single_frame: bool) -> Self {
        Self {
            sealer: Sealer::new(),
            opener: Opener::new(limit, single_frame),
        }
    }

    /// How strings are coded at the moment.
    pub fn coding(&self) -> Coding {
        self.opener.coding()
    }

    /// Appends one message, framed, to `out`.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if the message is empty or encryption fails.
    pub fn seal(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        self.sealer.seal_message(body, out)
    }

    /// Takes in bytes from the socket.
    pub fn push(&mut self, bytes: &[u8]) {
        self.opener.push(bytes);
    }

    /// The next complete message, if there is one.
    ///
    /// # Errors
    ///
    /// [`FrameError`]; the connection is then unusable.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        self.opener.next_message()
    }

    /// Forgets what was sent and received so far for the handshake digests: the final peer did not
    /// see it (protocol 01 section 4.3).
    pub fn restart_digests(&mut self) {
        self.sealer.restart_digest();
        self.opener.restart_digest();
    }

    /// Switches encryption on in both directions; the next frame each way is the first encrypted one.
    ///
    /// # Errors
    ///
    /// [`FrameError::AlreadySecure`], or a failure of the crypto library or the entropy source.
    pub fn secure(
        &mut self,
        key: &SessionKey,
        entropy: &mut dyn Entropy,
    ) -> Result<(), FrameError> {
        let sent = self.sealer.take_digest().ok_or(FrameError::AlreadySecure)?;
        let received = self.opener.take_digest().ok_or(FrameError::AlreadySecure)?;
        let mut base = [0u8; NONCE_LEN];
        entropy
            .fill(Purpose::BaseIv, &mut base)
            .map_err(CryptoError::from)?;
        self.sealer.secure(key, base, join(&sent, &received))?;
        self.opener.secure(key, join(&received, &sent))?;
        Ok(())
    }

    /// Sets the limit for messages to come, in bytes, and allows several frames.
    pub fn set_limit(&mut self, limit: usize) {
        self.opener.set_limit(limit);
    }

    /// Takes the two directions apart; each keeps its own counter.
    pub fn into_parts(self) -> (Sealer, Opener) {
        (self.sealer, self.opener)
    }

    /// The receiving direction, to hand it to a reader.
    pub fn opener_mut(&mut self) -> &mut Opener {
        &mut self.opener
    }
}

/// The digests that the first encrypted frame of a direction authenticates, sender's first.
type FirstAad = [u8; 2 * DIGEST_LEN];

fn join(first: &[u8; DIGEST_LEN], second: &[u8; DIGEST_LEN]) -> FirstAad {
    let mut both = [0u8; 2 * DIGEST_LEN];
    let (left, right) = both.split_at_mut(DIGEST_LEN);
    left.copy_from_slice(first);
    right.copy_from_slice(second);
    both
}

/// The nonce of frame `counter`: the first four bytes of the base are a big endian number to which
/// the counter is added (`htcondor:src/condor_io/condor_crypt_aesgcm.cpp`).
fn nonce(base: &[u8; NONCE_LEN], counter: u32) -> [u8; NONCE_LEN] {
    let mut nonce = *base;
    if let Some(head) = nonce.first_chunk_mut::<4>() {
        *head = u32::from_be_bytes(*head)
            .wrapping_add(counter)
            .to_be_bytes();
    }
    nonce
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    last: bool,
    length: usize,
}

impl Header {
    /// Checks a received header.
    fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, FrameError> {
        let [end, length @ ..] = *bytes;
        if end > MAX_END {
            return Err(FrameError::BadEnd(end));
        }
        let announced = u32::from_be_bytes(length);
        match usize::try_from(announced) {
            Ok(0) => Err(FrameError::Empty),
            Ok(length) if length <= MAX_BODY => Ok(Self {
                last: end != 0,
                length,
            }),
            _ => Err(FrameError::TooLong(announced)),
        }
    }

    fn encode(self) -> [u8; HEADER_LEN] {
        // The sealer never makes a body longer than MAX_BODY.
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        let [a, b, c, d] = length.to_be_bytes();
        [u8::from(self.last), a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_wraps_only_the_first_four_bytes() {
        let mut base = [0xffu8; NONCE_LEN];
        base[4] = 7;
        let next = nonce(&base, 2);
        assert_eq!(next[..5], [0, 0, 0, 1, 7]);
        assert_eq!(next[5..], base[5..]);
    }

    #[test]
    fn header_limits_are_those_of_the_real_daemons() {
        assert!(Header::parse(&[1, 0, 0x10, 0, 0]).is_ok());
        assert!(matches!(
            Header::parse(&[1, 0, 0x10, 0, 1]),
            Err(FrameError::TooLong(1_048_577))
        ));
        assert!(matches!(
            Header::parse(&[0, 0, 0, 0, 0]),
            Err(FrameError::Empty)
        ));
        assert!(matches!(
            Header::parse(b"GET /"),
            Err(FrameError::BadEnd(b'G'))
        ));
        assert!(Header::parse(&[10, 0, 0, 0, 1]).unwrap().last);
    }
}
