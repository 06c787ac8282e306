//! The embedded pool: collector, negotiator, job queue and shadow in one process, on one port.
//!
//! It speaks HTCondor's wire protocol (crate `cedar`), so that a pilot cannot tell it from the real one and HTCondor's
//! own tools and startd can use it. [`serve`] puts the parts together; each part is a core without I/O and a thin shell:
//!
//! | module | what |
//! | --- | --- |
//! | [`security`] | who may do what: map file, access lists, policies per level, tokens |
//! | [`collector`] | ads of the pool, with lifetimes |
//! | [`negotiator`] | matches idle jobs with unclaimed slots, fairly |
//! | [`queue`] | the durable job queue and what may happen to a job |
//! | [`schedd`] | claims on slots, and which job runs on which |
//! | [`shadow`] | the submit side of one running job |
//! | [`transfer`] | sandboxes to and from the execute side |
//! | [`files`] | opens users' files under the users' own accounts |
//! | [`submit`] | the language of submit files |
//! | [`user_log`] | a job's event log |
//! | [`cli`] | `sailplane pool ...` |

pub mod cli;
pub mod collector;
pub mod config;
pub mod files;
pub mod job_id;
pub mod negotiator;
pub mod queue;
pub mod schedd;
pub mod security;
pub mod serve;
pub mod shadow;
pub mod submit;
pub mod transfer;
pub mod user_log;

pub use job_id::JobId;
