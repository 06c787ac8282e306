//! Jobs that their users stop for a while.

use std::time::Duration;

use anyhow::{Result, ensure};
use sailplane_site_tests::{JobId, JobState, Play, Stage, StageOptions, Submission, wait};

use crate::without_helper;

/// Event numbers of a job's log.
const SUSPENDED: u16 = 10;
const CONTINUED: u16 = 11;

fn tool(stage: &Stage, tool: &str, job: JobId) -> Result<()> {
    stage.pool.tool("alice", tool, [job.to_string()]).map(drop)
}

fn activity(stage: &Stage, wanted: &str) -> Result<()> {
    wait::until(
        &format!("the slot to be {wanted}"),
        Duration::from_secs(20),
        || {
            let slots = stage.pilot.slots(&stage.pool)?;
            Ok(slots
                .iter()
                .any(|slot| slot.text("Activity") == wanted)
                .then_some(()))
        },
    )
}

#[test]
fn k8_a_job_is_suspended_and_continued_by_its_user() {
    let options = StageOptions::named("suspend")
        .slots(1)
        .pilot_knob("SAILPLANE_IDENTITY_SWITCH", "NEVER");
    without_helper(options, |stage| {
        // Counts what it does; ends when it is told to.
        let script = "i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo $i > ticks; sleep 0.1; done";
        let submitted = stage.submit(
            &Submission::shell("alice", script)
                .proxy(None)
                .line("transfer_output_files = ticks"),
        )?;
        submitted.wait_running()?;
        let job = submitted.job()?;
        let ticks = || -> Result<u32> {
            let sandbox = std::fs::read_dir(stage.pilot.execute())?
                .flatten()
                .map(|entry| entry.path().join("ticks"))
                .find(|path| path.exists());
            let text = sandbox.map(std::fs::read_to_string).transpose()?;
            Ok(text.and_then(|text| text.trim().parse().ok()).unwrap_or(0))
        };
        wait::until("the job to work", Duration::from_secs(20), || {
            Ok((ticks()? > 3).then_some(()))
        })?;
        tool(stage, "condor_suspend", job)?;
        activity(stage, "Suspended")?;
        submitted
            .log()
            .wait_for(Some(job), "suspended", Duration::from_secs(20), |event| {
                event.number == SUSPENDED
            })?;
        let rests = ticks()?;
        wait::pause(Duration::from_secs(1));
        ensure!(ticks()? == rests, "a suspended job works");
        tool(stage, "condor_continue", job)?;
        activity(stage, "Busy")?;
        submitted
            .log()
            .wait_for(Some(job), "continued", Duration::from_secs(20), |event| {
                event.number == CONTINUED
            })?;
        wait::until("the job to work again", Duration::from_secs(20), || {
            Ok((ticks()? > rests + 3).then_some(()))
        })?;
        // Suspended once more, it can be removed all the same.
        tool(stage, "condor_suspend", job)?;
        activity(stage, "Suspended")?;
        tool(stage, "condor_rm", job)?;
        stage
            .pool
            .wait_for(job, JobState::Removed, wait::PATIENCE)?;
        activity(stage, "Idle")
    });
}
