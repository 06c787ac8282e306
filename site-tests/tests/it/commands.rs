//! What users do to their running jobs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sailplane_site_tests::{Event, Play, StageOptions, Submission, Submitted, wait};

use crate::on_either_stage;
use crate::sound::{marker, wait_marked, wait_none_marked};

/// A job that runs until it is told to end.
fn sleeper(stage: &dyn Play, user: &str, word: &str, lines: &[&str]) -> Result<Submitted> {
    let mut submission = Submission::program(user, "/bin/sleep", &[word]);
    for line in lines {
        submission = submission.line(line);
    }
    let submitted = stage.submit(&submission)?;
    submitted.wait_running()?;
    wait_marked(word, 1)?;
    Ok(submitted)
}

#[test]
fn condor_rm_ends_the_job() {
    on_either_stage(StageOptions::named("rm").slots(1), |stage| {
        let word = marker(600);
        let submitted = sleeper(stage, "alice", &word, &[])?;
        stage
            .pool()
            .tool("alice", "condor_rm", [submitted.job()?.to_string()])?;
        wait_none_marked(&word, Duration::from_secs(5))?;
        let job = submitted.job()?;
        submitted
            .log()
            .wait_for(Some(job), "event 009", wait::PATIENCE, |event| {
                event.number == Event::ABORTED
            })?;
        stage
            .submit(&Submission::shell("bob", "true"))?
            .wait_completed(stage.pool(), wait::PATIENCE)?;
        Ok(())
    });
}

#[test]
fn condor_hold_ends_the_job_and_release_runs_it_again() {
    on_either_stage(StageOptions::named("hold").slots(1), |stage| {
        let word = marker(600);
        let submitted = sleeper(stage, "alice", &word, &[])?;
        let job = submitted.job()?;
        stage
            .pool()
            .tool("alice", "condor_hold", [job.to_string()])?;
        wait_none_marked(&word, Duration::from_secs(5))?;
        let ad = submitted.wait_held(stage.pool(), wait::PATIENCE)?;
        ensure!(
            ad.int("HoldReasonCode") == Some(1),
            "code {:?}",
            ad.int("HoldReasonCode")
        );
        stage
            .pool()
            .tool("alice", "condor_release", [job.to_string()])?;
        wait_marked(&word, 1)?;
        Ok(())
    });
}

#[test]
fn condor_vacate_job_asks_first() {
    on_either_stage(StageOptions::named("vacate").slots(1), |stage| {
        let word = marker(600);
        // The first run says what it got, and ends by itself; the second run finds nothing to say.
        let script = format!(
            "trap 'kill $!; echo got TERM >&2; exit 0' TERM; sleep {word} & wait; echo never reached"
        );
        let submitted = stage.submit(&Submission::shell("alice", &script))?;
        let job = submitted.job()?;
        wait_marked(&word, 1)?;
        submitted.wait_running()?;
        let asked = Instant::now();
        stage
            .pool()
            .tool("alice", "condor_vacate_job", [job.to_string()])?;
        submitted
            .log()
            .wait_for(Some(job), "event 004", wait::PATIENCE, |event| {
                event.number == Event::EVICTED
            })?;
        ensure!(
            asked.elapsed() < Duration::from_secs(10),
            "the job ended only after {:?}",
            asked.elapsed()
        );
        // It stays in the queue and runs again.
        wait_marked(&word, 1)?;
        wait::until("a second start in the job's ad", wait::PATIENCE, || {
            let ad = stage.pool().job(job)?;
            Ok((ad.int("NumJobStarts") == Some(2)).then_some(()))
        })?;
        Ok(())
    });
}

#[test]
fn a_deaf_job_is_killed_after_its_time() {
    on_either_stage(StageOptions::named("deaf").slots(1), |stage| {
        let word = marker(600);
        let script = format!("trap '' TERM; sleep {word}; sleep {word}");
        let submission = Submission::shell("alice", &script).line("job_max_vacate_time = 4");
        let submitted = stage.submit(&submission)?;
        let job = submitted.job()?;
        wait_marked(&word, 1)?;
        submitted.wait_running()?;
        let asked = Instant::now();
        stage
            .pool()
            .tool("alice", "condor_vacate_job", [job.to_string()])?;
        submitted
            .log()
            .wait_for(Some(job), "event 004", wait::PATIENCE, |event| {
                event.number == Event::EVICTED
            })?;
        let took = asked.elapsed();
        ensure!(
            took >= Duration::from_secs(3),
            "it was killed at once ({took:?})"
        );
        ensure!(
            took < Duration::from_secs(15),
            "it was killed only after {took:?}"
        );
        Ok(())
    });
}

#[test]
fn vacate_fast_does_not_ask() {
    on_either_stage(StageOptions::named("fast").slots(1), |stage| {
        let word = marker(600);
        let script = format!("trap '' TERM; sleep {word}; sleep {word}");
        let submitted = stage.submit(&Submission::shell("alice", &script))?;
        let job = submitted.job()?;
        wait_marked(&word, 1)?;
        submitted.wait_running()?;
        let asked = Instant::now();
        stage
            .pool()
            .tool("alice", "condor_vacate_job", ["-fast", &job.to_string()])?;
        submitted
            .log()
            .wait_for(Some(job), "event 004", wait::PATIENCE, |event| {
                event.number == Event::EVICTED
            })?;
        ensure!(
            asked.elapsed() < Duration::from_secs(5),
            "it took {:?}",
            asked.elapsed()
        );
        Ok(())
    });
}

#[test]
fn the_jobs_own_kill_signal_is_used() {
    on_either_stage(StageOptions::named("killsig").slots(1), |stage| {
        let word = marker(600);
        let script = format!(
            "trap 'echo USR1 > caught; kill $!; exit 7' USR1; trap 'echo TERM > caught; kill $!; exit 7' TERM; \
             sleep {word} & wait"
        );
        let submission = Submission::shell("alice", &script)
            .line("kill_sig = SIGUSR1")
            .line("transfer_output_files = caught")
            .line("want_graceful_removal = true");
        // On eviction the files come back to the spool, so a job with ON_EXIT_OR_EVICT shows what it caught.
        let submission = submission.line("when_to_transfer_output = ON_EXIT_OR_EVICT");
        let submitted = stage.submit(&submission)?;
        let job = submitted.job()?;
        wait_marked(&word, 1)?;
        submitted.wait_running()?;
        stage
            .pool()
            .tool("alice", "condor_vacate_job", [job.to_string()])?;
        submitted
            .log()
            .wait_for(Some(job), "event 004", wait::PATIENCE, |event| {
                event.number == Event::EVICTED
            })?;
        let spooled = wait::until("the file of the evicted job", wait::PATIENCE, || {
            let found = std::process::Command::new("find")
                .arg(stage.pool().dir().join("spool"))
                .args(["-name", "caught"])
                .output()?;
            let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
            Ok((!path.is_empty()).then_some(path))
        })?;
        let caught = std::fs::read_to_string(&spooled)?;
        ensure!(caught.trim() == "USR1", "the job caught {caught:?}");
        Ok(())
    });
}
