//! Sinful strings: the addresses of HTCondor daemons, `<host:port?key=value&flag>`.
//!
//! Format: protocol 01 section 7.1, `htcondor:src/condor_utils/condor_sinful.cpp`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Longest text accepted, in bytes. Real ones with several CCB contacts stay below 2 KiB.
pub const MAX_LEN: usize = 16 * 1024;

/// Why a text is no sinful string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SinfulError {
    /// Longer than [`MAX_LEN`].
    #[error("address of {0} bytes is longer than {MAX_LEN}")]
    TooLong(usize),
    /// No `<` in front or no `>` at the end.
    #[error("address is not enclosed in < and >")]
    NotBracketed,
    /// Nothing where the host should be.
    #[error("address has no host")]
    NoHost,
    /// The port is missing or not in 0..=65535.
    #[error("address has no valid port")]
    BadPort,
    /// A `%` that two hexadecimal digits do not follow, or bytes that are not UTF-8.
    #[error("address has a damaged percent escape")]
    BadEscape,
    /// A control character, blank or bracket where none may stand.
    #[error("address contains a character that is not allowed")]
    BadCharacter,
}

/// A daemon's address. Unknown parameters are kept, so that an address can be passed on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Sinful {
    host: String,
    port: u16,
    params: Vec<(String, Option<String>)>,
}

impl Sinful {
    /// The address `<ip:port>` without parameters.
    pub fn new(ip: IpAddr, port: u16) -> Self {
        Self {
            host: ip.to_string(),
            port,
            params: Vec::new(),
        }
    }

    /// Reads the text form with angle brackets.
    ///
    /// # Errors
    ///
    /// [`SinfulError`] names the first thing wrong with the text.
    pub fn parse(text: &str) -> Result<Self, SinfulError> {
        if text.len() > MAX_LEN {
            return Err(SinfulError::TooLong(text.len()));
        }
        let inner = text
            .strip_prefix('<')
            .and_then(|rest| rest.strip_suffix('>'))
            .ok_or(SinfulError::NotBracketed)?;
        Self::parse_inner(inner, None)
    }

    /// Reads a contact as it stands in configuration: `host`, `host:port`, `host:port?sock=x`, with
    /// or without angle brackets. `default_port` is used where the text has none (9618 for a collector).
    ///
    /// # Errors
    ///
    /// [`SinfulError`] names the first thing wrong with the text.
    pub fn from_contact(text: &str, default_port: u16) -> Result<Self, SinfulError> {
        if text.len() > MAX_LEN {
            return Err(SinfulError::TooLong(text.len()));
        }
        let text = text.trim();
        let inner = text
            .strip_prefix('<')
            .and_then(|rest| rest.strip_suffix('>'))
            .unwrap_or(text);
        Self::parse_inner(inner, Some(default_port))
    }

    fn parse_inner(inner: &str, default_port: Option<u16>) -> Result<Self, SinfulError> {
        let (place, query) = match inner.split_once('?') {
            Some((place, query)) => (place, query),
            None => (inner, ""),
        };
        let (host, port) = split_place(place)?;
        let port = match (port, default_port) {
            (Some(text), _) => parse_port(text)?,
            (None, Some(port)) => port,
            (None, None) => return Err(SinfulError::BadPort),
        };
        let mut params: Vec<(String, Option<String>)> = Vec::new();
        for part in query.split(['&', ';']).filter(|part| !part.is_empty()) {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (unescape(key)?, Some(unescape(value)?)),
                None => (unescape(part)?, None),
            };
            // The last of equal keys wins.
            params.retain(|(known, _)| *known != key);
            params.push((key, value));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            params,
        })
    }

    /// Adds the flag `noUDP`: peers use TCP for everything.
    #[must_use]
    pub fn no_udp(self) -> Self {
        self.with("noUDP", None)
    }

    /// Adds the DNS name of the host, which peers use in certificate checks.
    #[must_use]
    pub fn alias(self, name: &str) -> Self {
        self.with("alias", Some(name))
    }

    /// Adds the `addrs` parameter with the one address this sinful already names.
    #[must_use]
    pub fn with_addrs(self) -> Self {
        let entry = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("[{}]-{}", ip.to_string().replace(':', "-"), self.port),
            _ => format!("{}-{}", self.host, self.port),
        };
        self.with("addrs", Some(&entry))
    }

    /// Sets one parameter, or a flag if `value` is `None`; an older one of that name is replaced.
    #[must_use]
    pub fn with(mut self, key: &str, value: Option<&str>) -> Self {
        self.params.retain(|(known, _)| known != key);
        self.params.push((key.to_owned(), value.map(str::to_owned)));
        self
    }

    /// The host as written: an IP literal (IPv6 without brackets) or a name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// All parameters in order; a flag has no value.
    pub fn params(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.params
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_deref()))
    }

    /// The decoded value of a parameter; a flag gives the empty string.
    pub fn param(&self, key: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_deref().unwrap_or(""))
    }

    /// The shared port endpoint to select after connecting, if there is one.
    pub fn sock(&self) -> Option<&str> {
        self.param("sock").filter(|sock| !sock.is_empty())
    }

    /// The DNS name for certificate checks.
    pub fn alias_name(&self) -> Option<&str> {
        self.param("alias").filter(|alias| !alias.is_empty())
    }

    /// The contacts of CCB servers, if the daemon can only be reached through them.
    pub fn ccb_contacts(&self) -> Option<&str> {
        self.param("CCBID").filter(|contacts| !contacts.is_empty())
    }

    /// False if this is an address that leads through CCB servers, to none of which `other` leads: the daemon that is at
    /// `other` now cannot be reached here any more.
    pub fn leads_where(&self, other: &Self) -> bool {
        let list = |address: &Self| -> Vec<String> {
            let contacts = address.ccb_contacts().unwrap_or_default();
            contacts.split(' ').map(str::to_owned).collect()
        };
        self.ccb_contacts().is_none() || {
            let theirs = list(other);
            list(self).iter().any(|contact| theirs.contains(contact))
        }
    }

    /// The entries of `addrs`, in order; damaged entries are left out.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.param("addrs")
            .map(|list| list.split('+').filter_map(parse_addrs_entry).collect())
            .unwrap_or_default()
    }

    /// The socket address to dial: the first IPv4 entry of `addrs`, else its first entry, else
    /// host and port if the host is an IP literal. `None` if a name has to be resolved first.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let addrs = self.addrs();
        addrs
            .iter()
            .find(|addr| addr.is_ipv4())
            .or_else(|| addrs.first())
            .copied()
            .or_else(|| {
                let ip = self.host.parse::<IpAddr>().ok()?;
                Some(SocketAddr::new(ip, self.port))
            })
    }
}

impl FromStr for Sinful {
    type Err = SinfulError;

    fn from_str(text: &str) -> Result<Self, SinfulError> {
        Self::parse(text)
    }
}

impl From<SocketAddr> for Sinful {
    fn from(addr: SocketAddr) -> Self {
        Self::new(addr.ip(), addr.port())
    }
}

impl fmt::Display for Sinful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "<[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "<{}:{}", self.host, self.port)?;
        }
        let mut separator = '?';
        for (key, value) in &self.params {
            write!(f, "{separator}{}", Escaped(key))?;
            if let Some(value) = value {
                write!(f, "={}", Escaped(value))?;
            }
            separator = '&';
        }
        f.write_str(">")
    }
}

impl fmt::Debug for Sinful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sinful({self})")
    }
}

/// Text with every byte outside HTCondor's safe set written as `%xx`.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => write!(f, "{}", char::from(byte))?,
                b'.' | b'_' | b'-' | b':' | b'#' | b'[' | b']' | b'+' => {
                    write!(f, "{}", char::from(byte))?;
                }
                _ => write!(f, "%{byte:02x}")?,
            }
        }
        Ok(())
    }
}

fn split_place(place: &str) -> Result<(&str, Option<&str>), SinfulError> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(SinfulError::NoHost)?;
        host.parse::<Ipv6Addr>().map_err(|_| SinfulError::NoHost)?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(SinfulError::BadPort),
        };
    }
    let (host, port) = match place.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (place, None),
    };
    if host.is_empty() {
        return Err(SinfulError::NoHost);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !host.chars().all(allowed) {
        return Err(SinfulError::BadCharacter);
    }
    Ok((host, port))
}

fn parse_port(text: &str) -> Result<u16, SinfulError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SinfulError::BadPort);
    }
    text.parse().map_err(|_| SinfulError::BadPort)
}

/// One `ip-port` entry; in IPv6 entries `-` stands for `:` inside the brackets.
fn parse_addrs_entry(entry: &str) -> Option<SocketAddr> {
    let (ip, port) = entry.rsplit_once('-')?;
    let port = parse_port(port).ok()?;
    let ip = match ip.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(six) => IpAddr::V6(six.replace('-', ":").parse().ok()?),
        None => IpAddr::V4(ip.parse::<Ipv4Addr>().ok()?),
    };
    Some(SocketAddr::new(ip, port))
}

fn unescape(text: &str) -> Result<String, SinfulError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let mut digit = || {
                    let byte = bytes.next().ok_or(SinfulError::BadEscape)?;
                    char::from(byte).to_digit(16).ok_or(SinfulError::BadEscape)
                };
                let value = digit()? * 16 + digit()?;
                out.push(u8::try_from(value).map_err(|_| SinfulError::BadEscape)?);
            }
            b'<' | b'>' | 0..=b' ' | 0x7f => return Err(SinfulError::BadCharacter),
            other => out.push(other),
        }
    }
    if out.contains(&0) {
        return Err(SinfulError::BadCharacter);
    }
    String::from_utf8(out).map_err(|_| SinfulError::BadEscape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_real_daemons_survive_a_round_trip() {
        for text in [
            "<127.0.0.1:22618>",
            "<127.0.0.1:22643?addrs=127.0.0.1-22643&alias=vm>",
            "<127.0.0.1:22618?addrs=127.0.0.1-22618&alias=vm&noUDP&sock=collector>",
            "<[::1]:9618?addrs=[--1]-9618+127.0.0.1-9618&noUDP>",
            "<10.0.0.1:0?CCBID=127.0.0.1:22618%3faddrs%3d127.0.0.1-22618#1&noUDP>",
        ] {
            let sinful = Sinful::parse(text).expect(text);
            assert_eq!(sinful.to_string(), text);
        }
    }

    #[test]
    fn addrs_win_over_host_and_port_and_ipv4_is_preferred() {
        let sinful =
            Sinful::parse("<host.example:1?addrs=[2001-db8--1]-9618+192.0.2.7-9619>").unwrap();
        assert_eq!(
            sinful.socket_addr(),
            Some("192.0.2.7:9619".parse().unwrap())
        );
        assert_eq!(sinful.addrs()[0], "[2001:db8::1]:9618".parse().unwrap());
    }

    #[test]
    fn a_name_has_no_socket_address_yet() {
        let sinful = Sinful::from_contact("cm.example.org?sock=collector", 9618).unwrap();
        assert_eq!(sinful.socket_addr(), None);
        assert_eq!((sinful.host(), sinful.port()), ("cm.example.org", 9618));
        assert_eq!(sinful.sock(), Some("collector"));
    }

    #[test]
    fn the_builder_writes_what_htcondor_reads() {
        let sinful = Sinful::new("192.0.2.1".parse().unwrap(), 40001)
            .with_addrs()
            .alias("wn1.example.org")
            .no_udp();
        let text = "<192.0.2.1:40001?addrs=192.0.2.1-40001&alias=wn1.example.org&noUDP>";
        assert_eq!(sinful.to_string(), text);
        let six = Sinful::new("::1".parse().unwrap(), 1).with_addrs();
        assert_eq!(six.to_string(), "<[::1]:1?addrs=[--1]-1>");
        assert_eq!(six.socket_addr(), Some("[::1]:1".parse().unwrap()));
    }

    #[test]
    fn an_address_through_brokers_is_good_as_long_as_one_of_them_knows_the_daemon() {
        let address = |contacts: Option<&str>| {
            let plain = Sinful::new("192.0.2.1".parse().unwrap(), 1);
            contacts.map_or_else(
                || plain.clone(),
                |list| plain.clone().with("CCBID", Some(list)),
            )
        };
        let (a, b) = (address(Some("h:1#1")), address(Some("h:1#2")));
        let both = address(Some("h:2#7 h:1#1"));
        assert!(a.leads_where(&both) && both.leads_where(&a) && a.leads_where(&a));
        assert!(!a.leads_where(&b) && !b.leads_where(&both));
        assert!(!a.leads_where(&address(None)));
        assert!(address(None).leads_where(&a), "it never led through any");
    }

    #[test]
    fn damaged_addresses_are_refused_with_the_reason() {
        for (text, error) in [
            ("127.0.0.1:1", SinfulError::NotBracketed),
            ("<:1>", SinfulError::NoHost),
            ("<h>", SinfulError::BadPort),
            ("<h:65536>", SinfulError::BadPort),
            ("<h:+1>", SinfulError::BadPort),
            ("<h:1?a=%4>", SinfulError::BadEscape),
            ("<h:1?a=%00>", SinfulError::BadCharacter),
            ("<h\n:1>", SinfulError::BadCharacter),
            ("<[zz]:1>", SinfulError::NoHost),
        ] {
            assert_eq!(Sinful::parse(text), Err(error), "{text:?}");
        }
    }
}
