//! What `condor_status`, `condor_q` and `condor_history` show.

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::{Ad, JobState, Play, Pool, StageOptions, Submission, wait};

use crate::on_stage;

fn slot_in(pool: &Pool, state: &str, activity: &str) -> Result<Ad> {
    wait::until(
        &format!("a slot that is {state}/{activity}"),
        wait::PATIENCE,
        || {
            Ok(pool
                .slots("true")?
                .into_iter()
                .find(|ad| ad.text("State") == state && ad.text("Activity") == activity))
        },
    )
}

#[test]
fn the_tools_show_right_values() {
    on_stage(StageOptions::named("values").slots(1), |stage| {
        let idle = slot_in(&stage.pool, "Unclaimed", "Idle")?;
        ensure!(idle.int("Cpus") == Some(1), "Cpus {:?}", idle.int("Cpus"));
        ensure!(
            idle.int("Memory") == Some(512),
            "Memory {:?}",
            idle.int("Memory")
        );
        ensure!(
            idle.int("Disk").is_some_and(|kib| kib > 1024),
            "Disk {:?}",
            idle.int("Disk")
        );
        ensure!(
            idle.text("Arch") == "X86_64" && idle.text("OpSys") == "LINUX",
            "platform"
        );
        ensure!(
            idle.bool("HasFileTransfer") == Some(true),
            "HasFileTransfer"
        );
        ensure!(
            idle.text("Name").contains(stage.pilot.name()),
            "Name {}",
            idle.text("Name")
        );
        // The plain listing works, as a person would use it.
        let listing = stage.pool.tool("admin", "condor_status", [""; 0])?;
        ensure!(
            listing.contains("Unclaimed") && listing.contains("Total"),
            "{listing}"
        );

        // Uses a processor and some memory for a while.
        let script = "dd if=/dev/zero of=file bs=1M count=20 2>/dev/null; end=$(($(date +%s)+12)); \
             while [ $(date +%s) -lt $end ]; do :; done";
        let submitted = stage.submit(&Submission::shell("alice", script))?;
        let job = submitted.job()?;
        let busy = slot_in(&stage.pool, "Claimed", "Busy")?;
        ensure!(
            busy.text("JobId") == job.to_string(),
            "JobId {}",
            busy.text("JobId")
        );
        ensure!(
            busy.text("RemoteOwner").starts_with("alice@"),
            "RemoteOwner {}",
            busy.text("RemoteOwner")
        );
        ensure!(
            busy.text("RemoteUser").starts_with("alice@"),
            "RemoteUser {}",
            busy.text("RemoteUser")
        );

        let running = stage
            .pool
            .wait_for(job, JobState::Running, wait::PATIENCE)?;
        ensure!(
            running.text("RemoteHost") == busy.text("Name"),
            "RemoteHost {}",
            running.text("RemoteHost")
        );

        let ads = submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        let ad = ads.first().context("no ad")?;
        ensure!(
            ad.text("LastRemoteHost") == busy.text("Name"),
            "LastRemoteHost {}",
            ad.text("LastRemoteHost")
        );
        ensure!(
            ad.int("NumJobStarts") == Some(1),
            "NumJobStarts {:?}",
            ad.int("NumJobStarts")
        );
        let processor = ad.real("RemoteUserCpu").unwrap_or_default()
            + ad.real("RemoteSysCpu").unwrap_or_default();
        ensure!(
            (1.0..30.0).contains(&processor),
            "the job used {processor} s of processor time"
        );
        let wall = ad.real("RemoteWallClockTime").unwrap_or_default();
        ensure!((10.0..40.0).contains(&wall), "RemoteWallClockTime {wall}");
        ensure!(
            ad.int("ImageSize").is_some_and(|kib| kib > 100),
            "ImageSize {:?}",
            ad.int("ImageSize")
        );
        ensure!(
            ad.real("BytesSent").is_some() && ad.real("BytesRecvd").is_some(),
            "transfer counts"
        );
        ensure!(
            ad.text("x509userproxysubject").contains("Alice Example"),
            "x509userproxysubject"
        );
        let began = ad.int("JobStartDate").context("JobStartDate")?;
        let ended = ad.int("CompletionDate").context("CompletionDate")?;
        ensure!(
            (10..40).contains(&(ended - began)),
            "it ran from {began} to {ended}"
        );

        // A claimed slot without a job, or free again: idle in both cases.
        wait::until("an idle slot", wait::PATIENCE, || {
            Ok(stage
                .pool
                .slots("true")?
                .into_iter()
                .find(|ad| ad.text("Activity") == "Idle")
                .map(drop))
        })?;
        Ok(())
    });
}
