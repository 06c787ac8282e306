//! Resident memory of the execute side: proportional set size, which counts what processes share once.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sailplane_site_tests::helper::Site;
use sailplane_site_tests::{CondorStartd, Pilot, PilotOptions, Pool, Submission, process, wait};

use super::report::Comparison;
use super::stats::Sample;
use crate::console;

const SLOTS: u32 = 4;
/// The argument of the payloads' `sleep`, by which they are told from the execute side.
const PAYLOAD: &str = "600.0815";

/// Mebibytes.
struct Figures {
    idle: f64,
    per_job: f64,
}

pub(crate) fn compare(site: &Site, pool: &Pool, rounds: usize) -> Result<Vec<Comparison>> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        console::line(&format!("memory, round {} of {rounds}", round + 1));
        {
            let mut pilot = Pilot::start(
                site,
                pool,
                &PilotOptions {
                    slots: SLOTS,
                    ..PilotOptions::default()
                },
            )?;
            pilot.wait_joined(pool, usize::try_from(SLOTS)?)?;
            ours.push(figures(pool, site, pilot.pid().as_raw(), true)?);
        }
        let startd = CondorStartd::start(pool, &format!("memory{round}"), SLOTS, &[])?;
        startd.wait_joined(pool, usize::try_from(SLOTS)?)?;
        theirs.push(figures(pool, site, startd.master(), false)?);
    }
    let sample = |figures: &[Figures], pick: fn(&Figures) -> f64| {
        Sample::new(figures.iter().map(pick).collect())
    };
    Ok(vec![
        Comparison {
            what: "memory (PSS), four idle slots, MiB",
            peer: "condor_master + procd + startd",
            ours: sample(&ours, |figures| figures.idle),
            theirs: sample(&theirs, |figures| figures.idle),
            more_is_better: false,
        },
        Comparison {
            what: "memory (PSS) added by each running job, MiB",
            peer: "starter",
            ours: sample(&ours, |figures| figures.per_job),
            theirs: sample(&theirs, |figures| figures.per_job),
            more_is_better: false,
        },
    ])
}

fn figures(pool: &Pool, site: &Site, root: i32, with_proxy: bool) -> Result<Figures> {
    // Start-up's helpers (the startd asks the starter what it can do) are over after this.
    wait::pause(Duration::from_secs(3));
    let idle = proportional(root)?;
    let mut jobs = Submission::program("alice", "/bin/sleep", &[PAYLOAD]).queue(SLOTS);
    if !with_proxy {
        jobs = jobs.proxy(None);
    }
    let submitted = jobs.submit(pool, &site.ca)?;
    wait::until("the payloads", wait::PATIENCE, || {
        let running =
            process::find(|process| process.uid != 0 && process.command.ends_with(PAYLOAD)).len();
        Ok((running == usize::try_from(SLOTS)?).then_some(()))
    })?;
    wait::pause(Duration::from_secs(3));
    let busy = proportional(root)?;
    let job = submitted.job()?;
    pool.tool("alice", "condor_rm", [job.cluster.to_string()])?;
    wait::until("the payloads to be gone", wait::PATIENCE, || {
        Ok(
            process::find(|process| process.uid != 0 && process.command.ends_with(PAYLOAD))
                .is_empty()
                .then_some(()),
        )
    })?;
    Ok(Figures {
        idle,
        per_job: (busy - idle) / f64::from(SLOTS),
    })
}

/// Proportional set size of a process and all below it, without payloads, in MiB.
fn proportional(root: i32) -> Result<f64> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for process in process::find(|process| !process.command.ends_with(PAYLOAD)) {
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", process.pid)) else {
            continue;
        };
        // The parent is the second word after the name, which is in brackets and may have any character in it.
        let parent = stat
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        children
            .entry(parent.unwrap_or_default())
            .or_default()
            .push(process.pid);
    }
    let mut kib = 0;
    let mut waiting = vec![root];
    while let Some(pid) = waiting.pop() {
        waiting.extend(children.remove(&pid).unwrap_or_default());
        // A process may end meanwhile.
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
            continue;
        };
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .context("no Pss in smaps_rollup")?;
        let value: u32 = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .with_context(|| format!("Pss is {line:?}"))?;
        kib += value;
    }
    if kib == 0 {
        bail!("process {root} is gone");
    }
    Ok(f64::from(kib) / 1024.0)
}
