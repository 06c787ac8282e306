//! Things that break.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sailplane_site_tests::{Event, Play, StageOptions, Submission, process, say, wait};

use crate::on_stage;
use crate::sound::{
    control_group, control_group_exists, marked, marker, wait_marked, wait_none_marked,
};

#[test]
fn a_killed_pilot_leaves_nothing_behind() {
    on_stage(StageOptions::named("kill9"), |stage| {
        let word = marker(600);
        // Two payloads, each with a child in a session of its own.
        let script = format!("setsid sleep {word} & sleep {word}");
        for user in ["alice", "bob"] {
            stage.submit(&Submission::shell(user, &script))?;
        }
        // Per payload two sleeps, and the shell if it did not become the second.
        let payloads = wait_marked(&word, 4)?;
        let mut sandboxes = Vec::new();
        let mut groups = Vec::new();
        for payload in &payloads {
            sandboxes.push(fs::read_link(format!("/proc/{}/cwd", payload.pid))?);
            groups.push(control_group(payload.pid)?);
        }
        let killed = Instant::now();
        stage.pilot.signal(Signal::SIGKILL)?;
        wait_none_marked(&word, Duration::from_secs(1))?;
        wait::every(
            Duration::from_millis(10),
            "sandboxes and groups to go",
            Duration::from_secs(1),
            || {
                let mut left = sandboxes.iter().any(|path| path.exists());
                for group in &groups {
                    left |= control_group_exists(group)?;
                }
                Ok((!left).then_some(()))
            },
        )?;
        ensure!(
            killed.elapsed() < Duration::from_millis(1500),
            "it took {:?}",
            killed.elapsed()
        );
        let own = stage.pilot.folder().display().to_string();
        let helpers = process::find(|process| {
            process.command.contains("sailplane-switch") && process.command.contains(&own)
        });
        ensure!(helpers.is_empty(), "a helper is left: {helpers:?}");
        // The accounts are free again: as many jobs as there are slots run at once.
        stage.pilot.wait_end(Duration::from_secs(5))?;
        Ok(())
    });
}

#[test]
fn a_killed_collector_costs_no_job() {
    on_stage(StageOptions::named("collector").slots(1), |stage| {
        let word = marker(25);
        let submitted = stage.submit(&Submission::program("alice", "/bin/sleep", &[&word]))?;
        wait_marked(&word, 1)?;
        let master_restarts_it = stage.pool.signal("condor_collector", Signal::SIGKILL)?;
        ensure!(master_restarts_it == 1, "{master_restarts_it} collectors");
        // The pilot finds the new collector and is seen again, while the job goes on.
        wait::until("the slot in the new collector", wait::PATIENCE, || {
            // Until the new collector listens, the tool fails.
            Ok(stage
                .pilot
                .slots(&stage.pool)
                .ok()
                .filter(|slots| !slots.is_empty())
                .map(drop))
        })?;
        ensure!(
            !marked(&word).is_empty()
                || submitted
                    .log()
                    .events()?
                    .iter()
                    .any(|event| event.number == Event::TERMINATED),
            "the job was lost"
        );
        let ads = submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        ensure!(
            ads.iter().all(|ad| ad.int("NumJobStarts") == Some(1)),
            "the job was started again"
        );
        ensure!(stage.pilot.is_running()?, "the pilot ended");
        Ok(())
    });
}

#[test]
fn a_killed_shadow_costs_no_slot() {
    on_stage(StageOptions::named("shadow").slots(1), |stage| {
        let word = marker(600);
        let submitted = stage.submit(
            &Submission::program("alice", "/bin/sleep", &[&word]).line("job_lease_duration = 10"),
        )?;
        wait_marked(&word, 1)?;
        submitted.wait_running()?;
        stage.pool.signal("condor_shadow", Signal::SIGKILL)?;
        // Whether it reconnects or starts anew, the job runs again and the slot is not lost.
        stage
            .pool
            .tool("alice", "condor_rm", [submitted.job()?.to_string()])?;
        wait_none_marked(&word, wait::PATIENCE)?;
        stage
            .submit(&Submission::shell("bob", "true"))?
            .wait_completed(&stage.pool, wait::PATIENCE)?;
        Ok(())
    });
}

#[test]
fn a_full_disk_holds_the_job_and_the_pilot_lives() {
    if process::obstacle().is_none() {
        let site = sailplane_site_tests::helper::site().expect("the helper can be installed");
        let _small =
            SmallDisk::mount(&site.small_execute).expect("a small file system can be mounted");
        let options = StageOptions::named("disk")
            .slots(1)
            .pilot_knob("EXECUTE", site.small_execute.join("pilot").display())
            // Smaller than what the node checks write to try it.
            .pilot_knob("SAILPLANE_CHECKS_OFF", "work-space");
        on_stage(options, |stage| {
            let submission = Submission::shell("alice", "true")
                .file("big.in", &vec![7; 12 << 20], 0o644)
                .line("transfer_input_files = big.in")
                .line("request_disk = 1");
            let submitted = stage.submit(&submission)?;
            let ad = submitted.wait_held(&stage.pool, wait::PATIENCE)?;
            let reason = ad.text("HoldReason");
            ensure!(
                reason.contains("No space left") || reason.contains("disk"),
                "{reason}"
            );
            ensure!(stage.pilot.is_running()?, "the pilot ended");
            let next =
                stage.submit(&Submission::shell("bob", "echo fine").line("request_disk = 1"))?;
            next.wait_completed(&stage.pool, wait::PATIENCE)?;
            Ok(())
        });
    } else {
        say("a full disk: not run, needs root");
    }
}

/// A tmpfs of 8 MiB, gone when dropped.
pub(crate) struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// Mounts it at a folder.
    pub(crate) fn mount(path: &std::path::Path) -> Result<Self> {
        process::output(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=8m,mode=1777", "sailplane-small"])
                .arg(path),
        )
        .context("mount a small file system")?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = process::output(Command::new("umount").arg("-l").arg(&self.0)) {
            say(&format!("umount {}: {error:#}", self.0.display()));
        }
    }
}
