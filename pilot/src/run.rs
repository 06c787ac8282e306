//! The pilot, from start to retirement.
