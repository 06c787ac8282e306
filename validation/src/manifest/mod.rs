//! The lists of files that factory and frontend send along.

use crate::knob::Knob;

/// Knobs of manifests.
pub static KNOBS: &[Knob] = &[];
