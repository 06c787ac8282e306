//! What the kernel and the distribution say about the node, read from their own texts. Pure.

pub(crate) mod cgroup;
pub(crate) mod cpulist;
pub(crate) mod memory;
pub(crate) mod mounts;
pub(crate) mod os_release;
pub(crate) mod release;
pub(crate) mod status;
