//! Connections over TCP, with tokio.
//!
//! [`Client`] starts commands, [`Server`] accepts them, [`Stream`] carries the messages after that. [`Registrations`] make
//! connections to those who cannot make them to us.

mod admission;
mod ccb;
mod client;
mod config;
mod error;
mod keepalive;
mod refusals;
mod server;
mod session_cache;
mod stream;
mod token_request;

pub use self::ccb::{RegistrationError, Registrations, Reversed, Standing, contacts};
pub use crate::security::client::Proof;
pub use crate::security::server::Policies;
pub use client::Client;
pub use config::{ClientConfig, Credentials, FsAuthentication, ServerConfig};
pub use error::{Error, ErrorKind, Step, chain};
pub use server::{Incoming, Server};
pub use session_cache::SessionCache;
pub use stream::{Message, ReadHalf, Stream, WriteHalf};
pub(crate) use token_request::issued as fuzz_issued;
pub use token_request::{IssuedToken, PendingToken, TokenAnswer, TokenRequestError, TokenWish};
