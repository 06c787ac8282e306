use classad::ClassAd;

use super::{Coding, NULL_STRING, WireError};
use crate::ad_wire;

/// Reads the values of one complete message in order.
#[derive(Clone)]
pub struct MessageReader<'a> {
    coding: Coding,
    body: &'a [u8],
    at: usize,
}

impl<'a> MessageReader<'a> {
    /// A reader at the start of `body`.
    pub fn new(coding: Coding, body: &'a [u8]) -> Self {
        Self {
            coding,
            body,
            at: 0,
        }
    }

    /// An integer.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`].
    pub fn int(&mut self) -> Result<i64, WireError> {
        let at = self.at;
        let bytes = self.take(8, "an integer")?;
        let bytes: [u8; 8] = bytes.try_into().map_err(|_| WireError::Truncated {
            what: "an integer",
            at,
        })?;
        Ok(i64::from_be_bytes(bytes))
    }

    /// An integer where the protocol has a C `int`.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] or [`WireError::IntegerRange`].
    pub fn int32(&mut self) -> Result<i32, WireError> {
        let value = self.int()?;
        i32::try_from(value).map_err(|_| WireError::IntegerRange { value })
    }

    /// A floating point number.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`] or [`WireError::IntegerRange`].
    pub fn double(&mut self) -> Result<f64, WireError> {
        let fraction = self.int32()?;
        let exponent = self.int32()?;
        Ok(join_double(fraction, exponent))
    }

    /// A string as text; bytes that are not UTF-8 are replaced, the legacy NULL string is empty.
    ///
    /// # Errors
    ///
    /// [`WireError`] for a damaged or incomplete string.
    pub fn str(&mut self) -> Result<String, WireError> {
        Ok(String::from_utf8_lossy(self.str_bytes()?).into_owned())
    }

    /// A string as the bytes sent, without the NUL.
    ///
    /// # Errors
    ///
    /// [`WireError`] for a damaged or incomplete string.
    pub fn str_bytes(&mut self) -> Result<&'a [u8], WireError> {
        let at = self.at;
        let text = match self.coding {
            Coding::Plain => self.plain_str(at)?,
            Coding::Encrypted => self.counted_str(at)?,
        };
        Ok(text)
    }

    fn plain_str(&mut self, at: usize) -> Result<&'a [u8], WireError> {
        let rest = self.rest();
        if let Some(0xAD) = rest.first() {
            self.at += 1;
            return Ok(&[]);
        }
        let end = rest
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(WireError::Truncated {
                what: "a string",
                at,
            })?;
        let text = self.take(end, "a string")?;
        self.take(1, "a string")?;
        Ok(text)
    }

    fn counted_str(&mut self, at: usize) -> Result<&'a [u8], WireError> {
        let length = self.int()?;
        let size = usize::try_from(length)
            .ok()
            .filter(|size| *size >= 1)
            .ok_or(WireError::BadLength { length, at })?;
        let bytes = self.take(size, "a string")?;
        match bytes.split_last() {
            Some((0, text)) if !text.contains(&0) => Ok(text),
            Some((&NULL_STRING, [])) => Ok(&[]),
            _ => Err(WireError::NotTerminated { at }),
        }
    }

    /// The next `count` raw bytes.
    ///
    /// # Errors
    ///
    /// [`WireError::Truncated`].
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        self.take(count, "raw bytes")
    }

    /// An ad.
    ///
    /// # Errors
    ///
    /// [`WireError`]; a single line that does not parse spoils the whole ad, as in HTCondor.
    pub fn ad(&mut self) -> Result<ClassAd, WireError> {
        ad_wire::read(self)
    }

    /// Everything not read yet, and moves to the end.
    pub fn remaining(&mut self) -> &'a [u8] {
        let rest = self.rest();
        self.at = self.body.len();
        rest
    }

    /// Number of bytes not read yet.
    pub fn left(&self) -> usize {
        self.rest().len()
    }

    /// True if the whole message was read.
    pub fn at_end(&self) -> bool {
        self.left() == 0
    }

    /// Checks that the whole message was read.
    ///
    /// # Errors
    ///
    /// [`WireError::LeftOver`].
    pub fn expect_end(&self) -> Result<(), WireError> {
        match self.left() {
            0 => Ok(()),
            left => Err(WireError::LeftOver { left }),
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let rest = self.rest();
        let bytes = rest
            .get(..count)
            .ok_or(WireError::Truncated { what, at: self.at })?;
        self.at += count;
        Ok(bytes)
    }
}

impl std::fmt::Debug for MessageReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "MessageReader(at {} of {}, {:?})",
            self.at,
            self.body.len(),
            self.coding
        )
    }
}

/// Largest fraction, 2^31 - 1: the scale of the protocol's floating point form.
const SCALE: f64 = 2_147_483_647.0;

/// `frexp` scaled to an integer: protocol 01 section 1.4.
pub(super) fn split_double(value: f64) -> (i64, i64) {
    if value == 0.0 || !value.is_finite() {
        return (0, 0);
    }
    let mut mantissa = value;
    let mut exponent = 0i64;
    while mantissa.abs() >= 1.0 {
        mantissa /= 2.0;
        exponent += 1;
    }
    while mantissa.abs() < 0.5 {
        mantissa *= 2.0;
        exponent -= 1;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the product is below 2^31 and the fraction is cut on purpose"
    )]
    let fraction = (mantissa * SCALE) as i64;
    (fraction, exponent)
}

fn join_double(fraction: i32, exponent: i32) -> f64 {
    // Two steps, so that a power beyond the range of the type does not spoil a small value.
    let half = exponent / 2;
    f64::from(fraction) / SCALE * 2f64.powi(half) * 2f64.powi(exponent - half)
}
