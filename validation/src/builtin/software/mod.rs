//! What jobs expect to find: software, containers, GPUs.

pub(super) mod apptainer;
pub(super) mod cvmfs;
pub(super) mod gpus;
mod path;
