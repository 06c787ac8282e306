//! What the node, the batch system and the kernel let the pilot have.

pub(super) mod batch;
pub(super) mod cpus;
pub(super) mod groups;
pub(super) mod memory;
pub(super) mod open_files;
pub(super) mod processes;
