use bytes::{Buf, BytesMut};

use super::{FirstAad, FrameError, HEADER_LEN, Header, nonce};
use crate::crypto::{Aead, DIGEST_LEN, HandshakeDigest, NONCE_LEN, TAG_LEN};
use crate::secret::SessionKey;
use crate::wire::Coding;

/// The receiving direction of a connection.
#[derive(Debug)]
pub struct Opener {
    state: State,
    buffer: BytesMut,
    message: Vec<u8>,
    limit: usize,
    single_frame: bool,
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
    base: Option<[u8; NONCE_LEN]>,
    counter: u32,
    first_aad: FirstAad,
}

impl Opener {
    pub(super) fn new(limit: usize, single_frame: bool) -> Self {
        Self {
            state: State::Clear(HandshakeDigest::default()),
            buffer: BytesMut::new(),
            message: Vec::new(),
            limit,
            single_frame,
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

    /// Sets the limit for messages to come, in bytes, and allows several frames.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.single_frame = false;
    }

    /// Takes in bytes from the socket.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The buffer into which a socket can read directly.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// How many bytes the current frame still needs; a hint for the size of the next read.
    pub fn wanted(&self) -> usize {
        match self.buffer.first_chunk::<HEADER_LEN>() {
            None => HEADER_LEN - self.buffer.len(),
            Some(header) => match Header::parse(header) {
                Ok(header) => (HEADER_LEN + header.length).saturating_sub(self.buffer.len()),
                Err(_) => 0,
            },
        }
    }

    /// True if part of a message has arrived: an end of the stream now is an accident.
    pub fn is_mid_message(&self) -> bool {
        !self.buffer.is_empty() || !self.message.is_empty()
    }

    /// The next complete message, if there is one.
    ///
    /// # Errors
    ///
    /// [`FrameError`]; the connection is then unusable.
    pub fn next_message(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let complete = self.complete_message()?;
        Ok(complete.then(|| std::mem::take(&mut self.message)))
    }

    /// As [`next_message`](Self::next_message), into a buffer of the caller's, whose memory is used
    /// again for the message after it. False if there is no complete message.
    ///
    /// # Errors
    ///
    /// [`FrameError`]; the connection is then unusable.
    pub fn next_message_into(&mut self, out: &mut Vec<u8>) -> Result<bool, FrameError> {
        let complete = self.complete_message()?;
        if complete {
            std::mem::swap(&mut self.message, out);
            self.message.clear();
        }
        Ok(complete)
    }

    /// Opens frames until `self.message` is complete.
    fn complete_message(&mut self) -> Result<bool, FrameError> {
        while let Some(raw) = self.buffer.first_chunk::<HEADER_LEN>() {
            let raw = *raw;
            let header = Header::parse(&raw)?;
            if !header.last && self.single_frame {
                return Err(FrameError::Split);
            }
            if self.message.len().saturating_add(header.length) > self.limit.saturating_add(64) {
                return Err(FrameError::MessageTooLong { limit: self.limit });
            }
            let Some(body) = self.buffer.get(HEADER_LEN..HEADER_LEN + header.length) else {
                return Ok(false);
            };
            match &mut self.state {
                State::Clear(digest) => {
                    digest.update(&raw);
                    digest.update(body);
                    self.message.extend_from_slice(body);
                }
                State::Plain => self.message.extend_from_slice(body),
                State::Secure(secure) => secure.open_frame(&raw, body, &mut self.message)?,
            }
            self.buffer.advance(HEADER_LEN + header.length);
            if self.message.len() > self.limit {
                return Err(FrameError::MessageTooLong { limit: self.limit });
            }
            if header.last {
                return Ok(true);
            }
        }
        Ok(false)
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
        first_aad: FirstAad,
    ) -> Result<(), FrameError> {
        self.state = State::Secure(Box::new(Secure {
            aead: Aead::opening(key)?,
            base: None,
            counter: 0,
            first_aad,
        }));
        Ok(())
    }
}

impl Secure {
    fn open_frame(
        &mut self,
        header: &[u8; HEADER_LEN],
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), FrameError> {
        let (base, sealed, first) = match self.base {
            Some(base) => (base, body, false),
            None => {
                let (base, sealed) = body
                    .split_first_chunk::<NONCE_LEN>()
                    .ok_or(FrameError::Short(body.len()))?;
                (*base, sealed, true)
            }
        };
        if sealed.len() < TAG_LEN {
            return Err(FrameError::Short(body.len()));
        }
        let nonce = nonce(&base, self.counter);
        if first {
            let aad: [&[u8]; 2] = [&self.first_aad, header];
            self.aead.open(&nonce, &aad, sealed, out)?;
            self.base = Some(base);
        } else {
            self.aead.open(&nonce, &[header], sealed, out)?;
        }
        self.counter = self
            .counter
            .checked_add(1)
            .filter(|next| *next < u32::MAX)
            .ok_or(FrameError::Exhausted)?;
        Ok(())
    }
}
