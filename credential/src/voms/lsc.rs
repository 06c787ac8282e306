//! `vomsdir/VO/HOST.lsc`: the names of the certificates that speak for a VOMS server (rule A4).

use crate::path::Path;

/// The chains that a server may have.
#[derive(Debug)]
pub(crate) struct Lsc {
    chains: Vec<Vec<String>>,
}

impl Lsc {
    /// Reads the lines: the subject of the signer, then its issuers, one a line; a line
    /// `------ NEXT CHAIN ------` begins an alternative. Blank lines and lines with `#` are skipped.
    /// `None` for anything else, and for a chain without an issuer.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut chains = vec![Vec::new()];
        for line in text.lines() {
            let line = line.trim();
            let line = line
                .strip_prefix('"')
                .and_then(|inner| inner.strip_suffix('"'))
                .unwrap_or(line);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.starts_with('-') {
                let words = line.trim_matches('-').trim();
                if words != "NEXT CHAIN" {
                    return None;
                }
                chains.push(Vec::new());
            } else if line.starts_with('/') {
                chains.last_mut()?.push(line.to_owned());
            } else {
                return None;
            }
        }
        // A divider behind the last chain, or two in a row, say nothing.
        chains.retain(|chain| !chain.is_empty());
        let is_complete = !chains.is_empty() && chains.iter().all(|chain| chain.len() >= 2);
        is_complete.then_some(Self { chains })
    }

    /// Whether one of the chains is that of a verified path, whose first `sent` certificates came with
    /// the attributes.
    pub(crate) fn describes(&self, path: &Path, sent: usize) -> bool {
        self.chains
            .iter()
            .any(|chain| is_chain_of(chain, path, sent))
    }
}

/// Either each line is the subject of the next certificate up, and the last is that of the issuer of
/// the last certificate that was sent, or of the trust anchor; or the lines come in pairs of subject
/// and issuer, one pair for each certificate that was sent or for the whole path. With two lines that
/// is the same.
fn is_chain_of(chain: &[String], path: &Path, sent: usize) -> bool {
    let certificates = || path.links.iter().map(|link| &link.certificate);
    let all = path.links.len();
    let upwards = (chain.len() == all || chain.len() == sent + 1 && sent < all)
        && chain
            .iter()
            .zip(certificates())
            .all(|(line, certificate)| certificate.subject.is_spelled(line));
    let (pairs, odd) = chain.as_chunks::<2>();
    let paired = odd.is_empty()
        && (pairs.len() == sent || pairs.len() == all)
        && pairs
            .iter()
            .zip(certificates())
            .all(|([subject, issuer], certificate)| {
                certificate.subject.is_spelled(subject) && certificate.issuer.is_spelled(issuer)
            });
    upwards || paired
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a4_only_lists_of_names_are_understood() {
        let count = |text: &str| {
            Lsc::parse(text.as_bytes())
                .map(|lsc| lsc.chains.iter().map(Vec::len).collect::<Vec<_>>())
        };
        assert_eq!(count("/CN=a\n/CN=b\n"), Some(vec![2]));
        assert_eq!(
            count("# servers\n/CN=a\r\n/CN=b\n\n------ NEXT CHAIN ------\n\"/CN=c\"\n/CN=b\n/CN=d"),
            Some(vec![2, 3])
        );
        assert_eq!(
            count("/CN=a\n/CN=b\n------NEXT CHAIN------\n"),
            Some(vec![2])
        );
        for bad in [
            "",
            "# none\n",
            "/CN=a\n",
            "/CN=a\n/CN=b\n--- NEXT CHAIN ---\n/CN=c\n",
            "CN=a\nCN=b\n",
            "/CN=a\n/CN=b\n------ OTHER ------\n/CN=a\n/CN=b\n",
            "/CN=a\n/CN=b\n<html>\n",
        ] {
            assert_eq!(count(bad), None, "{bad:?}");
        }
        assert!(Lsc::parse(b"/CN=\xff\n/CN=b\n").is_none());
    }
}
