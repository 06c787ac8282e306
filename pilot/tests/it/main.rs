//! The pilot's parts together, on loopback, without a pool.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by panicking"
)]

mod ads;
mod claims;
mod credential;
mod enclosed;
mod foreign;
mod own;
mod pair;
mod programs;
mod reversed;
