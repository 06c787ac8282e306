//! The command port.
