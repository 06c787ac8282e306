//! Lines for the log (requirements M9, S10): one JSON object each. The monitor adds when it was and whose
//! broker says so, and writes them.

use std::fmt::Write as _;

use launch_protocol::monitor::MAX_LINE;

/// Longest line without what the monitor adds, in bytes; a value that does not fit is left out.
const MAX_TEXT: usize = MAX_LINE - 96;
/// Longest text or list, in bytes, so that a long one cannot push the others out.
const MAX_VALUE: usize = 1024;

/// A line under way: the members of its object.
#[derive(Debug)]
pub(crate) struct Line(String);

impl Line {
    pub(crate) fn new(event: &str) -> Self {
        let mut text = String::with_capacity(512);
        let _ = write!(text, "\"event\":{}", quoted(event));
        Self(text)
    }

    /// For the monitor.
    pub(crate) fn into_text(self) -> String {
        self.0
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        if self.0.len() + key.len() + value.len() + 8 <= MAX_TEXT {
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

    #[test]
    fn s10_hostile_text_stays_on_its_line_and_in_its_value() {
        let hostile = "1.0\n{\"event\":\"open\",\"uid\":0} \u{1b}[2J\"x\\é";
        let line = Line::new("open")
            .text("job", hostile)
            .number("uid", 60_001_u32);
        assert_eq!(
            line.0,
            r#""event":"open","job":"1.0\u000a{\"event\":\"open\",\"uid\":0} \u001b[2J\"x\\\u00c3\u00a9","uid":60001"#
        );
        let long = Line::new("open")
            .text("a", &"x".repeat(5000))
            .text("b", "y");
        assert!(long.0.ends_with("...\",\"b\":\"y\"") && long.0.len() < 1200);
        let many = "\u{1}".repeat(5000);
        let line = (0..9).fold(Line::new("open"), |line, _| line.text("k", &many));
        assert!(line.0.len() <= MAX_TEXT);
    }

    #[test]
    fn m9_lists_are_lists() {
        let fqans = ["/atlas/Role=pilot".to_owned(), "/atlas".to_owned()];
        let line = Line::new("open")
            .texts("fqans", &fqans)
            .numbers("gids", &[5, 6]);
        assert_eq!(
            line.0,
            r#""event":"open","fqans":["/atlas/Role=pilot","/atlas"],"gids":[5,6]"#
        );
        let many = vec!["/vo/x".repeat(50); 64];
        let cut = Line::new("open").texts("fqans", &many).numbers("gids", &[]);
        assert!(cut.0.len() < 1200 && cut.0.ends_with("\",\"...\"],\"gids\":[]"));
    }
}
