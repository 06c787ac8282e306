//! What the site says about the node, and its batch system about the job.

pub(super) mod batch_system;
pub(super) mod features;
pub(super) mod shutdown;
