//! Jobs that lose their shadow and go on.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use sailplane_site_tests::{
    Ad, Event, EventLog, JobId, Play, Pool, StageOptions, Submission, Submitted, process, wait,
};

use crate::sound::{marked, marker, wait_marked, wait_none_marked};
use crate::{on_either_stage, on_stage};

/// Long enough for a schedd to be restarted by its master (ten seconds), and a shadow to come back.
const LONG: Duration = Duration::from_secs(90);

/// Event numbers of HTCondor's log: the shadow has lost the job, and has it again.
const DISCONNECTED: u16 = 22;
const RECONNECTED: u16 = 23;

/// A job that sleeps so long and then leaves output of every kind.
fn sleeper(word: &str) -> Submission {
    Submission::shell(
        "alice",
        &format!("echo began; sleep {word}; echo result > made.txt; echo ended"),
    )
    .line("transfer_output_files = made.txt")
}

/// Schedd and shadow die at once, as with their machine; the master starts the schedd again.
fn crash_submit_side(pool: &Pool) -> Result<()> {
    pool.signal("condor_schedd", Signal::SIGKILL)?;
    // Unless it has noticed the schedd's death, and is gone by itself.
    let _ = pool.signal("condor_shadow", Signal::SIGKILL);
    Ok(())
}

fn has(log: &EventLog, job: JobId, number: u16) -> Result<bool> {
    let events = log.events()?;
    Ok(events
        .iter()
        .any(|event| event.job == job && event.number == number))
}

/// It ran once, and everything is there. `NumJobStarts` says nothing: a killed schedd has lost what it was last told.
fn once(ads: &[Ad], submitted: &Submitted) -> Result<()> {
    let events = submitted.log().events()?;
    let starts = events
        .iter()
        .filter(|event| event.number == Event::EXECUTE)
        .count();
    ensure!(starts == 1, "the job was started {starts} times");
    ensure!(ads.iter().all(|ad| ad.int("ExitCode") == Some(0)));
    ensure!(submitted.output()? == "began\nended\n");
    ensure!(submitted.read("made.txt")? == "result\n");
    Ok(())
}

#[test]
fn a_job_outlives_its_schedd_and_shadow() {
    on_either_stage(StageOptions::named("crash").slots(1), |stage| {
        let word = marker(20);
        let submitted = stage.submit(&sleeper(&word))?;
        wait_marked(&word, 1)?;
        submitted.wait_running()?;
        crash_submit_side(stage.pool())?;
        let (log, job) = (submitted.log(), submitted.job()?);
        log.wait_for(Some(job), "the job to be found again", LONG, |event| {
            event.number == RECONNECTED
        })?;
        ensure!(
            has(&log, job, DISCONNECTED)?,
            "no event says that it was lost"
        );
        ensure!(!marked(&word).is_empty(), "the job did not go on");
        let ads = submitted.wait_completed(stage.pool(), LONG)?;
        once(&ads, &submitted)
    });
}

#[test]
fn a_result_waits_for_the_schedd() {
    on_either_stage(StageOptions::named("crashdone").slots(1), |stage| {
        let word = marker(4);
        let submitted = stage.submit(&sleeper(&word))?;
        wait_marked(&word, 1)?;
        submitted.wait_running()?;
        // It ends while nobody is there to be told, and nobody restarts the schedd.
        stage.pool().signal("condor_master", Signal::SIGSTOP)?;
        crash_submit_side(stage.pool())?;
        wait_none_marked(&word, Duration::from_secs(20))?;
        stage.pool().signal("condor_master", Signal::SIGCONT)?;
        let ads = submitted.wait_completed(stage.pool(), LONG)?;
        once(&ads, &submitted)
    });
}

#[test]
fn a_killed_shadow_is_followed_by_another() {
    on_either_stage(StageOptions::named("shadowdies").slots(1), |stage| {
        let word = marker(12);
        let submitted = stage.submit(&sleeper(&word))?;
        wait_marked(&word, 1)?;
        submitted.wait_running()?;
        stage.pool().signal("condor_shadow", Signal::SIGKILL)?;
        let ads = submitted.wait_completed(stage.pool(), LONG)?;
        // Whether the schedd asks for the job or sends it anew is the schedd's to decide.
        ensure!(ads.iter().all(|ad| ad.int("ExitCode") == Some(0)));
        ensure!(submitted.read("made.txt")? == "result\n");
        ensure!(marked(&word).is_empty());
        Ok(())
    });
}

#[test]
fn when_the_lease_ends_the_job_is_killed_and_the_slot_is_free() {
    let options = StageOptions::named("lease").slots(1);
    on_stage(options, |stage| {
        let word = marker(600);
        let submitted = stage.submit(
            &Submission::program("alice", "/bin/sleep", &[&word]).line("job_lease_duration = 20"),
        )?;
        wait_marked(&word, 1)?;
        submitted.wait_running()?;
        // Nobody restarts the schedd.
        stage.pool.signal("condor_master", Signal::SIGSTOP)?;
        crash_submit_side(&stage.pool)?;
        ensure!(!marked(&word).is_empty(), "the job did not outlive it");
        wait_none_marked(&word, Duration::from_secs(40))?;
        wait::until("the slot to be free", Duration::from_secs(20), || {
            let slots = stage.pilot.slots(&stage.pool)?;
            Ok(slots
                .iter()
                .all(|slot| slot.text("State") == "Unclaimed")
                .then_some(()))
        })?;
        stage.pool.signal("condor_master", Signal::SIGCONT)?;
        let next = wait::until("the schedd to be back", LONG, || {
            Ok(stage.submit(&Submission::shell("bob", "true")).ok())
        })?;
        // The first one is sent again, to this very slot.
        wait_marked(&word, 1)?;
        stage
            .pool
            .tool("alice", "condor_rm", [submitted.job()?.to_string()])?;
        wait_none_marked(&word, wait::PATIENCE)?;
        next.wait_completed(&stage.pool, LONG)?;
        Ok(())
    });
}

#[test]
fn a_job_whose_proxy_ends_while_nobody_is_there_is_held_afterwards() {
    use sailplane_site_tests::ProxyKind;
    // Good for 60 s, stopped 40 s before: some 15 s after it has begun, when no schedd is there.
    let options = StageOptions::named("awayends")
        .slots(1)
        .pilot_knob("SAILPLANE_CREDENTIAL_GRACE", 40);
    on_stage(options, |stage| {
        let word = marker(600);
        let submitted = stage.submit(
            &Submission::program("alice", "/bin/sleep", &[&word])
                .proxy(Some(ProxyKind::Minutes(1))),
        )?;
        wait_marked(&word, 1)?;
        submitted.wait_running()?;
        stage.pool.signal("condor_master", Signal::SIGSTOP)?;
        crash_submit_side(&stage.pool)?;
        wait_none_marked(&word, Duration::from_secs(40))?;
        stage.pool.signal("condor_master", Signal::SIGCONT)?;
        let held = submitted
            .log()
            .wait_for(Some(submitted.job()?), "the hold", LONG, |event| {
                event.number == Event::HELD
            })?;
        ensure!(held.text.contains("proxy"), "{}", held.text);
        let ad = wait::until("the schedd to answer", LONG, || {
            Ok(stage.pool.q(submitted.job()?).ok().flatten())
        })?;
        ensure!(
            ad.int("HoldReasonCode") == Some(4),
            "{}",
            ad.text("HoldReason")
        );
        Ok(())
    });
}

#[test]
fn a_removed_job_whose_shadow_is_away_ends() {
    on_stage(StageOptions::named("awayrm").slots(1), |stage| {
        let word = marker(600);
        let submitted = stage.submit(&Submission::program("alice", "/bin/sleep", &[&word]))?;
        wait_marked(&word, 1)?;
        submitted.wait_running()?;
        crash_submit_side(&stage.pool)?;
        wait::until("the schedd to take the removal", LONG, || {
            let job = submitted.job()?.to_string();
            Ok(stage.pool.tool("alice", "condor_rm", [job]).ok())
        })?;
        wait_none_marked(&word, LONG)?;
        stage
            .submit(&Submission::shell("bob", "true"))?
            .wait_completed(&stage.pool, LONG)?;
        if !stage.pilot.is_running()? {
            bail!("the pilot ended");
        }
        Ok(())
    });
}

#[test]
fn a_job_outlives_a_cut_connection() {
    on_stage(StageOptions::named("cut").slots(1), |stage| {
        let word = marker(8);
        let submitted = stage.submit(&sleeper(&word))?;
        wait_marked(&word, 1)?;
        submitted.wait_running()?;
        let slots = stage.pilot.slots(&stage.pool)?;
        let port = slots
            .first()
            .map(|slot| slot.text("MyAddress"))
            .and_then(|text| text.split(['?', '>']).next()?.rsplit(':').next())
            .context("the pilot's port")?;
        // Both ends see it break, as when a router forgets a connection.
        process::output(Command::new("ss").args([
            "-K",
            "state",
            "established",
            "sport",
            "=",
            &format!(":{port}"),
        ]))?;
        let (log, job) = (submitted.log(), submitted.job()?);
        log.wait_for(Some(job), "the job to be found again", LONG, |event| {
            event.number == RECONNECTED
        })?;
        ensure!(!marked(&word).is_empty(), "the job did not go on");
        // This shadow does not know its own transfer key any more (docs/htcondor-behaviour.md), so the job may have to
        // run again; its output arrives all the same.
        let ads = submitted.wait_completed(&stage.pool, LONG)?;
        ensure!(ads.iter().all(|ad| ad.int("ExitCode") == Some(0)));
        ensure!(submitted.read("made.txt")? == "result\n");
        ensure!(submitted.output()? == "began\nended\n");
        Ok(())
    });
}
