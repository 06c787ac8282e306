//! A pilot without the identity-switch helper: all jobs run under its own account, and everything else is as ever.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use sailplane_site_tests::{
    Event, PILOT_ACCOUNT, Play, ProxyKind, Stage, StageOptions, Submission, TestCa, process, wait,
};

use crate::on_stage;
use crate::sound::{marked, marker, wait_marked, wait_none_marked};

fn stage(name: &str) -> StageOptions {
    StageOptions::named(name).pilot_knob("SAILPLANE_IDENTITY_SWITCH", "NEVER")
}

/// No sandbox is left of jobs that have ended.
fn wait_swept(stage: &Stage) -> Result<()> {
    wait::until("the sandboxes to go", Duration::from_secs(5), || {
        let left = fs::read_dir(stage.pilot.execute())?.count();
        Ok((left == 0).then_some(()))
    })
}

#[test]
fn jobs_without_a_credential_run_under_the_pilots_account() {
    on_stage(stage("own"), |stage| {
        let (uid, _) = process::ensure_account(PILOT_ACCOUNT)?;
        let slots = stage.pilot.slots(&stage.pool)?;
        for slot in &slots {
            ensure!(
                slot.bool("SailplaneIdentitySwitch") == Some(false),
                "the slot claims to separate jobs"
            );
            ensure!(
                slot.text("SailplaneIdentitySwitchReason").contains("NEVER"),
                "the slot does not say why"
            );
        }
        let submission = Submission::shell(
            "alice",
            "id -u; cat in.txt > out.txt; echo ${X509_USER_PROXY-none}; exit 7",
        )
        .proxy(None)
        .file("in.txt", b"both ways\n", 0o644)
        .line("transfer_input_files = in.txt")
        .line("transfer_output_files = out.txt");
        let submitted = stage.submit(&submission)?;
        let ads = submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        ensure!(submitted.output()? == format!("{uid}\nnone\n"));
        ensure!(submitted.read("out.txt")? == "both ways\n");
        ensure!(ads.iter().all(|ad| ad.int("ExitCode") == Some(7)));
        let many = stage.submit(&Submission::shell("bob", "true").proxy(None).queue(6))?;
        many.wait_completed(&stage.pool, wait::PATIENCE)?;
        wait_swept(stage)?;
        let said = stage.pilot.log().matches("no identity switch").count();
        ensure!(said == 1, "the log says it {said} times");
        Ok(())
    });
}

#[test]
fn what_a_job_leaves_behind_ends_with_it_and_a_killed_pilot_leaves_nothing() {
    on_stage(stage("ownend"), |stage| {
        let (left, runs) = (marker(600), marker(600));
        // Deaf to polite signals, in a session of its own, and without its parent.
        let script = format!(
            "(setsid sh -c 'trap \"\" TERM HUP; exec sleep {left}' </dev/null >/dev/null 2>&1 &) ; sleep 0.3"
        );
        let submitted = stage.submit(&Submission::shell("alice", &script).proxy(None))?;
        wait_marked(&left, 1)?;
        submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        wait_none_marked(&left, Duration::from_secs(1))?;

        let removed =
            stage.submit(&Submission::shell("alice", &format!("sleep {left}")).proxy(None))?;
        wait_marked(&left, 1)?;
        removed.wait_running()?;
        stage
            .pool
            .tool("alice", "condor_rm", [removed.job()?.to_string()])?;
        wait_none_marked(&left, wait::PATIENCE)?;
        wait_swept(stage)?;

        let script = format!("setsid sleep {runs} & sleep {runs}");
        stage.submit(&Submission::shell("bob", &script).proxy(None))?;
        wait_marked(&runs, 2)?;
        stage.pilot.signal(Signal::SIGKILL)?;
        wait_none_marked(&runs, Duration::from_secs(2))?;
        wait_swept(stage)?;
        let own = stage.pilot.folder().display().to_string();
        wait::until("its helpers to end", Duration::from_secs(5), || {
            Ok(process::find(|process| process.command.contains(&own))
                .is_empty()
                .then_some(()))
        })?;
        stage.pilot.wait_end(Duration::from_secs(5))?;
        Ok(())
    });
}

#[test]
fn a_payload_that_cannot_start_is_held() {
    // Here because the helper is not there, not because nobody wanted it.
    let options = StageOptions::named("owncannot")
        .slots(1)
        .pilot_knob("SAILPLANE_IDENTITY_SWITCH", "OPTIONAL")
        .pilot_knob("SAILPLANE_SWITCH", "/no/such/helper");
    on_stage(options, |stage| {
        for slot in stage.pilot.slots(&stage.pool)? {
            let why = slot.text("SailplaneIdentitySwitchReason");
            ensure!(why.contains("/no/such/helper"), "{why}");
        }
        let submission = Submission::program("alice", "/no/such/program", &[]).proxy(None);
        let ad = stage
            .submit(&submission)?
            .wait_held(&stage.pool, wait::PATIENCE)?;
        let reason = ad.text("HoldReason");
        ensure!(
            ad.int("HoldReasonCode") == Some(6) && ad.int("HoldReasonSubCode") == Some(2),
            "{reason}"
        );
        ensure!(reason.contains("/no/such/program"), "{reason}");
        stage
            .submit(&Submission::shell("bob", "true").proxy(None))?
            .wait_completed(&stage.pool, wait::PATIENCE)?;
        Ok(())
    });
}

#[test]
fn credentials_that_come_along_are_verified_and_watched() {
    let Ok(site) = sailplane_site_tests::helper::site() else {
        return on_stage(stage("owncred"), |_| Ok(()));
    };
    let options = stage("owncred")
        .pilot_knob("SAILPLANE_CREDENTIAL_GRACE", 50)
        .pilot_knob("SAILPLANE_CA_DIRECTORY", site.ca.certificates().display());
    on_stage(options, |stage| {
        let word = marker(600);
        let ends = stage.submit(
            &Submission::program("alice", "/bin/sleep", &[&word])
                .proxy(Some(ProxyKind::Minutes(1))),
        )?;
        wait_marked(&word, 1)?;
        let folder = tempfile::tempdir()?;
        let stranger = TestCa::at(
            &folder.path().join("ca"),
            sailplane_site_tests::POOL_ACCOUNT,
        )?;
        let forged = Submission::shell("bob", "id -u").submit(&stage.pool, &stranger)?;
        let ad = forged.wait_held(&stage.pool, wait::PATIENCE)?;
        ensure!(
            ad.int("HoldReasonCode") == Some(4),
            "{}",
            ad.text("HoldReason")
        );
        ensure!(
            forged
                .log()
                .events()?
                .iter()
                .all(|event| event.number != Event::EXECUTE),
            "the job has run"
        );
        let good = stage.submit(&Submission::shell("carol", "test -s \"$X509_USER_PROXY\""))?;
        let ads = good.wait_completed(&stage.pool, wait::PATIENCE)?;
        ensure!(ads.iter().all(|ad| ad.int("ExitCode") == Some(0)));
        let ad = ends.wait_held(&stage.pool, Duration::from_secs(55))?;
        wait_none_marked(&word, Duration::from_secs(1))?;
        ensure!(
            ad.int("HoldReasonCode") == Some(4),
            "{}",
            ad.text("HoldReason")
        );
        ensure!(marked(&word).is_empty());
        Ok(())
    });
}
