//! The security layer: policy, methods, handshakes, sessions (protocol 01 sections 3 to 6).

pub mod auth;
mod cache;
pub mod client;
mod identity;
mod level;
mod method;
pub mod policy;
pub mod server;
mod session;
pub mod token;

pub use cache::SessionStore;
pub use identity::{EXECUTE_SIDE, PeerIdentity, SUBMIT_SIDE, TokenFacts, UNAUTHENTICATED};
pub use level::Level;
pub use method::AuthMethod;
pub use policy::{SecurityPolicy, Wish};
pub use session::{Session, SessionSource, public_session_id};
