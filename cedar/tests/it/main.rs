//! Tests of the crate from outside: recorded exchanges, pairs of our own ends, hostile input.

mod corpus;
mod derivations;
mod frames;
mod hostile;
#[cfg(feature = "tokio")]
mod net;
mod pair;
mod primitives;
mod properties;
mod replay_client;
mod replay_server;
mod support;
