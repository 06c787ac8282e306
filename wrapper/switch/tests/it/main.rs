//! The helper as it is installed: set-uid, called by an unprivileged pilot, switching for real.
//!
//! Everything happens in a cell ([`cell`]): a mount namespace with its own root directory, accounts
//! and configuration, so the machine outside sees nothing but processes and cgroups that are gone
//! at the end. Needs root; as root it fails rather than skips.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "all of this is test code, helpers included"
)]

mod agent;
mod cell;
mod client;
mod strace;
mod strays;
mod sys;

mod ahead;
mod attacks;
mod end;
mod expiry;
mod faults;
mod files;
mod happy_path;
mod hook_attacks;
mod hooks;
mod inmate;
mod intruder;
mod isolate;
mod launch;
mod leases;
mod model;
mod policy;
mod pool;
mod renewal;
mod replace;
mod speed;
mod start;
mod storm;
mod sweep;
mod sweeper;
mod system;
mod takeover;
mod tiers;
mod trust;
mod verdicts;
mod warm;
