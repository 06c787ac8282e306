//! Where the command port is: `NETWORK_INTERFACE`, `LOWPORT`, `HIGHPORT`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use nix::ifaddrs::getifaddrs;
use tokio::net::TcpListener;

/// No command port.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// No interface fits.
    #[error("no network interface fits NETWORK_INTERFACE = {0}")]
    NoInterface(String),
    /// The port cannot be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// Every port of the range is taken.
    #[error("every port from {0} to {1} (LOWPORT, HIGHPORT) is taken")]
    RangeTaken(u16, u16),
}

/// The address to listen on and the one to tell others, which differ when all interfaces are listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// For the socket.
    pub listen: IpAddr,
    /// For peers.
    pub advertise: IpAddr,
}

/// Applies `NETWORK_INTERFACE`: an address, an interface's name, or a pattern of either with `*`. With `*` alone the
/// address is the one from which packets to `towards` (a collector) leave.
///
/// # Errors
/// [`AddressError::NoInterface`].
pub fn choose(interface: &str, towards: Option<SocketAddr>) -> Result<Place, AddressError> {
    let interface = interface.trim();
    if interface.is_empty() || interface == "*" {
        let advertise = towards
            .and_then(source_towards)
            .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let listen = if advertise.is_ipv4() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            advertise
        };
        return Ok(Place { listen, advertise });
    }
    if let Ok(ip) = interface.parse() {
        return Ok(Place {
            listen: ip,
            advertise: ip,
        });
    }
    let candidates = getifaddrs().into_iter().flatten().filter_map(|entry| {
        let address = entry.address?;
        let ip = IpAddr::V4(address.as_sockaddr_in()?.ip());
        (glob(interface, &entry.interface_name) || glob(interface, &ip.to_string())).then_some(ip)
    });
    let best = candidates.min_by_key(IpAddr::is_loopback);
    let ip = best.ok_or_else(|| AddressError::NoInterface(interface.to_owned()))?;
    Ok(Place {
        listen: ip,
        advertise: ip,
    })
}

/// Which of our addresses the kernel would use; nothing is sent.
fn source_towards(peer: SocketAddr) -> Option<IpAddr> {
    let any = if peer.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

/// Opens the command port, on a free one or within `range`.
///
/// # Errors
/// [`AddressError`].
pub async fn listen(ip: IpAddr, range: Option<(u16, u16)>) -> Result<TcpListener, AddressError> {
    let Some((low, high)) = range else {
        let address = SocketAddr::new(ip, 0);
        return TcpListener::bind(address)
            .await
            .map_err(|source| AddressError::Listen { address, source });
    };
    for port in low..=high {
        let address = SocketAddr::new(ip, port);
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(source) => return Err(AddressError::Listen { address, source }),
        }
    }
    Err(AddressError::RangeTaken(low, high))
}

/// A pattern with `*` against a text, without regard to case.
fn glob(pattern: &str, text: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    let text = text.to_ascii_lowercase();
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            let Some(at) = rest.find(middle) else {
                return false;
            };
            rest = rest.get(at + middle.len()..).unwrap_or_default();
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        assert!(
            glob("eth*", "eth0")
                && glob("192.168.*", "192.168.1.2")
                && glob("*", "x")
                && glob("a*b*c", "aXbYc")
        );
        assert!(!glob("eth*", "lo") && !glob("eth", "eth0") && !glob("a*b", "abc"));
    }

    #[test]
    fn loopback_is_found_by_name_and_by_route() {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(choose("lo", None).unwrap().advertise, ip);
        assert_eq!(
            choose("*", Some("127.0.0.1:9618".parse().unwrap()))
                .unwrap()
                .advertise,
            ip
        );
        assert!(matches!(
            choose("nosuch7", None),
            Err(AddressError::NoInterface(_))
        ));
    }

    #[tokio::test]
    async fn a_full_range_is_reported() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let result = listen(IpAddr::V4(Ipv4Addr::LOCALHOST), Some((port, port))).await;
        assert!(matches!(result, Err(AddressError::RangeTaken(..))));
    }
}
