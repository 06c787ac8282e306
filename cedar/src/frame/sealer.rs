use super::{FirstAad, FrameError, HEADER_LEN, Header, MAX_BODY, nonce};
use crate::crypto::{Aead, DIGEST_LEN, HandshakeDigest, NONCE_LEN, TAG_LEN};
use crate::secret::SessionKey;
use crate::wire::Coding;

/// Plain bytes per frame: the largest frame of ours, nonce and tag included, is exactly [`MAX_BODY`].
pub(super) const FRAME_PLAIN: usize = MAX_BODY - NONCE_LEN - TAG_LEN;

/// The sending direction of a connection.
#[derive(Debug)]
pub struct Sealer {
    state: State,
}

#[derive(Debug)]
enum State {
    Clear(HandshakeDigest),
    /// Clear for good: nothing will ever be authenticated.
    Plain,
    Secure(Box<Secure>),
}

#[derive(Debug)]
struct Secure {
    aead: Aead,
    base: [u8; NONCE_LEN],
    counter: u32,
    first_aad: FirstAad,
}

impl Sealer {
    pub(super) fn new() -> Self {
        Self {
            state: State::Clear(HandshakeDigest::default()),
        }
    }

    /// How strings of the next message are coded.
    pub fn coding(&self) -> Coding {
        match self.state {
            State::Secure(_) => Coding::Encrypted,
            State::Clear(_) | State::Plain => Coding::Plain,
        }
    }

    /// Declares that encryption will never be switched on, so that nothing needs to be hashed.
    pub fn stay_plain(&mut self) {
        if let State::Clear(_) = self.state {
            self.state = State::Plain;
        }
    }

    /// Appends a whole message to `out`, in as few frames as the limit of the peers allows.
    ///
    /// # Errors
    ///
    /// [`FrameError::EmptyMessage`], or a failure to encrypt.
    pub fn seal_message(&mut self, body: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        let mut rest = Some(body);
        while let Some(body) = rest {
            rest = self.seal_next(body, out)?;
        }
        Ok(())
    }

    /// Appends one frame of a message to `out` and returns what is left of `body`; `None` if the
    /// message is complete. Sending a long message frame by frame needs one frame of memory.
    ///
    /// # Errors
    ///
    /// [`FrameError::EmptyMessage`], or a failure to encrypt.
    pub fn seal_next<'b>(
        &mut self,
        body: &'b [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<&'b [u8]>, FrameError> {
        if body.is_empty() {
            return Err(FrameError::EmptyMessage);
        }
        match body.split_at_checked(FRAME_PLAIN) {
            Some((part, rest)) if !rest.is_empty() => {
                self.seal_frame(part, false, out)?;
                Ok(Some(rest))
            }
            _ => {
                self.seal_frame(body, true, out)?;
                Ok(None)
            }
        }
    }

    /// Appends the next part of a message that is not complete with it, in as few frames as possible.
    ///
    /// # Errors
    ///
    /// [`FrameError::EmptyMessage`] for an empty part, or a failure to encrypt.
    pub fn seal_part(&mut self, part: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        if part.is_empty() {
            return Err(FrameError::EmptyMessage);
        }
        for frame in part.chunks(FRAME_PLAIN) {
            self.seal_frame(frame, false, out)?;
        }
        Ok(())
    }

    fn seal_frame(&mut self, part: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), FrameError> {
        out.reserve(HEADER_LEN + NONCE_LEN + part.len() + TAG_LEN);
        match &mut self.state {
            State::Clear(digest) => {
                let header = Header {
                    last,
                    length: part.len(),
                }
                .encode();
                digest.update(&header);
                digest.update(part);
                out.extend_from_slice(&header);
                out.extend_from_slice(part);
            }
            State::Plain => {
                let header = Header {
                    last,
                    length: part.len(),
                };
                out.extend_from_slice(&header.encode());
                out.extend_from_slice(part);
            }
            State::Secure(secure) => secure.seal_frame(part, last, out)?,
        }
        Ok(())
    }

    pub(super) fn restart_digest(&mut self) {
        if let State::Clear(digest) = &mut self.state {
            *digest = HandshakeDigest::default();
        }
    }

    pub(super) fn take_digest(&mut self) -> Option<[u8; DIGEST_LEN]> {
        match std::mem::replace(&mut self.state, State::Plain) {
            State::Clear(digest) => Some(digest.finish()),
            other => {
                self.state = other;
                None
            }
        }
    }

    pub(super) fn secure(
        &mut self,
        key: &SessionKey,
        base: [u8; NONCE_LEN],
        first_aad: FirstAad,
    ) -> Result<(), FrameError> {
        self.state = State::Secure(Box::new(Secure {
            aead: Aead::sealing(key)?,
            base,
            counter: 0,
            first_aad,
        }));
        Ok(())
    }
}

impl Secure {
    fn seal_frame(&mut self, part: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let first = self.counter == 0;
        let prefix = if first { NONCE_LEN } else { 0 };
        let header = Header {
            last,
            length: prefix + part.len() + TAG_LEN,
        }
        .encode();
        let nonce = nonce(&self.base, self.counter);
        // One frame before the counter would wrap, the connection ends.
        self.counter = self
            .counter
            .checked_add(1)
            .filter(|next| *next < u32::MAX)
            .ok_or(FrameError::Exhausted)?;
        out.extend_from_slice(&header);
        if first {
            out.extend_from_slice(&self.base);
            let aad: [&[u8]; 2] = [&self.first_aad, &header];
            self.aead.seal(&nonce, &aad, part, out)?;
        } else {
            self.aead.seal(&nonce, &[&header], part, out)?;
        }
        Ok(())
    }
}
