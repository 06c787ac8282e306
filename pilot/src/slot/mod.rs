//! The claim state machine and the task that drives it.
