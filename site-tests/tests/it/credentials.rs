//! Jobs whose proxies end, have ended, or were never good.

use std::time::Duration;

use anyhow::ensure;
use sailplane_site_tests::{
    Event, JobState, Play, ProxyKind, StageOptions, Submission, TestCa, wait,
};

use crate::on_stage;
use crate::sound::{marker, wait_marked, wait_none_marked};

#[test]
fn a_job_is_stopped_before_its_proxy_ends() {
    // The proxy is good for 120 s and the grace is 105 s, so the job has about 15 s.
    let options = StageOptions::named("ends").pilot_knob("SAILPLANE_CREDENTIAL_GRACE", 105);
    on_stage(options, |stage| {
        let (word, other) = (marker(600), marker(600));
        let submission =
            Submission::program("alice", "/bin/sleep", &[&word]).proxy(Some(ProxyKind::Minutes(2)));
        let submitted = stage.submit(&submission)?;
        let long = stage.submit(&Submission::program("bob", "/bin/sleep", &[&other]))?;
        wait_marked(&word, 1)?;
        wait_marked(&other, 1)?;
        let ad = submitted.wait_held(&stage.pool, Duration::from_secs(60))?;
        wait_none_marked(&word, Duration::from_secs(1))?;
        let reason = ad.text("HoldReason");
        ensure!(
            reason.to_lowercase().contains("proxy") || reason.contains("credential"),
            "{reason}"
        );
        ensure!(
            ad.int("HoldReasonCode") == Some(4),
            "code {:?}: {reason}",
            ad.int("HoldReasonCode")
        );
        // The job's log has said so before.
        let events = submitted.log().events()?;
        ensure!(
            events.iter().any(|event| event.number == Event::GENERIC),
            "nobody was told ahead of time: {events:?}"
        );
        // Nobody else's job suffers.
        ensure!(
            !crate::sound::marked(&other).is_empty(),
            "the other user's job was stopped too"
        );
        stage
            .pool
            .tool("bob", "condor_rm", [long.job()?.to_string()])?;
        Ok(())
    });
}

#[test]
fn a_job_deaf_to_the_soft_signal_is_killed_before_its_proxy_ends() {
    let options = StageOptions::named("deafends")
        .slots(1)
        .pilot_knob("SAILPLANE_CREDENTIAL_GRACE", 50);
    on_stage(options, |stage| {
        let word = marker(600);
        let script = format!("trap '' TERM; sleep {word}; sleep {word}; sleep {word}");
        let submission = Submission::shell("alice", &script)
            .proxy(Some(ProxyKind::Minutes(1)))
            .line("job_max_vacate_time = 3");
        let submitted = stage.submit(&submission)?;
        wait_marked(&word, 1)?;
        let ad = submitted.wait_held(&stage.pool, Duration::from_secs(55))?;
        wait_none_marked(&word, Duration::from_secs(1))?;
        ensure!(
            ad.int("HoldReasonCode") == Some(4),
            "{}",
            ad.text("HoldReason")
        );
        Ok(())
    });
}

#[test]
fn a_job_with_an_expired_proxy_never_starts() {
    on_stage(StageOptions::named("expired").slots(1), |stage| {
        // condor_submit refuses an expired proxy, so this one ends while the job waits.
        let submission = Submission::shell("alice", "echo ran > evidence")
            .proxy(Some(ProxyKind::Minutes(120)))
            .line("transfer_output_files = evidence")
            .line("hold = true");
        let submitted = stage.submit(&submission)?;
        stage.site.ca.proxy(
            "alice",
            ProxyKind::Expired,
            &submitted.folder().join("proxy.pem"),
        )?;
        stage
            .pool
            .tool("alice", "condor_release", [submitted.job()?.to_string()])?;
        let job = submitted.job()?;
        let held = submitted.log().wait_for(
            Some(job),
            "a hold for the proxy",
            wait::PATIENCE,
            |event| event.number == Event::HELD && !event.text.contains("submitted on hold"),
        )?;
        ensure!(
            held.text.contains("expired") || held.text.contains("ended"),
            "{}",
            held.text
        );
        let events = submitted.log().events()?;
        ensure!(
            events.iter().all(|event| event.number != Event::EXECUTE),
            "the job has run"
        );
        // The pool keeps its other jobs.
        stage
            .submit(&Submission::shell("bob", "true"))?
            .wait_completed(&stage.pool, wait::PATIENCE)?;
        Ok(())
    });
}

#[test]
fn a_proxy_of_another_authority_is_not_trusted() {
    on_stage(StageOptions::named("untrusted").slots(1), |stage| {
        let folder = tempfile::tempdir()?;
        let stranger = TestCa::at(
            &folder.path().join("ca"),
            sailplane_site_tests::POOL_ACCOUNT,
        )?;
        let submitted = Submission::shell("alice", "id -u").submit(&stage.pool, &stranger)?;
        let ad = submitted.wait_held(&stage.pool, wait::PATIENCE)?;
        let reason = ad.text("HoldReason");
        ensure!(
            reason.contains("trust") || reason.contains("authority"),
            "{reason}"
        );
        let events = submitted.log().events()?;
        ensure!(
            events.iter().all(|event| event.number != Event::EXECUTE),
            "the job has run"
        );
        stage
            .submit(&Submission::shell("bob", "true"))?
            .wait_completed(&stage.pool, wait::PATIENCE)?;
        Ok(())
    });
}

#[test]
fn a_job_without_a_credential_is_not_matched() {
    on_stage(StageOptions::named("without").slots(1), |stage| {
        let slots = stage.pool.slots("MyType == \"Machine\"")?;
        ensure!(
            slots
                .iter()
                .all(|slot| slot.text("Start").contains("x509userproxy")),
            "START does not say that a credential is needed"
        );
        let without = stage.submit(&Submission::shell("alice", "id -u").proxy(None))?;
        // It has been looked at by then: the negotiator goes through all who wait.
        stage
            .submit(&Submission::shell("bob", "true"))?
            .wait_completed(&stage.pool, wait::PATIENCE)?;
        let ad = stage
            .pool
            .wait_for(without.job()?, JobState::Idle, wait::PATIENCE)?;
        ensure!(
            ad.int("NumJobMatches").unwrap_or(0) == 0
                && ad.int("NumShadowStarts").unwrap_or(0) == 0,
            "it was matched"
        );
        stage
            .pool
            .tool("alice", "condor_rm", [without.job()?.to_string()])?;
        Ok(())
    });
}
