//! One JSON line per decision (requirements M9, S10): to the system log, and to a file if configured.
//!
//! A line is written with one call to a file opened for appending, so that several brokers can
//! share it. Whoever finds it too large sets it aside, under a lock on that very file; the others
//! notice by their next line that theirs is too large, and open the new one.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use launch_protocol::broker::Refusal;
use launch_protocol::policy::AuditSettings;
use nix::fcntl::{Flock, FlockArg};

use crate::trusted::{self, Kind};

const SEVERITY_INFO: u32 = 6;

/// Where audit lines go.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    system: Option<(UnixDatagram, u32)>,
    file: RefCell<Option<File>>,
    settings: AuditSettings,
}

impl Audit {
    /// Connects to the system log, if there is one, and opens the file, if one is configured.
    pub(crate) fn open(settings: &AuditSettings) -> Result<Self, Refusal> {
        let system = settings.syslog_facility.and_then(|facility| {
            let socket = UnixDatagram::unbound().ok()?;
            // A stuck logger must not hold up payloads.
            socket.set_nonblocking(true).ok()?;
            socket.connect("/dev/log").ok()?;
            Some((socket, u32::from(facility) * 8 + SEVERITY_INFO))
        });
        if let Some(folder) = settings.file.as_ref().and_then(|path| path.parent()) {
            trusted::check("log_file", folder, Kind::Directory)?;
        }
        let file = settings.file.as_ref().and_then(|path| append_to(path).ok());
        Ok(Self { system, file: RefCell::new(file), settings: settings.clone() })
    }

    /// Writes a line that holds these members. Failing to log is no reason to fail.
    pub(crate) fn record(&self, members: &str) {
        let now = SystemTime::now();
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, millis) = (now.as_secs(), now.subsec_millis());
        let pid = std::process::id();
        let line = format!("{{\"time\":{seconds}.{millis:03},\"monitor\":{pid},{members}}}\n");
        if let Some((socket, priority)) = &self.system {
            let _ = socket.send(format!("<{priority}>sailplane-switch[{pid}]: {line}").as_bytes());
        }
        let mut slot = self.file.borrow_mut();
        let Some(mut file) = slot.take() else { return };
        let most = self.settings.max_bytes;
        let full = |size| most > 0 && size >= most;
        let done = |facts: &fs::Metadata| facts.nlink() == 0 || full(facts.size());
        if file.metadata().is_ok_and(|facts| done(&facts)) {
            file = self.next(&file).unwrap_or(file);
        }
        let _ = file.write_all(line.as_bytes());
        *slot = Some(file);
    }

    /// Sets a full file aside, unless another broker has done so already, and opens the next one.
    fn next(&self, full: &File) -> io::Result<File> {
        let lock = Flock::lock(full.try_clone()?, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, errno)| io::Error::from(errno))?;
        let ours = lock.metadata()?;
        let path = self.settings.file.as_deref().unwrap_or_else(|| Path::new(""));
        if fs::symlink_metadata(path).is_ok_and(|facts| facts.ino() == ours.ino()) {
            let old = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
            for number in (1..self.settings.keep).rev() {
                let _ = fs::rename(old(number), old(number + 1));
            }
            match self.settings.keep {
                0 => fs::remove_file(path)?,
                _ => fs::rename(path, old(1))?,
            }
        }
        append_to(path)
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s10_brokers_share_a_file_and_lose_no_line_when_it_is_set_aside() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("audit");
        let open = || Audit {
            system: None,
            file: RefCell::new(append_to(&path).ok()),
            settings: AuditSettings { file: Some(path.clone()), max_bytes: 20_000, keep: 30, syslog_facility: None },
        };
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let audit = open();
                scope.spawn(move || {
                    for number in 0..500 {
                        let name = format!("{writer}.{number}.");
                        audit.record(&format!("\"event\":\"open\",\"job\":\"{name}\""));
                    }
                });
            }
        });
        let mut seen = Vec::new();
        let mut files = 0;
        for entry in fs::read_dir(folder.path()).expect("listed") {
            let text = fs::read_to_string(entry.expect("entry").path()).expect("text");
            seen.extend(text.lines().map(|line| {
                assert!(line.starts_with("{\"time\":") && line.ends_with("\"}"), "{line}");
                line.rsplit(':').next().expect("a value").to_owned()
            }));
            files += 1;
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 2000);
        assert!(files > 1, "{files}");
    }
}
