//! What the users of this crate rely on: verdicts over real and forged chains.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may panic"
)]

#[path = "../common/mod.rs"]
mod common;

mod accept;
