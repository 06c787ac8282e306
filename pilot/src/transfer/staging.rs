//! Input that came before there was a sandbox: in memory first, then in an unlinked file, never beyond the limits.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::SandboxPath;

/// What waits, in the order in which it came.
#[derive(Debug)]
pub(super) enum Staged {
    Directory {
        path: SandboxPath,
        mode: u32,
    },
    File {
        path: SandboxPath,
        mode: u32,
        content: Content,
    },
}

/// Where the bytes of a waiting file are.
#[derive(Debug)]
pub(super) enum Content {
    Memory(Zeroizing<Vec<u8>>),
    Spilled { offset: u64, length: u64 },
}

/// Why something cannot wait here.
#[derive(Debug)]
pub(super) enum StagingError {
    /// Memory and disk together are not enough.
    Full,
    /// The file of the staging area failed.
    Io(io::Error),
}

/// The waiting room of one transfer.
#[derive(Debug)]
pub(super) struct Staging {
    directory: PathBuf,
    memory_left: u64,
    disk_left: u64,
    spill: Option<File>,
    spilled: u64,
    items: Vec<Staged>,
}

impl Staging {
    /// An empty one; a spill file would be made, without a name, in `directory`.
    pub(super) fn new(directory: &Path, memory: u64, disk: u64) -> Self {
        Self {
            directory: directory.to_owned(),
            memory_left: memory,
            disk_left: disk,
            spill: None,
            spilled: 0,
            items: Vec::new(),
        }
    }

    pub(super) const fn has_memory_for(&self, size: u64) -> bool {
        size <= self.memory_left
    }

    /// Puts something at the front of the queue that is not counted.
    pub(super) fn push_front(&mut self, item: Staged) {
        self.items.insert(0, item);
    }

    pub(super) fn directory(&mut self, path: SandboxPath, mode: u32) -> Result<(), StagingError> {
        self.take_memory(item_cost(&path))?;
        self.items.push(Staged::Directory { path, mode });
        Ok(())
    }

    /// Begins a file of `size` bytes; [`Staging::append`] brings them.
    pub(super) fn file(
        &mut self,
        path: SandboxPath,
        mode: u32,
        size: u64,
    ) -> Result<(), StagingError> {
        self.take_memory(item_cost(&path))?;
        let content = if self.has_memory_for(size) {
            self.memory_left -= size;
            // Grows with what really comes, not with what was announced.
            Content::Memory(Zeroizing::default())
        } else if size <= self.disk_left {
            if self.spill.is_none() {
                self.spill = Some(unnamed(&self.directory).map_err(StagingError::Io)?);
            }
            self.disk_left -= size;
            Content::Spilled {
                offset: self.spilled,
                length: 0,
            }
        } else {
            return Err(StagingError::Full);
        };
        self.items.push(Staged::File {
            path,
            mode,
            content,
        });
        Ok(())
    }

    /// Bytes of the file begun last.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), StagingError> {
        let Some(Staged::File { content, .. }) = self.items.last_mut() else {
            return Ok(());
        };
        match content {
            Content::Memory(memory) => memory.extend_from_slice(bytes),
            Content::Spilled { length, .. } => {
                if let Some(spill) = &mut self.spill {
                    spill.write_all(bytes).map_err(StagingError::Io)?;
                }
                *length += bytes.len() as u64;
                self.spilled += bytes.len() as u64;
            }
        }
        Ok(())
    }

    /// Everything that waits, and the file that spilled contents are in.
    pub(super) fn into_items(self) -> (Vec<Staged>, Option<File>) {
        (self.items, self.spill)
    }

    fn take_memory(&mut self, cost: u64) -> Result<(), StagingError> {
        self.memory_left = self
            .memory_left
            .checked_sub(cost)
            .ok_or(StagingError::Full)?;
        Ok(())
    }
}

/// Copies a spilled content to `target`.
pub(super) fn copy_spilled(
    spill: &mut File,
    offset: u64,
    length: u64,
    target: &mut File,
) -> io::Result<()> {
    spill.seek(SeekFrom::Start(offset))?;
    let copied = io::copy(&mut spill.take(length), target)?;
    if copied == length {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn item_cost(path: &SandboxPath) -> u64 {
    128 + path.as_bytes().len() as u64
}

/// A file without a name: in the sandboxes' directory if the pilot may write there (it need not), else among the
/// temporary files.
fn unnamed(directory: &Path) -> io::Result<File> {
    let in_directory = |directory: &Path| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(libc::O_TMPFILE | libc::O_EXCL | libc::O_CLOEXEC)
            .open(directory)
    };
    in_directory(directory).or_else(|_| in_directory(&std::env::temp_dir()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SandboxPath {
        SandboxPath::parse(text).unwrap()
    }

    #[test]
    fn memory_first_then_disk_then_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let mut staging = Staging::new(directory.path(), 1000, 3000);
        for (path, size) in [("small", 100_usize), ("large", 2000)] {
            staging.file(name(path), 0o644, size as u64).unwrap();
            staging.append(&vec![b'x'; size / 2]).unwrap();
            staging.append(&vec![b'y'; size - size / 2]).unwrap();
        }
        assert!(matches!(
            staging.file(name("more"), 0o644, 1001),
            Err(StagingError::Full)
        ));
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            0,
            "the spill file has no name"
        );
        let (items, spill) = staging.into_items();
        assert!(
            matches!(&items[0], Staged::File { content: Content::Memory(bytes), .. } if bytes.len() == 100)
        );
        let Staged::File {
            content: Content::Spilled { offset, length },
            ..
        } = items[1]
        else {
            panic!("the large file did not spill");
        };
        let target_path = directory.path().join("target");
        let mut target = File::create(&target_path).unwrap();
        copy_spilled(&mut spill.unwrap(), offset, length, &mut target).unwrap();
        assert_eq!(
            std::fs::read(&target_path).unwrap(),
            [vec![b'x'; 1000], vec![b'y'; 1000]].concat()
        );
    }

    #[test]
    fn endless_empty_items_fill_it_too() {
        let mut staging = Staging::new(Path::new("/nowhere"), 10_000, 0);
        let mut accepted = 0;
        while staging.directory(name("d"), 0o755).is_ok() {
            accepted += 1;
        }
        assert!(accepted < 100);
    }
}
