//! What the broker asks the verifier, and what it answers.
//!
//! `sailplane-verify` waits on its descriptor 0, a `SOCK_SEQPACKET` socket. Started without arguments, it gets
//! them there first, in one packet ([`words_packet`]): so it can be started, and has its libraries ready, before
//! the site's configuration has been read. Then it waits for packets
//! [`NEW_VERIFIER`] with one end of a fresh pair of such sockets beside each. For each it forks a
//! process that confines itself and waits on that end for one [`VerifyRequest`] with the
//! credential's descriptor beside it. It answers on the same socket with one [`Verdict`] of at most
//! [`MAX_VERDICT`] bytes and exits. Where a single credential is expected the packet is [`ONLY_VERIFIER`], and the
//! program does all that by itself. Nothing else is ever said; the end of a socket without a
//! verdict is the end of its verifier. The broker trusts nothing in it beyond what
//! [`Verdict::decode`] checked: lengths, characters, and one of the known classes.

use crate::codec::{DecodeError, EncodeError, Reader, Text, Writer};
use crate::{MAX_CODE, MAX_IDENTITY, MAX_MESSAGE, MAX_PACKET};

/// The bytes of the packet that carries the socket of a verifier to be.
pub const NEW_VERIFIER: &[u8] = b"new";

/// The bytes of the packet that carries the socket of the only verifier: no process is forked for it, the program
/// itself serves that socket and ends.
pub const ONLY_VERIFIER: &[u8] = b"only";

/// The packet with the verifier's arguments: each ended by a zero byte.
///
/// # Errors
/// A word with a zero byte in it, or more words than a packet holds.
pub fn words_packet(words: &[String]) -> Result<Vec<u8>, EncodeError> {
    let packet: Vec<u8> = words
        .iter()
        .flat_map(|word| [word.as_bytes(), b"\0"].concat())
        .collect();
    let zeros = packet.iter().filter(|byte| **byte == 0).count();
    if packet.len() > MAX_PACKET || zeros != words.len() {
        return Err(EncodeError::TooLong("words"));
    }
    Ok(packet)
}

/// The words in such a packet.
///
/// # Errors
/// A packet that does not end with a zero byte, or is not text.
pub fn words_of(packet: &[u8]) -> Result<Vec<String>, DecodeError> {
    let Some(text) = packet.strip_suffix(b"\0") else {
        return Err(DecodeError::BadValue("words"));
    };
    let text = std::str::from_utf8(text).map_err(|_| DecodeError::BadValue("words"))?;
    Ok(text.split('\0').map(str::to_owned).collect())
}

/// Largest encoded verdict, in bytes.
pub const MAX_VERDICT: usize = 16 * 1024;

/// Largest encoded [`VerifyRequest`], in bytes.
pub const MAX_VERIFY_REQUEST: usize = 16;

/// Most attributes in a verdict. A credential with more is refused, not cut.
pub const MAX_FQANS: usize = 64;

/// Longest attribute, in bytes.
pub const MAX_FQAN: usize = 255;

/// Most CA names in a verdict.
pub const MAX_ISSUERS: usize = 16;

/// First byte of each verdict, so that a stray write is not taken for one.
const MAGIC: u8 = 0xa8;
/// First byte of each request.
const REQUEST_MAGIC: u8 = 0xb8;

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

/// What a credential is presented for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A payload shall run as its owner.
    Run,
    /// A running payload's credential shall be replaced.
    Renew,
    /// Somebody wants to know whether it would be accepted.
    Verify,
    /// It is the pilot's own.
    Pilot,
}

/// One credential to verify; its descriptor travels beside the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VerifyRequest {
    /// Comes back in the verdict.
    pub id: u32,
    /// What it is presented for.
    pub purpose: Purpose,
    /// Accept a bundle without its private key: the caller is one of the few whose word counts as
    /// proof (requirement C3).
    pub may_lack_key: bool,
}

impl VerifyRequest {
    /// The packet.
    ///
    /// # Errors
    /// None with the limits of this crate.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::tagged(REQUEST_MAGIC);
        w.u32(self.id);
        w.u8(match self.purpose {
            Purpose::Run => 0,
            Purpose::Renew => 1,
            Purpose::Verify => 2,
            Purpose::Pilot => 3,
        });
        w.bool(self.may_lack_key);
        w.finish(MAX_VERIFY_REQUEST)
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// If the bytes are not exactly one request.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        if packet.len() > MAX_VERIFY_REQUEST {
            return Err(DecodeError::TooLong("message"));
        }
        let mut r = Reader::new(packet);
        match r.u8()? {
            REQUEST_MAGIC => {}
            other => return Err(DecodeError::UnknownTag(other)),
        }
        let request = Self {
            id: r.u32()?,
            purpose: match r.u8()? {
                0 => Purpose::Run,
                1 => Purpose::Renew,
                2 => Purpose::Verify,
                3 => Purpose::Pilot,
                _ => return Err(DecodeError::BadValue("purpose")),
            },
            may_lack_key: r.bool("may_lack_key")?,
        };
        r.finish()?;
        Ok(request)
    }
}

/// What a credential is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// An X.509 proxy or user certificate; its identity begins with a slash.
    Proxy,
    /// A token; its identity is `ISSUER,SUBJECT` and never begins with a slash.
    Token,
}

/// The verifier's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The credential verified.
    Accepted {
        /// The id of the request.
        id: u32,
        /// What it is. Names of the two kinds are never compared with each other.
        kind: CredentialKind,
        /// Who it speaks for: the end entity's name, `/C=../CN=..`, or `ISSUER,SUBJECT` of a token;
        /// printable ASCII, not empty, at most [`MAX_IDENTITY`] bytes.
        identity: String,
        /// Verified attributes in the order of the credential: VOMS FQANs without their NULL parts,
        /// or `ISSUER,GROUP` of a token.
        fqans: Vec<String>,
        /// Names of the CAs of the path from the one that issued the user's certificate up to the
        /// trust anchor, or the issuer of a token.
        issuers: Vec<String>,
        /// Earliest end of anything that this verdict depends on, Unix seconds.
        not_after: i64,
        /// The chain holds a limited proxy.
        limited: bool,
    },
    /// It did not.
    Rejected {
        /// The id of the request.
        id: u32,
        /// Stable code such as `proxy.expired`.
        code: String,
        /// One sentence that says what to do.
        message: String,
        /// Whose fault it is.
        class: RefusalClass,
    },
}

impl Verdict {
    /// The id of the request it answers.
    #[must_use]
    pub fn id(&self) -> u32 {
        match self {
            Self::Accepted { id, .. } | Self::Rejected { id, .. } => *id,
        }
    }

    /// The packet.
    ///
    /// # Errors
    /// If a field is not what the receiver accepts. Too long a `message` is cut instead.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::tagged(MAGIC);
        match self {
            Self::Accepted {
                id,
                kind,
                identity,
                fqans,
                issuers,
                not_after,
                limited,
            } => {
                w.u8(1);
                w.u32(*id);
                w.u8(match kind {
                    CredentialKind::Proxy => 0,
                    CredentialKind::Token => 1,
                });
                // A token must not pass for a certificate, nor the other way round.
                let suits = identity.starts_with('/') == (*kind == CredentialKind::Proxy);
                let identity = if suits { identity.as_str() } else { "" };
                w.text("identity", identity, Text::Identity, MAX_IDENTITY);
                w.count("fqans", fqans.len(), MAX_FQANS);
                for fqan in fqans {
                    w.text("fqan", fqan, Text::Identity, MAX_FQAN);
                }
                w.count("issuers", issuers.len(), MAX_ISSUERS);
                for issuer in issuers {
                    w.text("issuer", issuer, Text::Identity, MAX_IDENTITY);
                }
                w.i64(*not_after);
                w.bool(*limited);
            }
            Self::Rejected {
                id,
                code,
                message,
                class,
            } => {
                w.u8(2);
                w.u32(*id);
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
            1 => {
                let id = r.u32()?;
                let kind = match r.u8()? {
                    0 => CredentialKind::Proxy,
                    1 => CredentialKind::Token,
                    _ => return Err(DecodeError::BadValue("kind")),
                };
                let identity = r.text("identity", Text::Identity, MAX_IDENTITY)?;
                if identity.starts_with('/') != (kind == CredentialKind::Proxy) {
                    return Err(DecodeError::BadValue("identity"));
                }
                Self::Accepted {
                    id,
                    kind,
                    identity,
                    fqans: texts(&mut r, "fqans", MAX_FQANS, MAX_FQAN)?,
                    issuers: texts(&mut r, "issuers", MAX_ISSUERS, MAX_IDENTITY)?,
                    not_after: r.i64()?,
                    limited: r.bool("limited")?,
                }
            }
            2 => Self::Rejected {
                id: r.u32()?,
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

/// A list of printable texts.
fn texts(
    r: &mut Reader<'_>,
    field: &'static str,
    most: usize,
    longest: usize,
) -> Result<Vec<String>, DecodeError> {
    // Each has at least its length and one character.
    let count = r.count(field, most, 5)?;
    (0..count)
        .map(|_| r.text(field, Text::Identity, longest))
        .collect()
}
