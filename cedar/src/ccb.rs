//! CCB: how a daemon that cannot be connected to is reached (protocol 01 section 8).
//!
//! The daemon keeps a connection to a broker, mostly the pool's collector. Who wants to speak with the daemon tells the
//! broker where it listens itself; the broker passes that on, and the daemon makes the connection, on which the two then
//! change roles. Here is the daemon's side, without sockets and clocks: [`Registration`] is one connection to one broker,
//! [`Request`] one wish of a peer for a reversed connection.
//!
//! A broker is trusted with no more than it has to be. It learns where we are and who wants to speak with us, and it can
//! make us open connections: so many at a time, not into this machine's own or its link's private corners, and with
//! nothing on them but what the request itself said. Whoever answers there has to pass the same handshake as
//! anybody who connects to us.

mod contact;
mod registration;
mod request;

pub use contact::{Contact, ContactError, contacts};
pub use registration::{BrokerError, Due, Heard, Registration, Report, Settings};
pub use request::{HelloError, Place, Request, RequestError};

/// Longest message of a broker, in bytes. Requests and answers are some hundred bytes.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Connections that are made for one broker at a time, unless the caller says otherwise: the shadows of a whole node
/// may come at once.
pub const MAX_DIALS: usize = 64;

/// `CCB_HEARTBEAT_INTERVAL` of 23.9.6, in seconds.
pub const HEARTBEAT: u64 = 300;

/// `CCB_RECONNECT_TIME` of 23.9.6, in seconds.
pub const RECONNECT: u64 = 60;
