//! What the users of this crate rely on: verdicts over real and forged chains.

#[path = "../common/mod.rs"]
mod common;

mod accept;
