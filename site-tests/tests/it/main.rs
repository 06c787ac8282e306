//! The main job end to end: a real HTCondor pool, the installed setuid helper, a pilot under an ordinary account, and
//! jobs sent with the unmodified `condor_submit`.
//!
//! Needs root; a run by another account prints the reason and passes. The pool, its users' certificates and the helper
//! are raised by the tests themselves (see the library of this crate).

mod commands;
mod configuration;
mod credentials;
mod endings;
mod faults;
mod files;
mod identity;
mod pools;
mod retirement;
mod reuse;
mod sound;
mod values;

use anyhow::Result;
use sailplane_site_tests::{Stage, StageOptions, process, say};

/// Sets the stage and plays one test on it; on a failure the logs of pool and pilot are kept and pointed at.
fn on_stage(options: StageOptions, play: impl FnOnce(&mut Stage) -> Result<()>) {
    let name = options.pool.name.clone();
    if let Some(reason) = process::obstacle() {
        say(&format!("{name} not run: {reason}"));
        return;
    }
    let mut stage = match options.set() {
        Ok(stage) => stage,
        Err(error) => panic!("{name}: the stage could not be set: {error:?}"),
    };
    if let Err(error) = play(&mut stage) {
        panic!("{name}: {error:?}");
    }
}
