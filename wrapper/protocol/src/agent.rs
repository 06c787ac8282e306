//! Pilot and agent: make and open files beneath the sandbox, list them, become the payload.
//!
//! Paths are relative to the sandbox. `..`, absolute paths, and links that lead outside are refused
//! by the kernel (`openat2` with `RESOLVE_BENEATH`), not by looking at the text; only
//! [`Request::OpenRead`] also takes an absolute path that begins with the sandbox's own, and
//! [`Request::PutProxy`] any. An agent without a sandbox serves only the requests that need none.

use std::path::PathBuf;

use crate::codec::{DecodeError, EncodeError, Reader, Text, Writer};
use crate::{MAX_MESSAGE, MAX_PACKET};

/// A packet from the pilot to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Make one directory; its parent must exist. Answered by [`Reply::Done`].
    MakeDir {
        /// Which directory.
        path: PathBuf,
        /// Permission bits, at most 0o777; the mask is not applied.
        mode: u32,
    },
    /// Create or empty a regular file and open it for writing; no link is followed anywhere in the
    /// path. Answered by [`Reply::Opened`].
    Create {
        /// Which file.
        path: PathBuf,
        /// Permission bits, at most 0o777, also set on a file that existed.
        mode: u32,
    },
    /// Open a regular file for reading. Answered by [`Reply::OpenedRead`].
    OpenRead {
        /// Which file.
        path: PathBuf,
        /// Follow links, as long as they stay inside the sandbox.
        follow: bool,
    },
    /// What is in a directory? Answered by one or more [`Reply::Entries`].
    List {
        /// Which directory; empty or `.` for the sandbox itself.
        path: PathBuf,
    },
    /// Set permission bits of a file or directory, not through a link. Answered by [`Reply::Done`].
    SetMode {
        /// Which one.
        path: PathBuf,
        /// Permission bits, at most 0o777.
        mode: u32,
    },
    /// Remove a file, a link or an empty directory. Answered by [`Reply::Done`].
    Remove {
        /// Which one.
        path: PathBuf,
    },
    /// Become the payload. Four descriptors beside it: a memfd with the encoded
    /// [`crate::exec::ExecRequest`] (read from its start), then the payload's standard input, output
    /// and error. Answered by [`Reply::ExecStarting`], or [`Reply::Failed`] if the request cannot
    /// be read; the agent then still serves.
    Exec,
    /// The same in the caller's own working directory: a fifth descriptor, the directory. If the
    /// account may not enter it, the payload starts in `/` (requirement G13).
    ExecHere,
    /// Write a copy of the credential for the payload (requirement G6). One descriptor beside it: the
    /// copy's content, a memfd or a regular file, read from its start. A new file of mode 0600 is
    /// written and renamed, in a directory that must belong to the account and be writable by nobody
    /// else; a file of somebody else in its place is not touched. Answered by [`Reply::ProxyPut`].
    PutProxy {
        /// Absolute. `XXXXXX` at its end is replaced by something unique.
        path: PathBuf,
        /// Make the directory that holds it, mode 0700, if it is missing.
        make_dir: bool,
    },
}

/// A packet from the agent to the pilot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// First message: the agent stands in the sandbox.
    Ready,
    /// First and last message: it cannot.
    Trouble {
        /// Linux error number.
        errno: i32,
        /// One sentence; names the directory, its owner and mode.
        message: String,
    },
    /// It is done.
    Done,
    /// It is not.
    Failed {
        /// Linux error number.
        errno: i32,
        /// One sentence.
        message: String,
    },
    /// To [`Request::Create`]; one descriptor beside it, open for writing.
    Opened,
    /// To [`Request::OpenRead`]; one descriptor beside it, open for reading.
    OpenedRead {
        /// Size now, bytes.
        size: u64,
        /// Permission bits.
        mode: u32,
    },
    /// To [`Request::List`].
    Entries {
        /// Some of the entries, in the directory's own order, without `.` and `..`.
        entries: Vec<Entry>,
        /// Another packet follows.
        more: bool,
    },
    /// To [`Request::Exec`] and [`Request::ExecHere`]; one descriptor beside it, the read end of a
    /// close-on-exec pipe.
    ExecStarting,
    /// To [`Request::PutProxy`].
    ProxyPut {
        /// Where it is.
        path: PathBuf,
    },
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A link that leads to a regular file inside the sandbox.
    LinkToFile,
    /// A link that leads to a directory inside the sandbox.
    LinkToDirectory,
    /// Anything else: pipes, sockets, dangling links, links that lead outside.
    Other,
}

/// One directory entry. For a link the figures are those of the link itself, except for
/// [`EntryKind::LinkToFile`], where `size` and `mode` are the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name within its directory.
    pub name: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Size, bytes.
    pub size: u64,
    /// Inode number.
    pub inode: u64,
    /// Time of last change of the content, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of last change of content or attributes, nanoseconds since 1970.
    pub ctime_ns: i64,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
}

/// Bytes an encoded [`Entry`] takes beside its name.
pub const ENTRY_OVERHEAD: usize = 4 + 1 + 4 * 8 + 4;

/// Bytes an encoded [`Reply::Entries`] takes beside its entries.
pub const ENTRIES_OVERHEAD: usize = 1 + 4 + 1;

const MAX_ENTRIES: usize = MAX_PACKET / ENTRY_OVERHEAD;

impl Request {
    /// How many descriptors travel beside this message.
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Exec => 4,
            Self::ExecHere => 5,
            Self::PutProxy { .. } => 1,
            _ => 0,
        }
    }

    /// The packet.
    ///
    /// # Errors
    /// If a field is not what the receiver accepts.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::new();
        match self {
            Self::MakeDir { path, mode } => put_path_mode(&mut w, 1, path, *mode)?,
            Self::Create { path, mode } => put_path_mode(&mut w, 2, path, *mode)?,
            Self::OpenRead { path, follow } => {
                w.u8(3);
                w.path("path", path);
                w.bool(*follow);
            }
            Self::List { path } => {
                w.u8(4);
                w.path("path", path);
            }
            Self::SetMode { path, mode } => put_path_mode(&mut w, 5, path, *mode)?,
            Self::Remove { path } => {
                w.u8(6);
                w.path("path", path);
            }
            Self::Exec => w.u8(7),
            Self::ExecHere => w.u8(8),
            Self::PutProxy { path, make_dir } => {
                w.u8(9);
                w.path("path", path);
                w.bool(*make_dir);
            }
        }
        w.finish(MAX_PACKET)
    }

    /// Reads a packet and checks every field.
    ///
    /// # Errors
    /// If the bytes are not exactly one request.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(packet);
        let request = match r.u8()? {
            1 => Self::MakeDir {
                path: r.path("path")?,
                mode: take_mode(&mut r, 0o777)?,
            },
            2 => Self::Create {
                path: r.path("path")?,
                mode: take_mode(&mut r, 0o777)?,
            },
            3 => Self::OpenRead {
                path: r.path("path")?,
                follow: r.bool("follow")?,
            },
            4 => Self::List {
                path: r.path("path")?,
            },
            5 => Self::SetMode {
                path: r.path("path")?,
                mode: take_mode(&mut r, 0o777)?,
            },
            6 => Self::Remove {
                path: r.path("path")?,
            },
            7 => Self::Exec,
            8 => Self::ExecHere,
            9 => Self::PutProxy {
                path: r.path("path")?,
                make_dir: r.bool("make_dir")?,
            },
            tag => return Err(DecodeError::UnknownTag(tag)),
        };
        r.finish()?;
        Ok(request)
    }
}

impl Reply {
    /// How many descriptors travel beside this message.
    pub fn descriptors(&self) -> usize {
        usize::from(matches!(
            self,
            Self::Opened | Self::OpenedRead { .. } | Self::ExecStarting
        ))
    }

    /// The packet.
    ///
    /// # Errors
    /// If a field is not what the receiver accepts. Too long a `message` is cut instead.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut w = Writer::new();
        match self {
            Self::Ready => w.u8(1),
            Self::Trouble { errno, message } => {
                w.u8(2);
                w.i32(*errno);
                w.message("message", message, MAX_MESSAGE);
            }
            Self::Done => w.u8(3),
            Self::Failed { errno, message } => {
                w.u8(4);
                w.i32(*errno);
                w.message("message", message, MAX_MESSAGE);
            }
            Self::Opened => w.u8(5),
            Self::OpenedRead { size, mode } => {
                w.u8(6);
                w.u64(*size);
                put_mode(&mut w, *mode, 0o7777)?;
            }
            Self::Entries { entries, more } => {
                w.u8(7);
                w.count("entries", entries.len(), MAX_ENTRIES);
                for entry in entries {
                    entry.put(&mut w)?;
                }
                w.bool(*more);
            }
            Self::ExecStarting => w.u8(8),
            Self::ProxyPut { path } => {
                w.u8(9);
                w.path("path", path);
            }
        }
        w.finish(MAX_PACKET)
    }

    /// Reads a packet and checks every field.
    ///
    /// # Errors
    /// If the bytes are not exactly one reply.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(packet);
        let reply = match r.u8()? {
            1 => Self::Ready,
            2 => Self::Trouble {
                errno: r.i32()?,
                message: r.text("message", Text::Free, MAX_MESSAGE)?,
            },
            3 => Self::Done,
            4 => Self::Failed {
                errno: r.i32()?,
                message: r.text("message", Text::Free, MAX_MESSAGE)?,
            },
            5 => Self::Opened,
            6 => Self::OpenedRead {
                size: r.u64()?,
                mode: take_mode(&mut r, 0o7777)?,
            },
            7 => Self::Entries {
                entries: {
                    let count = r.count("entries", MAX_ENTRIES, ENTRY_OVERHEAD)?;
                    (0..count)
                        .map(|_| Entry::take(&mut r))
                        .collect::<Result<_, _>>()?
                },
                more: r.bool("more")?,
            },
            8 => Self::ExecStarting,
            9 => Self::ProxyPut {
                path: r.path("path")?,
            },
            tag => return Err(DecodeError::UnknownTag(tag)),
        };
        r.finish()?;
        Ok(reply)
    }
}

impl Entry {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.path("name", &self.name);
        w.u8(match self.kind {
            EntryKind::File => 0,
            EntryKind::Directory => 1,
            EntryKind::LinkToFile => 2,
            EntryKind::LinkToDirectory => 3,
            EntryKind::Other => 4,
        });
        w.u64(self.size);
        w.u64(self.inode);
        w.i64(self.mtime_ns);
        w.i64(self.ctime_ns);
        put_mode(w, self.mode, 0o7777)
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: r.path("name")?,
            kind: match r.u8()? {
                0 => EntryKind::File,
                1 => EntryKind::Directory,
                2 => EntryKind::LinkToFile,
                3 => EntryKind::LinkToDirectory,
                4 => EntryKind::Other,
                _ => return Err(DecodeError::BadValue("kind")),
            },
            size: r.u64()?,
            inode: r.u64()?,
            mtime_ns: r.i64()?,
            ctime_ns: r.i64()?,
            mode: take_mode(r, 0o7777)?,
        })
    }
}

fn put_path_mode(
    w: &mut Writer,
    tag: u8,
    path: &std::path::Path,
    mode: u32,
) -> Result<(), EncodeError> {
    w.u8(tag);
    w.path("path", path);
    put_mode(w, mode, 0o777)
}

fn put_mode(w: &mut Writer, mode: u32, max: u32) -> Result<(), EncodeError> {
    if mode > max {
        return Err(EncodeError::BadValue("mode"));
    }
    w.u32(mode);
    Ok(())
}

fn take_mode(r: &mut Reader<'_>, max: u32) -> Result<u32, DecodeError> {
    let mode = r.u32()?;
    if mode > max {
        Err(DecodeError::BadValue("mode"))
    } else {
        Ok(mode)
    }
}
