//! Looks at a worker node before it takes jobs and while it does, and says plainly what does not work, and to whom:
//! factory, frontend or site.
//!
//! What lives where:
//!
//! * [`check`], [`outcome`], [`findings`]: what a check is, what came of it, and everything that was found;
//! * [`probe`]: how a check is written: a [`Probe`] is run with a [`Context`];
//! * [`setup`], [`knob`]: what the pilot tells the checks about itself, and the knobs they have;
//! * [`engine`]: the order of the checks, their limits, their repetition, and what follows from their results;
//! * [`process`]: children of checks, which end with everything they started;
//! * [`builtin`], [`site_command`], [`switching`], [`custom`], [`manifest`], [`fetch`]: the checks themselves and where they come from;
//! * [`report`]: the findings as text, JSON, OTRX, for Nagios, and as a page.
//!
//! It joins no pool and runs no jobs; the pilot does, and decides by the verdict.
pub mod builtin;
pub mod check;
#[cfg(test)]
mod corpus;
pub mod custom;
pub mod engine;
pub mod fetch;
pub mod findings;
pub mod knob;
pub mod manifest;
mod node;
pub mod outcome;
pub mod probe;
pub mod process;
pub mod report;
pub mod setup;
pub mod site_command;
pub mod switching;

pub use check::{Check, CheckName, Origin, Owner, Period, Severity};
pub use findings::{Class, Entry, Fact, Node, Report, Setting, Verdict};
pub use knob::{Kind, Knob, Knobs};
pub use outcome::{Attribute, Failure, Metric, MetricValue, Outcome, Status, Threshold, Whose};
pub use probe::{Context, PingError, PoolPing, Probe, Running};
pub use setup::{Endpoint, Launcher, Setup, SwitchOffer, Wish};
