//! `deny-list`: hosts and networks where the frontend or the factory wants no jobs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use nix::ifaddrs::getifaddrs;
use nix::unistd::gethostname;

use super::super::simple::{gather_and_judge, probe};
use crate::check::{Check, Owner};
use crate::outcome::{Failure, Outcome, Whose};
use crate::probe::{Context, Probe, Running};

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    probe(
        Check::new("deny-list", "hosts and networks without jobs").owner(Owner::Frontend),
        run,
    )
}

fn run(context: &Context) -> Running<'_> {
    let hosts = context.knobs().list("SAILPLANE_CHECK_DENY_HOSTS").to_vec();
    let networks = context
        .knobs()
        .list("SAILPLANE_CHECK_DENY_NETWORKS")
        .to_vec();
    Box::pin(async move {
        if hosts.is_empty() && networks.is_empty() {
            return Outcome::skipped(
                "SAILPLANE_CHECK_DENY_HOSTS and SAILPLANE_CHECK_DENY_NETWORKS are empty",
            );
        }
        gather_and_judge(context, gather, move |facts| {
            judge(facts, &hosts, &networks)
        })
        .await
    })
}

#[derive(Debug, Clone, Default)]
struct Facts {
    /// Names that the node has, small letters.
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
}

fn gather() -> Facts {
    let mut names = BTreeSet::new();
    if let Ok(name) = gethostname()
        && let Ok(name) = name.into_string()
    {
        names.insert(name);
    }
    // What batch systems call the node may be all that means anything in a container.
    for variable in ["SLURMD_NODENAME", "HOSTNAME"] {
        names.extend(std::env::var(variable).ok());
    }
    // The domain, from where the resolver takes it, so that no name server is asked.
    let domain = std::fs::read_to_string("/etc/resolv.conf")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| {
            line.strip_prefix("search ")
                .or_else(|| line.strip_prefix("domain "))
        })
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .next();
    if let Some(domain) = domain {
        let full: Vec<String> = names
            .iter()
            .filter(|name| !name.contains('.'))
            .map(|name| format!("{name}.{domain}"))
            .collect();
        names.extend(full);
    }
    let addresses = getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|interface| {
            let address = interface.address?;
            if let Some(v4) = address.as_sockaddr_in() {
                return Some(IpAddr::V4(v4.ip()));
            }
            address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))
        })
        .filter(|address| !address.is_loopback())
        .collect();
    Facts {
        names: names
            .into_iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        addresses,
    }
}

/// A network: an address, or one with the length of its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    length: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.unwrap_or(most);
        (length <= most).then_some(Self { address, length })
    }

    fn has(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let shift = 32_u32.saturating_sub(self.length);
                u64::from(ours.to_bits()) >> shift == u64::from(theirs.to_bits()) >> shift
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let shift = 128_u32.saturating_sub(self.length);
                let cut = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
                cut(ours.to_bits()) == cut(theirs.to_bits())
            }
            _ => false,
        }
    }
}

/// Whether a name is what a pattern says; `*` stands for anything.
fn is_like(pattern: &str, name: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    if !pattern.contains('*') {
        return rest.is_empty();
    }
    let parts: Vec<&str> = parts.collect();
    let (last, middle) = parts
        .split_last()
        .map_or(("", &[][..]), |(last, middle)| (*last, middle));
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

fn judge(facts: &Facts, hosts: &[String], networks: &[String]) -> Outcome {
    if let Some(text) = networks.iter().find(|text| Network::parse(text).is_none()) {
        let why = format!("SAILPLANE_CHECK_DENY_NETWORKS has {text:?}, which is no network");
        return Outcome::failed(
            Failure::new(
                Whose::Frontend,
                why,
                "write an address, or one with the length of its prefix: 192.0.2.0/24",
            )
            .kind("Config"),
        );
    }
    let host = hosts.iter().find_map(|pattern| {
        let name = facts.names.iter().find(|name| is_like(pattern, name))?;
        Some((
            format!("this node is {name}"),
            format!("{pattern} (SAILPLANE_CHECK_DENY_HOSTS)"),
        ))
    });
    let network = || {
        networks.iter().find_map(|text| {
            let network = Network::parse(text)?;
            let address = facts
                .addresses
                .iter()
                .find(|address| network.has(**address))?;
            Some((
                format!("this node has the address {address}"),
                format!("{text} (SAILPLANE_CHECK_DENY_NETWORKS)"),
            ))
        })
    };
    match host.or_else(network) {
        Some((what, by)) => {
            let why = format!("{what}, and no jobs are wanted at {by}");
            Outcome::failed(
                Failure::new(
                    Whose::Frontend,
                    why,
                    "send no pilots there; whoever wrote the list can take the entry out",
                )
                .kind("VO_Config"),
            )
        }
        None => Outcome::passed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            names: ["wn042.example.org".to_owned()].into(),
            addresses: [
                "192.0.2.42".parse().unwrap(),
                "2001:db8::42".parse().unwrap(),
            ]
            .into(),
        }
    }

    #[test]
    fn names_and_networks() {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let denied = |hosts, networks| {
            judge(&facts(), &words(hosts), &words(networks))
                .failure()
                .map(|failure| failure.why.clone())
        };
        assert_eq!(
            denied("wn041.example.org *.elsewhere.org", "198.51.100.0/24"),
            None
        );
        assert!(
            denied("WN04*.example.org", "")
                .unwrap()
                .contains("wn042.example.org")
        );
        assert!(denied("wn042.example.org", "").is_some());
        assert!(denied("", "192.0.2.0/26").unwrap().contains("192.0.2.42"));
        assert!(
            denied("", "2001:db8::/32")
                .unwrap()
                .contains("2001:db8::42")
        );
        assert!(denied("", "0.0.0.0/0").is_some() && denied("", "::/0").is_some());
        assert_eq!(denied("", "192.0.2.41"), None);
        assert!(denied("", "192.0.2.0/33").unwrap().contains("no network"));
    }

    #[test]
    fn patterns() {
        for (pattern, name, wanted) in [
            ("*", "a", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("abc", "abcd", false),
            ("*.org", "x.org", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(is_like(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn this_node_has_a_name() {
        assert!(!gather().names.is_empty());
    }
}
