//! All tests of the crate in one program.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; a failure is the test's"
)]

mod language;
mod properties;
mod reference;
