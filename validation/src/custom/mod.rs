//! Checks that somebody brought: executables under the contract of glideinWMS.

use std::sync::Arc;

use crate::check::Check;
use crate::findings::Report;
use crate::knob::{Knob, Knobs};
use crate::outcome::Outcome;
use crate::probe::{Probe, Running};
use crate::setup::Setup;

/// Knobs of custom checks.
pub static KNOBS: &[Knob] = &[];

/// What was brought, ready to be run.
#[derive(Default)]
pub struct Brought {
    /// What came of bringing it, as checks of their own (`manifest`, `fetch`): shown in the report, and counted.
    pub findings: Vec<(Check, Outcome)>,
    /// The checks.
    pub probes: Vec<Arc<dyn Probe>>,
    /// What is to be done when the pilot ends.
    pub ending: Option<Arc<dyn Ending>>,
}

impl std::fmt::Debug for Brought {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Brought")
            .field("findings", &self.findings)
            .field("probes", &self.probes.len())
            .finish_non_exhaustive()
    }
}

/// What custom checks have left to be done when the pilot ends.
pub trait Ending: Send + Sync {
    /// Does it: clean-up scripts, last result files.
    fn end<'a>(&'a self, report: &'a Report) -> Running<'a, ()>;
}

/// Fetches, verifies and prepares what the knobs name; runs none of it.
pub async fn prepare(_knobs: Arc<Knobs>, _setup: Arc<Setup>) -> Brought {
    Brought::default()
}
