//! The order of the checks, their limits, their repetition, and what follows from their results.
//!
//! * [`graph`](GraphError): names become an order, or a mistake that is said;
//! * [`schedule`]: which check runs when: pure;
//! * [`run`](Engine): tasks, limits and the clock around it;
//! * [`standing`]: whether jobs may come, and what the slot ad says: pure;
//! * [`black_hole`]: failures of the environment at a rate: pure.

pub mod black_hole;
mod graph;
mod run;
pub mod schedule;
mod settings;
pub mod standing;
#[cfg(test)]
mod tests;

pub use graph::GraphError;
pub use run::{Done, Engine, is_news, nothing};
pub use settings::{KNOBS, mistakes};
pub use standing::Standing;
