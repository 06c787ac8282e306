//! Why a file could not be had, whose that is, and whether to try again.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::digest::Digest;

/// Who can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Whoever offers the file, or names it.
    Sender,
    /// The way between us: network, proxy.
    Network,
    /// This node: disk, trust anchors.
    Node,
}

/// One way of asking, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Directly.
    Direct,
    /// Through this proxy.
    Proxy(String),
    /// From the file system.
    Local,
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Direct => f.write_str("directly"),
            Self::Proxy(proxy) => write!(f, "through the proxy {proxy}"),
            Self::Local => f.write_str("from the file system"),
        }
    }
}

/// Why a file could not be had.
#[derive(Debug, Error)]
#[error("{address}, asked for {route}: {cause}")]
pub struct FetchError {
    /// What was asked for.
    pub address: String,
    /// How.
    pub route: Route,
    /// What went wrong.
    pub cause: Cause,
}

/// What went wrong.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Cause {
    /// No connection: name, route, port, or the proxy.
    #[error("no connection: {0}")]
    Connect(String),
    /// No connection that can be trusted.
    #[error("the server's certificate is not trusted: {0}")]
    Tls(String),
    /// The connection broke, or what came was no HTTP.
    #[error("the transfer broke off: {0}")]
    Transfer(String),
    /// The server refused.
    #[error("the server answered {0}")]
    Status(u16),
    /// It sent us to somewhere we do not go.
    #[error("it redirects to {0}, and only https:// is followed")]
    Redirect(String),
    /// It sent us around.
    #[error("it redirects more than {0} times")]
    Redirects(u32),
    /// More than announced or allowed.
    #[error("it has more than {limit} bytes{}", announced.map(|n| format!(" (announced: {n})")).unwrap_or_default())]
    TooLarge {
        /// Bytes that it may have.
        limit: u64,
        /// Bytes that the server announced.
        announced: Option<u64>,
    },
    /// Fewer than announced.
    #[error("it ended after {got} of {want} bytes")]
    Truncated {
        /// Bytes that came.
        got: u64,
        /// Bytes that should have.
        want: u64,
    },
    /// It took too long as a whole, or trickles.
    #[error("it was too slow: {bytes} bytes in {} s", after.as_secs())]
    Slow {
        /// Bytes that came.
        bytes: u64,
        /// In what time.
        after: Duration,
    },
    /// Other content than the manifest says.
    #[error("its digest is {got}, and the manifest says {want}")]
    Digest {
        /// Of what came.
        got: Digest,
        /// Of what was meant.
        want: Digest,
    },
    /// The file is not there, or not to be read.
    #[error("cannot read it: {0}")]
    Read(#[source] io::Error),
    /// Our own copy could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Our copy.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// This program was built without HTTP.
    #[error("this program was built without HTTP; give file:///... or a complete program")]
    NoHttp,
}

impl FetchError {
    pub(super) fn new(address: impl Into<String>, route: Route, cause: Cause) -> Self {
        Self {
            address: address.into(),
            route,
            cause,
        }
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn transient(&self) -> bool {
        match &self.cause {
            Cause::Connect(_)
            | Cause::Transfer(_)
            | Cause::Truncated { .. }
            | Cause::Slow { .. } => true,
            Cause::Status(code) => matches!(code, 408 | 425 | 429 | 500..=599),
            Cause::Tls(_)
            | Cause::Redirect(_)
            | Cause::Redirects(_)
            | Cause::TooLarge { .. }
            | Cause::Digest { .. }
            | Cause::Read(_)
            | Cause::Write { .. }
            | Cause::NoHttp => false,
        }
    }

    /// Whether another way to the same file may bring something else: a proxy may be down, refuse, or hold an old copy.
    #[must_use]
    pub fn worth_another_route(&self) -> bool {
        !matches!(self.cause, Cause::Write { .. } | Cause::NoHttp)
    }

    /// Who can do something about it.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match &self.cause {
            Cause::Connect(_) | Cause::Slow { .. } | Cause::Transfer(_) => Blame::Network,
            Cause::Status(407) => Blame::Network,
            Cause::Write { .. } => Blame::Node,
            Cause::Tls(_)
            | Cause::Status(_)
            | Cause::Redirect(_)
            | Cause::Redirects(_)
            | Cause::TooLarge { .. }
            | Cause::Truncated { .. }
            | Cause::Digest { .. }
            | Cause::Read(_)
            | Cause::NoHttp => Blame::Sender,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match &self.cause {
            Cause::Connect(_) => {
                "See whether the node reaches the server and its proxies, with: curl -v and the address."
            }
            Cause::Tls(_) => {
                "See whether the server's certificate is of a CA that the node trusts (SAILPLANE_FETCH_CA), and not over."
            }
            Cause::Transfer(_) | Cause::Slow { .. } | Cause::Truncated { .. } => {
                "See to the server and to the network on the way."
            }
            Cause::Status(407) => "The proxy wants a password; give one that does not.",
            Cause::Status(_) => "See whether the file is on the server under this address.",
            Cause::Redirect(_) | Cause::Redirects(_) => "Name the address where the file is.",
            Cause::TooLarge { .. } => {
                "Correct the size in the manifest, or raise SAILPLANE_FETCH_MAX."
            }
            Cause::Digest { .. } => {
                "Update the manifest after changing a file (sailplane manifest fill), or find out who changed it."
            }
            Cause::Read(_) => {
                "See whether the file is there and may be read by the pilot's account."
            }
            Cause::Write { .. } => "See whether the disk is full or read-only.",
            Cause::NoHttp => "Build the program with its feature http.",
        }
    }
}
