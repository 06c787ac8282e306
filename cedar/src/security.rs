//! The security layer: policy, methods, handshakes, sessions (protocol 01 sections 3 to 6).

pub mod auth;
mod cache;
pub mod client;
mod identity;
mod level;
mod method;
mod password;
#[cfg(test)]
#[path = "../tests/it/pki.rs"]
mod pki;
pub mod policy;
mod scitoken;
pub mod server;
mod session;
mod ssl;
pub mod token;

pub use cache::SessionStore;
pub use identity::{
    EXECUTE_SIDE, IdentityMap, PeerIdentity, SUBMIT_SIDE, TokenFacts, UNAUTHENTICATED,
};
pub use level::Level;
pub use method::AuthMethod;
pub use password::{PasswordError, PoolPassword};
pub use policy::{SecurityPolicy, Wish};
pub use scitoken::{
    SciToken, SciTokenClaims, SciTokenError, SciTokenFault, SciTokenMiss, SciTokenSource,
};
pub use session::{Session, SessionSource, public_session_id};
pub use ssl::{Authorities, SslClient, SslClientFiles, SslError, SslServer, SslServerFiles};
