//! For tests: recorded conversations, a connection without a network, a sandbox without an agent.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cedar::{Coding, MessageWriter};
use launch_protocol::agent::{Entry, EntryKind};
use tokio::sync::mpsc;

use super::{LinkError, Sandbox, StoreError, Wire};

/// One message of a recorded conversation.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) from: String,
    pub(crate) body: Vec<u8>,
    /// The bytes were not recorded; `body` has the right length only.
    pub(crate) is_elided: bool,
}

/// The encrypted messages of a recorded conversation, in order.
pub(crate) fn recorded(name: &str) -> Vec<Recorded> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name)
        .with_extension("json");
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    json["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|message| message["encrypted"] == true)
        .map(|message| {
            let length = usize::try_from(message["payload_len"].as_u64().unwrap()).unwrap();
            let hex = message["payload_hex"].as_str();
            let body = match hex {
                Some(hex) => (0..hex.len())
                    .step_by(2)
                    .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
                    .collect(),
                None => vec![0; length],
            };
            Recorded {
                from: message["from"].as_str().unwrap().to_owned(),
                is_elided: hex.is_none() || body.len() != length,
                body: if body.len() == length {
                    body
                } else {
                    vec![0; length]
                },
            }
        })
        .collect()
}

/// One end of a connection without a network.
#[derive(Debug)]
pub(crate) struct Pipe {
    out: mpsc::UnboundedSender<Vec<u8>>,
    incoming: mpsc::UnboundedReceiver<Vec<u8>>,
    queued: Vec<Vec<u8>>,
}

/// Two connected ends.
pub(crate) fn pipe() -> (Pipe, Pipe) {
    let (one_out, two_in) = mpsc::unbounded_channel();
    let (two_out, one_in) = mpsc::unbounded_channel();
    (
        Pipe {
            out: one_out,
            incoming: one_in,
            queued: Vec::new(),
        },
        Pipe {
            out: two_out,
            incoming: two_in,
            queued: Vec::new(),
        },
    )
}

impl Wire for Pipe {
    type Body = Vec<u8>;

    fn coding(&self) -> Coding {
        Coding::Encrypted
    }

    async fn recv(&mut self, _patience: Duration) -> Result<Vec<u8>, LinkError> {
        assert!(
            self.queued.is_empty(),
            "waiting for an answer to a message that was not sent"
        );
        self.incoming.recv().await.ok_or(LinkError::Closed)
    }

    fn queue(&mut self, message: MessageWriter) -> Result<(), LinkError> {
        self.queued.push(message.finish().unwrap());
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        for message in self.queued.drain(..) {
            self.out.send(message).map_err(|_| LinkError::Closed)?;
        }
        Ok(())
    }

    async fn send_block(&mut self, data: &[u8]) -> Result<(), LinkError> {
        assert!(!data.is_empty());
        self.flush().await?;
        self.out.send(data.to_vec()).map_err(|_| LinkError::Closed)
    }
}

/// A sandbox that is simply a directory.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    pub(crate) root: PathBuf,
    /// Creating this file fails with "no space left".
    pub(crate) full_at: Option<PathBuf>,
}

impl Directory {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            full_at: None,
        }
    }
}

fn failed(error: &std::io::Error) -> StoreError {
    StoreError::File {
        errno: error.raw_os_error().unwrap_or(0),
        message: error.kind().to_string(),
    }
}

impl Sandbox for Directory {
    async fn make_dir(&mut self, path: &Path, mode: u32) -> Result<(), StoreError> {
        fs::create_dir(self.root.join(path)).map_err(|error| failed(&error))?;
        self.set_mode(path, mode).await
    }

    async fn create(&mut self, path: &Path, mode: u32) -> Result<File, StoreError> {
        if self.full_at.as_deref() == Some(path) {
            return Err(StoreError::File {
                errno: libc::ENOSPC,
                message: "no space left".to_owned(),
            });
        }
        let full = self.root.join(path);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(full)
            .map_err(|error| failed(&error))?;
        file.set_permissions(fs::Permissions::from_mode(mode))
            .unwrap();
        Ok(file)
    }

    async fn set_mode(&mut self, path: &Path, mode: u32) -> Result<(), StoreError> {
        fs::set_permissions(self.root.join(path), fs::Permissions::from_mode(mode))
            .map_err(|error| failed(&error))
    }

    async fn open_read(&mut self, path: &Path) -> Result<(File, u64, u32), StoreError> {
        let file = File::open(self.root.join(path)).map_err(|error| failed(&error))?;
        let facts = file.metadata().map_err(|error| failed(&error))?;
        if facts.is_dir() {
            return Err(StoreError::File {
                errno: libc::EISDIR,
                message: "a directory".to_owned(),
            });
        }
        Ok((file, facts.len(), facts.mode() & 0o7777))
    }

    async fn list(&mut self, path: &Path) -> Result<Vec<Entry>, StoreError> {
        let mut entries: Vec<Entry> = fs::read_dir(self.root.join(path))
            .map_err(|error| failed(&error))?
            .map(|entry| {
                let entry = entry.unwrap();
                let facts = entry.metadata().unwrap();
                let target = fs::metadata(entry.path());
                let kind = match (facts.is_symlink(), &target) {
                    (false, _) if facts.is_file() => EntryKind::File,
                    (false, _) if facts.is_dir() => EntryKind::Directory,
                    (true, Ok(target)) if target.is_file() => EntryKind::LinkToFile,
                    (true, Ok(target)) if target.is_dir() => EntryKind::LinkToDirectory,
                    _ => EntryKind::Other,
                };
                Entry {
                    name: PathBuf::from(entry.file_name()),
                    kind,
                    size: target.map_or(facts.len(), |target| target.len()),
                    inode: facts.ino(),
                    mtime_ns: facts.mtime() * 1_000_000_000 + facts.mtime_nsec(),
                    ctime_ns: facts.ctime() * 1_000_000_000 + facts.ctime_nsec(),
                    mode: facts.mode() & 0o7777,
                }
            })
            .collect();
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }
}

/// Everything below a directory, as `path mode` and content, sorted.
pub(crate) fn tree(root: &Path) -> Vec<(String, u32, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let facts = fs::symlink_metadata(&path).unwrap();
            let name = OsStr::from_bytes(path.strip_prefix(root).unwrap().as_os_str().as_bytes());
            let content = if facts.is_dir() {
                waiting.push(path.clone());
                None
            } else {
                Some(fs::read(&path).unwrap())
            };
            found.push((
                name.to_string_lossy().into_owned(),
                facts.mode() & 0o7777,
                content,
            ));
        }
    }
    found.sort();
    found
}
