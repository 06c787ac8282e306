//! Questions to the name service and what it knows.

use std::path::PathBuf;

use crate::codec::{DecodeError, Reader, Text, Writer};

/// What to look up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// The account of this name, with its groups.
    Account(String),
    /// The account of this name; its groups are not looked up.
    Name(String),
    /// The account with this number; its groups are not looked up.
    Uid(u32),
    /// The group of this name.
    Group(String),
}

/// What the name service knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// To [`Query::Account`], [`Query::Name`] and [`Query::Uid`].
    Account {
        /// The name as the service spells it: printable, no blanks.
        name: String,
        /// User number.
        uid: u32,
        /// Primary group.
        gid: u32,
        /// All groups, the primary one among them; empty unless asked for by [`Query::Account`].
        groups: Vec<u32>,
        /// Home directory; `/` if the entry has none that is an absolute path.
        home: PathBuf,
        /// Login shell; `/bin/sh` if the entry has none that is an absolute path.
        shell: PathBuf,
    },
    /// To [`Query::Group`].
    Group {
        /// Group number.
        gid: u32,
    },
}

const MAX_GROUPS: usize = 1024;
const MAX_LOGIN: usize = 255;

impl Query {
    pub(super) fn put(&self, w: &mut Writer) {
        match self {
            Self::Account(name) => {
                w.u8(1);
                w.name("name", name);
            }
            Self::Uid(uid) => {
                w.u8(2);
                w.u32(*uid);
            }
            Self::Group(name) => {
                w.u8(3);
                w.name("name", name);
            }
            Self::Name(name) => {
                w.u8(4);
                w.name("name", name);
            }
        }
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            1 => Self::Account(r.name("name")?),
            2 => Self::Uid(r.u32()?),
            3 => Self::Group(r.name("name")?),
            4 => Self::Name(r.name("name")?),
            _ => return Err(DecodeError::BadValue("query")),
        })
    }
}

impl Entry {
    pub(super) fn put(&self, w: &mut Writer) {
        match self {
            Self::Account {
                name,
                uid,
                gid,
                groups,
                home,
                shell,
            } => {
                w.u8(1);
                w.text("name", name, Text::Graphic, MAX_LOGIN);
                w.u32(*uid);
                w.u32(*gid);
                w.list("groups", groups, MAX_GROUPS, |w, gid| w.u32(*gid));
                w.plain_path("home", home);
                w.plain_path("shell", shell);
            }
            Self::Group { gid } => {
                w.u8(2);
                w.u32(*gid);
            }
        }
    }

    pub(super) fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            1 => Self::Account {
                name: r.text("name", Text::Graphic, MAX_LOGIN)?,
                uid: r.u32()?,
                gid: r.u32()?,
                groups: r.list("groups", MAX_GROUPS, 4, Reader::u32)?,
                home: r.plain_path("home")?,
                shell: r.plain_path("shell")?,
            },
            2 => Self::Group { gid: r.u32()? },
            _ => return Err(DecodeError::BadValue("entry")),
        })
    }
}
