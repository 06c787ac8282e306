//! Calls of the starter that work on the owner's files: streamed standard files, and chirp's file access. No I/O.

use cedar::{MessageReader, WireError};

use super::syscall::MAX_BLOCK;

const GET_FILE_INFO: i64 = -74;
const CLOSE: i64 = 10;
const FSTAT: i64 = 24;
const FSYNC: i64 = 26;
const FTRUNCATE: i64 = 27;
const LSEEK: i64 = 54;
const LSTAT: i64 = 55;
const MKDIR: i64 = 58;
const OPEN: i64 = 66;
const READ: i64 = 71;
const RENAME: i64 = 78;
const RMDIR: i64 = 79;
const STAT: i64 = 108;
const UNLINK: i64 = 115;
const WRITE: i64 = 120;
const PREAD: i64 = 289;
const PWRITE: i64 = 290;
const GETFILE: i64 = 293;
const PUTFILE: i64 = 294;
const GETDIR: i64 = 296;
const WHOAMI: i64 = 297;
const WHOAREYOU: i64 = 298;

/// Calls of the real shadow that this one answers with `ENOSYS`: links, owners, modes and times, file systems, strided
/// access, and removing whole trees.
const NOT_SERVED: [(i64, &str); 18] = [
    (1, "access"),
    (7, "chmod"),
    (8, "chown"),
    (19, "fchmod"),
    (20, "fchown"),
    (25, "fstatfs"),
    (52, "link"),
    (72, "readlink"),
    (109, "statfs"),
    (111, "symlink"),
    (113, "truncate"),
    (242, "utime"),
    (251, "lchown"),
    (291, "swrite"),
    (292, "rmall"),
    (295, "getlongdir"),
    (299, "sread"),
    (-83, "getwd_special"),
];

/// How a file is opened, in HTCondor's portable bits (`htcondor:src/condor_io/open_flags.cpp`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFlags(pub i32);

impl OpenFlags {
    /// May be read.
    #[must_use]
    pub fn reads(self) -> bool {
        self.0 & 0x3 != 1
    }

    /// May be written.
    #[must_use]
    pub fn writes(self) -> bool {
        self.0 & 0x3 != 0
    }

    /// Is made if it does not exist.
    #[must_use]
    pub fn creates(self) -> bool {
        self.0 & 0x100 != 0
    }

    /// Loses its content.
    #[must_use]
    pub fn truncates(self) -> bool {
        self.0 & 0x200 != 0
    }

    /// Must not exist.
    #[must_use]
    pub fn is_exclusive(self) -> bool {
        self.0 & 0x400 != 0
    }

    /// Grows at its end.
    #[must_use]
    pub fn appends(self) -> bool {
        self.0 & 0x1000 != 0
    }
}

/// Where `lseek` counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// The file's start.
    Start,
    /// Where it is.
    Current,
    /// The file's end.
    End,
}

/// One call. `fd` is a number of our own, from an earlier answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileCall {
    /// Answer: a number for the open file.
    Open {
        /// How.
        flags: OpenFlags,
        /// Permissions of a new file.
        mode: u32,
        /// Relative paths are relative to the job's `Iwd`.
        path: String,
    },
    /// Forgets the open file.
    Close {
        /// Which.
        fd: i64,
    },
    /// Answer: how many bytes, and the bytes.
    Read {
        /// Which file.
        fd: i64,
        /// At most.
        length: usize,
        /// From here; else where the file is.
        at: Option<u64>,
    },
    /// Answer: how many bytes were written.
    Write {
        /// Which file.
        fd: i64,
        /// What.
        data: Vec<u8>,
        /// To here; else where the file is.
        at: Option<u64>,
    },
    /// Answer: the new place.
    Seek {
        /// Which file.
        fd: i64,
        /// How far.
        offset: i64,
        /// From where.
        whence: Whence,
    },
    /// Waits until the disk has it.
    Sync {
        /// Which file.
        fd: i64,
    },
    /// Sets a file's length.
    Truncate {
        /// Which file.
        fd: i64,
        /// The length.
        length: u64,
    },
    /// Answer: the file's status as a line of numbers in 1024 bytes.
    FileStatus {
        /// Which file.
        fd: i64,
    },
    /// As `FileStatus`.
    Status {
        /// Which file.
        path: String,
        /// Of the link itself, if it is one.
        of_link: bool,
    },
    /// Removes a file.
    Unlink {
        /// Which.
        path: String,
    },
    /// Gives a file another name.
    Rename {
        /// The old name.
        from: String,
        /// The new one.
        to: String,
    },
    /// Makes a directory.
    MakeDirectory {
        /// Which.
        path: String,
        /// Its permissions.
        mode: u32,
    },
    /// Removes an empty directory.
    RemoveDirectory {
        /// Which.
        path: String,
    },
    /// Answer: a whole file, size first.
    GetFile {
        /// Which.
        path: String,
    },
    /// Answer: 0 or more, then the bytes come as a message of their own, then the number written is answered.
    PutFile {
        /// Which.
        path: String,
        /// Its permissions.
        mode: u32,
        /// How many bytes will come.
        length: usize,
    },
    /// Answer: the names in a directory, one a line.
    List {
        /// Which.
        path: String,
    },
    /// Answer: where the starter finds a file that the job names: by itself, or through us.
    Locate {
        /// Which.
        path: String,
    },
    /// Answer: `CONDOR`, if it fits.
    WhoAmI {
        /// Into so many bytes.
        room: i64,
    },
    /// Answer: `UNKNOWN`, if it fits.
    WhoAreYou {
        /// Into so many bytes.
        room: i64,
    },
    /// The arguments are not possible: a block of no or of too many bytes. Answer: `EINVAL`.
    Impossible,
    /// Known, but not served here. Answer: `ENOSYS`.
    NotServed,
}

impl FileCall {
    /// Reads the arguments of call `number`; `None` if it is no call on files.
    pub(super) fn read(
        number: i64,
        message: &mut MessageReader<'_>,
    ) -> Result<Option<Self>, WireError> {
        Ok(Some(match number {
            OPEN => Self::Open {
                flags: OpenFlags(message.int32()?),
                mode: mode(message)?,
                path: message.str()?,
            },
            CLOSE => Self::Close { fd: message.int()? },
            READ | PREAD => {
                let fd = message.int()?;
                let length = block(message.int()?);
                let at = place(number == PREAD, message)?;
                match (length, at) {
                    (Some(length), Ok(at)) => Self::Read { fd, length, at },
                    _ => Self::Impossible,
                }
            }
            WRITE | PWRITE => {
                let fd = message.int()?;
                let length = block(message.int()?);
                let at = place(number == PWRITE, message)?;
                match (length, at) {
                    (Some(length), Ok(at)) => Self::Write {
                        fd,
                        data: message.bytes(length)?.to_vec(),
                        at,
                    },
                    _ => Self::Impossible,
                }
            }
            LSEEK => {
                let (fd, offset, whence) = (message.int()?, message.int()?, message.int()?);
                match whence {
                    0 => Self::seek(fd, offset, Whence::Start),
                    1 => Self::seek(fd, offset, Whence::Current),
                    2 => Self::seek(fd, offset, Whence::End),
                    _ => Self::Impossible,
                }
            }
            FSYNC => Self::Sync { fd: message.int()? },
            FTRUNCATE => {
                let (fd, length) = (message.int()?, message.int()?);
                u64::try_from(length)
                    .map_or(Self::Impossible, |length| Self::Truncate { fd, length })
            }
            FSTAT => Self::FileStatus { fd: message.int()? },
            STAT | LSTAT => Self::Status {
                path: message.str()?,
                of_link: number == LSTAT,
            },
            UNLINK => Self::Unlink {
                path: message.str()?,
            },
            RENAME => Self::Rename {
                from: message.str()?,
                to: message.str()?,
            },
            MKDIR => Self::MakeDirectory {
                path: message.str()?,
                mode: mode(message)?,
            },
            RMDIR => Self::RemoveDirectory {
                path: message.str()?,
            },
            GETFILE => Self::GetFile {
                path: message.str()?,
            },
            PUTFILE => {
                let (path, mode) = (message.str()?, mode(message)?);
                let length = message.int()?;
                match usize::try_from(length)
                    .ok()
                    .filter(|&length| length <= MAX_BLOCK)
                {
                    Some(length) => Self::PutFile { path, mode, length },
                    None => Self::Impossible,
                }
            }
            GETDIR => Self::List {
                path: message.str()?,
            },
            GET_FILE_INFO => Self::Locate {
                path: message.str()?,
            },
            WHOAMI => Self::WhoAmI {
                room: message.int()?,
            },
            WHOAREYOU => {
                message.str_bytes()?;
                Self::WhoAreYou {
                    room: message.int()?,
                }
            }
            _ if NOT_SERVED.iter().any(|(known, _)| *known == number) => Self::NotServed,
            _ => return Ok(None),
        }))
    }

    fn seek(fd: i64, offset: i64, whence: Whence) -> Self {
        Self::Seek { fd, offset, whence }
    }

    /// The paths the call names, and whether it would change what is there.
    pub fn paths(&self) -> impl Iterator<Item = (&str, bool)> {
        let (first, second) = match self {
            Self::Open { flags, path, .. } => (Some((path.as_str(), flags.writes())), None),
            Self::Status { path, .. } | Self::GetFile { path } | Self::List { path } => {
                (Some((path.as_str(), false)), None)
            }
            Self::Unlink { path }
            | Self::MakeDirectory { path, .. }
            | Self::RemoveDirectory { path }
            | Self::PutFile { path, .. } => (Some((path.as_str(), true)), None),
            Self::Rename { from, to } => (Some((from.as_str(), true)), Some((to.as_str(), true))),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// A number of bytes that can be moved in one call.
fn block(length: i64) -> Option<usize> {
    usize::try_from(length)
        .ok()
        .filter(|&length| length > 0 && length <= MAX_BLOCK)
}

/// The place of a call that has one; the inner error is a place that cannot be.
fn place(
    has_one: bool,
    message: &mut MessageReader<'_>,
) -> Result<Result<Option<u64>, ()>, WireError> {
    if !has_one {
        return Ok(Ok(None));
    }
    Ok(u64::try_from(message.int()?).map(Some).map_err(|_| ()))
}

/// Permission bits; anything else a peer sends is cut off.
fn mode(message: &mut MessageReader<'_>) -> Result<u32, WireError> {
    Ok(u32::try_from(message.int()? & 0o777).unwrap_or(0))
}

pub(super) fn name(number: i64) -> Option<&'static str> {
    Some(match number {
        CLOSE => "close",
        FSTAT => "fstat",
        FSYNC => "fsync",
        FTRUNCATE => "ftruncate",
        LSEEK => "lseek",
        LSTAT => "lstat",
        MKDIR => "mkdir",
        OPEN => "open",
        READ => "read",
        RENAME => "rename",
        RMDIR => "rmdir",
        STAT => "stat",
        UNLINK => "unlink",
        WRITE => "write",
        PREAD => "pread",
        PWRITE => "pwrite",
        GETFILE => "getfile",
        PUTFILE => "putfile",
        GETDIR => "getdir",
        GET_FILE_INFO => "get_file_info_new",
        WHOAMI => "whoami",
        WHOAREYOU => "whoareyou",
        _ => {
            return NOT_SERVED
                .iter()
                .find(|(known, _)| *known == number)
                .map(|(_, name)| *name);
        }
    })
}
