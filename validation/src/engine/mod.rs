//! The order of the checks, their limits, their repetition, and what follows from their results.

use crate::knob::Knob;

/// Knobs of the engine.
pub static KNOBS: &[Knob] = &[];
