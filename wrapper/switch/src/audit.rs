//! One JSON line per decision (requirements M9, S10): to the system log, and to a file if configured.
//!
//! A line is written with one call to a file opened for appending, so that several brokers can
//! share it. Whoever finds it too large sets it aside, under a lock on that very file; the others
//! notice by their next line that theirs is too large, and open the new one.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use launch_protocol::policy::AuditSettings;
use nix::fcntl::{Flock, FlockArg};

use crate::trusted::{self, Kind, TrustError};

/// Longest line, in bytes; a value that does not fit is left out.
const MAX_LINE: usize = 4096;
/// Longest text or list, in bytes, so that a long one cannot push the others out.
const MAX_VALUE: usize = 1024;
const SEVERITY_INFO: u32 = 6;

/// Where audit lines go.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    system: Option<(UnixDatagram, u32)>,
    file: RefCell<Option<File>>,
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
}

impl Audit {
    /// Connects to the system log, if there is one, and opens the file, if one is configured.
    pub(crate) fn open(settings: &AuditSettings) -> Result<Self, TrustError> {
        let system = settings.syslog_facility.and_then(|facility| {
            let socket = UnixDatagram::unbound().ok()?;
            // A stuck logger must not hold up payloads.
            socket.set_nonblocking(true).ok()?;
            socket.connect("/dev/log").ok()?;
            Some((socket, u32::from(facility) * 8 + SEVERITY_INFO))
        });
        let path = settings.file.clone().unwrap_or_default();
        if let Some(folder) = path.parent() {
            trusted::check(folder, Kind::Directory)?;
        }
        Ok(Self {
            system,
            file: RefCell::new(append_to(&path).ok()),
            path,
            max_bytes: settings.max_bytes,
            keep: settings.keep,
        })
    }

    /// Writes a line of texts.
    pub(crate) fn write(&self, event: &str, texts: &[(&str, &str)]) {
        let line = texts
            .iter()
            .fold(Line::new(event), |line, (key, text)| line.text(key, text));
        self.record(line);
    }

    /// Writes a line. Failing to log is no reason to fail.
    pub(crate) fn record(&self, line: Line) {
        let line = line.0 + "}\n";
        if let Some((socket, priority)) = &self.system {
            let pid = std::process::id();
            let _ = socket.send(format!("<{priority}>sailplane-switch[{pid}]: {line}").as_bytes());
        }
        let mut slot = self.file.borrow_mut();
        let Some(mut file) = slot.take() else { return };
        let full = |size| self.max_bytes > 0 && size >= self.max_bytes;
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
        let still_there = |facts: &fs::Metadata| facts.ino() == ours.ino();
        if fs::symlink_metadata(&self.path).is_ok_and(|facts| still_there(&facts)) {
            let old = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
            for number in (1..self.keep).rev() {
                let _ = fs::rename(old(number), old(number + 1));
            }
            match self.keep {
                0 => fs::remove_file(&self.path)?,
                _ => fs::rename(&self.path, old(1))?,
            }
        }
        append_to(&self.path)
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

/// A line under way.
pub(crate) struct Line(String);

impl Line {
    pub(crate) fn new(event: &str) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let time = format!("{}.{:03}", now.as_secs(), now.subsec_millis());
        Self(format!("{{\"time\":{time},\"event\":{}", quoted(event)))
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        if self.0.len() + key.len() + value.len() + 8 <= MAX_LINE {
            let _ = write!(self.0, ",\"{key}\":{value}");
        }
        self
    }

    pub(crate) fn text(self, key: &str, text: &str) -> Self {
        self.with(key, &quoted(text))
    }

    pub(crate) fn number(self, key: &str, number: impl Into<i64>) -> Self {
        self.with(key, &number.into().to_string())
    }

    pub(crate) fn texts(self, key: &str, texts: &[String]) -> Self {
        self.list(key, texts.iter().map(|text| quoted(text)))
    }

    pub(crate) fn numbers(self, key: &str, numbers: &[u32]) -> Self {
        self.list(key, numbers.iter().map(u32::to_string))
    }

    /// As many as fit.
    fn list(self, key: &str, items: impl Iterator<Item = String>) -> Self {
        let mut inside = String::new();
        for item in items {
            if inside.len() + item.len() > MAX_VALUE {
                inside.push_str(",\"...\"");
                break;
            }
            inside.push_str(if inside.is_empty() { "" } else { "," });
            inside.push_str(&item);
        }
        self.with(key, &format!("[{}]", inside.trim_start_matches(',')))
    }
}

/// A JSON string of printable ASCII, whatever the text holds.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        if out.len() > MAX_VALUE {
            out.push_str("...");
            break;
        }
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\u{byte:04x}")),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without the time.
    fn shown(line: &Line) -> &str {
        line.0.split_once(',').expect("a time").1
    }

    #[test]
    fn s10_hostile_text_stays_on_its_line_and_in_its_value() {
        let hostile = "1.0\n{\"event\":\"open\",\"uid\":0} \u{1b}[2J\"x\\é";
        let line = Line::new("open")
            .text("job", hostile)
            .number("uid", 60_001_u32);
        assert_eq!(
            shown(&line),
            r#""event":"open","job":"1.0\u000a{\"event\":\"open\",\"uid\":0} \u001b[2J\"x\\\u00c3\u00a9","uid":60001"#
        );
        let long = Line::new("open")
            .text("a", &"x".repeat(5000))
            .text("b", "y");
        assert!(long.0.ends_with("...\",\"b\":\"y\"") && long.0.len() < 1200);
        let many = "\u{1}".repeat(5000);
        let line = (0..9).fold(Line::new("open"), |line, _| line.text("k", &many));
        assert!(line.0.len() < MAX_LINE);
    }

    #[test]
    fn m9_lists_are_lists() {
        let fqans = ["/atlas/Role=pilot".to_owned(), "/atlas".to_owned()];
        let line = Line::new("open")
            .texts("fqans", &fqans)
            .numbers("gids", &[5, 6]);
        assert_eq!(
            shown(&line),
            r#""event":"open","fqans":["/atlas/Role=pilot","/atlas"],"gids":[5,6]"#
        );
        let many = vec!["/vo/x".repeat(50); 64];
        let cut = Line::new("open").texts("fqans", &many).numbers("gids", &[]);
        assert!(cut.0.len() < 1200 && cut.0.ends_with("\",\"...\"],\"gids\":[]"));
    }

    #[test]
    fn s10_brokers_share_a_file_and_lose_no_line_when_it_is_set_aside() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("audit");
        let open = || Audit {
            system: None,
            file: RefCell::new(append_to(&path).ok()),
            path: path.clone(),
            max_bytes: 20_000,
            keep: 30,
        };
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let audit = open();
                scope.spawn(move || {
                    for number in 0..500 {
                        let name = format!("{writer}.{number}.");
                        audit.write("open", &[("job", name.as_str())]);
                    }
                });
            }
        });
        let mut seen = Vec::new();
        let mut files = 0;
        for entry in fs::read_dir(folder.path()).expect("listed") {
            let text = fs::read_to_string(entry.expect("entry").path()).expect("text");
            assert!(text.len() < 80_000, "{}", text.len());
            seen.extend(text.lines().map(|line| {
                assert!(
                    line.starts_with("{\"time\":") && line.ends_with("\"}"),
                    "{line}"
                );
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
