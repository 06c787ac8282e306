//! The machine's own files and environment.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::files::{DirEntry, FileError, Files};

/// Files and environment of this machine; commands only if asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFiles {
    commands: bool,
}

impl RealFiles {
    /// Reads files and the environment, and refuses to run commands.
    #[must_use]
    pub fn new() -> Self {
        Self { commands: false }
    }

    /// Also runs the commands that the configuration names, each for at most 60 seconds.
    #[must_use]
    pub fn with_commands() -> Self {
        Self { commands: true }
    }
}

/// How long a command may run.
const COMMAND_SECONDS: u64 = 60;

impl Files for RealFiles {
    fn read(&self, path: &str, limit: usize) -> Result<Vec<u8>, FileError> {
        let meta = fs::metadata(path)?;
        // HTCondor accepts /dev/null as an empty root configuration.
        if path == "/dev/null" {
            return Ok(Vec::new());
        }
        if !meta.is_file() {
            return Err(FileError::NotAFile);
        }
        read_limited(File::open(path)?, limit)
    }

    fn list(&self, path: &str, limit: usize) -> Result<Vec<DirEntry>, FileError> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entries.len() >= limit {
                return Err(FileError::TooLarge { limit });
            }
            let name = entry
                .file_name()
                .into_string()
                .map_err(|_| FileError::BadName)?;
            // A dangling link is a file that cannot be read, and is reported as such later.
            let is_dir = fs::metadata(entry.path()).is_ok_and(|meta| meta.is_dir());
            entries.push(DirEntry { name, is_dir });
        }
        Ok(entries)
    }

    fn run(&self, argv: &[String], limit: usize) -> Result<Vec<u8>, FileError> {
        if !self.commands {
            return Err(FileError::CommandsForbidden);
        }
        let (program, args) = argv.split_first().ok_or(FileError::BadCommandLine)?;
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let Some(output) = child.stdout.take() else {
            return Err(FileError::Io(ErrorKind::BrokenPipe));
        };
        let (sender, receiver) = mpsc::channel();
        // Ends at the latest when the child is killed and its pipe closes.
        thread::spawn(move || sender.send(read_limited(output, limit)));
        let content = receiver.recv_timeout(Duration::from_secs(COMMAND_SECONDS));
        let failed = !matches!(content, Ok(Ok(_)));
        if failed {
            // A child that is gone already cannot be killed; it is waited for all the same.
            let _gone = child.kill();
        }
        let status = child.wait()?;
        let content = content.map_err(|_| FileError::CommandTimeout {
            seconds: COMMAND_SECONDS,
        })??;
        if status.success() {
            Ok(content)
        } else {
            Err(FileError::CommandFailed(status.code()))
        }
    }

    fn environment(&self) -> Vec<(String, String)> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }
}

fn read_limited(source: impl Read, limit: usize) -> Result<Vec<u8>, FileError> {
    let mut content = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    source.take(most).read_to_end(&mut content)?;
    if content.len() > limit {
        Err(FileError::TooLarge { limit })
    } else {
        Ok(content)
    }
}
