//! One process at a time has the queue, and the next one is told who.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::queue::OpenError;

const FILE: &str = "lock";

/// Longest text read from somebody else's lock file.
const MAX_TEXT: u64 = 4096;

/// The lock, held until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(in crate::queue) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of the queue in `directory`.
    pub(in crate::queue) fn take(directory: &Path) -> Result<Self, OpenError> {
        let broken = |source| OpenError::Directory {
            directory: directory.to_owned(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join(FILE))
            .map_err(broken)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                let text = format!("{}\n{}\n{}\n", std::process::id(), host(), now());
                let written = lock
                    .set_len(0)
                    .and_then(|()| lock.seek(SeekFrom::Start(0)))
                    .and_then(|_| lock.write_all(text.as_bytes()));
                // On a full disk the holder stays unnamed; the lock itself holds.
                if let Err(error) = written {
                    tracing::warn!(%error, "cannot write our name into the queue's lock file");
                }
                Ok(Self { _file: lock })
            }
            Err((file, nix::errno::Errno::EWOULDBLOCK)) => Err(holder(file, directory)),
            Err((_, errno)) => Err(broken(errno.into())),
        }
    }
}

fn holder(file: File, directory: &Path) -> OpenError {
    let mut text = String::new();
    // Whatever cannot be read is unknown; that it is locked is certain.
    let _ = file.take(MAX_TEXT).read_to_string(&mut text);
    let mut lines = text.lines();
    let mut next = || {
        lines
            .next()
            .filter(|line| !line.is_empty())
            .unwrap_or("an unknown time")
            .to_owned()
    };
    let (pid, host, since) = (next(), next(), next());
    OpenError::InUse {
        directory: directory.to_owned(),
        pid: pid.parse().unwrap_or(0),
        host,
        since,
    }
}

fn host() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "this host".to_owned())
}

fn now() -> String {
    jiff::Zoned::now()
        .strftime("%Y-%m-%d %H:%M:%S %Z")
        .to_string()
}
