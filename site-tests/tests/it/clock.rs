//! A wall clock that is set while jobs run: their credentials end when they really do.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::{
    JobState, Play, ProxyKind, Stage, StageOptions, Submission, Submitted, process, wait,
};

use crate::without_helper;

/// The library behind `faketime`, for programs with threads (Debian's package libfaketime).
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// The proxy is good for two minutes, and jobs are stopped so long before: a job has about half a minute.
const GRACE: u64 = 90;

/// The pilot's wall clock; those that nobody can set stay as they are.
struct WallClock {
    folder: tempfile::TempDir,
}

impl WallClock {
    fn make() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("clock-")
            .tempdir_in("/tmp")?;
        let clock = Self { folder };
        clock.set(0)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(clock.folder.path(), mode)?;
        Ok(clock)
    }

    /// So many seconds ahead of the right time.
    fn set(&self, seconds: i32) -> Result<()> {
        let (new, path) = (self.folder.path().join("new"), self.file());
        fs::write(&new, format!("{seconds:+}s\n"))?;
        Ok(fs::rename(new, path)?)
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("offset")
    }

    fn options(&self, name: &str) -> StageOptions {
        let mut options = StageOptions::named(name)
            .slots(2)
            .pool_knob("SHADOW_CHECKPROXY_INTERVAL=2")
            .pilot_knob("SAILPLANE_IDENTITY_SWITCH", "NEVER")
            .pilot_knob("SAILPLANE_CREDENTIAL_GRACE", GRACE);
        for (name, value) in [
            ("LD_PRELOAD", LIBRARY.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ] {
            options.pilot = options.pilot.variable(name, &value);
        }
        options
    }
}

/// A job that has about half a minute.
fn brief(stage: &Stage, user: &str) -> Result<Submitted> {
    let submission = Submission::shell(user, "sleep 600").proxy(Some(ProxyKind::Minutes(2)));
    stage.submit(&submission)
}

fn is_running(stage: &Stage, job: &Submitted) -> Result<bool> {
    Ok(stage.pool.job(job.job()?)?.int("JobStatus") == Some(JobState::Running as i64))
}

/// How far a line of a log that was just written is ahead of the right time.
fn seconds_ahead(line: Option<&str>) -> Result<i64> {
    let time = line
        .and_then(|line| line.split(' ').next())
        .context("a line with a time")?;
    let said = process::output(Command::new("date").args(["-u", "+%s", "-d", time]))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(said.trim().parse::<i64>()? - i64::try_from(now)?)
}

#[test]
fn k6_a_clock_set_back_and_forth_neither_ends_a_job_nor_lets_it_outlive_its_proxy() {
    let clock = WallClock::make().expect("a clock");
    without_helper(clock.options("clock"), |stage| {
        let made = Instant::now();
        let (left, renewed) = (brief(stage, "alice")?, brief(stage, "bob")?);
        left.wait_running()?;
        renewed.wait_running()?;
        // Ten minutes ahead both proxies seem to be over.
        clock.set(600)?;
        wait::pause(Duration::from_secs(6));
        ensure!(
            is_running(stage, &left)? && is_running(stage, &renewed)?,
            "ended by a clock set forth:\n{}",
            stage.pilot.log()
        );
        // What comes now counts, by the time it has left.
        let file = renewed.folder().join("proxy.pem");
        stage.site.ca.proxy("bob", ProxyKind::Minutes(60), &file)?;
        wait::until("the renewed proxy", Duration::from_secs(15), || {
            Ok(stage
                .pilot
                .log()
                .contains("uses its renewed credential")
                .then_some(()))
        })
        .with_context(|| stage.pilot.log())?;
        let log = stage.pilot.log();
        let ahead = seconds_ahead(
            log.lines()
                .rfind(|line| line.contains("renewed credential")),
        )?;
        ensure!(
            (500..=700).contains(&ahead),
            "the pilot's clock is {ahead} s ahead"
        );
        // Four minutes behind the other proxy seems to be good for five minutes still.
        clock.set(-240)?;
        let ad = left
            .wait_held(&stage.pool, Duration::from_secs(90))
            .with_context(|| stage.pilot.log())?;
        let took = made.elapsed().as_secs();
        ensure!(
            ad.int("HoldReasonCode") == Some(4),
            "{}",
            ad.text("HoldReason")
        );
        ensure!(
            (20..=120 - GRACE + 15).contains(&took),
            "held after {took} s"
        );
        ensure!(
            is_running(stage, &renewed)?,
            "the renewal did not count:\n{}",
            stage.pilot.log()
        );
        // And once more forth, for the renewed one.
        clock.set(600)?;
        wait::pause(Duration::from_secs(6));
        ensure!(is_running(stage, &renewed)?, "{}", stage.pilot.log());
        let number = renewed.job()?.to_string();
        stage.pool.tool("bob", "condor_rm", [number])?;
        Ok(())
    });
}
