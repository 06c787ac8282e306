//! The other side of this crate: making credentials. The submit side of a pool signs proxies for execute machines
//! ([`ProxyIssuer`]); demonstrations and tests need a whole certification authority ([`Authority`]).
//!
//! Whatever is made here passes [`verify_proxy`](crate::verify_proxy) and OpenSSL's own check.

mod authority;
mod build;
mod error;
mod proxies;
mod request;

pub use authority::{Authority, UserCertificate};
pub use build::KeyType;
pub use error::IssueError;
pub use proxies::{ProxyIssuer, ProxyKind, ProxyOptions};
