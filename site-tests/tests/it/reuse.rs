//! Many short jobs on few slots.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use sailplane_site_tests::{StageOptions, Submission};

use crate::on_either_stage;

#[test]
fn two_hundred_short_jobs_reuse_two_claims() {
    on_either_stage(StageOptions::named("reuse").slots(2), |stage| {
        let submitted = stage.submit(&Submission::program("alice", "/bin/true", &[]).queue(200))?;
        let ads = submitted.wait_completed(stage.pool(), Duration::from_secs(240))?;
        ensure!(ads.len() == 200, "{} jobs", ads.len());
        for ad in &ads {
            ensure!(
                ad.int("ExitCode") == Some(0),
                "a job ended with {:?}",
                ad.int("ExitCode")
            );
            ensure!(
                ad.int("NumJobStarts") == Some(1),
                "a job started {:?} times",
                ad.int("NumJobStarts")
            );
        }
        let claims: BTreeSet<_> = ads
            .iter()
            .map(|ad| ad.text("LastPublicClaimId").to_owned())
            .collect();
        ensure!(!claims.contains(""), "the history has no LastPublicClaimId");
        ensure!(
            claims.len() <= 4,
            "{} claims for 200 jobs on two slots",
            claims.len()
        );
        Ok(())
    });
}

#[test]
fn one_claim_serves_files_too() {
    on_either_stage(StageOptions::named("reusefiles").slots(1), |stage| {
        let submission = Submission::shell("bob", "cat in.txt > out.txt")
            .file("in.txt", b"through\n", 0o644)
            .line("transfer_input_files = in.txt")
            .line("transfer_output_files = out.txt")
            .line("transfer_output_remaps = \"out.txt = out.$(Process).txt\"")
            .queue(20);
        let submitted = stage.submit(&submission)?;
        let ads: Result<Vec<_>> = submitted.wait_completed(stage.pool(), Duration::from_secs(120));
        let ads = ads?;
        for process in 0..20 {
            ensure!(
                submitted.read(&format!("out.{process}.txt"))? == "through\n",
                "file of job {process}"
            );
        }
        let claims: BTreeSet<_> = ads
            .iter()
            .map(|ad| ad.text("LastPublicClaimId").to_owned())
            .collect();
        ensure!(
            claims.len() <= 2,
            "{} claims for 20 jobs on one slot",
            claims.len()
        );
        Ok(())
    });
}
