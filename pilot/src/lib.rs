//! The pilot: joins an HTCondor pool as its own startd and starter, and runs every job
//! under the account its user's credential maps to.
//!
//! What lives where:
//!
//! * [`cli`], [`log`], [`run`]: start-up, and the order in which things are started and ended;
//! * [`validate_command`]: `sailplane validate`;
//! * [`knobs`]: the configuration, typed;
//! * [`advertise`]: the slot ads and the links to the collectors;
//! * [`slot`]: the claim state machine (pure) and the task that drives it;
//! * [`serve`]: the command port;
//! * [`job`], [`transfer`], [`credential_watch`]: one activation, from the shadow's first word to `job_exit`;
//! * [`broker`]: the client side of the identity-switch helper.
//!
//! It does not verify credentials, map identities or switch accounts: that is the helper's work
//! (`sailplane-switch`, `sailplane-verify`), in other processes.
pub mod advertise;
pub mod backoff;
pub mod blame;
pub mod broker;
pub mod cli;
pub mod credential_command;
pub mod credential_watch;
pub mod demo;
pub mod execute;
pub mod hardening;
pub mod identity;
pub mod job;
pub mod join;
pub mod knobs;
pub mod life;
pub mod log;
pub mod manifest_command;
pub mod program;
pub mod run;
pub mod serve;
pub mod slot;
pub mod threads;
pub mod transfer;
pub mod validate_command;
