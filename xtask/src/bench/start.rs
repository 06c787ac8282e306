//! From the start of an execute side to its first slot ad, and to the first instruction of a waiting job.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use sailplane_site_tests::helper::Site;
use sailplane_site_tests::{CondorStartd, Pilot, PilotOptions, Pool, Submission, wait};

use super::report::Comparison;
use super::stats::Sample;
use crate::console;

/// Seconds from start to ad and to instruction.
struct Times {
    ad: f64,
    instruction: f64,
}

pub(crate) fn compare(site: &Site, pool: &Pool, rounds: usize) -> Result<Vec<Comparison>> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        console::line(&format!(
            "start to first instruction, round {} of {rounds}",
            round + 1
        ));
        ours.push(one(pool, &probe(true), site, || {
            let options = PilotOptions {
                slots: 1,
                ..PilotOptions::default()
            };
            let pilot = Pilot::start(site, pool, &options)?;
            let name = pilot.name().to_owned();
            Ok((Box::new(pilot) as Box<dyn std::any::Any>, name))
        })?);
        theirs.push(one(pool, &probe(false), site, || {
            let name = format!("peer{round}");
            let startd = CondorStartd::start(pool, &name, 1, &[])?;
            Ok((Box::new(startd) as Box<dyn std::any::Any>, name))
        })?);
    }
    let sample =
        |times: &[Times], pick: fn(&Times) -> f64| Sample::new(times.iter().map(pick).collect());
    Ok(vec![
        Comparison {
            what: "start to the first slot ad in the collector, s",
            peer: "condor_master + startd",
            ours: sample(&ours, |times| times.ad),
            theirs: sample(&theirs, |times| times.ad),
            more_is_better: false,
        },
        Comparison {
            what: "start to the first payload instruction, s",
            peer: "condor_master + startd + starter",
            ours: sample(&ours, |times| times.instruction),
            theirs: sample(&theirs, |times| times.instruction),
            more_is_better: false,
        },
    ])
}

/// A job that says when it began.
fn probe(with_proxy: bool) -> Submission {
    let job = Submission::program("alice", "/bin/date", &["+%s.%N"]);
    if with_proxy { job } else { job.proxy(None) }
}

fn one(
    pool: &Pool,
    job: &Submission,
    site: &Site,
    start: impl FnOnce() -> Result<(Box<dyn std::any::Any>, String)>,
) -> Result<Times> {
    let submitted = job.submit(pool, &site.ca)?;
    let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let (side, name) = start()?;
    let ad = wait::every(
        Duration::from_millis(5),
        "the first slot ad",
        wait::PATIENCE,
        || {
            let found = pool.slots(&format!("regexp(\"@{name}\", Name)"))?;
            Ok((!found.is_empty()).then(|| SystemTime::now().duration_since(UNIX_EPOCH)))
        },
    )??;
    submitted.wait_completed(pool, wait::PATIENCE)?;
    let output = submitted.output()?;
    let instruction: f64 = output
        .trim()
        .parse()
        .with_context(|| format!("the job said {output:?}"))?;
    drop(side);
    // The next round's slot must not be mistaken for this one's.
    wait::until("the slot's ad to be gone", wait::PATIENCE, || {
        Ok(pool.slots("true")?.is_empty().then_some(()))
    })?;
    Ok(Times {
        ad: ad.as_secs_f64() - began,
        instruction: instruction - began,
    })
}
