//! Which files go back (protocol page 04, section 8).
//!
//! Without a list, whatever is new or changed at the top level of the sandbox since the end of the input: told by a
//! [`Catalogue`] of size, inode and change time in nanoseconds, so that nobody has to wait for a clock to tick. With a
//! list, exactly what it names, directories with all their content. Standard output and error always.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use launch_protocol::agent::{Entry, EntryKind};
use nix::errno::Errno;

use super::{Sandbox, SandboxPath, StoreError};
use crate::job::environment::{JOB_AD_FILE, MACHINE_AD_FILE};

/// Names of the starter's own files in a sandbox, ours and those of HTCondor's starter.
const STARTER_FILES: [&str; 6] = [
    JOB_AD_FILE,
    MACHINE_AD_FILE,
    ".update.ad",
    ".update.ad.tmp",
    ".chirp.config",
    ".execution_overlay.ad",
];
const STARTER_PREFIX: &str = ".docker_";

/// Deepest directory that is followed.
const MAX_DEPTH: usize = 128;
/// More items than this are not sent.
const MAX_ITEMS: usize = 1_000_000;

/// What identifies one state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    size: u64,
    inode: u64,
    ctime_ns: i64,
}

/// The top level of a sandbox at one moment.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    marks: HashMap<PathBuf, Mark>,
}

impl Catalogue {
    /// Takes down what a listing shows.
    #[must_use]
    pub fn of(entries: &[Entry]) -> Self {
        Self {
            marks: entries
                .iter()
                .map(|entry| (entry.name.clone(), mark(entry)))
                .collect(),
        }
    }

    /// Whether an entry is not what it was.
    fn is_new(&self, entry: &Entry) -> bool {
        self.marks.get(&entry.name) != Some(&mark(entry))
    }
}

const fn mark(entry: &Entry) -> Mark {
    Mark {
        size: entry.size,
        inode: entry.inode,
        ctime_ns: entry.ctime_ns,
    }
}

/// What is to be chosen from.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// `TransferOutput`; `None` for what is new or changed; empty for the standard streams only.
    pub list: Option<&'a [String]>,
    /// Keep the directories of listed names.
    pub preserve_relative_paths: bool,
    /// Never chosen automatically: the executable and the proxy.
    pub not_output: &'a [&'a Path],
    /// Standard output and error, in this order, without duplicates.
    pub streams: &'a [&'a SandboxPath],
    /// State of the sandbox after the input came.
    pub before: &'a Catalogue,
    /// The sandbox's own path; a listed name may begin with it.
    pub sandbox: &'a Path,
    /// Name for a core file at the top level, if the job left one.
    pub core_name: Option<&'a str>,
}

/// One thing to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Name as it travels.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: ItemKind,
}

/// What an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemKind {
    /// A directory.
    Directory {
        /// Permission bits.
        mode: u32,
    },
    /// A file.
    File {
        /// Where it is in the sandbox.
        path: PathBuf,
        /// Size when it was listed, bytes.
        size: u64,
    },
    /// Something that cannot be sent, and why.
    Impossible {
        /// As the job named it.
        path: PathBuf,
        /// Linux error number.
        errno: i32,
        /// One sentence.
        message: String,
    },
}

/// What will be sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selected {
    /// In order.
    pub items: Vec<Item>,
    /// Top-level names without the standard streams, for `SpooledOutputFiles`.
    pub names: Vec<String>,
    /// Bytes in all files of the sandbox's top level and of what is sent.
    pub bytes: u64,
}

impl Selected {
    fn push(&mut self, name: Vec<u8>, kind: ItemKind) {
        if let ItemKind::File { size, .. } = kind {
            self.bytes += size;
        }
        self.items.push(Item { name, kind });
    }
}

/// Chooses. `now` is the listing of the sandbox's top level.
///
/// # Errors
/// Only when the sandbox itself fails; whatever is wrong with one item becomes [`ItemKind::Impossible`].
pub async fn select<S: Sandbox>(
    sandbox: &mut S,
    choice: Choice<'_>,
    now: &[Entry],
) -> Result<Selected, StoreError> {
    let mut selected = Selected::default();
    match choice.list {
        None => automatic(&mut selected, choice, now),
        Some(list) => {
            let mut walk = Walk {
                sandbox,
                selected: &mut selected,
                directories: HashSet::new(),
            };
            for name in list {
                walk.listed(name, choice, now).await?;
            }
        }
    }
    for stream in choice.streams {
        let size = now
            .iter()
            .find(|entry| entry.name == stream.as_path())
            .map_or(0, |entry| entry.size);
        let name = stream
            .as_path()
            .file_name()
            .unwrap_or_default()
            .as_bytes()
            .to_vec();
        selected.push(
            name,
            ItemKind::File {
                path: stream.as_path().to_owned(),
                size,
            },
        );
    }
    Ok(selected)
}

fn automatic(selected: &mut Selected, choice: Choice<'_>, now: &[Entry]) {
    for entry in now {
        let is_file = matches!(entry.kind, EntryKind::File | EntryKind::LinkToFile);
        if !is_file || is_starters_own(&entry.name, choice) || !choice.before.is_new(entry) {
            continue;
        }
        let name = match choice.core_name {
            Some(core_name) if is_core(&entry.name) => core_name.as_bytes().to_vec(),
            _ => entry.name.as_os_str().as_bytes().to_vec(),
        };
        selected
            .names
            .push(String::from_utf8_lossy(&name).into_owned());
        selected.push(
            name,
            ItemKind::File {
                path: entry.name.clone(),
                size: entry.size,
            },
        );
    }
}

fn is_starters_own(name: &Path, choice: Choice<'_>) -> bool {
    choice.not_output.contains(&name)
        || choice.streams.iter().any(|stream| stream.as_path() == name)
        || STARTER_FILES.iter().any(|own| Path::new(own) == name)
        || name
            .as_os_str()
            .as_bytes()
            .starts_with(STARTER_PREFIX.as_bytes())
}

/// `core` or `core.<number>`.
fn is_core(name: &Path) -> bool {
    match name.as_os_str().as_bytes().strip_prefix(b"core") {
        Some(b"") => true,
        Some([b'.', number @ ..]) => !number.is_empty() && number.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

struct Walk<'s, S> {
    sandbox: &'s mut S,
    selected: &'s mut Selected,
    /// Directories already sent, by the name they travel under.
    directories: HashSet<Vec<u8>>,
}

impl<S: Sandbox> Walk<'_, S> {
    /// One name of the list.
    async fn listed(
        &mut self,
        listed: &str,
        choice: Choice<'_>,
        now: &[Entry],
    ) -> Result<(), StoreError> {
        let inside = Path::new(listed)
            .strip_prefix(choice.sandbox)
            .unwrap_or_else(|_| Path::new(listed));
        let path = match SandboxPath::from_bytes(inside.as_os_str().as_bytes()) {
            Ok(path) => path,
            Err(error) => {
                let message = format!("not a file of the sandbox: {error}");
                self.impossible(base(listed), PathBuf::from(listed), libc::EPERM, message);
                return Ok(());
            }
        };
        if choice.streams.contains(&&path) {
            return Ok(());
        }
        let keeps_parents = choice.preserve_relative_paths;
        let name = if keeps_parents {
            path.as_bytes().to_vec()
        } else {
            base(listed)
        };
        if !self
            .selected
            .names
            .iter()
            .any(|known| known.as_bytes() == name)
        {
            self.selected
                .names
                .push(String::from_utf8_lossy(&name).into_owned());
        }
        if keeps_parents && let Some(parent) = path.as_path().parent() {
            self.parents(parent);
        }
        let content_only = listed.ends_with('/') && !keeps_parents;
        match self.sandbox.open_read(path.as_path()).await {
            Ok((_, size, _)) => {
                self.selected.push(
                    name,
                    ItemKind::File {
                        path: path.as_path().to_owned(),
                        size,
                    },
                );
            }
            Err(StoreError::File {
                errno: libc::EISDIR,
                ..
            }) => {
                let mode = now
                    .iter()
                    .find(|entry| entry.name == path.as_path())
                    .map_or(0o755, |entry| entry.mode & 0o777);
                if now.iter().any(|entry| {
                    entry.name == path.as_path() && entry.kind == EntryKind::LinkToDirectory
                }) {
                    self.linked_directory(name, path.as_path().to_owned());
                    return Ok(());
                }
                let prefix = if content_only {
                    Vec::new()
                } else {
                    name.clone()
                };
                if !content_only {
                    self.directory(name, mode);
                }
                self.content(path.as_path().to_owned(), prefix).await?;
            }
            Err(StoreError::File { errno, .. }) => {
                let message = Errno::from_raw(errno).desc().to_owned();
                self.impossible(name, path.as_path().to_owned(), errno, message);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Everything in a directory and below, each directory before its content. `prefix` is the name the directory
    /// travels under.
    async fn content(&mut self, root: PathBuf, prefix: Vec<u8>) -> Result<(), StoreError> {
        let mut waiting = vec![(root, prefix, 0_usize)];
        while let Some((path, prefix, depth)) = waiting.pop() {
            let mut entries = match self.sandbox.list(&path).await {
                Ok(entries) => entries,
                Err(StoreError::File { errno, .. }) => {
                    let message = Errno::from_raw(errno).desc().to_owned();
                    self.impossible(prefix, path, errno, message);
                    continue;
                }
                Err(error) => return Err(error),
            };
            entries.sort_by(|one, other| one.name.cmp(&other.name));
            let mut below = Vec::new();
            for entry in entries {
                if self.selected.items.len() >= MAX_ITEMS {
                    let message = format!("more than {MAX_ITEMS} files and directories");
                    self.impossible(prefix, path, libc::E2BIG, message);
                    return Ok(());
                }
                let name = joined(&prefix, entry.name.as_os_str());
                let inside = path.join(&entry.name);
                match entry.kind {
                    EntryKind::File | EntryKind::LinkToFile => {
                        self.selected.push(
                            name,
                            ItemKind::File {
                                path: inside,
                                size: entry.size,
                            },
                        );
                    }
                    EntryKind::Directory if depth >= MAX_DEPTH => {
                        self.impossible(
                            name,
                            inside,
                            libc::ELOOP,
                            "the directories are nested too deeply".to_owned(),
                        );
                    }
                    EntryKind::Directory => {
                        self.directory(name.clone(), entry.mode & 0o777);
                        below.push((inside, name, depth + 1));
                    }
                    EntryKind::LinkToDirectory => self.linked_directory(name, inside),
                    // Pipes, sockets, and links that lead nowhere have no content to send.
                    EntryKind::Other => {
                        tracing::debug!(path = %inside.display(), "not sent: not a file")
                    }
                }
            }
            waiting.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// The directories above a name that keeps its path.
    fn parents(&mut self, parent: &Path) {
        let mut path = PathBuf::new();
        for part in parent.components() {
            path.push(part);
            self.directory(path.as_os_str().as_bytes().to_vec(), 0o755);
        }
    }

    fn directory(&mut self, name: Vec<u8>, mode: u32) {
        if self.directories.insert(name.clone()) {
            self.selected.push(name, ItemKind::Directory { mode });
        }
    }

    fn linked_directory(&mut self, name: Vec<u8>, path: PathBuf) {
        let message = "links to directories cannot be transferred".to_owned();
        self.impossible(name, path, libc::EISDIR, message);
    }

    fn impossible(&mut self, name: Vec<u8>, path: PathBuf, errno: i32, message: String) {
        let name = if name.is_empty() {
            path.as_os_str().as_bytes().to_vec()
        } else {
            name
        };
        self.selected.push(
            name,
            ItemKind::Impossible {
                path,
                errno,
                message,
            },
        );
    }
}

fn base(listed: &str) -> Vec<u8> {
    crate::job::plan::base_name(listed.trim_end_matches('/'))
        .as_bytes()
        .to_vec()
}

fn joined(prefix: &[u8], name: &OsStr) -> Vec<u8> {
    if prefix.is_empty() {
        return name.as_bytes().to_vec();
    }
    [prefix, b"/", name.as_bytes()].concat()
}
