//! Proxies that are renewed on the submit side while their job runs.

use std::time::Duration;

use anyhow::{Result, ensure};
use sailplane_site_tests::{Play, ProxyKind, Stage, StageOptions, Submission, Submitted, wait};

use crate::{on_stage, without_helper};

/// The proxy is good for two minutes, and jobs are stopped 95 s before: a job has about 25 s.
fn options(name: &str) -> StageOptions {
    StageOptions::named(name)
        .slots(1)
        .pool_knob("SHADOW_CHECKPROXY_INTERVAL=2")
        .pilot_knob("SAILPLANE_IDENTITY_SWITCH", "NEVER")
        .pilot_knob("SAILPLANE_CREDENTIAL_GRACE", 95)
}

/// Waits until its proxy is another, and goes on for longer than the first one would have let it.
const SCRIPT: &str = "was=$(cksum < $X509_USER_PROXY); \
    while [ \"$(cksum < $X509_USER_PROXY)\" = \"$was\" ]; do sleep 0.2; done; \
    stat -c %a $X509_USER_PROXY; sleep 30; echo done";

fn begin(stage: &Stage, script: &str) -> Result<Submitted> {
    let submission = Submission::shell("alice", script).proxy(Some(ProxyKind::Minutes(2)));
    let submitted = stage.submit(&submission)?;
    submitted.wait_running()?;
    // The shadow looks at the time of the file, in seconds.
    wait::pause(Duration::from_secs(2));
    Ok(submitted)
}

fn renewed(stage: &mut Stage) -> Result<()> {
    let submitted = begin(stage, SCRIPT)?;
    let file = submitted.folder().join("proxy.pem");
    stage
        .site
        .ca
        .proxy("alice", ProxyKind::Minutes(60), &file)?;
    let ads = submitted.wait_completed(&stage.pool, Duration::from_secs(90))?;
    ensure!(ads.iter().all(|ad| ad.int("ExitCode") == Some(0)));
    ensure!(
        submitted.output()? == "600\ndone\n",
        "{}",
        submitted.output()?
    );
    ensure!(stage.pilot.log().contains("uses its renewed credential"));
    Ok(())
}

#[test]
fn k6_a_renewed_proxy_reaches_the_job_by_delegation() {
    without_helper(options("renewdelegated"), renewed);
}

#[test]
fn k6_a_renewed_proxy_reaches_the_job_as_a_copy() {
    let mut options = options("renewcopied");
    options.pool.no_delegation = true;
    without_helper(options, renewed);
}

#[test]
fn k6_a_renewed_proxy_of_somebody_else_is_refused_and_the_old_one_stays() {
    let mut options = options("renewother");
    options.pool.no_delegation = true;
    without_helper(options, |stage| {
        let submitted = begin(stage, SCRIPT)?;
        let file = submitted.folder().join("proxy.pem");
        stage.site.ca.proxy("bob", ProxyKind::Minutes(60), &file)?;
        let ad = submitted.wait_held(&stage.pool, Duration::from_secs(60))?;
        ensure!(
            ad.int("HoldReasonCode") == Some(4),
            "{}",
            ad.text("HoldReason")
        );
        let log = stage.pilot.log();
        ensure!(
            log.contains("a renewed credential was refused"),
            "nothing in the log"
        );
        ensure!(!log.contains("uses its renewed credential"));
        Ok(())
    });
}

/// As [`options`], with jobs under accounts of their own.
fn switched(name: &str) -> StageOptions {
    StageOptions::named(name)
        .slots(1)
        .pool_knob("SHADOW_CHECKPROXY_INTERVAL=2")
        .pilot_knob("SAILPLANE_CREDENTIAL_GRACE", 95)
}

/// Every key is another: the pilot makes one for each delegation, and the job's account gets each file for itself.
const REKEYED: &str = "for round in 1 2; do was=$(cksum < $X509_USER_PROXY); \
    while [ \"$(cksum < $X509_USER_PROXY)\" = \"$was\" ]; do sleep 0.2; done; \
    stat -c '%a %u' $X509_USER_PROXY | sed \"s/ $(id -u)$/ own/\"; \
    grep -c 'PRIVATE KEY' $X509_USER_PROXY; done; sleep 28; ls -A | grep -c renewed; echo done";

fn rekeyed(stage: &mut Stage) -> Result<()> {
    let submitted = begin(stage, REKEYED)?;
    let file = submitted.folder().join("proxy.pem");
    for renewals in 1..=2 {
        stage
            .site
            .ca
            .proxy("alice", ProxyKind::Minutes(60), &file)?;
        wait::until("the renewed proxy", Duration::from_secs(30), || {
            let log = stage.pilot.log();
            let count = log.matches("uses its renewed credential").count();
            Ok((count == renewals).then_some(()))
        })?;
        // The shadow looks at the time of the file, in seconds.
        wait::pause(Duration::from_secs(2));
    }
    let ads = submitted.wait_completed(&stage.pool, Duration::from_secs(90))?;
    ensure!(ads.iter().all(|ad| ad.int("ExitCode") == Some(0)));
    let output = submitted.output()?;
    ensure!(output == "600 own\n2\n600 own\n2\n0\ndone\n", "{output}");
    Ok(())
}

#[test]
fn k6_proxies_are_delegated_again_and_again_through_the_helper() {
    on_stage(switched("rekeyed"), rekeyed);
}

#[test]
fn k6_proxies_are_copied_again_and_again_through_the_helper() {
    let mut options = switched("recopied");
    options.pool.no_delegation = true;
    on_stage(options, rekeyed);
}
