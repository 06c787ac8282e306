//! What the site's policy is asked and answers.
//!
//! The broker reads configuration and policy files itself, from descriptors that the monitor has opened by
//! its rule of trusted paths, and decides in its own process (`sailplane_policy::Judge`). What crosses a
//! socket is [`Ask::Names`]: `sailplane-names`, which runs as nobody and sees nothing that a stranger wrote,
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

use crate::broker::Refusal;
use crate::codec::{DecodeError, EncodeError, Reader, Text, Writer, check};
pub use crate::verdict::{CredentialKind, Purpose};
use crate::{MAX_IDENTITY, MAX_PACKET};

/// A packet from root to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Chosen by root; the answer repeats it.
    pub id: u32,
    /// What is asked.
    pub ask: Ask,
}

/// What root can ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What is configured? Answered by [`Reply::Settings`] or [`Reply::Refused`].
    ReadConfig,
    /// May this account call? Answered by [`Reply::Admitted`], [`Reply::Refused`] or [`Reply::Reread`].
    Admit(Caller),
    /// As whom does this credential's owner run? Answered by [`Reply::Decided`], [`Reply::Refused`]
    /// or [`Reply::Reread`].
    Decide(Box<Case>),
    /// What does the name service know? Answered by [`Reply::Names`] with one entry a query, or by
    /// [`Reply::Refused`] if it cannot be asked.
    Names(Vec<Query>),
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

/// A packet from the service to root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request's id.
    pub id: u32,
    /// What is answered.
    pub reply: Reply,
}

/// What the service can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Ask::ReadConfig`].
    Settings(Box<Settings>),
    /// To [`Ask::Admit`].
    Admitted {
        /// This caller may present a credential without its private key.
        may_omit_key: bool,
    },
    /// To [`Ask::Decide`].
    Decided(Decision),
    /// To [`Ask::Names`].
    Names(Vec<Option<Entry>>),
    /// No.
    Refused(Refusal),
    /// The configuration has changed.
    Reread,
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

const MAX_FQANS: usize = 64;
const MAX_FQAN: usize = 255;
const MAX_ISSUERS: usize = 16;
const MAX_GROUPS: usize = 1024;
const MAX_MAPPED_GROUPS: usize = 64;
const MAX_LISTED: usize = 256;
const MAX_QUERIES: usize = 128;
const MAX_SOURCE: usize = 255;
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

impl Ask {
    /// How many descriptors travel beside this message at the least.
    pub fn needs_descriptors(&self) -> bool {
        !matches!(self, Self::Names(_))
    }
}

impl Request {
    /// The packet.
    ///
    /// # Errors
    /// If a field is not what the receiver accepts.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::tagged(match &self.ask {
            Ask::ReadConfig => 1,
            Ask::Admit(_) => 2,
            Ask::Decide(_) => 3,
            Ask::Names(_) => 4,
        });
        w.u32(self.id);
        match &self.ask {
            Ask::ReadConfig => {}
            Ask::Admit(caller) => caller.put(&mut w),
            Ask::Decide(case) => case.put(&mut w),
            Ask::Names(queries) => w.list("queries", queries, MAX_QUERIES, |w, q| q.put(w)),
        }
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
        let ask = match tag {
            1 => Ask::ReadConfig,
            2 => Ask::Admit(Caller::take(&mut r)?),
            3 => Ask::Decide(Box::new(Case::take(&mut r)?)),
            4 => Ask::Names(r.list("queries", MAX_QUERIES, 5, Query::take)?),
            tag => return Err(DecodeError::UnknownTag(tag)),
        };
        r.finish()?;
        Ok(Self { id, ask })
    }
}

impl Answer {
    /// The packet.
    ///
    /// # Errors
    /// If a field is not what the receiver accepts.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::tagged(match &self.reply {
            Reply::Settings(_) => 1,
            Reply::Admitted { .. } => 2,
            Reply::Decided(_) => 3,
            Reply::Names(_) => 4,
            Reply::Refused(_) => 5,
            Reply::Reread => 6,
        });
        w.u32(self.id);
        match &self.reply {
            Reply::Settings(settings) => settings.put(&mut w),
            Reply::Admitted { may_omit_key } => w.bool(*may_omit_key),
            Reply::Decided(decision) => decision.put(&mut w),
            Reply::Names(entries) => w.list("entries", entries, MAX_QUERIES, |w, entry| {
                w.option(entry.as_ref(), |w, entry| entry.put(w));
            }),
            Reply::Refused(refusal) => refusal.put(&mut w),
            Reply::Reread => {}
        }
        w.finish(MAX_PACKET)
    }

    /// Reads a packet and checks every field: root believes nothing beyond that.
    ///
    /// # Errors
    /// If the bytes are not exactly one answer.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(packet);
        let tag = r.u8()?;
        let id = r.u32()?;
        let reply = match tag {
            1 => Reply::Settings(Box::new(Settings::take(&mut r)?)),
            2 => Reply::Admitted {
                may_omit_key: r.bool("may_omit_key")?,
            },
            3 => Reply::Decided(Decision::take(&mut r)?),
            4 => Reply::Names(r.list("entries", MAX_QUERIES, 1, |r| {
                r.option("entry", Entry::take)
            })?),
            5 => Reply::Refused(Refusal::take(&mut r)?),
            6 => Reply::Reread,
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

impl Party {
    fn put(&self, w: &mut Writer) {
        w.bool(self.kind == CredentialKind::Token);
        w.text("identity", &self.identity, Text::Identity, MAX_IDENTITY);
        w.list("fqans", &self.fqans, MAX_FQANS, |w, fqan| {
            w.text("fqans", fqan, Text::Identity, MAX_FQAN);
        });
        w.list("issuers", &self.issuers, MAX_ISSUERS, |w, issuer| {
            w.text("issuers", issuer, Text::Identity, MAX_IDENTITY);
        });
        w.bool(self.limited);
        w.i64(self.not_after);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            kind: if r.bool("kind")? {
                CredentialKind::Token
            } else {
                CredentialKind::Proxy
            },
            identity: r.text("identity", Text::Identity, MAX_IDENTITY)?,
            fqans: r.list("fqans", MAX_FQANS, 5, |r| {
                r.text("fqans", Text::Identity, MAX_FQAN)
            })?,
            issuers: r.list("issuers", MAX_ISSUERS, 5, |r| {
                r.text("issuers", Text::Identity, MAX_IDENTITY)
            })?,
            limited: r.bool("limited")?,
            not_after: r.i64()?,
        })
    }
}

impl Case {
    fn put(&self, w: &mut Writer) {
        w.u8(match self.purpose {
            Purpose::Run => 0,
            Purpose::Renew => 1,
            Purpose::Verify => 2,
            Purpose::Pilot => 3,
        });
        w.refuse_unless("purpose", self.purpose != Purpose::Pilot);
        self.holder.put(w);
        w.option(self.pilot.as_ref(), |w, pilot| pilot.put(w));
        w.u32(self.caller_uid);
        for name in [&self.caller_name, &self.slot_account] {
            w.option(name.as_ref(), |w, name| w.name("name", name));
        }
        w.i64(self.now_unix);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            purpose: match r.u8()? {
                0 => Purpose::Run,
                1 => Purpose::Renew,
                2 => Purpose::Verify,
                _ => return Err(DecodeError::BadValue("purpose")),
            },
            holder: Party::take(r)?,
            pilot: r.option("pilot", Party::take)?,
            caller_uid: r.u32()?,
            caller_name: r.option("name", |r| r.name("name"))?,
            slot_account: r.option("name", |r| r.name("name"))?,
            now_unix: r.i64()?,
        })
    }
}

impl Decision {
    fn put(&self, w: &mut Writer) {
        let source = |w: &mut Writer, source: &str| {
            w.text("source", source, Text::Printable, MAX_SOURCE);
        };
        let groups = |w: &mut Writer, groups: &Option<Groups>| {
            w.option(groups.as_ref(), |w, groups| groups.put(w));
        };
        match self {
            Self::Account {
                name,
                groups: mapped,
                source: written,
            } => {
                w.u8(1);
                w.name("name", name);
                groups(w, mapped);
                source(w, written);
            }
            Self::Pool {
                prefix,
                lease_name,
                exact,
                groups: mapped,
                source: written,
            } => {
                w.u8(2);
                w.name("prefix", prefix);
                w.refuse_unless("lease_name", is_lease_name(lease_name));
                w.text("lease_name", lease_name, Text::Graphic, MAX_LEASE);
                w.text("exact", exact, Text::Identity, MAX_IDENTITY);
                groups(w, mapped);
                source(w, written);
            }
            Self::Dynamic { groups: mapped } => {
                w.u8(3);
                groups(w, mapped);
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let source = |r: &mut Reader<'_>| r.text("source", Text::Printable, MAX_SOURCE);
        let groups = |r: &mut Reader<'_>| r.option("groups", Groups::take);
        Ok(match r.u8()? {
            1 => Self::Account {
                name: r.name("name")?,
                groups: groups(r)?,
                source: source(r)?,
            },
            2 => Self::Pool {
                prefix: r.name("prefix")?,
                lease_name: {
                    let name = r.text("lease_name", Text::Graphic, MAX_LEASE)?;
                    check("lease_name", is_lease_name(&name))?;
                    name
                },
                exact: r.text("exact", Text::Identity, MAX_IDENTITY)?,
                groups: groups(r)?,
                source: source(r)?,
            },
            3 => Self::Dynamic { groups: groups(r)? },
            _ => return Err(DecodeError::BadValue("decision")),
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
