//! Addresses and networks of access lists.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::glob::Rules;

/// A set of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Network {
    /// Every address, known or not.
    Everything,
    /// The addresses of this machine (`{:local_ips:}`).
    Local,
    /// Those that agree in the first `bits` bits.
    V4 { base: u32, bits: u32 },
    /// Those that agree in the first `bits` bits.
    V6 { base: u128, bits: u32 },
}

/// Why text that looks like a network is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No number of bits behind the slash, or too many.
    #[error("the length behind the slash must be a number from 0 to {0}")]
    Length(u32),
    /// The mask has a hole, or is none.
    #[error("the mask behind the slash is not a run of ones")]
    Mask,
    /// An asterisk behind something else than a dot or a colon, or a dot alone.
    #[error(
        "an asterisk may stand for the last parts of an address only, as in 10.1.* or fd00:1:*"
    )]
    Asterisk,
}

impl Network {
    /// Reads a network, an address or `*`; `None` if the text is neither, such as a host name. Accepts what HTCondor
    /// accepts (`htcondor:src/condor_utils/condor_netaddr.cpp`), except a mask longer than an address, which there
    /// matches something else than was written.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, NetworkError> {
        if text == "*" || text == "*/*" {
            return Ok(Some(Self::Everything));
        }
        if text.eq_ignore_ascii_case("{:local_ips:}") {
            return Ok(Some(Self::Local));
        }
        if let Some((base, length)) = text.split_once('/') {
            return match address(base) {
                Some(base) => with_length(base, length).map(Some),
                None => Ok(None),
            };
        }
        if text.contains(':') {
            return v6(text);
        }
        v4(text)
    }

    /// True if the address is in the set; an unknown address is in [`Network::Everything`] only.
    pub(crate) fn contains(&self, address: Option<IpAddr>, local: &[IpAddr], rules: Rules) -> bool {
        if *self == Self::Everything {
            return true;
        }
        let Some(address) = address.map(|address| address.to_canonical()) else {
            return false;
        };
        match (self, address) {
            (Self::Local, address) => address.is_loopback() || local.contains(&address),
            (Self::V4 { base, bits }, IpAddr::V4(address)) => {
                let mask = match rules {
                    Rules::Sound => u32::MAX.checked_shl(32 - bits).unwrap_or(0),
                    #[cfg(test)]
                    Rules::Of23_9_6 if *bits == 32 => 0,
                    #[cfg(test)]
                    Rules::Of23_9_6 => u32::MAX.checked_shl(32 - bits).unwrap_or(0),
                };
                (u32::from(address) ^ base) & mask == 0
            }
            (Self::V6 { base, bits }, IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                (u128::from(address) ^ base) & mask == 0
            }
            _ => false,
        }
    }

    /// A network of a single address.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4 {
                base: address.into(),
                bits: 32,
            },
            IpAddr::V6(address) => Self::V6 {
                base: address.into(),
                bits: 128,
            },
        }
    }
}

fn address(text: &str) -> Option<IpAddr> {
    let inner = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or(text).parse().ok()
}

fn with_length(base: IpAddr, length: &str) -> Result<Network, NetworkError> {
    match base {
        IpAddr::V4(base) => {
            let bits = if length.contains('.') {
                let mask: Ipv4Addr = length.parse().map_err(|_| NetworkError::Mask)?;
                let mask = u32::from(mask);
                if mask.leading_ones() + mask.trailing_zeros() < 32 {
                    return Err(NetworkError::Mask);
                }
                mask.leading_ones()
            } else {
                number(length, 32)?
            };
            Ok(Network::V4 {
                base: base.into(),
                bits,
            })
        }
        IpAddr::V6(base) => Ok(Network::V6 {
            base: base.into(),
            bits: number(length, 128)?,
        }),
    }
}

fn number(text: &str, most: u32) -> Result<u32, NetworkError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .filter(|bits| *bits <= most)
        .ok_or(NetworkError::Length(most))
}

/// `10.1.2.3`, `10.1.*`, `10.1.` and `10.1`, which all but the first are the same.
fn v4(text: &str) -> Result<Option<Network>, NetworkError> {
    if text.len() > 15
        || !text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'*'))
    {
        return Ok(None);
    }
    let body = text.strip_suffix(['*', '.']).unwrap_or(text);
    let body = body.strip_suffix('.').unwrap_or(body);
    let mut base: u32 = 0;
    let mut parts: u32 = 0;
    for part in body.split('.') {
        if part.contains('*') || part.is_empty() {
            return Err(NetworkError::Asterisk);
        }
        // A number that is no byte makes it a (strange) host name, as in HTCondor.
        let Some(byte) = part.parse::<u8>().ok().filter(|_| parts < 4) else {
            return Ok(None);
        };
        base = base << 8 | u32::from(byte);
        parts += 1;
    }
    Ok(Some(Network::V4 {
        base: base.checked_shl(8 * (4 - parts)).unwrap_or(0),
        bits: 8 * parts,
    }))
}

/// `fd00::1` and `fd00:1:*`.
fn v6(text: &str) -> Result<Option<Network>, NetworkError> {
    let Some(head) = text.strip_suffix('*') else {
        return match address(text) {
            Some(address @ IpAddr::V6(_)) => Ok(Some(Network::of(address))),
            _ if text.contains('*') => Err(NetworkError::Asterisk),
            _ => Ok(None),
        };
    };
    if !head.ends_with(':') {
        return Err(NetworkError::Asterisk);
    }
    let base: Ipv6Addr = format!("{head}:")
        .parse()
        .map_err(|_| NetworkError::Asterisk)?;
    let groups = u32::try_from(head.matches(':').count()).unwrap_or(8);
    Ok(Some(Network::V6 {
        base: base.into(),
        bits: 16 * groups.min(8),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        let network = Network::parse(network).unwrap().unwrap();
        network.contains(Some(address.parse().unwrap()), &[], Rules::Sound)
    }

    #[test]
    fn networks_hold_what_they_say() {
        let cases = [
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.1.2.3", "::ffff:10.1.2.3", true),
            ("10.1.*", "10.1.255.0", true),
            ("10.1.*", "10.2.0.0", false),
            ("10.1", "10.1.9.9", true),
            ("10.1.", "10.10.0.0", false),
            ("10.0.0.0/255.255.255.0", "10.0.0.9", true),
            ("10.0.0.0/255.255.255.0", "10.0.1.9", false),
            ("10.0.0.1/0", "192.0.2.1", true),
            ("10.0.0.1/32", "10.0.0.2", false),
            ("*", "192.0.2.1", true),
            ("{:local_ips:}", "127.3.0.1", true),
            ("{:local_ips:}", "192.0.2.1", false),
            ("fd00::1", "fd00::1", true),
            ("fd00::1", "fd00::2", false),
            ("[fd00::]/16", "fd00:1::", true),
            ("fd00::/129", "fd00::", false),
            ("fd00:1:*", "fd00:1:2::3", true),
            ("fd00:1:*", "fd00:2::", false),
            ("fd00::/8", "10.0.0.1", false),
            ("0.0.0.0/0", "fd00::1", false),
        ];
        for (network, address, wanted) in cases {
            if network == "fd00::/129" {
                assert_eq!(Network::parse(network), Err(NetworkError::Length(128)));
                continue;
            }
            assert_eq!(contains(network, address), wanted, "{network} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_told_from_what_is_a_wrong_one() {
        for name in [
            "node1.site.org",
            "*.site.org",
            "300.1.1.1",
            "alice",
            "1.2.3.4.5",
        ] {
            assert_eq!(Network::parse(name), Ok(None), "{name}");
        }
        for wrong in [
            ".",
            "10.*.1",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/x",
            "fd00::*",
            "fe*::",
        ] {
            assert!(Network::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            Network::parse("10.0.0.0/255.0.255.0"),
            Err(NetworkError::Mask)
        );
    }

    #[test]
    fn an_unknown_address_is_nowhere_but_everywhere() {
        let all = Network::parse("*").unwrap().unwrap();
        assert!(all.contains(None, &[], Rules::Sound));
        let some = Network::parse("0.0.0.0/0").unwrap().unwrap();
        assert!(!some.contains(None, &[], Rules::Sound));
    }
}
