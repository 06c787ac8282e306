//! What the verifier answers to the broker.
//!
//! A warm verifier confines itself, then waits on its descriptor 0, a `SOCK_SEQPACKET` socket, for
//! one packet [`HAND_OVER`] with the credential's descriptor beside it. It answers on the same
//! descriptor with one [`Verdict`] of at most [`MAX_VERDICT`] bytes and exits. Nothing else is
//! ever said. The broker trusts nothing in it beyond what [`Verdict::decode`] checked: lengths,
//! characters, and one of the known classes.

use crate::codec::{DecodeError, EncodeError, Reader, Text, Writer};
use crate::{MAX_CODE, MAX_IDENTITY, MAX_MESSAGE};

/// The bytes of the packet that carries the credential's descriptor to a waiting verifier.
pub const HAND_OVER: &[u8] = b"verify";

/// Largest encoded verdict, in bytes.
pub const MAX_VERDICT: usize = 4096;

/// First byte of each verdict, so that a stray write is not taken for one.
const MAGIC: u8 = 0xa7;

/// Whose fault a refusal is, and so what the pilot does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalClass {
    /// The job or its credential: hold the job.
    Job,
    /// The site, for the moment: try again later.
    SiteTransient,
    /// The site until somebody changes it: take no more such jobs here.
    SitePermanent,
    /// The program that asks broke the protocol or may not ask.
    Caller,
}

impl RefusalClass {
    pub(crate) fn put(self, writer: &mut Writer) {
        writer.u8(match self {
            Self::Job => 0,
            Self::SiteTransient => 1,
            Self::SitePermanent => 2,
            Self::Caller => 3,
        });
    }

    pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            0 => Self::Job,
            1 => Self::SiteTransient,
            2 => Self::SitePermanent,
            3 => Self::Caller,
            _ => return Err(DecodeError::BadValue("class")),
        })
    }
}

/// The verifier's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The credential verified.
    Accepted {
        /// The end entity's name, `/C=../CN=..`; printable ASCII, not empty, at most
        /// [`MAX_IDENTITY`] bytes.
        identity: String,
        /// Earliest end of validity in the chain, Unix seconds.
        not_after: i64,
        /// The chain holds a limited proxy.
        limited: bool,
    },
    /// It did not.
    Rejected {
        /// Stable code such as `proxy.expired`.
        code: String,
        /// One sentence that says what to do.
        message: String,
        /// Whose fault it is.
        class: RefusalClass,
    },
}

impl Verdict {
    /// The packet.
    ///
    /// # Errors
    /// If a field is not what the receiver accepts. Too long a `message` is cut instead.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::tagged(MAGIC);
        match self {
            Self::Accepted {
                identity,
                not_after,
                limited,
            } => {
                w.u8(1);
                w.text("identity", identity, Text::Identity, MAX_IDENTITY);
                w.i64(*not_after);
                w.bool(*limited);
            }
            Self::Rejected {
                code,
                message,
                class,
            } => {
                w.u8(2);
                w.text("code", code, Text::Code, MAX_CODE);
                w.message("message", message, MAX_MESSAGE);
                class.put(&mut w);
            }
        }
        w.finish(MAX_VERDICT)
    }

    /// Reads a packet and checks every field.
    ///
    /// # Errors
    /// If the bytes are not exactly one verdict.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        if packet.len() > MAX_VERDICT {
            return Err(DecodeError::TooLong("message"));
        }
        let mut r = Reader::new(packet);
        match r.u8()? {
            MAGIC => {}
            other => return Err(DecodeError::UnknownTag(other)),
        }
        let verdict = match r.u8()? {
            1 => Self::Accepted {
                identity: r.text("identity", Text::Identity, MAX_IDENTITY)?,
                not_after: r.i64()?,
                limited: r.bool("limited")?,
            },
            2 => Self::Rejected {
                code: r.text("code", Text::Code, MAX_CODE)?,
                message: r.text("message", Text::Free, MAX_MESSAGE)?,
                class: RefusalClass::take(&mut r)?,
            },
            tag => return Err(DecodeError::UnknownTag(tag)),
        };
        r.finish()?;
        Ok(verdict)
    }
}
