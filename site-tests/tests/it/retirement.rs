//! Pilots that leave.

use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use sailplane_site_tests::{
    JobState, Pilot, PilotOptions, Play, Pool, PoolOptions, StageOptions, Submission, helper,
    process, say, wait,
};

use crate::on_stage;
use crate::sound::{marker, wait_marked, wait_none_marked};

#[test]
fn sigterm_takes_the_ads_away() {
    on_stage(StageOptions::named("sigterm"), |stage| {
        stage.pilot.signal(Signal::SIGTERM)?;
        let status = stage.pilot.wait_end(Duration::from_secs(20))?;
        ensure!(status.success(), "the pilot ended with {status}");
        let left = stage.pilot.slots(&stage.pool)?;
        ensure!(
            left.is_empty(),
            "{} slots are still in the collector",
            left.len()
        );
        Ok(())
    });
}

#[test]
fn a_running_job_gets_its_time_to_end() {
    on_stage(StageOptions::named("retire").slots(1), |stage| {
        let word = marker(600);
        let script = format!("trap 'kill $!; exit 0' TERM; sleep {word} & wait");
        let submitted = stage.submit(&Submission::shell("alice", &script))?;
        wait_marked(&word, 1)?;
        submitted.wait_running()?;
        stage.pilot.signal(Signal::SIGTERM)?;
        stage.pilot.wait_end(Duration::from_secs(60))?;
        wait_none_marked(&word, Duration::from_secs(1))?;
        // The job is not lost: it waits for another slot.
        let ad = stage
            .pool
            .wait_for(submitted.job()?, JobState::Idle, wait::PATIENCE)?;
        ensure!(
            ad.int("NumJobStarts") == Some(1),
            "NumJobStarts {:?}",
            ad.int("NumJobStarts")
        );
        ensure!(
            stage.pilot.slots(&stage.pool)?.is_empty(),
            "slots are still in the collector"
        );
        Ok(())
    });
}

#[test]
fn an_unused_pilot_leaves() {
    let options = StageOptions::named("noclaim").pilot_knob("STARTD_NOCLAIM_SHUTDOWN", 5);
    on_stage(options, |stage| {
        let status = stage.pilot.wait_end(Duration::from_secs(40))?;
        ensure!(status.success(), "the pilot ended with {status}");
        ensure!(
            stage.pilot.slots(&stage.pool)?.is_empty(),
            "slots are still in the collector"
        );
        Ok(())
    });
}

#[test]
fn start_false_takes_no_job() {
    let options = StageOptions::named("start")
        .slots(1)
        .pilot_knob("START", "TARGET.Wanted =?= true");
    on_stage(options, |stage| {
        let unwanted = stage.submit(&Submission::shell("alice", "true"))?;
        let wanted = stage.submit(&Submission::shell("alice", "true").line("+Wanted = true"))?;
        wanted.wait_completed(&stage.pool, wait::PATIENCE)?;
        let ad = stage.pool.job(unwanted.job()?)?;
        ensure!(
            ad.int("JobStatus") == Some(JobState::Idle as i64),
            "status {:?}",
            ad.int("JobStatus")
        );
        Ok(())
    });
}

#[test]
fn a_pilot_retires_before_its_own_token_ends() {
    if let Some(reason) = process::obstacle() {
        say(&format!("not run: {reason}"));
        return;
    }
    token_ends().expect("a pilot that retires in time");
}

fn token_ends() -> Result<()> {
    let pool = Pool::raise(&PoolOptions {
        name: "tokenend".to_owned(),
        ..PoolOptions::default()
    })?;
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    std::fs::write(&token, pool.short_token(30)?)?;
    let options = PilotOptions {
        token: Some(token),
        ..PilotOptions::default()
    };
    let mut pilot = Pilot::start(helper::site()?, &pool, &options)?;
    pilot.wait_joined(&pool, 2)?;
    let status = pilot.wait_end(Duration::from_secs(45))?;
    ensure!(
        pilot.log().contains("retired"),
        "it did not retire:\n{}",
        pilot.log()
    );
    ensure!(!pilot.log().contains("panicked"), "{}", pilot.log());
    ensure!(
        pilot.slots(&pool)?.is_empty(),
        "slots are still in the collector ({status})"
    );
    Ok(())
}
