//! Files and commands of the person who submits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{AccessFlags, access};

use crate::submit::{FileStat, SubmitFiles};

/// Largest submit file, list of items or output of a command, in bytes.
const MOST_BYTES: u64 = 256 << 20;
/// Entries of directories that are looked at to know a size.
const MOST_ENTRIES: usize = 1_000_000;

/// The machine's own files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Real;

impl SubmitFiles for Real {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        if path == "-" {
            bounded(io::stdin().lock())
        } else {
            bounded(fs::File::open(path)?)
        }
    }

    fn head(&self, path: &str, bytes: usize) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        fs::File::open(path)?
            .take(u64::try_from(bytes).unwrap_or(u64::MAX))
            .read_to_end(&mut head)?;
        Ok(head)
    }

    fn run(&self, argv: &[String]) -> io::Result<Vec<u8>> {
        let (program, arguments) = argv
            .split_first()
            .ok_or_else(|| io::Error::other("an empty command"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().map_or_else(|| Ok(Vec::new()), bounded);
        if output.is_err() {
            // It would wait for ever to be rid of the rest.
            child.kill()?;
        }
        let status = child.wait()?;
        let output = output?;
        if status.success() {
            Ok(output)
        } else {
            Err(io::Error::other(status.to_string()))
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<(String, bool)>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // A name that is not UTF-8 cannot stand in a job ad.
            if let Ok(name) = entry.file_name().into_string() {
                let is_dir = fs::metadata(entry.path()).is_ok_and(|data| data.is_dir());
                entries.push((name, is_dir));
            }
        }
        Ok(entries)
    }

    fn stat(&self, path: &str) -> io::Result<FileStat> {
        let data = fs::metadata(path)?;
        let may = |flag| access(path, flag).is_ok();
        Ok(FileStat {
            size: if data.is_dir() {
                tree_size(path.as_ref())
            } else {
                data.len()
            },
            is_dir: data.is_dir(),
            executable: may(AccessFlags::X_OK),
            readable: may(AccessFlags::R_OK),
        })
    }
}

fn bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    source.take(MOST_BYTES + 1).read_to_end(&mut content)?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > MOST_BYTES {
        return Err(io::Error::other(format!("more than {MOST_BYTES} bytes")));
    }
    Ok(content)
}

/// Bytes of the files in a directory and those below it; links are not followed.
fn tree_size(root: &Path) -> u64 {
    let mut size = 0_u64;
    let mut seen = 0;
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            seen += 1;
            if seen > MOST_ENTRIES {
                return size;
            }
            let Ok(data) = entry.metadata() else {
                continue;
            };
            if data.is_dir() {
                open.push(entry.path());
            } else {
                size = size.saturating_add(data.len());
            }
        }
    }
    size
}

/// What was read once and may not be there, or be different, a second time: standard input and commands. And what need
/// not be looked at for each of ten thousand jobs again.
#[derive(Debug)]
pub(super) struct Once<F> {
    files: F,
    input: RefCell<Option<Vec<u8>>>,
    commands: RefCell<HashMap<Vec<String>, Vec<u8>>>,
    stats: RefCell<HashMap<String, FileStat>>,
}

/// Paths whose facts are remembered.
const REMEMBERED: usize = 100_000;

impl<F: SubmitFiles> Once<F> {
    pub(super) fn new(files: F) -> Self {
        Self {
            files,
            input: RefCell::default(),
            commands: RefCell::default(),
            stats: RefCell::default(),
        }
    }
}

impl<F: SubmitFiles> SubmitFiles for Once<F> {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        if path != "-" {
            return self.files.read(path);
        }
        if let Some(input) = &*self.input.borrow() {
            return Ok(input.clone());
        }
        let input = self.files.read(path)?;
        *self.input.borrow_mut() = Some(input.clone());
        Ok(input)
    }

    fn head(&self, path: &str, bytes: usize) -> io::Result<Vec<u8>> {
        self.files.head(path, bytes)
    }

    fn run(&self, argv: &[String]) -> io::Result<Vec<u8>> {
        if let Some(output) = self.commands.borrow().get(argv) {
            return Ok(output.clone());
        }
        let output = self.files.run(argv)?;
        self.commands
            .borrow_mut()
            .insert(argv.to_vec(), output.clone());
        Ok(output)
    }

    fn list(&self, path: &str) -> io::Result<Vec<(String, bool)>> {
        self.files.list(path)
    }

    fn stat(&self, path: &str) -> io::Result<FileStat> {
        if let Some(stat) = self.stats.borrow().get(path) {
            return Ok(*stat);
        }
        let stat = self.files.stat(path)?;
        let mut stats = self.stats.borrow_mut();
        if stats.len() < REMEMBERED {
            stats.insert(path.to_owned(), stat);
        }
        Ok(stat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_runs_once_and_its_failure_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("times");
        let script = format!("echo x >> {0}; cat {0}", file.display());
        let argv = ["/bin/sh".to_owned(), "-c".to_owned(), script];
        let files = Once::new(Real);
        assert_eq!(files.run(&argv).unwrap(), b"x\n");
        assert_eq!(files.run(&argv).unwrap(), b"x\n");
        let failure = files.run(&["/bin/false".to_owned()]).unwrap_err();
        assert!(failure.to_string().contains("exit status: 1"), "{failure}");
    }

    #[test]
    fn a_directory_is_as_large_as_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/x"), [0; 1000]).unwrap();
        fs::write(folder.path().join("y"), [0; 24]).unwrap();
        let stat = Real.stat(folder.path().to_str().unwrap()).unwrap();
        assert!(stat.is_dir);
        assert_eq!(stat.size, 1024);
    }
}
