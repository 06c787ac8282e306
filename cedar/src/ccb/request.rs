use std::fmt;
use std::net::{IpAddr, SocketAddr};

use classad::ClassAd;

use crate::command;
use crate::frame::{Channel, FrameError, HANDSHAKE_LIMIT};
use crate::secret::SecretText;
use crate::sinful::SinfulError;
use crate::wire::{Coding, MessageWriter, WireError};
use crate::{Sinful, ad_wire};

/// Longest connect id and longest request id accepted, in bytes. Real ones have 40 and a few.
const MAX_ID: usize = 256;

/// Longest part of a peer's own words that is put into messages, in bytes.
const MAX_NAME: usize = 128;

/// Where the two ends of our connection to a broker are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The broker.
    pub peer: IpAddr,
    /// We ourselves.
    pub local: IpAddr,
}

impl Place {
    /// True if the broker is on this machine.
    fn is_here(&self) -> bool {
        self.peer == self.local || self.peer.to_canonical().is_loopback()
    }
}

/// Why no connection is made for a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Without these two no answer can be given.
    #[error("a request for a reversed connection has no usable {0}")]
    NoId(&'static str),
    /// The address to be dialled cannot be read.
    #[error("the requester's address cannot be read: {0}")]
    Address(#[from] SinfulError),
    /// It is a name, or there is none.
    #[error("the requester's address names no IP address")]
    NoAddress,
    /// The requester can itself be reached only through a broker.
    #[error("the requester is itself behind a CCB server")]
    BehindCcb,
    /// A port that nobody can listen on.
    #[error("the requester's address has no port")]
    NoPort,
    /// This machine's own, the link's own, or everybody's.
    #[error("{0} is no address that connections are made to for a broker elsewhere")]
    Forbidden(IpAddr),
    /// Too many at once.
    #[error("too many reversed connections are being made")]
    Busy,
}

/// A peer asks, through a broker, to be connected to.
#[derive(Clone)]
pub struct Request {
    connect_id: SecretText,
    request_id: String,
    address_text: String,
    name: String,
    pub(super) link: u64,
}

impl Request {
    /// Reads the broker's ad.
    ///
    /// # Errors
    ///
    /// [`RequestError::NoId`]: there is nothing that an answer could refer to.
    pub(super) fn parse(ad: &ClassAd, link: u64) -> Result<Self, RequestError> {
        let id = |name: &'static str| {
            let text = ad.string(name).filter(|text| is_id(text));
            text.ok_or(RequestError::NoId(name))
        };
        Ok(Self {
            connect_id: SecretText::new(id("ClaimId")?),
            request_id: id("RequestID")?,
            address_text: ad.string("MyAddress").unwrap_or_default(),
            name: clean(&ad.string("Name").unwrap_or_default()),
            link,
        })
    }

    /// What the peer calls itself, fit for a log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address to dial, as the broker told it.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if it is none that a connection may be made to.
    pub fn target(&self, place: Place) -> Result<(Sinful, SocketAddr), RequestError> {
        let sinful = Sinful::parse(&self.address_text)?;
        if sinful.ccb_contacts().is_some() {
            return Err(RequestError::BehindCcb);
        }
        let address = sinful.socket_addr().ok_or(RequestError::NoAddress)?;
        if address.port() == 0 {
            return Err(RequestError::NoPort);
        }
        if !may_dial(address.ip(), place) {
            return Err(RequestError::Forbidden(address.ip()));
        }
        Ok((sinful, address))
    }

    /// What is sent first on the reversed connection to `target`, ready for the socket: the choice of the peer's endpoint if
    /// it is behind a shared port, then `CCB_REVERSE_CONNECT`. `client` is what we are called there. The connection
    /// then begins anew, with us as the server: nothing of this counts for its digests.
    ///
    /// # Errors
    ///
    /// [`HelloError`] if the text cannot be expressed; a request that was read can be.
    pub fn hello(&self, target: &Sinful, client: &str) -> Result<Vec<u8>, HelloError> {
        let mut out = Vec::new();
        let mut channel = Channel::new(HANDSHAKE_LIMIT, false);
        if let Some(sock) = target.sock() {
            let mut message = MessageWriter::new(Coding::Plain);
            message
                .int(i64::from(command::SHARED_PORT_CONNECT))
                .str(sock)
                .str(client)
                .int(DIAL_DEADLINE)
                .int(0);
            channel.seal(&message.finish()?, &mut out)?;
        }
        let mut message = MessageWriter::new(Coding::Plain);
        message.int(i64::from(command::CCB_REVERSE_CONNECT));
        // The connect id is a private attribute by its name only: its place is on this connection.
        ad_wire::write(&mut message, &self.ad(), true);
        channel.seal(&message.finish()?, &mut out)?;
        Ok(out)
    }

    /// What identifies the request, for the peer and for the broker.
    fn ad(&self) -> ClassAd {
        let mut ad = ClassAd::new();
        ad.insert("ClaimId", self.connect_id.expose());
        ad.insert("RequestID", self.request_id.as_str());
        ad.insert("MyAddress", self.address_text.as_str());
        ad
    }

    /// What the broker is told of the outcome; `trouble`: why there is no connection.
    pub(super) fn outcome(&self, trouble: Option<&str>) -> ClassAd {
        let mut ad = self.ad();
        ad.insert("Result", trouble.is_none());
        if let Some(why) = trouble {
            ad.insert("ErrorString", why);
        }
        ad
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("request_id", &self.request_id)
            .field("address", &clean(&self.address_text))
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Seconds that a shared port may take to hand the connection on.
const DIAL_DEADLINE: i64 = 20;

/// The first bytes of a reversed connection cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// A message cannot be coded.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A message cannot be framed.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// An id goes out again on a connection to wherever the broker says. No line ends, so that it is nobody's command.
fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A peer's own words for a log: short, and on one line.
fn clean(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    let mut out = String::new();
    for c in printable {
        if out.len() + c.len_utf8() > MAX_NAME {
            break;
        }
        out.push(c);
    }
    out
}

/// Whether a broker may have us connect to an address. One on this machine may name any; one elsewhere has no business
/// with what only this machine can reach (services of the node's own, the metadata of a cloud).
fn may_dial(ip: IpAddr, place: Place) -> bool {
    let ip = ip.to_canonical();
    let (multicast, link_local) = match ip {
        IpAddr::V4(ip) => (ip.is_multicast() || ip.is_broadcast(), ip.is_link_local()),
        IpAddr::V6(ip) => (ip.is_multicast(), ip.is_unicast_link_local()),
    };
    if ip.is_unspecified() || multicast {
        return false;
    }
    if place.is_here() {
        return true;
    }
    let broker_link_local = match place.peer.to_canonical() {
        IpAddr::V4(peer) => peer.is_link_local(),
        IpAddr::V6(peer) => peer.is_unicast_link_local(),
    };
    !ip.is_loopback() && (!link_local || broker_link_local)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(peer: &str, local: &str) -> Place {
        Place {
            peer: peer.parse().unwrap(),
            local: local.parse().unwrap(),
        }
    }

    fn request(address: &str) -> Request {
        let mut ad = ClassAd::new();
        ad.insert("ClaimId", "8ee6343901746a06c360e46ef51bb67545606d56");
        ad.insert("RequestID", "1");
        ad.insert("MyAddress", address);
        ad.insert("Name", "SCHEDD\r\n<127.0.0.1:1>");
        Request::parse(&ad, 0).unwrap()
    }

    #[test]
    fn a_broker_elsewhere_cannot_send_us_into_this_machine() {
        let far = place("192.0.2.1", "192.0.2.9");
        for text in [
            "<127.0.0.1:22>",
            "<0.0.0.0:22>",
            "<169.254.169.254:80>",
            "<224.0.0.1:22>",
            "<255.255.255.255:22>",
            "<[::1]:22>",
            "<[::]:22>",
            "<[::ffff:127.0.0.1]:22>",
            "<[fe80::1]:22>",
            "<192.0.2.7:1?addrs=127.0.0.1-22>",
        ] {
            let refused = request(text).target(far);
            assert!(
                matches!(refused, Err(RequestError::Forbidden(_))),
                "{text}: {refused:?}"
            );
        }
        assert!(request("<192.0.2.7:22>").target(far).is_ok());
        for here in [
            place("127.0.0.1", "127.0.0.1"),
            place("192.0.2.9", "192.0.2.9"),
        ] {
            assert!(request("<127.0.0.1:22>").target(here).is_ok());
            assert!(request("<0.0.0.0:22>").target(here).is_err());
        }
    }

    #[test]
    fn addresses_that_cannot_be_dialled_are_refused_with_the_reason() {
        let far = place("192.0.2.1", "192.0.2.9");
        let why = |text: &str| request(text).target(far).unwrap_err();
        assert_eq!(why("<192.0.2.7:0>"), RequestError::NoPort);
        assert_eq!(why("<host.example:1>"), RequestError::NoAddress);
        assert_eq!(
            why("<192.0.2.7:1?CCBID=192.0.2.1:9618#4>"),
            RequestError::BehindCcb
        );
        assert!(matches!(why("192.0.2.7:1"), RequestError::Address(_)));
        assert!(matches!(why(""), RequestError::Address(_)));
    }

    #[test]
    fn ids_that_could_be_commands_to_somebody_else_are_refused() {
        for id in ["", "a\r\nFLUSHALL\r\n", "a b", "\u{e4}", &"x".repeat(257)] {
            let mut ad = ClassAd::new();
            ad.insert("ClaimId", id);
            ad.insert("RequestID", "1");
            assert!(matches!(
                Request::parse(&ad, 0),
                Err(RequestError::NoId("ClaimId"))
            ));
        }
    }

    #[test]
    fn the_connect_id_and_line_ends_stay_out_of_logs() {
        let text = format!("{:?}", request("<192.0.2.7:1>\n"));
        assert!(!text.contains("8ee6"), "{text}");
        assert!(!text.contains('\n') && !text.contains("\\r"), "{text}");
    }
}
