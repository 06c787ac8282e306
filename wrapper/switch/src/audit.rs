//! One line per decision (requirements M9, S10): to the system log, and to a file if configured.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::trusted::{self, Kind, TrustError};

/// Longest line, in bytes.
const MAX_LINE: usize = 1024;
/// Longest value, in bytes, so that one long name cannot push the others out.
const MAX_VALUE: usize = 400;
/// Facility authpriv (10), severity info (6).
const PRIORITY: u8 = 10 * 8 + 6;

/// Where audit lines go.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    system: Option<UnixDatagram>,
    file: Option<File>,
}

impl Audit {
    /// Connects to the system log, if there is one, and opens the file, if one is configured.
    pub(crate) fn open(log_file: Option<&Path>) -> Result<Self, TrustError> {
        let system = UnixDatagram::unbound().ok().filter(|socket| {
            // A stuck logger must not hold up payloads.
            socket.set_nonblocking(true).is_ok() && socket.connect("/dev/log").is_ok()
        });
        let file = match log_file {
            None => None,
            Some(path) => {
                trusted::check(path.parent().unwrap_or(path), Kind::Directory)?;
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .mode(0o640)
                    .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                    .open(path)
                    .ok()
            }
        };
        Ok(Self { system, file })
    }

    /// Writes one line of `event key=value ...`. Failing to log is no reason to fail.
    pub(crate) fn write(&self, event: &str, values: &[(&str, &str)]) {
        let line = format_line(event, values);
        let pid = std::process::id();
        if let Some(socket) = &self.system {
            let _ = socket.send(format!("<{PRIORITY}>sailplane-switch[{pid}]: {line}").as_bytes());
        }
        if let Some(mut file) = self.file.as_ref() {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let _ = file.write_all(
                format!(
                    "{}.{:03} [{pid}] {line}\n",
                    now.as_secs(),
                    now.subsec_millis()
                )
                .as_bytes(),
            );
        }
    }
}

fn format_line(event: &str, values: &[(&str, &str)]) -> String {
    let mut line = event.to_owned();
    for (key, value) in values {
        let _ = write!(line, " {key}=");
        let start = line.len();
        let quoted = value.is_empty()
            || value
                .bytes()
                .any(|b| !b.is_ascii_graphic() || b"\"\\=".contains(&b));
        if quoted {
            line.push('"');
        }
        for byte in value.bytes() {
            if line.len() - start >= MAX_VALUE {
                line.push_str("...");
                break;
            }
            match byte {
                b'"' | b'\\' => line.extend(['\\', char::from(byte)]),
                b' '..=b'~' => line.push(char::from(byte)),
                _ => {
                    let _ = write!(line, "\\x{byte:02x}");
                }
            }
        }
        if quoted {
            line.push('"');
        }
    }
    line.truncate(MAX_LINE);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s10_hostile_text_stays_on_its_line_and_in_its_value() {
        let line = format_line(
            "open",
            &[("job", "1.0\nopen uid=0 \u{1b}[2J\"x"), ("uid", "60001")],
        );
        assert_eq!(
            line,
            "open job=\"1.0\\x0aopen uid=0 \\x1b[2J\\\"x\" uid=60001"
        );
        let long = format_line("open", &[("a", &"x".repeat(5000)), ("b", "y")]);
        assert!(long.ends_with("... b=y") && long.len() < 500);
        let many = "\u{1}".repeat(5000);
        let values: Vec<_> = (0..9).map(|_| ("k", many.as_str())).collect();
        assert_eq!(format_line("e", &values).len(), MAX_LINE);
    }
}
