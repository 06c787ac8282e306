//! The main job end to end: a real HTCondor pool, the installed setuid helper, a pilot under an ordinary account, and
//! jobs sent with the unmodified `condor_submit`.
//!
//! Needs root; a run by another account prints the reason and passes. The pool, its users' certificates and the helper
//! are raised by the tests themselves (see the library of this crate).

mod broken_nodes;
mod ccb;
mod clock;
mod commands;
mod configuration;
mod credentials;
mod demo;
mod embedded_crash;
mod embedded_files;
mod embedded_jobs;
mod embedded_queue;
mod embedded_root;
mod embedded_tokens;
mod embedded_tools;
mod endings;
mod evictions;
mod faults;
mod files;
mod foreign;
mod identity;
mod joining;
mod joining_tokens;
mod methods;
mod own_account;
mod pools;
mod port;
mod reconnect;
mod renewals;
mod retirement;
mod reuse;
mod service_credentials;
mod site_test;
mod sound;
mod submissions;
mod suspension;
mod switching;
mod token_identity;
mod validation;
mod values;

use anyhow::Result;
use sailplane_site_tests::{Play, Stage, StageOptions, process, say};

/// Why a test with a stage can't be played by this process.
fn excuse(peer_too: bool) -> Option<&'static str> {
    process::obstacle()
        .or_else(|| (under_condor() && !peer_too).then_some("is about our own execute side"))
}

/// `UNDER_TEST=condor` plays the tests of what both execute sides must do alike on HTCondor's own.
fn under_condor() -> bool {
    std::env::var_os("UNDER_TEST").is_some_and(|value| value == "condor")
}

/// Sets the stage and plays one test on it; on a failure the logs of pool and pilot are kept and pointed at.
fn on_stage(options: StageOptions, play: impl FnOnce(&mut Stage) -> Result<()>) {
    let name = options.pool.name.clone();
    if let Some(reason) = excuse(false) {
        say(&format!("{name} not run: {reason}"));
        return;
    }
    match options.set() {
        Ok(mut stage) => judge(&name, play(&mut stage)),
        Err(error) => panic!("{name}: the stage could not be set: {error:?}"),
    }
}

/// As [`on_stage`], on a node without our helper.
fn without_helper(options: StageOptions, play: impl FnOnce(&mut Stage) -> Result<()>) {
    let name = options.pool.name.clone();
    if let Some(reason) = excuse(false) {
        say(&format!("{name} not run: {reason}"));
        return;
    }
    match options.set_without_helper() {
        Ok(mut stage) => judge(&name, play(&mut stage)),
        Err(error) => panic!("{name}: the stage could not be set: {error:?}"),
    }
}

/// As [`on_stage`], for what HTCondor's own execute side does in the same way.
fn on_either_stage(options: StageOptions, play: impl FnOnce(&dyn Play) -> Result<()>) {
    let name = options.pool.name.clone();
    if let Some(reason) = excuse(true) {
        say(&format!("{name} not run: {reason}"));
    } else if under_condor() {
        match options.set_for_condor() {
            Ok(stage) => judge(&name, play(&stage)),
            Err(error) => panic!("{name}: the stage could not be set: {error:?}"),
        }
    } else {
        on_stage(options, |stage| play(stage));
    }
}

fn judge(name: &str, outcome: Result<()>) {
    if let Err(error) = outcome {
        panic!("{name}: {error:?}");
    }
}
