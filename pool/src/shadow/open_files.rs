//! Carries out a starter's calls on the owner's files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use classad::ClassAd;

use super::answer::Answer;
use super::file_call::{FileCall, OpenFlags, Whence};
use super::syscall::MAX_BLOCK;
use super::update::Rights;
use crate::files::{FileError, Kind, Metadata, OpenWrite, OwnerFiles};

const EBADF: i32 = 9;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const EMFILE: i32 = 24;
const EFBIG: i32 = 27;
const ENOSPC: i32 = 28;
const ENOSYS: i32 = 38;
const EIO: i32 = 5;

/// Most files one job may have open here.
const MAX_OPEN: usize = 64;
/// Most entries of a directory that are listed.
const MAX_LISTED: u32 = 10_000;
/// The first number given to an open file: below are the standard ones.
const FIRST: i64 = 3;

/// The files a job has open through its shadow, and which it may open.
#[derive(Debug)]
pub struct OpenFiles {
    files: OwnerFiles,
    rights: Rights,
    iwd: PathBuf,
    /// What a job without `WantIOProxy` may open: the standard files it streams.
    streams: Vec<String>,
    open: BTreeMap<i64, Arc<File>>,
}

/// What a call led to.
#[derive(Debug)]
pub enum Done {
    /// Send this.
    Answer(Answer),
    /// Send 0; then so many bytes come for this file, and their number is sent.
    Data {
        /// Where they go.
        file: Arc<File>,
        /// How many.
        length: usize,
    },
}

impl OpenFiles {
    /// None are open yet; `job` says which may be.
    #[must_use]
    pub fn new(files: OwnerFiles, job: &ClassAd) -> Self {
        let streams = [
            ("In", "StreamIn"),
            ("Out", "StreamOut"),
            ("Err", "StreamErr"),
        ]
        .into_iter()
        .filter(|(_, flag)| job.bool(flag).unwrap_or(false))
        .filter_map(|(name, _)| job.string(name))
        .collect();
        Self {
            files,
            rights: Rights::of(job),
            iwd: PathBuf::from(job.string("Iwd").unwrap_or_else(|| "/".to_owned())),
            streams,
            open: BTreeMap::new(),
        }
    }

    /// Does what is asked.
    pub async fn perform(&mut self, call: FileCall) -> Done {
        if !self.may(&call) {
            return Done::Answer(Answer::Failed(EACCES));
        }
        if let FileCall::PutFile { path, mode, length } = call {
            return match self.open_for(OpenFlags(0x301), mode, &path).await {
                Ok(file) => Done::Data {
                    file: Arc::new(file),
                    length,
                },
                Err(errno) => Done::Answer(Answer::Failed(errno)),
            };
        }
        let done = self.answer(call).await;
        Done::Answer(done.unwrap_or_else(Answer::Failed))
    }

    /// Whether the job asked for the right to do this. Open files were allowed when they were opened.
    fn may(&self, call: &FileCall) -> bool {
        self.rights.io
            || call
                .paths()
                .all(|(path, _)| self.streams.iter().any(|stream| stream == path))
                && matches!(
                    call,
                    FileCall::Open { .. }
                        | FileCall::Close { .. }
                        | FileCall::Read { .. }
                        | FileCall::Write { .. }
                        | FileCall::Seek { .. }
                        | FileCall::Sync { .. }
                        | FileCall::FileStatus { .. }
                        | FileCall::Truncate { .. }
                        | FileCall::Locate { .. }
                        | FileCall::WhoAmI { .. }
                        | FileCall::WhoAreYou { .. }
                        | FileCall::Impossible
                        | FileCall::NotServed
                )
    }

    fn path(&self, path: &str) -> PathBuf {
        self.iwd.join(path)
    }

    /// What a chirp client's file is called on the execute side (`htcondor:src/condor_shadow.V6.1/pseudo_ops.cpp`,
    /// `pseudo_get_file_info_new`).
    fn url(&self, path: &str) -> String {
        let full = self.path(path);
        let method = if [Path::new("/dev/null"), Path::new("/dev/zero")].contains(&full.as_path()) {
            "local"
        } else {
            "remote"
        };
        format!("{method}:{}", full.display())
    }

    fn file(&self, fd: i64) -> Result<Arc<File>, i32> {
        self.open.get(&fd).cloned().ok_or(EBADF)
    }

    async fn answer(&mut self, call: FileCall) -> Result<Answer, i32> {
        match call {
            FileCall::Open { flags, mode, path } => {
                if self.open.len() >= MAX_OPEN {
                    return Err(EMFILE);
                }
                let file = self.open_for(flags, mode, &path).await?;
                let fd = (FIRST..)
                    .find(|fd| !self.open.contains_key(fd))
                    .unwrap_or(FIRST);
                self.open.insert(fd, Arc::new(file));
                Ok(Answer::Value(fd))
            }
            FileCall::Close { fd } => self.open.remove(&fd).map(|_| Answer::OK).ok_or(EBADF),
            FileCall::Read { fd, length, at } => {
                let file = self.file(fd)?;
                blocking(move || read(&file, length, at).map(Answer::Bytes)).await
            }
            FileCall::Write { fd, data, at } => {
                let file = self.file(fd)?;
                blocking(move || {
                    match at {
                        Some(at) => file.write_all_at(&data, at)?,
                        None => (&*file).write_all(&data)?,
                    }
                    Ok(count(data.len()))
                })
                .await
            }
            FileCall::Seek { fd, offset, whence } => {
                let file = self.file(fd)?;
                let to = match whence {
                    Whence::Start => SeekFrom::Start(u64::try_from(offset).map_err(|_| EINVAL)?),
                    Whence::Current => SeekFrom::Current(offset),
                    Whence::End => SeekFrom::End(offset),
                };
                blocking(move || {
                    let place = (&*file).seek(to)?;
                    Ok(Answer::Value(i64::try_from(place).unwrap_or(i64::MAX)))
                })
                .await
            }
            FileCall::Sync { fd } => {
                let file = self.file(fd)?;
                blocking(move || file.sync_all().map(|()| Answer::OK)).await
            }
            FileCall::Truncate { fd, length } => {
                let file = self.file(fd)?;
                blocking(move || file.set_len(length).map(|()| Answer::OK)).await
            }
            FileCall::FileStatus { fd } => {
                let file = self.file(fd)?;
                blocking(move || file.metadata().map(|facts| Answer::Status(line(&facts)))).await
            }
            other => self.by_path(other).await,
        }
    }

    async fn by_path(&self, call: FileCall) -> Result<Answer, i32> {
        let done = match call {
            FileCall::Status { path, of_link: _ } => {
                let facts = self.files.stat(&self.path(&path)).await.map_err(errno)?;
                return Ok(Answer::Status(known_line(&facts)));
            }
            FileCall::Unlink { path } => self.files.unlink(&self.path(&path)).await,
            FileCall::Rename { from, to } => {
                self.files.rename(&self.path(&from), &self.path(&to)).await
            }
            FileCall::MakeDirectory { path, mode } => {
                self.files.make_dir(&self.path(&path), mode).await
            }
            FileCall::RemoveDirectory { path } => self.files.remove_dir(&self.path(&path)).await,
            FileCall::GetFile { path } => return self.whole_file(&path).await,
            FileCall::List { path } => {
                let entries = self.files.list(&self.path(&path), MAX_LISTED).await;
                return entries.map(|entries| names(&entries)).map_err(errno);
            }
            FileCall::Locate { path } => return Ok(Answer::Text(self.url(&path))),
            FileCall::WhoAmI { room } => return fixed("CONDOR", room),
            FileCall::WhoAreYou { room } => return fixed("UNKNOWN", room),
            FileCall::Impossible => return Err(EINVAL),
            _ => return Err(ENOSYS),
        };
        done.map(|()| Answer::OK).map_err(errno)
    }

    async fn open_for(&self, flags: OpenFlags, mode: u32, path: &str) -> Result<File, i32> {
        let path = self.path(path);
        let (file, _) = if flags.writes() {
            let how = OpenWrite {
                mode,
                create: flags.creates(),
                exclusive: flags.is_exclusive(),
                truncate: flags.truncates(),
                append: flags.appends(),
                read: flags.reads(),
                ..OpenWrite::default()
            };
            self.files.open_write(&path, how).await.map_err(errno)?
        } else {
            self.files.open_read(&path).await.map_err(errno)?
        };
        Ok(File::from(file))
    }

    async fn whole_file(&self, path: &str) -> Result<Answer, i32> {
        let (file, facts) = self
            .files
            .open_read(&self.path(path))
            .await
            .map_err(errno)?;
        let size = usize::try_from(facts.size).unwrap_or(usize::MAX);
        if size > MAX_BLOCK {
            return Err(EFBIG);
        }
        blocking(move || read(&File::from(file), size, None).map(Answer::Bytes)).await
    }
}

/// Writes the bytes of `putfile`. The answer is how many.
pub async fn put(file: Arc<File>, data: Vec<u8>) -> Answer {
    blocking(move || (&*file).write_all(&data).map(|()| count(data.len())))
        .await
        .unwrap_or_else(Answer::Failed)
}

/// Reads up to `length` bytes, as many as there are.
fn read(file: &File, length: usize, at: Option<u64>) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    match at {
        None => {
            let limit = u64::try_from(length).unwrap_or(u64::MAX);
            Read::take(file, limit).read_to_end(&mut data)?;
        }
        Some(at) => {
            data.resize(length, 0);
            let read = file.read_at(&mut data, at)?;
            data.truncate(read);
        }
    }
    Ok(data)
}

/// Does what may wait for a disk elsewhere; the error as an errno.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, i32> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.raw_os_error().unwrap_or(EIO)),
        Err(_) => Err(EIO),
    }
}

fn errno(error: FileError) -> i32 {
    match error {
        FileError::Refused { errno, .. } => errno as i32,
        FileError::Path { .. } => EINVAL,
        other => {
            tracing::info!("a job's file cannot be reached: {other}");
            EACCES
        }
    }
}

fn count(bytes: usize) -> Answer {
    Answer::Value(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn fixed(text: &str, room: i64) -> Result<Answer, i32> {
    match usize::try_from(room) {
        Ok(room) if room >= text.len() => Ok(Answer::Bytes(text.as_bytes().to_vec())),
        Ok(room) if room > 0 => Err(ENOSPC),
        _ => Err(EINVAL),
    }
}

/// Names directly in a directory, one a line, and an empty line at the end.
fn names(entries: &[crate::files::Entry]) -> Answer {
    let mut text = String::new();
    for entry in entries {
        if entry.path.parent() == Some(Path::new("")) {
            text.push_str(&entry.path.to_string_lossy());
            text.push('\n');
        }
    }
    text.push('\n');
    Answer::Listing(text)
}

fn line(facts: &std::fs::Metadata) -> String {
    format!(
        "{} {} {} {} {} {} {} {} {} {} {} {} {}\n",
        facts.dev(),
        facts.ino(),
        facts.mode(),
        facts.nlink(),
        facts.uid(),
        facts.gid(),
        facts.rdev(),
        facts.size(),
        facts.blksize(),
        facts.blocks(),
        facts.atime(),
        facts.mtime(),
        facts.ctime()
    )
}

/// As [`line()`], with zeros for what is not known of a file that is not open.
fn known_line(facts: &Metadata) -> String {
    let kind = match facts.kind {
        Kind::Directory => 0o040_000,
        Kind::Link => 0o120_000,
        Kind::File | Kind::Other => 0o100_000,
    };
    let modified = facts.modified / 1_000_000_000;
    format!(
        "0 0 {} 1 {} 0 0 {} 4096 {} {modified} {modified} {modified}\n",
        kind | facts.mode,
        facts.uid,
        facts.size,
        facts.size.div_ceil(512),
    )
}
