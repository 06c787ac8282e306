//! The built-in checks on nodes that are broken on purpose. What needs another node (mounts, networks, limits) is done by a
//! shell in namespaces of its own, which then becomes this program again to run one check there; most of that needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a test"
)]

mod limits;
mod network;
mod node;
mod services;
mod software;
mod trust;
mod whole;
mod work_folder;
