//! The claim state machine and the task that drives it.

mod bystander;
pub mod claims;
pub mod clock;
mod command;
mod errand;
pub mod event;
pub mod eviction;
mod hear;
pub mod machine;
pub mod matching;
mod perform;
mod runner;
mod seat;
mod startd;

pub use bystander::stand_by;
pub use command::{Accepted, Activate, Berth, Grant, Locate, Order, Request, StartdHandle};
pub use runner::JobRunner;
pub use startd::{Ending, Parts, Startd, StartdCommands, StartdConfig};
