//! The configuration, typed.
