//! Files in and out of the sandbox.

use std::fs;
use std::time::Duration;

use anyhow::ensure;
use sailplane_site_tests::{Event, StageOptions, Submission, wait};

use crate::on_either_stage;

#[test]
fn a_hundred_megabytes_go_both_ways() {
    on_either_stage(StageOptions::named("big").slots(1), |stage| {
        let size = 100 << 20;
        // Not compressible, different in every block, and cheap to make.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let bytes: Vec<u8> = (0..size / 8)
            .flat_map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .collect();
        let submission = Submission::shell("alice", "cp big.in big.out; stat -c %s big.in")
            .file("big.in", &bytes, 0o644)
            .line("transfer_input_files = big.in")
            .line("transfer_output_files = big.out")
            .line("request_disk = 300 MB");
        let submitted = stage.submit(&submission)?;
        let ads = submitted.wait_completed(stage.pool(), Duration::from_secs(120))?;
        ensure!(
            submitted.output()?.trim() == size.to_string(),
            "input: {}",
            submitted.output()?
        );
        let back = fs::read(submitted.folder().join("big.out"))?;
        ensure!(
            back == bytes,
            "the bytes came back changed ({} of {size})",
            back.len()
        );
        let sent = ads
            .first()
            .and_then(|ad| ad.real("BytesRecvd"))
            .unwrap_or_default();
        ensure!(sent >= f64::from(size), "BytesRecvd is {sent}");
        Ok(())
    });
}

#[test]
fn folders_standard_input_and_new_names() {
    on_either_stage(StageOptions::named("files").slots(1), |stage| {
        let script = "#!/bin/sh\n\
                      set -e\n\
                      mkdir -p results/deep\n\
                      cat > results/stdin.txt\n\
                      cp tree/a.txt results/deep/a.txt\n\
                      cat flat.txt tree/sub/b.txt > summary.txt\n\
                      echo \"args: $1|$2|$3\"\n\
                      echo to-stderr >&2\n\
                      echo left > not-asked-for.txt\n";
        let submission = Submission::script("alice", "run.sh", script)
            .line("arguments = \"first 'second with blanks' 'it''s'\"")
            .file("tree/a.txt", b"A\n", 0o644)
            .file("tree/sub/b.txt", b"B\n", 0o644)
            .file("flat.txt", b"F\n", 0o644)
            .file("words.txt", b"one\ntwo\n", 0o644)
            .line("input = words.txt")
            .line("transfer_input_files = tree, flat.txt")
            .line("transfer_output_files = results, summary.txt")
            .line("transfer_output_remaps = \"summary.txt = renamed.txt\"");
        let submitted = stage.submit(&submission)?;
        submitted.wait_completed(stage.pool(), wait::PATIENCE)?;
        ensure!(
            submitted.output()? == "args: first|second with blanks|it's\n",
            "{:?}",
            submitted.output()?
        );
        ensure!(submitted.read("err.0")? == "to-stderr\n", "standard error");
        ensure!(
            submitted.read("results/stdin.txt")? == "one\ntwo\n",
            "standard input"
        );
        ensure!(
            submitted.read("results/deep/a.txt")? == "A\n",
            "a file of an input folder"
        );
        ensure!(
            submitted.read("renamed.txt")? == "F\nB\n",
            "the renamed file"
        );
        ensure!(
            !submitted.folder().join("summary.txt").exists(),
            "the file came under its old name too"
        );
        ensure!(
            !submitted.folder().join("not-asked-for.txt").exists(),
            "a file came that nobody asked for"
        );
        Ok(())
    });
}

#[test]
fn new_and_changed_files_come_back_unasked() {
    on_either_stage(StageOptions::named("automatic").slots(1), |stage| {
        let script = "echo new > new.txt; echo more >> changed.txt; mkdir folder; echo x > folder/x; ln -s new.txt link";
        let submission = Submission::shell("alice", script)
            .file("changed.txt", b"old\n", 0o644)
            .file("same.txt", b"same\n", 0o644)
            .line("transfer_input_files = changed.txt, same.txt");
        let submitted = stage.submit(&submission)?;
        submitted.wait_completed(stage.pool(), wait::PATIENCE)?;
        ensure!(submitted.read("new.txt")? == "new\n", "the new file");
        ensure!(
            submitted.read("changed.txt")? == "old\nmore\n",
            "the changed file"
        );
        ensure!(
            !submitted.folder().join("folder").exists(),
            "folders are not sent unless asked for"
        );
        ensure!(
            !submitted.folder().join(".job.ad").exists(),
            "the job ad came back"
        );
        Ok(())
    });
}

#[test]
fn a_missing_output_file_holds_the_job_and_names_it() {
    on_either_stage(StageOptions::named("missing").slots(1), |stage| {
        let submission =
            Submission::shell("alice", "true").line("transfer_output_files = never-made.txt");
        let submitted = stage.submit(&submission)?;
        let ad = submitted.wait_held(stage.pool(), wait::PATIENCE)?;
        ensure!(
            ad.text("HoldReason").contains("never-made.txt"),
            "{}",
            ad.text("HoldReason")
        );
        ensure!(
            matches!(ad.int("HoldReasonCode"), Some(12 | 13)),
            "code {:?}",
            ad.int("HoldReasonCode")
        );
        // The slot takes the next job.
        stage
            .submit(&Submission::shell("alice", "true"))?
            .wait_completed(stage.pool(), wait::PATIENCE)?;
        Ok(())
    });
}

#[test]
fn a_missing_input_file_holds_the_job() {
    on_either_stage(StageOptions::named("noinput").slots(1), |stage| {
        let submission = Submission::shell("alice", "true")
            .file("here-now.txt", b"x", 0o644)
            .line("transfer_input_files = here-now.txt")
            .line("hold = true");
        let submitted = stage.submit(&submission)?;
        fs::remove_file(submitted.folder().join("here-now.txt"))?;
        stage
            .pool()
            .tool("alice", "condor_release", [submitted.job()?.to_string()])?;
        let job = submitted.job()?;
        let held =
            submitted
                .log()
                .wait_for(Some(job), "a second hold", wait::PATIENCE, |event| {
                    event.number == Event::HELD && event.text.contains("here-now.txt")
                })?;
        ensure!(held.text.contains("Code 13"), "{}", held.text);
        Ok(())
    });
}
