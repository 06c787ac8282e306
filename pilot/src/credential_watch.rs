//! Ends a job before its credential ends.
