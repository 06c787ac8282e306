//! `kill -9` of the embedded pool, again and again, while jobs are sent and run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::{
    EmbeddedOptions, EmbeddedPool, Event, EventLog, JobId, PILOT_ACCOUNT, Pilot, PilotOptions,
    helper, process, say, wait,
};

/// How often the pool is killed.
const CRASHES: u32 = 12;
/// How long it lives between two of them, at the most.
const LIFE: Duration = Duration::from_millis(2500);
/// Jobs of each submission.
const JOBS: usize = 6;

/// When the pool is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// Whatever it is doing.
    Any,
    /// So long after a job has ended: its output is on the way, or the word of its end.
    AfterEnd(Duration),
    /// So long after the queue's file was written for the first time since a job ended: its end is stored and promised,
    /// and who waits for the event log has yet to be told.
    Stored(Duration),
}

impl Moment {
    fn of(crash: u32) -> Self {
        let step = crash / 3;
        match crash % 3 {
            0 => Self::Any,
            1 => Self::AfterEnd(Duration::from_millis(20) * step),
            _ => Self::Stored(Duration::from_millis(1) * step),
        }
    }

    /// Waits for it, in a life that began then.
    fn wait(self, pool: &EmbeddedPool, marks: &Path, began: Instant) -> Result<()> {
        let left = || LIFE.saturating_sub(began.elapsed());
        let Some(delay) = (match self {
            Self::Any => None,
            Self::AfterEnd(delay) | Self::Stored(delay) => Some(delay),
        }) else {
            wait::pause(left());
            return Ok(());
        };
        let before = ends(marks)?.len();
        // None may end in this life.
        while ends(marks)?.len() == before && !left().is_zero() {
            wait::pause(Duration::from_millis(1));
        }
        if matches!(self, Self::Stored(_)) {
            let before = stored(pool)?;
            while stored(pool)? == before && !left().is_zero() {
                wait::pause(Duration::from_micros(50));
            }
        }
        wait::pause(delay);
        Ok(())
    }
}

/// What changes when the queue's file is written.
fn stored(pool: &EmbeddedPool) -> Result<(SystemTime, u64)> {
    let file = pool.dir().join("spool/queue.sqlite-wal");
    let facts = fs::metadata(&file).with_context(|| format!("look at {}", file.display()))?;
    Ok((facts.modified()?, facts.len()))
}

/// How often each job ran to its end.
fn ends(marks: &Path) -> Result<BTreeMap<String, u32>> {
    let mut ends: BTreeMap<String, u32> = BTreeMap::new();
    for entry in fs::read_dir(marks)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(job) = name.strip_prefix("ended.") {
            let job = job.rsplit_once('.').map_or(job, |(job, _)| job);
            *ends.entry(job.to_owned()).or_default() += 1;
        }
    }
    Ok(ends)
}

/// The log of the jobs tells of each submission and each end once.
fn told_once(folder: &Path, jobs: &[JobId]) -> Result<()> {
    let log = EventLog::new(folder.join("job.log"));
    let mut told: BTreeMap<JobId, [u32; 2]> = jobs.iter().map(|job| (*job, [0; 2])).collect();
    for event in log.events()? {
        let times = told.entry(event.job).or_default();
        match event.number {
            Event::SUBMIT => times[0] += 1,
            Event::TERMINATED => times[1] += 1,
            _ => {}
        }
    }
    told.retain(|_, times| *times != [1, 1]);
    ensure!(
        told.is_empty(),
        "submissions and ends of jobs in the event log, where they are not 1 and 1: {told:?}; the log is\n{}",
        fs::read_to_string(log.path())?
    );
    Ok(())
}

/// Each job leaves a mark of its own in a folder when it begins, and another at its end: how often each began and ended
/// is what the folder says, whatever the pool remembers.
fn submit(pool: &EmbeddedPool, marks: &Path, folder: &Path, number: u32) -> Result<String> {
    let script = format!(
        "touch {marks}/began.$1.$$; sleep 1; touch {marks}/ended.$1.$$",
        marks = marks.display()
    );
    fs::write(folder.join("job.sh"), format!("#!/bin/sh\n{script}\n"))?;
    let submit = format!(
        "executable = job.sh\narguments = {number}.$(Process)\noutput = out.{number}.$(Process)\nlog = job.log\n\
         should_transfer_files = YES\nrequest_memory = 16MB\nrequest_disk = 1MB\nqueue {JOBS}\n"
    );
    let file = folder.join(format!("{number}.sub"));
    fs::write(&file, submit)?;
    process::output(
        pool.command(["submit", "-terse"])
            .arg(&file)
            .current_dir(folder),
    )
}

fn play(pool: &mut EmbeddedPool) -> Result<()> {
    let folder = pool.folder("alice")?;
    let marks = tempfile::tempdir()?;
    process::give(marks.path(), process::ensure_account(PILOT_ACCOUNT)?)?;
    let options = PilotOptions {
        slots: 3,
        ..PilotOptions::default()
    };
    let options = options
        .knob("SAILPLANE_IDENTITY_SWITCH", "NEVER")
        // Marks outlive the jobs only outside of what is their own.
        .knob("SAILPLANE_ISOLATION", "NEVER");
    let mut pilot = Pilot::start(helper::site()?, pool, &options)?;
    pilot.wait_joined(pool, 3)?;
    let mut acknowledged = 0;
    for number in 0..CRASHES {
        let began = Instant::now();
        // A submission that was not acknowledged is the user's to repeat; one that was must not be lost.
        match submit(pool, marks.path(), &folder, number) {
            Ok(_) => acknowledged += JOBS,
            Err(error) => say(&format!("a submission failed: {error:#}")),
        }
        let moment = Moment::of(number);
        moment.wait(pool, marks.path(), began)?;
        say(&format!("crash {number}, {moment:?}"));
        pool.crash_and_restart()?;
    }
    ensure!(acknowledged > 0, "no submission was acknowledged");
    wait::until(
        "all jobs to leave the queue",
        // A slot that was claimed just before a crash, and has no job yet, is out for minutes.
        Duration::from_secs(240),
        || {
            let left = pool.run(["q", "-af", "ClusterId", "ProcId", "JobStatus", "HoldReason"])?;
            Ok(left.trim().is_empty().then_some(()))
        },
    )
    .with_context(|| format!("{}\nthe pool:\n{}", pilot.log(), pool.log()))?;
    check(pool, &folder, marks.path(), acknowledged)
        .with_context(|| format!("{}\nthe pool:\n{}", pilot.log(), pool.log()))
}

fn check(pool: &EmbeddedPool, folder: &Path, marks: &Path, acknowledged: usize) -> Result<()> {
    let names = ["JobStatus", "ExitCode", "ClusterId", "ProcId"];
    let history = pool.run([&["history", "-af"], &names[..]].concat())?;
    let mut jobs = Vec::new();
    for line in history.lines() {
        let ids = line.strip_prefix("4 0 ").and_then(|ids| {
            let (cluster, process) = ids.split_once(' ')?;
            let (cluster, process) = (cluster.parse().ok()?, process.parse().ok()?);
            Some(JobId { cluster, process })
        });
        jobs.extend(ids);
    }
    ensure!(
        jobs.len() == acknowledged,
        "{acknowledged} jobs were acknowledged; the history is\n{history}"
    );
    let ended = ends(marks)?;
    ensure!(
        ended.len() == acknowledged,
        "{} jobs of {acknowledged} ran",
        ended.len()
    );
    let twice: Vec<_> = ended.iter().filter(|(_, count)| **count > 1).collect();
    ensure!(
        twice.is_empty(),
        "ran to their end more than once: {twice:?}"
    );
    told_once(folder, &jobs)
}

#[test]
fn no_job_is_lost_and_none_runs_twice() {
    if let Some(reason) = process::obstacle() {
        say(&format!("the crashes not run: {reason}"));
        return;
    }
    let options = EmbeddedOptions {
        name: "crash".to_owned(),
        ..EmbeddedOptions::default()
    };
    match EmbeddedPool::raise(&options) {
        Ok(mut pool) => crate::judge("crash", play(&mut pool)),
        Err(error) => panic!("crash: the pool could not be raised: {error:?}"),
    }
}
