//! What travels between the pool and a child: one packet a message, in fixed-width little-endian fields.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Largest packet. Two paths of the longest kind and some numbers fit.
pub(crate) const MAX_PACKET: usize = 64 * 1024;

/// Longest path that is passed on, bytes (Linux's `PATH_MAX`).
pub(crate) const MAX_PATH: usize = 4096;

/// What something in the file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link (only [`OwnerFiles::list`](super::OwnerFiles::list) tells it; everything else follows links).
    Link,
    /// A device, pipe or socket.
    Other,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Last change of the content, nanoseconds since 1970.
    pub modified: i64,
    /// The owner's uid.
    pub uid: u32,
}

/// Something in a listed directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the listed directory; a directory stands before what is in it.
    pub path: PathBuf,
    /// What it is; of a link, what it leads to.
    pub metadata: Metadata,
    /// It is a symbolic link, which is not walked into.
    pub is_link: bool,
}

/// How to open a file for writing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenWrite {
    /// Permission bits of a new file; 022 is taken off them.
    pub mode: u32,
    /// Make it if it does not exist.
    pub create: bool,
    /// Refuse if it exists.
    pub exclusive: bool,
    /// Empty it.
    pub truncate: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// Open it for reading too.
    pub read: bool,
    /// A file that exists already gets the mode, too, if it is the owner's.
    pub set_mode: bool,
    /// The path is relative to this directory, and nothing on its way, no link either, may lead out of it.
    pub beneath: Option<PathBuf>,
}

/// What the pool asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    OpenRead {
        path: PathBuf,
    },
    OpenWrite {
        path: PathBuf,
        how: OpenWrite,
    },
    MakeDir {
        path: PathBuf,
        mode: u32,
        beneath: Option<PathBuf>,
    },
    List {
        path: PathBuf,
        limit: u32,
    },
    Stat {
        path: PathBuf,
    },
    /// Without following a link at the end.
    LinkStat {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    RemoveDir {
        path: PathBuf,
    },
    RemoveTree {
        path: PathBuf,
    },
    SetMode {
        path: PathBuf,
        mode: u32,
    },
}

/// What the child answers. `id` is the request's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The child is what it should be, and ready.
    Ready,
    Done,
    /// A descriptor is beside it.
    Opened(Metadata),
    Facts(Metadata),
    /// Part of a listing; the last part is followed by `Done`.
    Entries(Vec<Entry>),
    Failed {
        errno: i32,
    },
    /// It is there, but a device, pipe or socket.
    NotRegular,
}

/// A packet that is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

struct Writer(Vec<u8>);

impl Writer {
    fn new(id: u64, tag: u8) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.push(tag);
        Self(bytes)
    }

    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn path(&mut self, path: &Path) {
        let bytes = path.as_os_str().as_bytes();
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    fn optional(&mut self, path: Option<&Path>) {
        self.u8(u8::from(path.is_some()));
        if let Some(path) = path {
            self.path(path);
        }
    }

    fn metadata(&mut self, facts: &Metadata) {
        self.u8(match facts.kind {
            Kind::File => 0,
            Kind::Directory => 1,
            Kind::Link => 2,
            Kind::Other => 3,
        });
        self.u64(facts.size);
        self.u32(facts.mode);
        self.i64(facts.modified);
        self.u32(facts.uid);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.take::<1>().map(u8::from_le_bytes)
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Malformed> {
        self.take().map(i64::from_le_bytes)
    }

    fn path(&mut self) -> Result<PathBuf, Malformed> {
        let length = usize::try_from(self.u32()?).map_err(|_| Malformed)?;
        if length > MAX_PATH {
            return Err(Malformed);
        }
        let (path, rest): (&'a [u8], _) = self.0.split_at_checked(length).ok_or(Malformed)?;
        if path.contains(&0) {
            return Err(Malformed);
        }
        self.0 = rest;
        Ok(PathBuf::from(OsStr::from_bytes(path)))
    }

    fn optional(&mut self) -> Result<Option<PathBuf>, Malformed> {
        if self.flag()? {
            self.path().map(Some)
        } else {
            Ok(None)
        }
    }

    fn metadata(&mut self) -> Result<Metadata, Malformed> {
        let kind = match self.u8()? {
            0 => Kind::File,
            1 => Kind::Directory,
            2 => Kind::Link,
            3 => Kind::Other,
            _ => return Err(Malformed),
        };
        Ok(Metadata {
            kind,
            size: self.u64()?,
            mode: self.u32()?,
            modified: self.i64()?,
            uid: self.u32()?,
        })
    }

    fn end<T>(self, value: T) -> Result<T, Malformed> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(Malformed)
        }
    }
}

impl Request {
    /// The paths in it.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let (one, two) = match self {
            Self::OpenRead { path }
            | Self::List { path, .. }
            | Self::Stat { path }
            | Self::LinkStat { path }
            | Self::Unlink { path }
            | Self::RemoveDir { path }
            | Self::RemoveTree { path }
            | Self::SetMode { path, .. } => (path, None),
            Self::OpenWrite { path, how } => (path, how.beneath.as_ref()),
            Self::MakeDir { path, beneath, .. } => (path, beneath.as_ref()),
            Self::Rename { from, to } => (from, Some(to)),
        };
        std::iter::once(one.as_path()).chain(two.map(PathBuf::as_path))
    }

    pub(crate) fn encode(&self, id: u64) -> Vec<u8> {
        match self {
            Self::OpenRead { path } => one_path(id, 1, path),
            Self::OpenWrite { path, how } => {
                let mut out = Writer::new(id, 2);
                out.path(path);
                out.u32(how.mode);
                for flag in [
                    how.create,
                    how.exclusive,
                    how.truncate,
                    how.append,
                    how.read,
                    how.set_mode,
                ] {
                    out.u8(u8::from(flag));
                }
                out.optional(how.beneath.as_deref());
                out.0
            }
            Self::MakeDir {
                path,
                mode,
                beneath,
            } => {
                let mut out = Writer::new(id, 3);
                out.path(path);
                out.u32(*mode);
                out.optional(beneath.as_deref());
                out.0
            }
            Self::List { path, limit } => {
                let mut out = Writer::new(id, 4);
                out.path(path);
                out.u32(*limit);
                out.0
            }
            Self::Stat { path } => one_path(id, 5, path),
            Self::LinkStat { path } => one_path(id, 11, path),
            Self::Rename { from, to } => {
                let mut out = Writer::new(id, 6);
                out.path(from);
                out.path(to);
                out.0
            }
            Self::Unlink { path } => one_path(id, 7, path),
            Self::RemoveDir { path } => one_path(id, 8, path),
            Self::RemoveTree { path } => one_path(id, 9, path),
            Self::SetMode { path, mode } => {
                let mut out = Writer::new(id, 10);
                out.path(path);
                out.u32(*mode);
                out.0
            }
        }
    }

    pub(crate) fn decode(packet: &[u8]) -> Result<(u64, Self), Malformed> {
        let mut packet = Reader(packet);
        let id = packet.u64()?;
        let tag = packet.u8()?;
        let path = packet.path()?;
        let request = match tag {
            1 => Self::OpenRead { path },
            2 => Self::OpenWrite {
                path,
                how: OpenWrite {
                    mode: packet.u32()?,
                    create: packet.flag()?,
                    exclusive: packet.flag()?,
                    truncate: packet.flag()?,
                    append: packet.flag()?,
                    read: packet.flag()?,
                    set_mode: packet.flag()?,
                    beneath: packet.optional()?,
                },
            },
            3 => Self::MakeDir {
                path,
                mode: packet.u32()?,
                beneath: packet.optional()?,
            },
            4 => Self::List {
                path,
                limit: packet.u32()?,
            },
            5 => Self::Stat { path },
            11 => Self::LinkStat { path },
            6 => Self::Rename {
                from: path,
                to: packet.path()?,
            },
            7 => Self::Unlink { path },
            8 => Self::RemoveDir { path },
            9 => Self::RemoveTree { path },
            10 => Self::SetMode {
                path,
                mode: packet.u32()?,
            },
            _ => return Err(Malformed),
        };
        packet.end((id, request))
    }
}

fn one_path(id: u64, tag: u8, path: &Path) -> Vec<u8> {
    let mut out = Writer::new(id, tag);
    out.path(path);
    out.0
}

impl Reply {
    pub(crate) fn encode(&self, id: u64) -> Vec<u8> {
        let mut out;
        match self {
            Self::Ready => out = Writer::new(id, 1),
            Self::Done => out = Writer::new(id, 2),
            Self::Opened(facts) => {
                out = Writer::new(id, 3);
                out.metadata(facts);
            }
            Self::Facts(facts) => {
                out = Writer::new(id, 4);
                out.metadata(facts);
            }
            Self::Entries(entries) => {
                out = Writer::new(id, 5);
                out.u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
                for entry in entries {
                    out.path(&entry.path);
                    out.metadata(&entry.metadata);
                    out.u8(u8::from(entry.is_link));
                }
            }
            Self::Failed { errno } => {
                out = Writer::new(id, 6);
                out.i64(i64::from(*errno));
            }
            Self::NotRegular => out = Writer::new(id, 7),
        }
        out.0
    }

    pub(crate) fn decode(packet: &[u8]) -> Result<(u64, Self), Malformed> {
        let mut packet = Reader(packet);
        let id = packet.u64()?;
        let reply = match packet.u8()? {
            1 => Self::Ready,
            2 => Self::Done,
            3 => Self::Opened(packet.metadata()?),
            4 => Self::Facts(packet.metadata()?),
            5 => {
                let count = packet.u32()?;
                let mut entries = Vec::new();
                for _ in 0..count {
                    entries.push(Entry {
                        path: packet.path()?,
                        metadata: packet.metadata()?,
                        is_link: packet.flag()?,
                    });
                }
                Self::Entries(entries)
            }
            6 => Self::Failed {
                errno: i32::try_from(packet.i64()?).map_err(|_| Malformed)?,
            },
            7 => Self::NotRegular,
            _ => return Err(Malformed),
        };
        packet.end((id, reply))
    }

    /// How many bytes an entry takes in a packet.
    pub(crate) fn room_for(entry: &Entry) -> usize {
        entry.path.as_os_str().len() + 32
    }
}
