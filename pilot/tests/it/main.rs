//! The pilot's parts together, on loopback, without a pool.

mod claims;
mod pair;
