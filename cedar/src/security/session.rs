//! One security session: a key and who owns its other end.

use super::PeerIdentity;
use crate::Version;
use crate::secret::SessionKey;

/// Where a session came from. Only negotiated ones can be replaced by a new handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionSource {
    /// A handshake in which we were the client. The peer may not turn it round: it proved to us that
    /// it is the server we wanted, not that it may command us.
    Negotiated,
    /// A handshake in which we were the server.
    Accepted,
    /// A claim id.
    Claim,
    /// A claim's file transfers, or a session the shadow handed out.
    FileTransfer,
}

/// A session. `Debug` does not show the key.
#[derive(Debug, Clone)]
pub struct Session {
    /// The session id.
    pub id: String,
    /// The key of every connection in this session.
    pub key: SessionKey,
    /// Where the session came from.
    pub source: SessionSource,
    /// Who owns the other end.
    pub peer: PeerIdentity,
    /// The peer's version, restored when the session is resumed.
    pub peer_version: Option<Version>,
    /// Our identity as the peer sees it.
    pub our_user: Option<String>,
    /// Unix time at which the session ends; `None`: when it is removed.
    pub expires: Option<i64>,
    /// Seconds the session may lie idle; `None`: for ever.
    pub lease: Option<i64>,
    /// Unix time of the last use.
    pub last_used: i64,
}

impl SessionSource {
    /// True if the session was made by a handshake, in whichever role.
    pub fn is_negotiated(self) -> bool {
        matches!(self, Self::Negotiated | Self::Accepted)
    }
}

impl Session {
    /// True if the session may still be used at unix time `now`; `slop` seconds are allowed on top.
    pub fn is_live(&self, now: i64, slop: i64) -> bool {
        let idle_end = self.lease.map(|lease| self.last_used.saturating_add(lease));
        let within = |end: Option<i64>| end.is_none_or(|end| now < end.saturating_add(slop));
        within(self.expires) && within(idle_end)
    }
}

/// A session id as it may stand in a log: claim-shaped ids are cut at the last `#`, in case a
/// confused peer sends a whole claim id where a session id belongs.
pub fn public_session_id(id: &str) -> String {
    match id.rsplit_once('#') {
        Some((head, tail)) if tail.len() <= 20 && tail.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{head}#{tail}")
        }
        Some((head, _)) => format!("{head}#..."),
        None => id.chars().take(200).collect(),
    }
}
