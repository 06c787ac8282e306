//! Checks that somebody brought: executables under the contract of glideinWMS.
//!
//! * [`dashboard`], [`store`], [`lock`]: the file through which checks speak with each other;
//! * [`vars`], [`publish`]: what of it becomes attributes, knobs and variables of jobs;
//! * [`result`], [`cron`], [`periodic`]: what checks say of themselves;
//! * [`gconfig`], [`area`]: the functions and the folders they find;
//! * [`condition`], [`script`]: when and how they are run; [`attributes`]: what comes of it all.

pub mod area;
pub mod attributes;
pub mod condition;
pub mod cron;
pub mod dashboard;
mod ending;
#[doc(hidden)]
pub mod fuzzing;
pub mod gconfig;
pub mod lock;
pub mod periodic;
mod prepare;
pub mod publish;
pub mod result;
pub mod script;
pub mod stamp;
pub mod store;
pub mod vars;

use std::sync::Arc;

use crate::check::Check;
use crate::findings::Report;
use crate::knob::{Kind, Knob, Knobs, knob};
use crate::outcome::Outcome;
use crate::probe::{Probe, Running};
use crate::setup::Setup;

/// Knobs of custom checks.
pub static KNOBS: &[Knob] = &[
    knob(
        &["SAILPLANE_CUSTOM_CHECKS"],
        Kind::List,
        None,
        "",
        "Executables on the node that are run as custom checks of the site, under the contract of glideinWMS, after those \
         of factory and frontend.",
    ),
    knob(
        &["SAILPLANE_CUSTOM_LIMIT"],
        Kind::Integer(0, 86_400),
        Some("600"),
        "s",
        "Longest time of a custom check whose manifest says nothing else; 0 is without limit.",
    ),
    knob(
        &["SAILPLANE_RESULT_DOCUMENTS"],
        Kind::Flag,
        Some("FALSE"),
        "",
        "Whether the pilot, when it ends, prints the result documents that glideinWMS factories collect: a short one on \
         standard output, a long one, packed, on standard error.",
    ),
];

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
pub async fn prepare(knobs: Arc<Knobs>, setup: Arc<Setup>) -> Brought {
    prepare::prepare(&knobs, &setup).await
}
