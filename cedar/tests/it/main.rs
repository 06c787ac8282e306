//! Tests of the crate from outside: recorded exchanges, pairs of our own ends, hostile input.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests may panic like the tests themselves"
)]

#[cfg(feature = "tokio")]
mod access;
mod ccb;
#[cfg(feature = "tokio")]
mod ccb_net;
mod corpus;
#[cfg(feature = "tokio")]
mod crowd;
mod derivations;
mod frames;
mod hostile;
#[cfg(feature = "tokio")]
mod net;
mod pair;
#[cfg(feature = "tokio")]
mod pki;
mod primitives;
mod properties;
mod replay_client;
mod replay_server;
#[cfg(feature = "tokio")]
mod ssl;
mod support;
