//! Checks of the node, before a pilot joins and while it lives, seen from the pool.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sailplane_site_tests::{
    Ad, Pilot, PilotOptions, Play, Pool, PoolOptions, StageOptions, Submission, helper, say, wait,
};
use tempfile::TempDir;

use crate::sound::{marker, wait_marked, wait_none_marked};
use crate::without_helper;

/// A site's health check that fails as long as a file is there, with its text for a reason.
struct Health {
    folder: TempDir,
}

impl Health {
    fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("health-")
            .tempdir_in("/tmp")?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let health = Self { folder };
        let script = format!(
            "#!/bin/sh\nif [ -e {0} ]; then cat {0}; exit 1; fi\n",
            health.trouble().display()
        );
        fs::write(health.program(), script)?;
        fs::set_permissions(health.program(), Permissions::from_mode(0o755))?;
        Ok(health)
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("health")
    }

    fn trouble(&self) -> PathBuf {
        self.folder.path().join("trouble")
    }

    fn fails(&self, why: &str) -> Result<()> {
        let new = self.folder.path().join("new");
        fs::write(&new, why)?;
        fs::set_permissions(&new, Permissions::from_mode(0o644))?;
        fs::rename(new, self.trouble()).context("break the node")
    }

    fn recovers(&self) -> Result<()> {
        fs::remove_file(self.trouble()).context("mend the node")
    }
}

/// Without our helper, which these tests are not about.
fn stage(name: &str) -> StageOptions {
    StageOptions::named(name).pilot_knob("SAILPLANE_IDENTITY_SWITCH", "NEVER")
}

fn slot_with(pilot: &Pilot, pool: &Pool, what: &str, is: impl Fn(&Ad) -> bool) -> Result<Ad> {
    wait::until(what, wait::PATIENCE, || {
        Ok(pilot.slots(pool)?.into_iter().find(|ad| is(ad)))
    })
    .with_context(|| format!("pilot's log:\n{}", pilot.log()))
}

#[test]
fn a_check_that_fails_later_stops_matching_but_no_job_and_recovery_resumes() {
    let Ok(health) = Health::new() else {
        panic!("no place for a health check");
    };
    let options = stage("periodic")
        .slots(2)
        .pilot_knob("SAILPLANE_SITE_CHECK", health.program().display())
        .pilot_knob("SAILPLANE_SITE_CHECK_PERIOD", 1);
    without_helper(options, |stage| {
        let ad = slot_with(&stage.pilot, &stage.pool, "a slot's ad", |_| true)?;
        ensure!(
            ad.text("SailplaneCheckSiteCheck") == "passed",
            "the check is not in the ad: {ad:?}"
        );
        let word = marker(600);
        let running = stage.submit(&Submission::shell("alice", &format!("sleep {word}")))?;
        wait_marked(&word, 1)?;
        health.fails("/scratch is gone\n")?;
        let closed = |ad: &Ad| ad.bool("Start") == Some(false);
        let ad = slot_with(&stage.pilot, &stage.pool, "a slot without Start", closed)?;
        for (name, text) in [
            ("SailplaneValidation", "unfit"),
            ("SailplaneChecksFailed", "site-check"),
            ("SailplaneFailureWhose", "site"),
        ] {
            ensure!(ad.text(name) == text, "{name}: {:?}", ad.text(name));
        }
        for name in ["SailplaneFailureReason", "SailplaneNotAcceptingReason"] {
            let reason = ad.text(name);
            ensure!(reason.contains("/scratch is gone"), "{name}: {reason}");
        }
        // A second job is not taken; the first goes on.
        let waiting = stage.submit(&Submission::shell("bob", "true"))?;
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(3) {
            let job = stage.pool.job(waiting.job()?)?;
            ensure!(job.int("JobStatus") == Some(1), "a job was taken");
            wait::pause(Duration::from_millis(200));
        }
        wait_marked(&word, 1)?;
        health.recovers()?;
        waiting.wait_completed(&stage.pool, wait::PATIENCE)?;
        wait_marked(&word, 1)?;
        let open = |ad: &Ad| ad.text("SailplaneValidation") == "healthy";
        slot_with(&stage.pilot, &stage.pool, "a healthy slot", open)?;
        let job = running.job()?.to_string();
        stage.pool.tool("alice", "condor_rm", [job.as_str()])?;
        wait_none_marked(&word, Duration::from_secs(20))
    });
}

#[test]
fn a_node_that_drains_retires_with_the_status_of_its_failure() {
    let Ok(health) = Health::new() else {
        panic!("no place for a health check");
    };
    let options = stage("drain")
        .slots(1)
        .pilot_knob("SAILPLANE_SITE_CHECK", health.program().display())
        .pilot_knob("SAILPLANE_SITE_CHECK_PERIOD", 1)
        .pilot_knob("SAILPLANE_CHECKS_SEVERITY", "site-check=drain");
    without_helper(options, |stage| {
        health.fails("maintenance\n")?;
        let status = stage.pilot.wait_end(Duration::from_secs(30))?;
        ensure!(status.code() == Some(11), "the pilot ended with {status}");
        ensure!(
            stage.pilot.slots(&stage.pool)?.is_empty(),
            "slots are still in the collector"
        );
        Ok(())
    });
}

#[test]
fn a_pilot_that_is_killed_leaves_no_process_of_its_checks() {
    let Ok(health) = Health::new() else {
        panic!("no place for a health check");
    };
    let word = marker(600);
    let script = format!(
        "#!/bin/sh\n[ -e {} ] || exit 0\ntrap '' TERM HUP\n(setsid sleep {word} &)\nsleep {word}\n",
        health.trouble().display()
    );
    if fs::write(health.program(), script).is_err() {
        panic!("no health check");
    }
    let options = stage("killed")
        .slots(1)
        .pilot_knob("SAILPLANE_SITE_CHECK", health.program().display())
        .pilot_knob("SAILPLANE_SITE_CHECK_PERIOD", 1000)
        .pilot_knob("SAILPLANE_CHECKS_PERIOD", "site-check=1");
    without_helper(options, |stage| {
        health.fails("")?;
        wait_marked(&word, 2)?;
        stage.pilot.signal(Signal::SIGKILL)?;
        wait_none_marked(&word, Duration::from_secs(5))
    });
}

/// A pilot on a node that is broken from the beginning.
fn broken(name: &str, more: &[(&str, &str)], play: impl FnOnce(&mut Pilot, &Pool) -> Result<()>) {
    if let Some(reason) = crate::excuse(false) {
        say(&format!("{name} not run: {reason}"));
        return;
    }
    let scene = || -> Result<()> {
        let health = Health::new()?;
        health.fails("no disk\n")?;
        let site = helper::bare()?;
        let pool = Pool::raise(&PoolOptions {
            name: name.to_owned(),
            ..PoolOptions::default()
        })?;
        let mut options = PilotOptions::default()
            .knob("SAILPLANE_SITE_CHECK", health.program().display())
            .knob("SAILPLANE_SITE_CHECK_PERIOD", 0)
            .knob("SAILPLANE_IDENTITY_SWITCH", "NEVER")
            .knob("SAILPLANE_JOB_AGENT", helper::bare_agent().display());
        for (knob, value) in more {
            options = options.knob(knob, value);
        }
        let mut pilot = Pilot::start(site, &pool, &options)?;
        play(&mut pilot, &pool)
    };
    crate::judge(name, scene());
}

#[test]
fn a_pilot_on_a_broken_node_says_why_in_the_pool_naps_and_leaves() {
    broken(
        "unfit",
        &[("SAILPLANE_FAILURE_NAP", "300")],
        |pilot, pool| {
            let ad = slot_with(pilot, pool, "the ad of the failure", |_| true)?;
            for (name, text) in [
                ("State", "Drained"),
                ("SailplaneFailureCheck", "site-check"),
                ("SailplaneFailureClass", "site-transient"),
                ("GLIDEIN_LAST_SCRIPT", "site-check"),
            ] {
                ensure!(ad.text(name) == text, "{name}: {:?}", ad.text(name));
            }
            let reason = ad.text("GLIDEIN_FAILURE_REASON");
            ensure!(reason.contains("no disk"), "{reason}");
            ensure!(ad.int("GLIDEIN_EXIT_CODE") == Some(11) && ad.bool("Start") == Some(false));
            // What an operator sees without a log.
            let told = pool.tool(
                "alice",
                "condor_status",
                ["-af", "Name", "State", "GLIDEIN_FAILURE_REASON"],
            )?;
            say(&told);
            ensure!(told.contains("no disk"), "condor_status says: {told}");
            let result = pilot.folder().join("log/sailplane-validation.json");
            ensure!(
                !pilot.folder().join("log").exists() || result.exists(),
                "no result file"
            );
            ensure!(pilot.is_running()?, "it did not nap:\n{}", pilot.log());
            pilot.signal(Signal::SIGTERM)?;
            let status = pilot.wait_end(Duration::from_secs(15))?;
            ensure!(status.code() == Some(11), "the pilot ended with {status}");
            ensure!(
                pilot.slots(pool)?.is_empty(),
                "its ad is still in the collector"
            );
            Ok(())
        },
    );
}

#[test]
fn without_an_ad_nothing_is_heard_of_it_and_the_report_is_a_file() {
    let Ok(folder) = tempfile::tempdir() else {
        panic!("no folder")
    };
    // The pilot's account writes into it.
    let opened = fs::set_permissions(folder.path(), Permissions::from_mode(0o777));
    assert!(opened.is_ok(), "{opened:?}");
    let file = folder.path().join("result.json");
    let knobs = [
        ("SAILPLANE_FAILURE_NAP", "1"),
        ("SAILPLANE_FAILURE_AD", "NEVER"),
        ("SAILPLANE_RESULT_FILE", file.to_str().unwrap_or_default()),
    ];
    broken("silent", &knobs, |pilot, pool| {
        let status = pilot.wait_end(Duration::from_secs(20))?;
        ensure!(status.code() == Some(11), "the pilot ended with {status}");
        ensure!(pilot.slots(pool)?.is_empty(), "an ad is in the collector");
        report_says(&file, "no disk")
    });
}

fn report_says(file: &Path, what: &str) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let report: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(
        report
            .pointer("/verdict/unfit/class")
            .is_some_and(|class| class == "site-transient"),
        "{text}"
    );
    ensure!(text.contains(what), "{text}");
    Ok(())
}

#[test]
fn in_report_mode_nothing_keeps_jobs_away() {
    let Ok(health) = Health::new() else {
        panic!("no place for a health check");
    };
    if health.fails("no disk\n").is_err() {
        panic!("no health check");
    }
    let options = stage("report")
        .slots(1)
        .pilot_knob("SAILPLANE_SITE_CHECK", health.program().display())
        .pilot_knob("SAILPLANE_VALIDATION", "REPORT");
    without_helper(options, |stage| {
        let submitted = stage.submit(&Submission::shell("alice", "true"))?;
        submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        let ad = slot_with(&stage.pilot, &stage.pool, "a slot's ad", |_| true)?;
        ensure!(ad.text("SailplaneValidation") == "unfit", "{ad:?}");
        Ok(())
    });
}

#[test]
fn jobs_that_fail_are_no_black_hole() {
    let options = stage("exits")
        .slots(1)
        .pilot_knob("SAILPLANE_BLACK_HOLE_FAILURES", 2);
    without_helper(options, |stage| {
        let submitted = stage.submit(&Submission::shell("alice", "exit 7").queue(5))?;
        submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        let ad = slot_with(&stage.pilot, &stage.pool, "a slot's ad", |ad| {
            ad.int("JobStarts") == Some(5)
        })?;
        ensure!(ad.int("SailplaneEnvironmentFailures") == Some(0), "{ad:?}");
        ensure!(ad.get("SailplaneNotAcceptingReason").is_none(), "{ad:?}");
        Ok(())
    });
}

#[test]
fn a_node_that_breaks_under_its_jobs_stops_matching_until_it_is_mended() {
    let options = stage("hole")
        .slots(3)
        .pilot_knob("SAILPLANE_BLACK_HOLE_FAILURES", 2)
        .pilot_knob("SAILPLANE_BLACK_HOLE_PAUSE", 4)
        // The check would see it first, were it not slower than jobs.
        .pilot_knob("SAILPLANE_CHECKS_OFF", "work-*");
    without_helper(options, |stage| {
        let execute = stage.pilot.execute().to_owned();
        let open = |mode| fs::set_permissions(&execute, Permissions::from_mode(mode));
        open(0o500).context("break the node")?;
        let submitted = stage.submit(&Submission::shell("alice", "true").queue(3))?;
        let closed = |ad: &Ad| {
            let why = ad.text("SailplaneNotAcceptingReason");
            why.contains("because of this node") && ad.bool("Start") == Some(false)
        };
        let ad = slot_with(&stage.pilot, &stage.pool, "closed slots", closed)?;
        let why = ad.text("SailplaneNotAcceptingReason");
        let failures = ad.int("SailplaneEnvironmentFailures");
        say(&format!("{failures:?} failures of this slot: {why}"));
        ensure!(stage.pilot.is_running()?, "the pilot has left");
        open(0o755).context("mend the node")?;
        // The jobs were neither held nor lost, and the first that runs is the trial.
        submitted.wait_completed(&stage.pool, wait::PATIENCE)?;
        let open = |ad: &Ad| ad.bool("Start") != Some(false);
        let ad = slot_with(&stage.pilot, &stage.pool, "a slot with Start", open)?;
        ensure!(ad.get("SailplaneNotAcceptingReason").is_none(), "{ad:?}");
        Ok(())
    });
}
