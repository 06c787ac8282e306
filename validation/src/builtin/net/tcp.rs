//! Connecting: to every address of a name, and what can be learned from how it fails.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::outcome::{Failure, Whose};
use crate::setup::Endpoint;

/// What came of connecting to somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Came {
    /// Connected, to which address and how fast.
    Connected(SocketAddr, Duration),
    /// Its name has no address: what the resolver said.
    NoName(String),
    /// Somebody is there, and nothing listens.
    Refused(SocketAddr),
    /// No answer at all.
    Silent(SocketAddr),
    /// There is no way there: what the kernel said.
    NoWay(SocketAddr, String),
}

/// Tries the addresses one after the other; the first that answers counts, else the last failure.
pub(crate) async fn connect(endpoint: &Endpoint, within: Duration) -> (Came, Option<TcpStream>) {
    let until = Instant::now().checked_add(within);
    let left = || {
        until.map_or(within, |until| {
            until.saturating_duration_since(Instant::now())
        })
    };
    let host = endpoint.host.trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = match timeout(left(), lookup_host((host, endpoint.port))).await
    {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => return (Came::NoName(plain(&error)), None),
        Err(_) => {
            return (
                Came::NoName("no answer from the name servers".to_owned()),
                None,
            );
        }
    };
    let mut last = Came::NoName("it has no address".to_owned());
    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    for address in addresses {
        let began = Instant::now();
        // Each gets its share, so that one that is silent does not hide the next.
        match timeout(left().min(within / count), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return (Came::Connected(address, began.elapsed()), Some(stream)),
            Ok(Err(error)) => last = refusal(address, &error),
            Err(_) => last = Came::Silent(address),
        }
    }
    (last, None)
}

fn refusal(address: SocketAddr, error: &io::Error) -> Came {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Came::Refused(address),
        io::ErrorKind::TimedOut => Came::Silent(address),
        _ => Came::NoWay(address, plain(error)),
    }
}

/// The system's words without Rust's number, and without the part that says that a lookup failed.
pub(super) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    text.trim_start_matches("failed to lookup address information: ")
        .to_owned()
}

impl Came {
    /// What went wrong and who can help; nothing if it worked. `what` names the service: `the collector c.example:9618`;
    /// `runs_it` is who would have to start it.
    pub(crate) fn failure(&self, what: &str, host: &str, runs_it: Whose) -> Option<Failure> {
        let failure = match self {
            Self::Connected(..) => return None,
            Self::NoName(said) => Failure::site(
                format!("{what} cannot be reached: its name {host} cannot be looked up ({said})"),
                "see what the check dns says; if only this name fails, correct it in the configuration",
            ),
            Self::Refused(address) => Failure::new(
                runs_it,
                format!("{what} does not answer: nothing listens at {address}"),
                "see whether it runs, and whether address and port are right in the pilot's configuration; a firewall that refuses \
             looks the same",
            ),
            Self::Silent(address) => Failure::site(
                format!("{what} cannot be reached: no answer from {address}"),
                "let outgoing TCP to it through the site's firewall; if other sites reach it not either, it is down",
            ),
            Self::NoWay(address, said) => Failure::site(
                format!("{what} cannot be reached: no way to {address} ({said})"),
                "look at the node's routes and network interfaces (`ip route get`)",
            ),
        };
        Some(failure.transient().kind("Network"))
    }
}

/// Reads `HOST:PORT`, `[V6]:PORT`.
pub(crate) fn endpoint(text: &str) -> Option<Endpoint> {
    let (host, port) = text.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let is_plain =
        !host.is_empty() && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')));
    is_plain.then(|| Endpoint {
        text: text.to_owned(),
        host: host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned(),
        port,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Endpoint {
        endpoint(&format!("127.0.0.1:{port}")).unwrap()
    }

    #[tokio::test]
    async fn an_open_port_and_a_closed_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (came, stream) = connect(&at(port), Duration::from_secs(5)).await;
        assert!(matches!(came, Came::Connected(..)) && stream.is_some());
        assert_eq!(came.failure("x", "h", Whose::Pool), None);
        drop(listener);
        let (came, _) = connect(&at(port), Duration::from_secs(5)).await;
        let failure = came.failure("the collector", "h", Whose::Pool).unwrap();
        assert_eq!(failure.whose, Whose::Pool);
        assert!(failure.why.contains("nothing listens"), "{failure:?}");
    }

    #[tokio::test]
    async fn a_name_that_is_none() {
        let nobody = endpoint("no-such-host.invalid:1").unwrap();
        let (came, _) = connect(&nobody, Duration::from_secs(5)).await;
        let failure = came.failure("x", &nobody.host, Whose::Pool).unwrap();
        assert!(failure.why.contains("no-such-host.invalid"), "{failure:?}");
    }

    #[test]
    fn endpoints() {
        assert_eq!(endpoint("[2001:db8::1]:80").unwrap().host, "2001:db8::1");
        for bad in ["", "h", ":1", "h:0x1", "2001:db8::1", "h:65536"] {
            assert_eq!(endpoint(bad), None, "{bad}");
        }
    }
}
