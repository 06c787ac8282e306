//! Where files are: `https://...` or `file:///...`, nothing else.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Longest address, bytes.
const ADDRESS_MAX: usize = 2048;

/// An address that this pilot fetches from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    text: String,
    path: Option<PathBuf>,
}

/// Text that is no such address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LocationError {
    /// Another scheme. HTTP without TLS would show every reader on the way what the pilot checks, and let each stop it.
    #[error("{0} is neither https://... nor file:///...")]
    Scheme(String),
    /// Blanks, control characters, letters beyond ASCII, or far too long.
    #[error("{0:?} is no address: blanks and special characters have to be percent-encoded")]
    Characters(String),
    /// A relative path, or one that leads upwards.
    #[error("{0}: the path has to be absolute, without `.` and `..`")]
    Path(String),
    /// No host, or a user name and password, which would end up in logs.
    #[error("{0}: an address has a host, and no user name or password")]
    Host(String),
}

impl Location {
    /// Reads an address.
    ///
    /// # Errors
    /// [`LocationError`].
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        let shown = || text.chars().take(200).collect::<String>();
        let clean = text.len() <= ADDRESS_MAX
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\' | b'"'));
        if !clean {
            return Err(LocationError::Characters(shown()));
        }
        if let Some(path) = text.strip_prefix("file:") {
            // Two slashes announce a host, and there is none.
            let path = path.strip_prefix("//").unwrap_or(path);
            let upwards = path.split('/').any(|part| matches!(part, "." | ".."));
            if !path.starts_with('/') || upwards {
                return Err(LocationError::Path(shown()));
            }
            return Ok(Self {
                text: text.to_owned(),
                path: Some(PathBuf::from(decoded(path))),
            });
        }
        let Some(rest) = text.strip_prefix("https://") else {
            return Err(LocationError::Scheme(shown()));
        };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() || host.contains('@') {
            return Err(LocationError::Host(shown()));
        }
        if path.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(LocationError::Path(shown()));
        }
        Ok(Self {
            text: text.to_owned(),
            path: None,
        })
    }

    /// A neighbour: `name` in the same folder, or below it.
    ///
    /// # Errors
    /// [`LocationError`].
    pub fn beside(&self, name: &str) -> Result<Self, LocationError> {
        if name.contains("://") || name.starts_with("file:") {
            return Self::parse(name);
        }
        let folder = match self.text.rsplit_once('/') {
            // Behind a question mark a slash is no folder.
            Some((folder, _)) if !folder.contains('?') => folder,
            _ => return Err(LocationError::Path(self.text.clone())),
        };
        if name.starts_with('/') {
            return Err(LocationError::Path(name.chars().take(200).collect()));
        }
        Self::parse(&format!("{folder}/{name}"))
    }

    /// The address with letters added.
    ///
    /// # Errors
    /// [`LocationError`].
    pub fn with_suffix(&self, suffix: &str) -> Result<Self, LocationError> {
        Self::parse(&format!("{}{suffix}", self.text))
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Percent-encoded bytes as they are; what is no encoding stays.
fn decoded(text: &str) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt;
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |index: usize| char::from(*after.get(index)?).to_digit(16);
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) if high + low > 0 => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_files_are_addresses() {
        for good in [
            "https://h/p",
            "https://h:8443/a/b?x=1",
            "file:///etc/x",
            "file:/etc/x",
        ] {
            assert_eq!(Location::parse(good).unwrap().as_str(), good);
        }
        for bad in [
            "http://h/p",
            "ftp://h/p",
            "/etc/x",
            "",
            "https://",
            "https:///x",
            "https://u:p@h/x",
            "https://h/a b",
            "https://h/../x",
            "file://x/y/../z",
            "file:x",
            "https://h/x#y",
            "https://h/\u{e9}",
        ] {
            assert!(Location::parse(bad).is_err(), "{bad}");
        }
        let spaced = Location::parse("file:///a%20b").unwrap();
        assert_eq!(spaced.file(), Some(Path::new("/a b")));
    }

    #[test]
    fn neighbours_stay_in_the_folder() {
        let base = Location::parse("https://h/a/manifest.json").unwrap();
        assert_eq!(base.beside("x.sh").unwrap().as_str(), "https://h/a/x.sh");
        assert_eq!(
            base.beside("b/x.sh").unwrap().as_str(),
            "https://h/a/b/x.sh"
        );
        assert_eq!(base.beside("https://o/x").unwrap().as_str(), "https://o/x");
        for bad in ["../x", "/x", "http://o/x", "b/../../x", "x y"] {
            assert!(base.beside(bad).is_err(), "{bad}");
        }
    }
}
