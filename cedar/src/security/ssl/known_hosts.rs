//! `known_hosts`: authorities that are good for one host each, as HTCondor keeps them (manual, "Authentication using
//! SSL": `HOSTNAME METHOD CERTIFICATE_DATA`, one a line; `!` in front takes the trust away).

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Largest file that is read; a line has about two thousand bytes.
const MAX_BYTES: u64 = 4 << 20;

/// What the files say, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownHosts(Vec<Line>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    host: String,
    is_trusted: bool,
    /// DER of the certificate.
    certificate: Vec<u8>,
}

impl KnownHosts {
    /// Reads the files that are there.
    ///
    /// # Errors
    ///
    /// The path of one that cannot be read, and why.
    pub(crate) fn read<'a>(
        paths: impl IntoIterator<Item = &'a Path>,
    ) -> Result<Self, (&'a Path, io::Error)> {
        let mut all = Self::default();
        for path in paths {
            match read_bounded(path) {
                Ok(text) => all.add(&text),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err((path, error)),
            }
        }
        Ok(all)
    }

    fn add(&mut self, text: &str) {
        self.0.extend(text.lines().filter_map(line));
    }

    /// Whether this certificate, which no authority vouches for, is the one that is known of the host. The first line
    /// about SSL with the host decides.
    pub(crate) fn trusts(&self, host: &str, certificate: &[u8]) -> bool {
        let found = self
            .0
            .iter()
            .find(|line| line.host.eq_ignore_ascii_case(host));
        found.is_some_and(|line| line.is_trusted && line.certificate == certificate)
    }
}

/// One line about SSL; others say how a host was met by other methods, and nothing is trusted because of them.
fn line(text: &str) -> Option<Line> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return None;
    }
    let (is_trusted, text) = match text.strip_prefix('!') {
        Some(rest) => (false, rest),
        None => (true, text),
    };
    let mut words = text.split_ascii_whitespace();
    let (host, method, data) = (words.next()?, words.next()?, words.next()?);
    if !method.eq_ignore_ascii_case("SSL") {
        return None;
    }
    // What cannot be read still is the host's first line, and trusts nothing.
    let certificate = STANDARD.decode(data).unwrap_or_default();
    Some(Line {
        host: host.to_owned(),
        is_trusted: is_trusted && !certificate.is_empty(),
        certificate,
    })
}

fn read_bounded(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_host_decides() {
        let mut known = KnownHosts::default();
        known.add(
            "# hosts\n\npool.example SSL AAEC\npool.example SSL AwQF\n!bad.example SSL AAEC\nbad.example SSL AAEC\n\
             odd.example SSL =?\nodd.example SSL AAEC\ntoken.example TOKEN AAEC\ntoken.example ssl AAEC\r\n",
        );
        let first = [0, 1, 2];
        for (host, certificate, trusted) in [
            ("pool.example", &first[..], true),
            ("POOL.example", &first, true),
            ("pool.example", &[3, 4, 5], false),
            ("other.example", &first, false),
            ("bad.example", &first, false),
            ("odd.example", &first, false),
            ("odd.example", &[], false),
            ("token.example", &first, true),
        ] {
            assert_eq!(
                known.trusts(host, certificate),
                trusted,
                "{host} {certificate:?}"
            );
        }
    }

    #[test]
    fn a_file_that_is_missing_says_nothing() {
        let known = KnownHosts::read([Path::new("/nonexistent/known_hosts")]).unwrap();
        assert!(!known.trusts("pool.example", &[0]));
        let (path, _) = KnownHosts::read([Path::new("/")]).unwrap_err();
        assert_eq!(path, Path::new("/"));
    }
}
