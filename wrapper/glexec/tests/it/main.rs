//! The drop-in as it is installed: `glexec` a link to the set-uid program, called by scripts of an
//! unprivileged account that take it for gLExec.
//!
//! Everything happens in a cell ([`cell`]): a mount namespace with its own root directory, accounts
//! and configuration. Needs root; as root it fails rather than skips.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "all of this is test code, helpers included"
)]

mod cell;

mod callers;
mod causes;
mod conditions;
mod contract;
mod directories;
mod real;
mod settings;
mod wrapping;
