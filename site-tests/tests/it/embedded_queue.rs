//! HTCondor's own tools with the embedded pool's job queue.

use std::fs;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::{EmbeddedOptions, EmbeddedPool, process, say};

/// Raises a pool with jobs of alice in it (clusters 1 and 2, three jobs each) and plays one test with it.
fn with_jobs(name: &str, play: impl FnOnce(&mut EmbeddedPool) -> Result<()>) {
    if let Some(reason) = process::obstacle() {
        say(&format!("{name} not run: {reason}"));
        return;
    }
    let options = EmbeddedOptions {
        name: name.to_owned(),
        ..EmbeddedOptions::default()
    };
    match EmbeddedPool::raise(&options) {
        Ok(mut pool) => {
            let done = submit(&pool).and_then(|()| play(&mut pool));
            crate::judge(name, done);
        }
        Err(error) => panic!("{name}: the pool could not be raised: {error:?}"),
    }
}

/// Two submissions by the account that runs the pool, which is its administrator.
fn submit(pool: &EmbeddedPool) -> Result<()> {
    let file = pool.dir().join("submit").join("sleep.sub");
    fs::write(
        &file,
        "executable = /bin/sleep\narguments = 60 $(Process)\nrequest_memory = 100\nqueue 3\n",
    )?;
    let file = file.display().to_string();
    for _ in 0..2 {
        pool.run(["submit", file.as_str()])?;
    }
    Ok(())
}

/// What a real tool prints about the queue; everybody's jobs.
fn q(pool: &EmbeddedPool, arguments: &[&str]) -> Result<String> {
    let all = ["-allusers"].iter().chain(arguments).copied();
    pool.tool("alice", "condor_q", all.collect::<Vec<_>>())
}

#[test]
fn condor_q_shows_jobs_groups_and_totals() {
    with_jobs("queue-q", |pool| {
        let text = q(pool, &["-af", "ClusterId", "ProcId", "JobStatus", "Args"])?;
        let lines: Vec<&str> = text.lines().collect();
        ensure!(lines.len() == 6, "{text}");
        ensure!(lines.first() == Some(&"1 0 1 60 0"), "{text}");
        let text = q(pool, &["-nobatch"])?;
        ensure!(text.contains("sleep 60 2"), "{text}");
        ensure!(
            text.contains("Total for all users: 6 jobs; 0 completed, 0 removed, 6 idle"),
            "{text}"
        );
        // Batches, with the number of jobs submitted together.
        let text = q(pool, &["2"])?;
        let line = text.lines().find(|line| line.contains("ID: 2"));
        let words: Vec<&str> = line.context("a line")?.split_whitespace().collect();
        ensure!(words.ends_with(&["3", "3", "2.0-2"]), "{text}");
        let text = q(pool, &["-autocluster"])?;
        ensure!(text.contains("Vanilla"), "{text}");
        let text = q(
            pool,
            &["-constraint", "ProcId == 1", "-limit", "1", "-af", "ProcId"],
        )?;
        ensure!(text == "1\n", "{text}");
        let text = q(pool, &["1.0", "-long"])?;
        ensure!(
            text.contains("GlobalJobId = ") && !text.contains("ClaimId"),
            "{text}"
        );
        Ok(())
    });
}

#[test]
fn who_may_hold_release_and_remove() {
    with_jobs("queue-act", |pool| {
        let status = |job: &str| {
            let text = q(pool, &[job, "-af", "JobStatus"])?;
            Ok::<_, anyhow::Error>(text.trim().to_owned())
        };
        // Not the job's owner, nor an administrator.
        let Output {
            status: code,
            stderr,
            ..
        } = pool.tool_command("bob", "condor_hold", ["1.0"]).output()?;
        ensure!(!code.success(), "bob held a job that is not his");
        let text = String::from_utf8_lossy(&stderr);
        ensure!(text.contains("Permission denied to hold job 1.0"), "{text}");
        ensure!(status("1.0")? == "1", "the refusal had an effect");
        let text = pool.tool("admin", "condor_hold", ["-reason", "not now", "1.0"])?;
        ensure!(text.contains("Job 1.0 held"), "{text}");
        let text = q(
            pool,
            &["-hold", "-af", "ProcId", "HoldReason", "HoldReasonCode"],
        )?;
        ensure!(text == "0 not now (by user admin) 1\n", "{text}");
        let text = pool.tool("admin", "condor_release", ["1"])?;
        ensure!(
            text.contains("All jobs in cluster 1 have been released"),
            "{text}"
        );
        ensure!(status("1.0")? == "1", "not released");
        let text = pool.tool("admin", "condor_rm", ["1.1", "1.2"])?;
        ensure!(text.contains("Job 1.2 marked for removal"), "{text}");
        // Newest first.
        let text = pool.tool(
            "alice",
            "condor_history",
            [
                "-limit",
                "5",
                "-af",
                "ClusterId",
                "ProcId",
                "JobStatus",
                "RemoveReason",
            ],
        )?;
        ensure!(
            text == "1 2 3 via condor_rm (by user admin)\n1 1 3 via condor_rm (by user admin)\n",
            "{text}"
        );
        let text = pool.tool("alice", "condor_history", ["1.1", "-af", "ProcId"])?;
        ensure!(text == "1\n", "{text}");
        Ok(())
    });
}

#[test]
fn condor_submit_and_condor_qedit() {
    with_jobs("queue-submit", |pool| {
        let folder = pool.folder("alice")?;
        let file = folder.join("real.sub");
        fs::write(
            &file,
            "executable = /bin/sleep\narguments = $(Process)\n+Colour = \"red\"\nqueue 2\n",
        )?;
        let file = file.display().to_string();
        let text = pool.tool("alice", "condor_submit", ["-terse", file.as_str()])?;
        ensure!(text == "3.0 - 3.1\n", "{text}");
        let shown = || {
            q(
                pool,
                &[
                    "3",
                    "-af",
                    "Owner",
                    "Args",
                    "Colour",
                    "JobPrio",
                    "TotalSubmitProcs",
                ],
            )
        };
        let text = shown()?;
        ensure!(text == "alice 0 red 0 2\nalice 1 red 0 2\n", "{text}");
        pool.tool("alice", "condor_qedit", ["3.0", "Colour", "\"blue\""])?;
        pool.tool("alice", "condor_prio", ["-p", "5", "3.1"])?;
        let text = shown()?;
        ensure!(text == "alice 0 blue 0 2\nalice 1 red 5 2\n", "{text}");
        for (user, attribute) in [("alice", "Owner"), ("bob", "Colour")] {
            let arguments = ["3.0", attribute, "\"x\""];
            let done = pool
                .tool_command(user, "condor_qedit", arguments)
                .output()?;
            ensure!(!done.status.success(), "{user} changed {attribute}");
        }
        let text = shown()?;
        ensure!(text.starts_with("alice 0 blue"), "{text}");
        Ok(())
    });
}

#[test]
fn jobs_survive_the_end_of_the_process() {
    with_jobs("queue-crash", |pool| {
        pool.tool("admin", "condor_hold", ["2.0"])?;
        pool.tool("admin", "condor_rm", ["2.1"])?;
        pool.crash_and_restart()?;
        let text = q(pool, &["-af", "ClusterId", "ProcId", "JobStatus"])?;
        ensure!(text == "1 0 1\n1 1 1\n1 2 1\n2 0 5\n2 2 1\n", "{text}");
        let text = pool.tool("alice", "condor_history", ["-af", "ClusterId", "ProcId"])?;
        ensure!(text == "2 1\n", "{text}");
        // Numbers are not given twice.
        submit(pool)?;
        let text = q(pool, &["3", "-af", "ClusterId"])?;
        ensure!(text == "3\n3\n3\n", "{text}");
        Ok(())
    });
}
