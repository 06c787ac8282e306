//! Which files a job's input consists of, and under which names they travel (protocol page 04, section 4, and
//! `FileTransfer::ExpandFileTransferList` of `htcondor:src/condor_utils/file_transfer.cpp`). No I/O: [`sources`] says
//! what is to be looked at, [`items`] makes the list of what was found.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::job::TransferJob;
use crate::files::{Entry, Kind, Metadata};

/// Whether the user asked for encryption. The stream is encrypted anyway; this only picks the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Crypto {
    /// Neither list names the file.
    #[default]
    AsIs,
    /// `EncryptInputFiles` names it.
    Encrypted,
    /// `DontEncryptInputFiles` names it.
    Unencrypted,
}

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The user's proxy.
    Proxy,
    /// Anything else: input file or directory, stdin, the program, something out of the spool.
    File,
    /// To be fetched by the pilot.
    Url,
}

/// Something that the job needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As the user gave it.
    pub given: String,
    /// Absolute; of a URL, the URL.
    pub path: PathBuf,
    /// What it is.
    pub role: Role,
}

/// What is at a source's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A file, or a directory without a look into it.
    One(Metadata),
    /// A directory and everything below it.
    Tree(Metadata, Vec<Entry>),
    /// A symbolic link to a directory.
    LinkToDirectory,
    /// It cannot be looked at.
    Failed(Errno),
    /// Nobody looked: it is a URL.
    Unknown,
}

/// One item of the transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Name in the sandbox, as it travels.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: ItemKind,
}

/// What an item is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemKind {
    /// A directory, with permission bits.
    Directory {
        /// Its permission bits.
        mode: u32,
    },
    /// A file on this machine.
    File {
        /// Where it is.
        path: PathBuf,
        /// Bytes, when it was looked at.
        size: u64,
        /// Which command.
        crypto: Crypto,
    },
    /// The user's proxy.
    Proxy {
        /// Where it is.
        path: PathBuf,
        /// Bytes.
        size: u64,
    },
    /// To be fetched by the pilot.
    Url(String),
    /// It cannot be sent, and the job will not run.
    Impossible {
        /// Which path.
        path: PathBuf,
        /// Why, for the hold's subcode.
        errno: Errno,
        /// Why, in words.
        why: String,
    },
}

/// What the job needs, in the order it is sent. `spooled` are the names in the job's spool directory `spool`.
#[must_use]
pub fn sources(job: &TransferJob, spool: Option<(&Path, &[PathBuf])>) -> Vec<Source> {
    let mut list = List {
        iwd: &job.iwd,
        sources: Vec::new(),
    };
    if let Some(proxy) = &job.proxy {
        list.add(&proxy.to_string_lossy(), Role::Proxy);
    }
    for given in job.inputs.iter().chain(&job.stdin) {
        let role = if is_url(given) { Role::Url } else { Role::File };
        list.add(given, role);
    }
    if job.sends_executable {
        let program = job.executable.to_string_lossy();
        let role = if is_url(&program) {
            Role::Url
        } else {
            Role::File
        };
        list.add(&program, role);
    }
    if let Some((directory, names)) = spool {
        for name in names {
            list.add(&directory.join(name).to_string_lossy(), Role::File);
        }
    }
    list.sources
}

struct List<'a> {
    iwd: &'a Path,
    sources: Vec<Source>,
}

impl List<'_> {
    /// Adds it unless it is there already.
    fn add(&mut self, given: &str, role: Role) {
        let path = if role == Role::Url {
            PathBuf::from(given)
        } else {
            self.iwd.join(given)
        };
        if self
            .sources
            .iter()
            .any(|other| other.path == path && other.given.ends_with('/') == given.ends_with('/'))
        {
            return;
        }
        self.sources.push(Source {
            given: given.to_owned(),
            path,
            role,
        });
    }
}

/// Whether it is a URL: a scheme of letters, digits, `+`, `-`, `.`, and `://` (RFC 3986 3.1).
#[must_use]
pub fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// The items for what was found. Of several files with one name in the sandbox the last one is sent; sockets and pipes
/// are left out.
#[must_use]
pub fn items(job: &TransferJob, found: &[(Source, Found)]) -> Vec<Item> {
    let mut items = Vec::new();
    for (source, what) in found {
        add(job, source, what, &mut items);
    }
    without_repetitions(items)
}

fn add(job: &TransferJob, source: &Source, found: &Found, items: &mut Vec<Item>) {
    let path = &source.path;
    let name = source
        .path
        .file_name()
        .map_or_else(Vec::new, |name| name.as_bytes().to_vec());
    let impossible = |errno: Errno, why: String| Item {
        name: name.clone(),
        kind: ItemKind::Impossible {
            path: path.clone(),
            errno,
            why,
        },
    };
    let crypto = crypto(job, source);
    match found {
        Found::Unknown => {
            let last = source.given.rsplit('/').next().unwrap_or_default();
            let name = last
                .split(['?', '#'])
                .next()
                .unwrap_or_default()
                .as_bytes()
                .to_vec();
            items.push(Item {
                name,
                kind: ItemKind::Url(source.given.clone()),
            });
        }
        Found::Failed(errno) => items.push(impossible(*errno, errno.desc().to_owned())),
        Found::LinkToDirectory => {
            let why = "Transfer of symlinks to directories is not supported.".to_owned();
            items.push(impossible(Errno::EISDIR, why));
        }
        Found::One(facts) => match (facts.kind, source.role) {
            (Kind::File, Role::Proxy) => items.push(Item {
                name,
                kind: ItemKind::Proxy {
                    path: path.clone(),
                    size: facts.size,
                },
            }),
            (Kind::File, _) => {
                let parent = kept_parent(job, source, items);
                items.push(Item {
                    name: below(&parent, &name),
                    kind: ItemKind::File {
                        path: path.clone(),
                        size: facts.size,
                        crypto,
                    },
                });
            }
            (Kind::Directory, _) => {
                items.push(impossible(Errno::EISDIR, Errno::EISDIR.desc().to_owned()))
            }
            (Kind::Link | Kind::Other, _) => {}
        },
        Found::Tree(facts, entries) => {
            let top = if source.given.ends_with('/') {
                Vec::new()
            } else {
                let parent = kept_parent(job, source, items);
                let top = below(&parent, &name);
                items.push(Item {
                    name: top.clone(),
                    kind: ItemKind::Directory { mode: facts.mode },
                });
                top
            };
            for entry in entries {
                add_entry(path, &top, entry, crypto, items);
            }
        }
    }
}

fn add_entry(directory: &Path, top: &[u8], entry: &Entry, crypto: Crypto, items: &mut Vec<Item>) {
    let path = directory.join(&entry.path);
    let kind = match (entry.metadata.kind, entry.is_link) {
        (Kind::File, _) => ItemKind::File {
            path,
            size: entry.metadata.size,
            crypto,
        },
        (Kind::Directory, false) => ItemKind::Directory {
            mode: entry.metadata.mode,
        },
        (Kind::Directory, true) => ItemKind::Impossible {
            path,
            errno: Errno::EISDIR,
            why: "Transfer of symlinks to directories is not supported.".to_owned(),
        },
        (Kind::Link, _) => ItemKind::Impossible {
            path,
            errno: Errno::ENOENT,
            why: Errno::ENOENT.desc().to_owned(),
        },
        (Kind::Other, _) => return,
    };
    items.push(Item {
        name: below(top, entry.path.as_os_str().as_bytes()),
        kind,
    });
}

/// With `PreserveRelativePaths`: the directories that a relative path names, which are made first.
fn kept_parent(job: &TransferJob, source: &Source, items: &mut Vec<Item>) -> Vec<u8> {
    let given = Path::new(&source.given);
    if !job.keeps_paths || given.is_absolute() || source.role == Role::Proxy {
        return Vec::new();
    }
    let mut directory = Vec::new();
    for part in given.parent().into_iter().flat_map(Path::components) {
        match part {
            std::path::Component::Normal(part) => {
                directory = below(&directory, part.as_bytes());
                items.push(Item {
                    name: directory.clone(),
                    kind: ItemKind::Directory { mode: 0o755 },
                });
            }
            std::path::Component::CurDir => {}
            // Such a path cannot be kept in a sandbox.
            _ => return Vec::new(),
        }
    }
    directory
}

fn below(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    let mut path = directory.to_vec();
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

fn crypto(job: &TransferJob, source: &Source) -> Crypto {
    // As HTCondor looks at them: what both lists name is encrypted.
    if matches_any(&job.encrypted, &source.given) {
        Crypto::Encrypted
    } else if matches_any(&job.unencrypted, &source.given) {
        Crypto::Unencrypted
    } else {
        Crypto::AsIs
    }
}

fn matches_any(patterns: &[String], name: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or(name);
    patterns
        .iter()
        .any(|pattern| matches(pattern, name) || matches(pattern, base))
}

/// A pattern with one `*` at most, as HTCondor's lists have it.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => {
            name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
        }
    }
}

/// Keeps the first of several directories of one name, and the last of several files.
fn without_repetitions(items: Vec<Item>) -> Vec<Item> {
    let mut last: HashMap<Vec<u8>, usize> = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        match item.kind {
            ItemKind::Directory { .. } => {
                last.entry(item.name.clone()).or_insert(index);
            }
            _ => {
                last.insert(item.name.clone(), index);
            }
        }
    }
    items
        .into_iter()
        .enumerate()
        .filter(|(index, item)| last.get(&item.name) == Some(index))
        .map(|(_, item)| item)
        .collect()
}

/// Bytes of all files.
#[must_use]
pub fn total(items: &[Item]) -> u64 {
    items
        .iter()
        .map(|item| match item.kind {
            ItemKind::File { size, .. } | ItemKind::Proxy { size, .. } => size,
            _ => 0,
        })
        .fold(0, u64::saturating_add)
}

/// A name for messages.
#[must_use]
pub fn shown(name: &[u8]) -> String {
    Path::new(OsStr::from_bytes(name)).display().to_string()
}
