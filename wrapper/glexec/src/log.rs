//! Lines in the system log, in the words that readers of gLExec's look for. They are the caller's own
//! account of it, as far as trust goes: what root has decided is in the audit lines of the broker.

use std::fmt::Write as _;
use std::os::unix::net::UnixDatagram;

use launch_protocol::broker::{Opened, Usage};

use crate::settings::Settings;

/// Longest line, in bytes (requirement S10).
const MAX_LINE: usize = 1024;

/// How important a line is, in the system log's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// A call that was refused.
    Error = 3,
    /// What happened.
    Notice = 5,
}

/// The system log.
#[derive(Debug)]
pub struct Log {
    socket: Option<UnixDatagram>,
    facility: u8,
    level: u8,
}

impl Log {
    /// Connects, unless the site wants silence.
    pub fn open(settings: &Settings) -> Self {
        let socket = UnixDatagram::unbound().ok().filter(|socket| {
            // A stuck logger must not hold up anybody.
            !settings.silent
                && socket.set_nonblocking(true).is_ok()
                && socket.connect("/dev/log").is_ok()
        });
        Self {
            socket,
            facility: settings.facility,
            level: settings.log_level,
        }
    }

    /// A line of gLExec's own.
    pub fn write(&self, level: Level, text: &str) {
        self.send(level, &format!("glexec[{}]", std::process::id()), text);
    }

    /// Lines of its monitor, about the process that has become the command.
    pub fn monitor(&self, command: u32, lines: &[String]) {
        let tag = format!("glexec.mon[{}#{command}]", std::process::id());
        for line in lines {
            self.send(Level::Notice, &tag, line);
        }
    }

    fn send(&self, level: Level, tag: &str, text: &str) {
        // gLExec's scale: 1 is errors, 3 is what happened.
        let wanted = match level {
            Level::Error => 1,
            Level::Notice => 3,
        };
        if let Some(socket) = self.socket.as_ref().filter(|_| self.level >= wanted) {
            let priority = self.facility * 8 + level as u8;
            let _ = socket.send(line(priority, tag, text).as_bytes());
        }
    }
}

fn line(priority: u8, tag: &str, text: &str) -> String {
    let mut line = format!("<{priority}>{tag}: ");
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' => line.push(char::from(byte)),
            _ => {
                let _ = write!(line, "\\x{byte:02x}");
            }
        }
    }
    line.truncate(MAX_LINE);
    line
}

/// What the monitor says when a command starts.
pub fn started(opened: &Opened) -> Vec<String> {
    let mut lines = vec![
        format!("Started, target uid {}", opened.uid),
        format!("Used DN: \"{}\"", opened.identity),
    ];
    let vo = opened.fqans.first().and_then(|fqan| fqan.split('/').nth(1));
    lines.extend(vo.map(|vo| format!("Used VO: \"{vo}\"")));
    lines.extend(
        opened
            .fqans
            .iter()
            .map(|fqan| format!("Used FQAN: \"{fqan}\"")),
    );
    lines
}

/// What it says when the command has ended.
pub fn terminated(usage: &Usage) -> String {
    let seconds = |micros: u64| micros.div_ceil(1_000_000);
    format!(
        "Terminated, CPU user {} system {}",
        seconds(usage.user_usec),
        seconds(usage.system_usec)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s10_a_line_is_one_line_of_limited_length() {
        assert_eq!(
            line(29, "glexec[7]", "a\nb\x1b"),
            "<29>glexec[7]: a\\x0ab\\x1b"
        );
        assert_eq!(line(29, "t", &"x".repeat(5000)).len(), MAX_LINE);
    }

    /// The fields that the accounting probe of the Open Science Grid takes out of these lines, found
    /// the way it finds them.
    #[test]
    fn accounting_finds_its_fields() {
        let opened = Opened {
            uid: 60_001,
            identity: "/DC=org/CN=Alice \"A\"".to_owned(),
            fqans: vec!["/cms/Role=pilot".to_owned(), "/cms".to_owned()],
            ..Opened::default()
        };
        let lines = started(&opened);
        let last = lines[0].rfind(' ').map(|place| &lines[0][place + 1..]);
        assert!(lines[0].starts_with("Started") && last == Some("60001"));
        assert_eq!(&lines[1][10..lines[1].len() - 1], opened.identity);
        assert_eq!(lines[2][10..].split('"').next(), Some("cms"));
        assert_eq!(&lines[3][12..lines[3].len() - 1], "/cms/Role=pilot");
        let text = terminated(&Usage {
            user_usec: 11_500_000,
            system_usec: 34_000_000,
            ..Usage::default()
        });
        let system = text.rfind(' ').expect("a space") + 1;
        let user = text[..system - 9].rfind(' ').expect("a space") + 1;
        assert!(text.starts_with("Termina"));
        assert_eq!((&text[user..system - 8], &text[system..]), ("12", "34"));
    }
}
