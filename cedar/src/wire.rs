//! Primitive values inside a message (protocol 01 section 1.4).
//!
//! Integers are 8 bytes, strings end with a NUL and carry a length only while the socket is
//! encrypted, raw bytes have no length at all.

mod reader;
mod writer;

pub use reader::MessageReader;
pub use writer::MessageWriter;

/// How strings are written: decided by the encryption state of the socket, never by anybody's wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Encryption off: the bytes and a NUL.
    Plain,
    /// Encryption on: the length including the NUL, the bytes, a NUL.
    Encrypted,
}

/// Most attribute lines accepted in one ad; 25.x peers draw the line at the same number.
pub const MAX_AD_LINES: i64 = 1_000_000;

/// First byte of the legacy form of a NULL string (`htcondor:src/condor_io/stream.cpp`).
const NULL_STRING: u8 = 0xAD;

/// A line that announces that the next string is a private attribute line.
pub(crate) const SECRET_MARKER: &[u8] = b"ZKM";

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The message ends before the value does.
    #[error("message ends inside {what} (at byte {at})")]
    Truncated {
        /// The kind of value being read.
        what: &'static str,
        /// Where it began.
        at: usize,
    },
    /// A length is negative, zero or larger than what is left.
    #[error("length {length} of a string is impossible (at byte {at})")]
    BadLength {
        /// The length as sent.
        length: i64,
        /// Where it stood.
        at: usize,
    },
    /// A string does not end with NUL or has one inside.
    #[error("string is not terminated where its length says (at byte {at})")]
    NotTerminated {
        /// Where the string began.
        at: usize,
    },
    /// A value does not fit into the 32-bit integer the protocol asks for.
    #[error("integer {value} does not fit where 32 bits are expected")]
    IntegerRange {
        /// The value as sent.
        value: i64,
    },
    /// An ad announces an impossible number of lines.
    #[error("ad announces {0} attribute lines")]
    BadLineCount(i64),
    /// A line of an ad is no assignment. Its text may be secret and is not shown.
    #[error("line {line} of an ad is no ClassAd assignment")]
    BadLine {
        /// Index of the line, from 0.
        line: i64,
        /// What the parser said.
        #[source]
        source: classad::ParseError,
    },
    /// The message is longer than the protocol allows at this point.
    #[error("{left} bytes are left over at the end of a message")]
    LeftOver {
        /// Number of unread bytes.
        left: usize,
    },
    /// We were asked to send a string with a NUL inside, which the protocol cannot express.
    #[error("a string to be sent contains a NUL byte")]
    NulInString,
    /// We were asked to send an empty message, which the protocol cannot express.
    #[error("an empty message cannot be sent")]
    EmptyMessage,
}
