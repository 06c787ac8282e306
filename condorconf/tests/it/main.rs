//! All tests of the crate in one program.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of tests may panic like the tests themselves"
)]

mod language;
mod properties;
mod reference;
