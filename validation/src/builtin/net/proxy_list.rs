//! Lists of HTTP proxies, as sites and CVMFS write them. Pure.

use super::tcp;
use crate::setup::Endpoint;

/// A list of proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ProxyList {
    /// In the order of trying.
    pub(super) proxies: Vec<Endpoint>,
    /// What is in the list and names no proxy.
    pub(super) unreadable: Vec<String>,
}

/// Reads `http://a:3128`, `a:3128`, lists of those with `;`, `|`, `,` or blanks between, and `DIRECT`, `auto`, `None` and
/// `UNAVAILABLE`, which name none.
pub(super) fn parse(text: &str) -> ProxyList {
    const NONE: [&str; 5] = ["direct", "auto", "none", "unavailable", "undefined"];
    let mut list = ProxyList::default();
    for word in text
        .split([';', '|', ',', ' ', '\t'])
        .filter(|word| !word.is_empty())
    {
        if NONE.contains(&word.to_ascii_lowercase().as_str()) {
            continue;
        }
        let bare = word
            .strip_prefix("http://")
            .unwrap_or(word)
            .trim_end_matches('/');
        let with_port = if bare.rsplit_once(':').is_some_and(|(host, port)| {
            port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
        }) {
            bare.to_owned()
        } else {
            format!("{bare}:3128")
        };
        match tcp::endpoint(&with_port).filter(|_| !bare.contains("//") && !bare.contains('@')) {
            Some(endpoint) => list.proxies.push(endpoint),
            None => list.unreadable.push(word.to_owned()),
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_to_write_it() {
        let texts = |text: &str| -> Vec<String> {
            parse(text)
                .proxies
                .iter()
                .map(|one| format!("{} {}", one.host, one.port))
                .collect()
        };
        assert_eq!(
            texts("http://a.example:3128|http://b:8080/;DIRECT"),
            ["a.example 3128", "b 8080"]
        );
        assert_eq!(texts("squid.example"), ["squid.example 3128"]);
        assert_eq!(texts("http://[2001:db8::1]:3128"), ["2001:db8::1 3128"]);
        assert!(texts("None").is_empty() && texts("UNAVAILABLE DIRECT auto").is_empty());
        assert_eq!(parse("https://a:1").unreadable, ["https://a:1"]);
        assert_eq!(parse("http://user@a:1").unreadable, ["http://user@a:1"]);
    }
}
