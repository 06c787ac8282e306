//! The bounded reader and writer below every message.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The packet ends inside a field.
    Truncated,
    /// Bytes are left over behind the last field.
    TrailingBytes,
    /// No message of this channel has this tag.
    UnknownTag(u8),
    /// A field has a value its type does not allow.
    BadValue(&'static str),
    /// A length is above its limit.
    TooLong(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the message ends inside a field"),
            Self::TrailingBytes => f.write_str("there are bytes behind the end of the message"),
            Self::UnknownTag(tag) => write!(f, "no message has tag {tag}"),
            Self::BadValue(field) => write!(f, "field {field} has a value that is not allowed"),
            Self::TooLong(field) => write!(f, "field {field} is longer than allowed"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Why a value cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// A field has a value the receiver would refuse.
    BadValue(&'static str),
    /// A field, or the whole message, is above its limit.
    TooLong(&'static str),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadValue(field) => write!(f, "field {field} has a value that cannot be sent"),
            Self::TooLong(field) => write!(f, "field {field} is too long to be sent"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// What a text field may hold beside UTF-8.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    /// Anything without NUL.
    Free,
    /// Bytes 0x20 to 0x7e.
    Printable,
    /// Printable and not empty.
    Identity,
    /// Lower-case letters, digits, dot, dash, underscore; not empty.
    Code,
    /// The name of an account or a group; see [`is_account_name`].
    Account,
    /// Bytes 0x21 to 0x7e; not empty.
    Graphic,
}

/// Is this the name of a pool account: a prefix and digits?
pub fn is_pool_name(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A name as `useradd` and `groupadd` allow it; never a number.
pub fn is_account_name(name: &str) -> bool {
    name.len() <= 64
        && name
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// True for an absolute path without `.`, `..` or NUL.
pub fn is_plain_absolute(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.first() == Some(&b'/')
        && !bytes.contains(&0)
        && bytes
            .split(|byte| *byte == b'/')
            .all(|part| part != b"." && part != b"..")
}

impl Text {
    fn admits(self, text: &str) -> bool {
        let printable = |b: u8| (0x20..0x7f).contains(&b);
        match self {
            Self::Free => !text.contains('\0'),
            Self::Printable => text.bytes().all(printable),
            Self::Identity => !text.is_empty() && text.bytes().all(printable),
            Self::Code => {
                !text.is_empty()
                    && text.bytes().all(|b| {
                        b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)
                    })
            }
            Self::Account => is_account_name(text),
            Self::Graphic => !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()),
        }
    }
}

/// Longest account or group name, in bytes.
pub(crate) const MAX_NAME: usize = 64;

/// Refuses a field whose value breaks a rule.
pub(crate) fn check(field: &'static str, sound: bool) -> Result<(), DecodeError> {
    sound.then_some(()).ok_or(DecodeError::BadValue(field))
}

/// Collects fields; the first failure sticks and comes out of [`Writer::finish`].
pub(crate) struct Writer {
    out: Vec<u8>,
    failure: Option<EncodeError>,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self {
            out: Vec::with_capacity(128),
            failure: None,
        }
    }

    pub(crate) fn tagged(tag: u8) -> Self {
        let mut writer = Self::new();
        writer.u8(tag);
        writer
    }

    fn fail(&mut self, error: EncodeError) {
        self.failure.get_or_insert(error);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn count(&mut self, field: &'static str, count: usize, max: usize) {
        match u32::try_from(count) {
            Ok(n) if count <= max => self.u32(n),
            _ => self.fail(EncodeError::TooLong(field)),
        }
    }

    pub(crate) fn bytes(&mut self, field: &'static str, value: &[u8], max: usize) {
        self.count(field, value.len(), max);
        if value.len() <= max {
            self.out.extend_from_slice(value);
        }
    }

    /// Bytes that will become a C string.
    pub(crate) fn c_bytes(&mut self, field: &'static str, value: &[u8], max: usize) {
        if value.contains(&0) {
            self.fail(EncodeError::BadValue(field));
        }
        self.bytes(field, value, max);
    }

    pub(crate) fn text(&mut self, field: &'static str, value: &str, kind: Text, max: usize) {
        if !kind.admits(value) {
            self.fail(EncodeError::BadValue(field));
        }
        self.bytes(field, value.as_bytes(), max);
    }

    /// A sentence for people: cut at `max` rather than refused, NUL bytes replaced.
    pub(crate) fn message(&mut self, field: &'static str, value: &str, max: usize) {
        let clean = value.replace('\0', "?");
        self.text(field, clip(&clean, max), Text::Free, max);
    }

    pub(crate) fn path(&mut self, field: &'static str, value: &Path) {
        self.c_bytes(field, value.as_os_str().as_bytes(), crate::MAX_PATH);
    }

    /// A path that [`is_plain_absolute`] accepts.
    pub(crate) fn plain_path(&mut self, field: &'static str, value: &Path) {
        if !is_plain_absolute(value) {
            self.fail(EncodeError::BadValue(field));
        }
        self.path(field, value);
    }

    /// An account or group name.
    pub(crate) fn name(&mut self, field: &'static str, value: &str) {
        self.text(field, value, Text::Account, MAX_NAME);
    }

    /// At most `max` items behind their count.
    pub(crate) fn list<T>(
        &mut self,
        field: &'static str,
        items: &[T],
        max: usize,
        mut put: impl FnMut(&mut Self, &T),
    ) {
        self.count(field, items.len(), max);
        items.iter().for_each(|item| put(self, item));
    }

    /// At most `most` texts of at most `max` bytes each.
    pub(crate) fn texts(
        &mut self,
        field: &'static str,
        values: &[String],
        kind: Text,
        most: usize,
        max: usize,
    ) {
        self.list(field, values, most, |w, value| {
            w.text(field, value, kind, max)
        });
    }

    /// What may be missing, behind one byte that says whether it is.
    pub(crate) fn option<T>(&mut self, value: Option<&T>, put: impl FnOnce(&mut Self, &T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            put(self, value);
        }
    }

    pub(crate) fn refuse_unless(&mut self, field: &'static str, sound: bool) {
        if !sound {
            self.fail(EncodeError::BadValue(field));
        }
    }

    pub(crate) fn finish(self, max: usize) -> Result<Vec<u8>, EncodeError> {
        match self.failure {
            Some(error) => Err(error),
            None if self.out.len() > max => Err(EncodeError::TooLong("message")),
            None => Ok(self.out),
        }
    }
}

/// The longest prefix of `text` of at most `max` bytes that ends at a character.
fn clip(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Takes fields from the front of a byte string; never indexes, never allocates by an unchecked length.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self
            .rest
            .split_at_checked(count)
            .ok_or(DecodeError::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(DecodeError::Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::BadValue(field)),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    /// The length of a list; each element takes at least `least` bytes of what is left.
    pub(crate) fn count(
        &mut self,
        field: &'static str,
        max: usize,
        least: usize,
    ) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.u32()?).map_err(|_| DecodeError::TooLong(field))?;
        if count > max {
            return Err(DecodeError::TooLong(field));
        }
        if count.saturating_mul(least) > self.rest.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(count)
    }

    pub(crate) fn bytes(
        &mut self,
        field: &'static str,
        max: usize,
    ) -> Result<&'a [u8], DecodeError> {
        let count = self.count(field, max, 1)?;
        self.take(count)
    }

    pub(crate) fn c_bytes(
        &mut self,
        field: &'static str,
        max: usize,
    ) -> Result<&'a [u8], DecodeError> {
        let value = self.bytes(field, max)?;
        if value.contains(&0) {
            return Err(DecodeError::BadValue(field));
        }
        Ok(value)
    }

    pub(crate) fn text(
        &mut self,
        field: &'static str,
        kind: Text,
        max: usize,
    ) -> Result<String, DecodeError> {
        let bytes = self.bytes(field, max)?;
        match std::str::from_utf8(bytes) {
            Ok(text) if kind.admits(text) => Ok(text.to_owned()),
            _ => Err(DecodeError::BadValue(field)),
        }
    }

    pub(crate) fn path(&mut self, field: &'static str) -> Result<PathBuf, DecodeError> {
        let bytes = self.c_bytes(field, crate::MAX_PATH)?;
        Ok(PathBuf::from(OsString::from_vec(bytes.to_vec())))
    }

    /// A path that [`is_plain_absolute`] accepts.
    pub(crate) fn plain_path(&mut self, field: &'static str) -> Result<PathBuf, DecodeError> {
        let path = self.path(field)?;
        check(field, is_plain_absolute(&path))?;
        Ok(path)
    }

    /// An account or group name.
    pub(crate) fn name(&mut self, field: &'static str) -> Result<String, DecodeError> {
        self.text(field, Text::Account, MAX_NAME)
    }

    /// At most `max` items, each of at least `least` bytes, behind their count.
    pub(crate) fn list<T>(
        &mut self,
        field: &'static str,
        max: usize,
        least: usize,
        mut take: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.count(field, max, least)?;
        (0..count).map(|_| take(self)).collect()
    }

    /// At most `most` texts of at most `max` bytes each.
    pub(crate) fn texts(
        &mut self,
        field: &'static str,
        kind: Text,
        most: usize,
        max: usize,
    ) -> Result<Vec<String>, DecodeError> {
        self.list(field, most, 4, |r| r.text(field, kind, max))
    }

    /// What may be missing, behind one byte that says whether it is.
    pub(crate) fn option<T>(
        &mut self,
        field: &'static str,
        take: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        self.bool(field)?.then(|| take(self)).transpose()
    }

    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m4_pool_names_are_a_prefix_and_digits() {
        assert!(is_pool_name("atlas001", "atlas"));
        for other in ["atlas", "atlas1x", "atlasprd1", "cms1", ".atlas1"] {
            assert!(!is_pool_name(other, "atlas"), "{other}");
        }
    }

    #[test]
    fn long_sentences_are_cut_at_a_character() {
        let mut writer = Writer::new();
        writer.message("m", &"é".repeat(10), 5);
        let out = writer.finish(100).expect("fits");
        assert_eq!(out.get(4..).map(<[u8]>::len), Some(4));
    }

    #[test]
    fn a_huge_length_is_refused_before_anything_is_allocated() {
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(reader.bytes("x", 10), Err(DecodeError::TooLong("x")));
        let mut reader = Reader::new(&[9, 0, 0, 0, 1]);
        assert_eq!(reader.bytes("x", 10), Err(DecodeError::Truncated));
    }
}
