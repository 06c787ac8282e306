//! Custom checks as factories and frontends send them: real scripts in real shells, real TLS, a real proxy.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test"
)]

mod contract;
mod delivery;
mod examples;
mod functions;
mod support;
