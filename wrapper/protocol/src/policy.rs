//! The terms of the site's policy, and what the name service is asked and answers.
//!
//! The broker reads configuration and policy files itself, from descriptors that the monitor has opened by
//! its rule of trusted paths, and decides in its own process (`sailplane_policy::Judge`). What crosses a
//! socket is names: `sailplane-names`, which runs as nobody and sees nothing that a stranger wrote,
//! finds its socket on descriptor 0 and answers nothing else. Packets are at most [`crate::MAX_PACKET`]
//! bytes; each request gets exactly one answer with its id; several may be under way. End of file: the
//! service exits. A service that meets a malformed packet exits without an answer.

mod names;
mod settings;
mod witness;

pub use names::{Entry, Query};
pub use settings::{
    AuditSettings, Hook, Isolation, LimitRules, Required, Settings, Targets, VerifierSettings,
};
pub use witness::Witness;

use std::path::PathBuf;

use crate::MAX_PACKET;
use crate::broker::Refusal;
use crate::codec::{DecodeError, EncodeError, Reader, Writer};
pub use crate::verdict::{CredentialKind, Purpose};

/// A packet to the name service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Chosen by who asks; the answer repeats it.
    pub id: u32,
    /// What is asked. Answered by [`Reply::Names`] with one entry a query, or by [`Reply::Refused`] if the
    /// databases cannot be asked.
    pub queries: Vec<Query>,
}

/// Who calls, with the numbers that root had looked up for the names of the caller lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Real uid.
    pub uid: u32,
    /// Its name, if it has one that is an account name.
    pub name: Option<String>,
    /// Real gid and supplementary groups.
    pub groups: Vec<u32>,
    /// The program that called, if it can be told.
    pub executable: Option<PathBuf>,
    /// The accounts of [`Settings::caller_names`] that exist, with their uids.
    pub listed_users: Vec<(String, u32)>,
    /// The groups of [`Settings::caller_groups`] that exist, with their gids.
    pub listed_groups: Vec<(String, u32)>,
}

/// What a verified credential says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Certificate or token. The two name spaces never mix (requirement T4).
    pub kind: CredentialKind,
    /// The identity; see [`CredentialKind`].
    pub identity: String,
    /// Verified attributes in their order, or `ISSUER,GROUP` of a token.
    pub fqans: Vec<String>,
    /// Names of the authorities on the path, the end entity's issuer first.
    pub issuers: Vec<String>,
    /// The chain holds a limited proxy.
    pub limited: bool,
    /// Earliest end of validity, Unix seconds.
    pub not_after: i64,
}

/// What is to be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What for; not [`Purpose::Pilot`]. For [`Purpose::Renew`] bans count, time windows do not.
    pub purpose: Purpose,
    /// Whose payload it is.
    pub holder: Party,
    /// The pilot's own credential, if it presented one.
    pub pilot: Option<Party>,
    /// Real uid of the caller.
    pub caller_uid: u32,
    /// Its name, if it has one.
    pub caller_name: Option<String>,
    /// The account that the caller wants for its slot, if it named one.
    pub slot_account: Option<String>,
    /// Time of the question, Unix seconds.
    pub now_unix: i64,
}

/// A packet from the name service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request's id.
    pub id: u32,
    /// What is answered.
    pub reply: Reply,
}

/// What the name service can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// What the name service knows of each, if anything.
    Names(Vec<Option<Entry>>),
    /// No.
    Refused(Refusal),
}

/// As whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// As this account.
    Account {
        /// Its name.
        name: String,
        /// Groups that replace the account's own, if any were mapped.
        groups: Option<Groups>,
        /// Where that is written, for the log.
        source: String,
    },
    /// As a pool account out of [`Settings::gridmapdir`].
    Pool {
        /// Account names are this and digits.
        prefix: String,
        /// File name of the lease; never that of an account, because it holds a `%`.
        lease_name: String,
        /// The identity the lease is for, which the file name does not tell exactly.
        exact: String,
        /// Groups that replace the account's own, if any were mapped.
        groups: Option<Groups>,
        /// Where that is written, for the log.
        source: String,
    },
    /// As any free number of [`Targets::dynamic_uids`].
    Dynamic {
        /// Groups in addition to the account's own number, if any were mapped.
        groups: Option<Groups>,
    },
}

/// Names of mapped groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// The primary group; `None`: the account's own stays primary.
    pub primary: Option<String>,
    /// Further groups.
    pub secondary: Vec<String>,
}

/// First bytes of packets.
const NAMES: u8 = 4;
const REFUSED: u8 = 5;

const MAX_GROUPS: usize = 1024;
const MAX_MAPPED_GROUPS: usize = 64;
const MAX_LISTED: usize = 256;
const MAX_QUERIES: usize = 128;
const MAX_LEASE: usize = 255;

/// A file name that is a lease in a gridmapdir: letters, digits, `%`, `:`, `.`, `_`, `-`, with at
/// least one `%`.
pub fn is_lease_name(name: &str) -> bool {
    name.len() <= MAX_LEASE
        && name.contains('%')
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"%:._-".contains(&byte))
}

impl Request {
    /// The packet.
    ///
    /// # Errors
    /// If a field is not what the receiver accepts.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::tagged(NAMES);
        w.u32(self.id);
        w.list("queries", &self.queries, MAX_QUERIES, |w, q| q.put(w));
        w.finish(MAX_PACKET)
    }

    /// Reads a packet and checks every field.
    ///
    /// # Errors
    /// If the bytes are not exactly one request.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(packet);
        let tag = r.u8()?;
        let id = r.u32()?;
        if tag != NAMES {
            return Err(DecodeError::UnknownTag(tag));
        }
        let queries = r.list("queries", MAX_QUERIES, 5, Query::take)?;
        r.finish()?;
        Ok(Self { id, queries })
    }
}

impl Answer {
    /// The packet.
    ///
    /// # Errors
    /// If a field is not what the receiver accepts.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::tagged(match &self.reply {
            Reply::Names(_) => NAMES,
            Reply::Refused(_) => REFUSED,
        });
        w.u32(self.id);
        match &self.reply {
            Reply::Names(entries) => w.list("entries", entries, MAX_QUERIES, |w, entry| {
                w.option(entry.as_ref(), |w, entry| entry.put(w));
            }),
            Reply::Refused(refusal) => refusal.put(&mut w),
        }
        w.finish(MAX_PACKET)
    }

    /// Reads a packet and checks every field: nobody believes anything beyond that.
    ///
    /// # Errors
    /// If the bytes are not exactly one answer.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(packet);
        let tag = r.u8()?;
        let id = r.u32()?;
        let reply = match tag {
            NAMES => Reply::Names(r.list("entries", MAX_QUERIES, 1, |r| {
                r.option("entry", Entry::take)
            })?),
            REFUSED => Reply::Refused(Refusal::take(&mut r)?),
            tag => return Err(DecodeError::UnknownTag(tag)),
        };
        r.finish()?;
        Ok(Self { id, reply })
    }
}

impl Caller {
    pub(crate) fn put(&self, w: &mut Writer) {
        w.u32(self.uid);
        w.option(self.name.as_ref(), |w, name| w.name("name", name));
        w.list("groups", &self.groups, MAX_GROUPS, |w, gid| w.u32(*gid));
        w.option(self.executable.as_ref(), |w, path| {
            w.path("executable", path);
        });
        for list in [&self.listed_users, &self.listed_groups] {
            w.list("listed", list, MAX_LISTED, |w, (name, number)| {
                w.name("listed", name);
                w.u32(*number);
            });
        }
    }

    pub(crate) fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let listed = |r: &mut Reader<'_>| {
            r.list("listed", MAX_LISTED, 8, |r| {
                Ok((r.name("listed")?, r.u32()?))
            })
        };
        Ok(Self {
            uid: r.u32()?,
            name: r.option("name", |r| r.name("name"))?,
            groups: r.list("groups", MAX_GROUPS, 4, Reader::u32)?,
            executable: r.option("executable", |r| r.path("executable"))?,
            listed_users: listed(r)?,
            listed_groups: listed(r)?,
        })
    }
}

impl Groups {
    pub(crate) fn put(&self, w: &mut Writer) {
        w.option(self.primary.as_ref(), |w, name| w.name("primary", name));
        w.list(
            "secondary",
            &self.secondary,
            MAX_MAPPED_GROUPS,
            |w, name| {
                w.name("secondary", name);
            },
        );
    }

    pub(crate) fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            primary: r.option("primary", |r| r.name("primary"))?,
            secondary: r.list("secondary", MAX_MAPPED_GROUPS, 5, |r| r.name("secondary"))?,
        })
    }
}
