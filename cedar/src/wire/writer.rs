use classad::ClassAd;
use zeroize::Zeroize;

use super::{Coding, WireError};
use crate::ad_wire;

/// Collects the values of one message to be sent; wiped when dropped unsent.
///
/// The methods do not fail one by one; a value that cannot be expressed makes
/// [`finish`](Self::finish) fail, so that a half-built message never reaches the wire.
pub struct MessageWriter {
    coding: Coding,
    body: Vec<u8>,
    fault: Option<WireError>,
}

impl MessageWriter {
    /// An empty message for a socket in the given state.
    pub fn new(coding: Coding) -> Self {
        Self {
            coding,
            body: Vec::new(),
            fault: None,
        }
    }

    /// The coding of this message's strings.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// An integer of any width, a boolean (0 or 1) or an enumeration.
    pub fn int(&mut self, value: i64) -> &mut Self {
        self.body.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A floating point number, with the 31 bits of precision the protocol has.
    pub fn double(&mut self, value: f64) -> &mut Self {
        let (fraction, exponent) = super::reader::split_double(value);
        self.int(fraction).int(exponent)
    }

    /// A string; one with a NUL inside spoils the message.
    pub fn str(&mut self, text: &str) -> &mut Self {
        self.str_bytes(text.as_bytes())
    }

    /// A string of arbitrary bytes without NUL, such as a file name.
    pub fn str_bytes(&mut self, text: &[u8]) -> &mut Self {
        if text.contains(&0) {
            self.fault.get_or_insert(WireError::NulInString);
            return self;
        }
        if self.coding == Coding::Encrypted {
            let length = i64::try_from(text.len()).unwrap_or(i64::MAX - 1);
            self.int(length + 1);
        }
        self.body.extend_from_slice(text);
        self.body.push(0);
        self
    }

    /// Raw bytes without a length; the protocol around them sends one.
    pub fn bytes(&mut self, data: &[u8]) -> &mut Self {
        self.body.extend_from_slice(data);
        self
    }

    /// An ad. Private attributes are sent only if the socket is encrypted (protocol 01 section 2.4).
    pub fn ad(&mut self, ad: &ClassAd) -> &mut Self {
        let private = self.coding == Coding::Encrypted;
        ad_wire::write(self, ad, private);
        self
    }

    /// An ad without its private attributes.
    pub fn ad_without_private(&mut self, ad: &ClassAd) -> &mut Self {
        ad_wire::write(self, ad, false);
        self
    }

    /// Number of bytes collected.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// True if nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// The body of the message, ready to be framed.
    ///
    /// # Errors
    ///
    /// [`WireError::NulInString`] or [`WireError::EmptyMessage`].
    pub fn finish(mut self) -> Result<Vec<u8>, WireError> {
        match self.fault.take() {
            Some(fault) => Err(fault),
            None if self.body.is_empty() => Err(WireError::EmptyMessage),
            None => Ok(std::mem::take(&mut self.body)),
        }
    }
}

impl Drop for MessageWriter {
    fn drop(&mut self) {
        // What was never sent may hold claim ids or tokens.
        self.body.zeroize();
    }
}

impl std::fmt::Debug for MessageWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "MessageWriter({} bytes, {:?})",
            self.body.len(),
            self.coding
        )
    }
}
