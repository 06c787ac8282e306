//! Tests of the public interface.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do"
)]

mod corpus;
mod evaluate;
mod limits;
mod properties;
mod reference;
mod syntax;
