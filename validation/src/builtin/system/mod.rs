//! Operating system, kernel, and what ordinary accounts may ask of it.

pub(super) mod cgroups;
pub(super) mod clock;
mod clock_search;
pub(super) mod deny;
pub(super) mod devices;
pub(super) mod kernel;
pub(super) mod os;
pub(super) mod security;
pub(super) mod user_namespaces;
