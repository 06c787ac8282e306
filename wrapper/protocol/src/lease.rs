//! The record of a lease: what must be cleaned up after a payload whose monitor is gone. The monitor writes it
//! before any of that exists.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// What must be cleaned up after a payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// User number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// A number that nobody else has.
    pub dynamic: bool,
    /// The sandbox; empty: none.
    pub sandbox: PathBuf,
    /// Its groups.
    pub groups: Vec<PathBuf>,
    /// What the job is called.
    pub label: String,
}

impl Record {
    /// Its text.
    pub fn print(&self) -> Vec<u8> {
        let mut text = String::from("sailplane-lease 1\n");
        let _ = writeln!(
            text,
            "uid {}\ngid {}\ndynamic {}",
            self.uid,
            self.gid,
            u8::from(self.dynamic)
        );
        // Nothing in it may look like a line of its own.
        let _ = writeln!(text, "label {}", self.label.replace(char::is_control, "?"));
        let mut bytes = text.into_bytes();
        for (key, path) in std::iter::once(("sandbox ", &self.sandbox))
            .chain(self.groups.iter().map(|group| ("group ", group)))
        {
            bytes.extend_from_slice(key.as_bytes());
            bytes.extend_from_slice(path.as_os_str().as_bytes());
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(b"end\n");
        bytes
    }

    /// Reads the text; only a complete record counts.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut record = Self::default();
        let mut lines = text.split(|byte| *byte == b'\n');
        if lines.next()? != b"sailplane-lease 1" {
            return None;
        }
        for line in lines {
            if line == b"end" {
                return Some(record);
            }
            let blank = line.iter().position(|byte| *byte == b' ')?;
            let (key, value) = line.split_at(blank);
            let value = value.get(1..)?;
            let text = || std::str::from_utf8(value).ok();
            let path = || PathBuf::from(std::ffi::OsStr::from_bytes(value));
            match key {
                b"uid" => record.uid = text()?.parse().ok()?,
                b"gid" => record.gid = text()?.parse().ok()?,
                b"dynamic" => record.dynamic = text()? == "1",
                b"label" => record.label = text()?.to_owned(),
                b"sandbox" => record.sandbox = path(),
                b"group" => record.groups.push(path()),
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(label: &str) -> Record {
        Record {
            uid: 60_001,
            gid: 60_001,
            dynamic: true,
            sandbox: "/scratch/a b/dir_1_2".into(),
            groups: vec!["/sys/fs/cgroup/x".into(), "/sys/fs/cgroup/memory/x".into()],
            label: label.to_owned(),
        }
    }

    #[test]
    fn k10_a_record_comes_back_whole_or_not_at_all() {
        let record = record("12.0 of alice");
        let text = record.print();
        assert_eq!(Record::parse(&text), Some(record));
        for cut in 0..text.len() - 1 {
            assert_eq!(Record::parse(&text[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn a_label_cannot_name_another_account() {
        let text = record("x\nuid 0\nend").print();
        assert_eq!(Record::parse(&text).map(|it| it.uid), Some(60_001));
    }
}
