//! `/etc/os-release`: which distribution it is, and whether a list of wanted ones has it.

use super::release::{Release, parse as parse_release};

/// The distribution.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OsRelease {
    /// `debian`, `almalinux`.
    pub(crate) id: String,
    /// What it is made from, `rhel centos fedora`.
    pub(crate) like: Vec<String>,
    /// `9.4`.
    pub(crate) version: String,
    /// For people.
    pub(crate) name: String,
}

/// Reads the text; missing fields are empty.
pub(crate) fn parse(text: &str) -> OsRelease {
    let get = |wanted: &str| {
        let value = text
            .lines()
            .filter_map(|line| line.trim().split_once('='))
            .find(|(name, _)| *name == wanted)
            .map_or("", |(_, value)| value.trim());
        let inner = ['"', '\'']
            .iter()
            .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        inner.unwrap_or(value).to_owned()
    };
    OsRelease {
        id: get("ID").to_ascii_lowercase(),
        like: get("ID_LIKE")
            .split_whitespace()
            .map(str::to_ascii_lowercase)
            .collect(),
        version: get("VERSION_ID"),
        name: get("PRETTY_NAME"),
    }
}

/// One wanted distribution: `rhel>=8`, `debian`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    id: String,
    least: Option<Release>,
}

impl Wanted {
    /// Reads one word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        let (id, least) = match word.split_once(">=") {
            Some((id, least)) => (id, Some(parse_release(least)?)),
            None => (word, None),
        };
        let is_name = !id.is_empty()
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        is_name.then(|| Self {
            id: id.to_ascii_lowercase(),
            least,
        })
    }

    /// Whether a distribution is it, or made from it.
    pub(crate) fn takes(&self, os: &OsRelease) -> bool {
        let is_it = os.id == self.id || os.like.contains(&self.id);
        is_it
            && self.least.as_ref().is_none_or(|least| {
                parse_release(&os.version).is_some_and(|version| version >= *least)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALMA: &str = "NAME=\"AlmaLinux\"\nVERSION=\"9.4 (Seafoam Ocelot)\"\nID=\"almalinux\"\nID_LIKE=\"rhel centos \
                        fedora\"\nVERSION_ID=\"9.4\"\nPRETTY_NAME=\"AlmaLinux 9.4 (Seafoam Ocelot)\"\n";
    const DEBIAN: &str =
        "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";

    #[test]
    fn a_clone_counts_as_what_it_is_made_from() {
        let alma = parse(ALMA);
        assert_eq!(
            (alma.id.as_str(), alma.version.as_str()),
            ("almalinux", "9.4")
        );
        for (word, wanted) in [
            ("rhel>=9", true),
            ("RHEL>=9.4", true),
            ("rhel>=10", false),
            ("almalinux", true),
            ("debian", false),
        ] {
            assert_eq!(Wanted::parse(word).unwrap().takes(&alma), wanted, "{word}");
        }
        assert!(Wanted::parse("debian>=11").unwrap().takes(&parse(DEBIAN)));
        assert!(
            !Wanted::parse("debian>=11")
                .unwrap()
                .takes(&parse("ID=debian"))
        );
        for bad in ["", ">=3", "a b", "rhel>=x"] {
            assert_eq!(Wanted::parse(bad), None, "{bad}");
        }
    }
}
