//! Jobs per second on one slot, one claim.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sailplane_site_tests::helper::Site;
use sailplane_site_tests::{
    CondorStartd, Event, Pilot, PilotOptions, Pool, Submission, Submitted, wait,
};

use super::report::Comparison;
use super::stats::Sample;
use crate::console;

pub(crate) fn compare(
    site: &Site,
    pool: &Pool,
    rounds: usize,
    jobs: u32,
) -> Result<Vec<Comparison>> {
    let (mut ours, mut theirs, mut without) = (Vec::new(), Vec::new(), Vec::new());
    let short = Submission::program("alice", "/bin/true", &[]).queue(jobs);
    for round in 0..rounds {
        console::line(&format!(
            "{jobs} short jobs on one slot, round {} of {rounds}",
            round + 1
        ));
        {
            let mut pilot = Pilot::start(
                site,
                pool,
                &PilotOptions {
                    slots: 1,
                    ..PilotOptions::default()
                },
            )?;
            pilot.wait_joined(pool, 1)?;
            ours.push(rate(pool, &short.submit(pool, &site.ca)?)?);
        }
        let shared = (
            "FILESYSTEM_DOMAIN".to_owned(),
            format!("submit.{}", pool.trust_domain()),
        );
        let startd = CondorStartd::start(pool, &format!("rate{round}"), 1, &[shared])?;
        startd.wait_joined(pool, 1)?;
        let plain = short.clone().proxy(None);
        theirs.push(rate(
            pool,
            &plain.clone().queue(jobs.min(15)).submit(pool, &site.ca)?,
        )?);
        let local = plain.line("should_transfer_files = NO");
        without.push(rate(pool, &local.submit(pool, &site.ca)?)?);
    }
    let ours = Sample::new(ours);
    Ok(vec![
        Comparison {
            what: "jobs per second, one slot, file transfer on",
            peer: "starter, the same submit file without a proxy",
            ours: ours.clone(),
            theirs: Sample::new(theirs),
            more_is_better: true,
        },
        Comparison {
            what: "jobs per second, one slot, file transfer on; the peer's off",
            peer: "starter, should_transfer_files = NO",
            ours,
            theirs: Sample::new(without),
            more_is_better: true,
        },
    ])
}

/// Jobs per second from the first to the last end.
fn rate(pool: &Pool, submitted: &Submitted) -> Result<f64> {
    let log = submitted.log();
    let wanted = submitted.jobs().len();
    let mut first: Option<Instant> = None;
    let mut before = 0;
    let last = wait::every(
        Duration::from_millis(5),
        "all jobs to end",
        Duration::from_secs(180),
        || {
            let ended = log
                .events()?
                .iter()
                .filter(|event| event.number == Event::TERMINATED)
                .count();
            let now = Instant::now();
            if ended > 0 && first.is_none() {
                first = Some(now);
                before = ended;
            }
            Ok((ended == wanted).then_some(now))
        },
    )?;
    let first = first.context("no job ended")?;
    submitted.wait_completed(pool, wait::PATIENCE)?;
    #[expect(clippy::cast_precision_loss, reason = "some dozens of jobs")]
    let jobs = (wanted - before) as f64;
    Ok(jobs / (last - first).as_secs_f64())
}
