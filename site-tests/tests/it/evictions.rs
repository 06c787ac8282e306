//! Jobs that the pilot's policy does not want any more: `PREEMPT`, `WANT_HOLD` and their like, as a frontend's script
//! publishes them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::{JobState, Play, StageOptions, Submission, wait};

use crate::on_stage;

/// Event number of a job's log.
const EVICTED: u16 = 4;

/// As frontends write it: helpers are sourced, knobs of the startd go through the dashboard.
const SCRIPT: &str = r#"#!/bin/bash
glidein_config="$1"
add_config_line_source=$(grep -m1 '^ADD_CONFIG_LINE_SOURCE ' "$glidein_config" | cut -d ' ' -f 2-)
source "$add_config_line_source"
error_gen=$(gconfig_get ERROR_GEN_PATH "$glidein_config")
condor_vars_file=$(gconfig_get CONDOR_VARS_FILE "$glidein_config")

policy() {
    gconfig_add "$1" "$3"
    add_condor_vars_line "$1" "$2" "-" "+" "N" "N" "-"
}
policy MEMORY_EXCEEDED C "(MemoryUsage > 64)"
policy PREEMPT C '$(MEMORY_EXCEEDED) || (TotalJobRunTime > 3 && TARGET.Guest =?= True)'
policy WANT_HOLD C '$(MEMORY_EXCEEDED)'
policy WANT_HOLD_REASON S "the job's memory is over 64 MB"
policy WANT_HOLD_SUBCODE I 104
"$error_gen" -ok memory_policy.sh
"#;

fn script(folder: &Path) -> Result<std::path::PathBuf> {
    let path = folder.join("memory_policy.sh");
    fs::write(&path, SCRIPT).context("write the script")?;
    for (path, mode) in [(folder, 0o755), (&path, 0o755)] {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(path)
}

#[test]
fn a_memory_hog_is_held_with_the_reason_of_a_script_and_a_guest_goes_back_to_the_queue() {
    let Ok(folder) = tempfile::tempdir() else {
        panic!("no folder for the script")
    };
    let path = match script(folder.path()) {
        Ok(path) => path,
        Err(error) => panic!("{error:?}"),
    };
    let options = StageOptions::named("evict")
        .slots(3)
        .pilot_knob("POLLING_INTERVAL", 1)
        .pilot_knob("SAILPLANE_CUSTOM_CHECKS", path.display());
    on_stage(options, |stage| {
        // `tail` keeps what it is given until the end of it.
        let hog = "trap 'echo stopped; kill 0; exit' TERM; head -c 100000000 /dev/zero | tail -c 100000000 | sleep 600";
        let hog = stage.submit(&Submission::shell("alice", hog))?;
        let modest = stage.submit(&Submission::shell("bob", "sleep 6"))?;
        let guest = stage.submit(&Submission::shell("bob", "sleep 600").line("+Guest = true"))?;
        let ad = hog.wait_held(&stage.pool, wait::PATIENCE)?;
        ensure!(
            ad.int("HoldReasonCode") == Some(21) && ad.int("HoldReasonSubCode") == Some(104),
            "held with {:?}.{:?}: {}",
            ad.int("HoldReasonCode"),
            ad.int("HoldReasonSubCode"),
            ad.text("HoldReason")
        );
        let reason = ad.text("HoldReason");
        ensure!(
            reason.contains("the job's memory is over 64 MB"),
            "{reason}"
        );
        guest
            .log()
            .wait_for(Some(guest.job()?), "evicted", wait::PATIENCE, |event| {
                event.number == EVICTED
            })?;
        let job = stage.pool.job(guest.job()?)?;
        ensure!(job.get("HoldReason").is_none(), "{job:?}");
        stage
            .pool
            .tool("bob", "condor_rm", [guest.job()?.to_string()])?;
        stage
            .pool
            .wait_for(guest.job()?, JobState::Removed, wait::PATIENCE)?;
        // Whoever keeps to the rules hears nothing of them.
        let ads = modest.wait_completed(&stage.pool, wait::PATIENCE)?;
        ensure!(
            ads.iter().all(|ad| ad.int("NumJobStarts") == Some(1)),
            "the modest job was started more than once"
        );
        Ok(())
    });
}
