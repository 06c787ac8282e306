//! Runs the pilot against a real HTCondor pool, on one machine, as its users would.
//!
//! The pieces: [`Pool`] raises collector, negotiator and schedd of HTCondor 23.9.6 (scripts in `site-tests/pool`),
//! [`TestCa`] makes user certificates and proxies with the real `grid-proxy-init`, [`helper`] installs the setuid
//! helper as a site admin would, [`Pilot`] runs `sailplane run` under an ordinary account, and [`Stage`] is all of
//! them together. Everything that was raised goes down when the value is dropped.
//!
//! These are helpers for tests and for the README's first command, not a library for others: errors are texts for a
//! person ([`anyhow::Error`]). All of it needs root, because raising a pool makes mounts and accounts.

// What is not asked for is not there: `sailplane-site-test` is built without all this.
#![cfg(feature = "pool")]

mod ad;
mod ca;
mod embedded;
mod events;
pub mod helper;
mod nat;
mod peer;
mod pilot;
mod pool;
pub mod process;
mod stage;
mod submission;
pub mod tokens;
pub mod wait;

pub use ad::Ad;
pub use ca::{ProxyKind, TestCa};
pub use embedded::{EmbeddedOptions, EmbeddedPool, EmbeddedStartd};
pub use events::{Event, EventLog};
pub use nat::Nat;
pub use peer::CondorStartd;
pub use pilot::{Joinable, Pilot, PilotOptions};
pub use pool::{JobId, JobState, Pool, PoolOptions};
pub use process::Process;
pub use stage::{PeerStage, Play, Stage, StageOptions};
pub use submission::{Example, Submission, Submitted};

/// The ordinary account that raises pools and owns the users' submit folders.
pub const POOL_ACCOUNT: &str = "sailplane-pool";
/// The ordinary account that pilots run under; the helper's `user_white_list` names it.
pub const PILOT_ACCOUNT: &str = "sailplane-pilot";

/// One line for the person who reads the output of a test.
#[expect(
    clippy::print_stderr,
    reason = "a message of a test helper, which has no other channel"
)]
pub fn say(text: &str) {
    eprintln!("site-tests: {text}");
}
