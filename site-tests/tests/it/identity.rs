//! Every user's jobs run under an account of their own.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::{
    Example, PILOT_ACCOUNT, POOL_ACCOUNT, Play, ProxyKind, StageOptions, Submission, process, wait,
};

use crate::on_stage;

/// `NAME=value` lines of `env`.
fn variable<'a>(output: &'a str, name: &str) -> Result<&'a str> {
    output
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .with_context(|| format!("the job has no {name}:\n{output}"))
}

#[test]
fn three_users_have_three_accounts() {
    on_stage(StageOptions::named("identity").slots(3), |stage| {
        // They run at the same time, so that no account can be free again before the last has begun.
        let script = "id -u; id -g; id -G; sleep 3; ls -ldn . | cut -d' ' -f1,3; echo $X509_USER_PROXY; \
                      ls -ln \"$X509_USER_PROXY\" | cut -c1-10; grep -c 'BEGIN.*PRIVATE KEY' \"$X509_USER_PROXY\"";
        let users = ["alice", "bob", "carol"];
        let sent: Vec<_> = users
            .iter()
            .map(|user| stage.submit(&Submission::shell(user, script)))
            .collect::<Result<_>>()?;
        let mut uids = BTreeSet::new();
        for submitted in &sent {
            submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
            let output = submitted.output()?;
            let lines: Vec<_> = output.lines().collect();
            let [uid, gid, groups, folder, proxy, mode, keys] = lines.as_slice() else {
                anyhow::bail!("the job printed {output:?}");
            };
            let uid: u32 = uid.parse()?;
            ensure!(
                stage.site.uids.contains(&uid),
                "uid {uid} is not of the configured range"
            );
            ensure!(
                gid == groups,
                "the payload has groups beside its own: {groups}"
            );
            ensure!(
                *folder == format!("drwx------ {uid}"),
                "the sandbox is {folder}"
            );
            ensure!(proxy.ends_with("/proxy.pem"), "X509_USER_PROXY is {proxy}");
            ensure!(
                *mode == "-rw-------" && *keys == "1",
                "the proxy in the sandbox has mode {mode}, {keys} keys"
            );
            uids.insert(uid);
        }
        ensure!(uids.len() == users.len(), "accounts were shared: {uids:?}");
        for account in [PILOT_ACCOUNT, POOL_ACCOUNT] {
            let (uid, _) = process::ensure_account(account)?;
            ensure!(!uids.contains(&uid.as_raw()), "a payload ran as {account}");
        }
        Ok(())
    });
}

#[test]
fn the_environment_is_the_jobs_own() {
    on_stage(StageOptions::named("environment").slots(1), |stage| {
        let submission = Submission::program("alice", "/usr/bin/env", &[]).line(
            "environment = \"ONE=1 TWO='with blanks' THREE='it''s' FOUR=\"\"quoted\"\" EMPTY=\"",
        );
        let submitted = stage.submit(&submission)?;
        submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        let output = submitted.output()?;
        for (name, value) in [
            ("ONE", "1"),
            ("TWO", "with blanks"),
            ("THREE", "it's"),
            ("FOUR", "\"quoted\""),
            ("EMPTY", ""),
        ] {
            ensure!(
                variable(&output, name)? == value,
                "{name} is {:?}",
                variable(&output, name)?
            );
        }
        let scratch = variable(&output, "_CONDOR_SCRATCH_DIR")?;
        ensure!(
            scratch.starts_with(&stage.site.execute.display().to_string()),
            "the sandbox is {scratch}"
        );
        for name in ["TMPDIR", "TEMP", "TMP", "_CONDOR_JOB_IWD"] {
            ensure!(
                variable(&output, name)? == scratch,
                "{name} is {:?}",
                variable(&output, name)?
            );
        }
        ensure!(
            variable(&output, "_CONDOR_SLOT")? == "slot1",
            "_CONDOR_SLOT"
        );
        ensure!(
            variable(&output, "BATCH_SYSTEM")? == "HTCondor",
            "BATCH_SYSTEM"
        );
        ensure!(
            variable(&output, "OMP_NUM_THREADS")? == "1",
            "OMP_NUM_THREADS"
        );
        ensure!(
            variable(&output, "_CONDOR_JOB_AD")? == format!("{scratch}/.job.ad"),
            "_CONDOR_JOB_AD"
        );
        ensure!(
            variable(&output, "_CONDOR_MACHINE_AD")? == format!("{scratch}/.machine.ad"),
            "_CONDOR_MACHINE_AD"
        );
        ensure!(
            variable(&output, "X509_USER_PROXY")? == format!("{scratch}/proxy.pem"),
            "X509_USER_PROXY"
        );
        // Nothing of the pilot's own environment comes through.
        ensure!(
            !output.contains("RUST_LOG=") && !output.contains("PWD=/var/lib/sailplane/pilots"),
            "{output}"
        );
        Ok(())
    });
}

#[test]
fn the_job_sees_its_ads_and_none_of_the_secrets() {
    on_stage(StageOptions::named("ads").slots(1), |stage| {
        let script =
            "cat .job.ad; echo; cat .machine.ad; ls /proc/self/fd | wc -l; umask; ulimit -c";
        let submitted = stage.submit(&Submission::shell("alice", script))?;
        let job = submitted.job()?;
        submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        let output = submitted.output()?;
        ensure!(
            output.contains(&format!("ClusterId = {}", job.cluster)),
            "no job ad:\n{output}"
        );
        ensure!(output.contains("SlotID = 1"), "no machine ad:\n{output}");
        for secret in ["ClaimId =", "TransferKey =", "Capability ="] {
            let leaked = output
                .lines()
                .find(|line| line.trim_start().starts_with(secret));
            ensure!(leaked.is_none(), "the payload can read {secret}");
        }
        // 0, 1, 2, and the descriptor by which `ls` reads the folder.
        ensure!(
            output.contains("\n4\n"),
            "descriptors leak into the payload:\n{output}"
        );
        ensure!(
            output.contains("\n0022\n0\n") || output.contains("\n022\n0\n"),
            "umask or core limit:\n{output}"
        );
        Ok(())
    });
}

#[test]
fn limited_proxies_are_good_enough() {
    on_stage(StageOptions::named("limited").slots(1), |stage| {
        let submission = Submission::shell("bob", "id -u").proxy(Some(ProxyKind::Limited));
        let submitted = stage.submit(&submission)?;
        submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        let uid: u32 = submitted.output()?.trim().parse()?;
        ensure!(stage.site.uids.contains(&uid), "uid {uid}");
        Ok(())
    });
}

#[test]
fn a_copied_proxy_is_as_good_as_a_delegated_one() {
    let mut options = StageOptions::named("copied").slots(1);
    options.pool.no_delegation = true;
    on_stage(options, |stage| {
        let submitted = stage.submit(&Submission::shell(
            "carol",
            "id -u; openssl x509 -noout -subject < proxy.pem",
        ))?;
        submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        let output = submitted.output()?;
        let uid: u32 = output.lines().next().unwrap_or_default().parse()?;
        ensure!(stage.site.uids.contains(&uid), "uid {uid}");
        ensure!(output.contains("Carol Example"), "{output}");
        Ok(())
    });
}

#[test]
fn the_examples_run_as_they_stand() {
    on_stage(StageOptions::named("examples"), |stage| {
        for example in Example::ALL {
            let submitted = example.submit("alice", &stage.pool, &stage.site.ca)?;
            let ads = submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
            let expected = if example == Example::Fails { 3 } else { 0 };
            let code = ads.first().and_then(|ad| ad.int("ExitCode"));
            ensure!(
                code == Some(expected),
                "{} ended with {code:?}",
                example.name()
            );
            let output = example.output(&submitted)?;
            let uid: u32 = output.lines().next().unwrap_or_default().parse()?;
            ensure!(
                stage.site.uids.contains(&uid),
                "{} ran as {uid}",
                example.name()
            );
            if example == Example::Files {
                let job = submitted.job()?;
                ensure!(
                    submitted.read("results/second.txt.bytes")?.trim() == "8",
                    "an input file's size"
                );
                ensure!(
                    submitted
                        .read(&format!("summary.{}.txt", job.cluster))?
                        .trim()
                        == "3",
                    "lines of stdin"
                );
            }
        }
        Ok(())
    });
}
