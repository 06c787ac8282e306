//! Resident memory of the execute side, counted in two ways: its proportional set size, in which a page that the pool's
//! own daemons map too counts for a part only; and with every page of the execute side counted once, as it would be on
//! a worker node, where no other process shares them.

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

/// KiB.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    proportional: u32,
    once: u32,
}

/// Before and while jobs run.
struct Figures {
    idle: Memory,
    busy: Memory,
}

/// MiB of four idle slots.
fn idle(figures: &Figures, pick: fn(Memory) -> u32) -> f64 {
    f64::from(pick(figures.idle)) / 1024.0
}

/// MiB that each job adds.
fn per_job(figures: &Figures, pick: fn(Memory) -> u32) -> f64 {
    (f64::from(pick(figures.busy)) - f64::from(pick(figures.idle))) / 1024.0 / f64::from(SLOTS)
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
    let row = |what, peer, value: &dyn Fn(&Figures) -> f64| Comparison {
        what,
        peer,
        ours: Sample::new(ours.iter().map(value).collect()),
        theirs: Sample::new(theirs.iter().map(value).collect()),
        more_is_better: false,
    };
    let side = "condor_master + procd + startd";
    Ok(vec![
        row(
            "memory, four idle slots, every page once, MiB",
            side,
            &|figures| idle(figures, |memory| memory.once),
        ),
        row(
            "memory, four idle slots, PSS beside the pool, MiB",
            side,
            &|figures| idle(figures, |memory| memory.proportional),
        ),
        row(
            "memory per running job, every page once, MiB",
            "starter",
            &|figures| per_job(figures, |memory| memory.once),
        ),
        row("memory per running job, PSS, MiB", "starter", &|figures| {
            per_job(figures, |memory| memory.proportional)
        }),
    ])
}

/// By then start-up's helpers are over (the startd asks the starter what it can do), and what our helper keeps ready
/// for the next job is put away (`warm_time`, 30 s).
const SETTLED: Duration = Duration::from_secs(33);

fn figures(pool: &Pool, site: &Site, root: i32, with_proxy: bool) -> Result<Figures> {
    wait::pause(SETTLED);
    let idle = measure(root)?;
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
    wait::pause(SETTLED);
    let busy = measure(root)?;
    let job = submitted.job()?;
    pool.tool("alice", "condor_rm", [job.cluster.to_string()])?;
    wait::until("the payloads to be gone", wait::PATIENCE, || {
        Ok(
            process::find(|process| process.uid != 0 && process.command.ends_with(PAYLOAD))
                .is_empty()
                .then_some(()),
        )
    })?;
    Ok(Figures { idle, busy })
}

/// Memory of a process and all below it, without payloads.
fn measure(root: i32) -> Result<Memory> {
    let mut total = Memory::default();
    let mut files: HashMap<String, u32> = HashMap::new();
    for pid in family(root) {
        // A process may end meanwhile.
        let (Ok(rollup), Ok(maps)) = (
            fs::read_to_string(format!("/proc/{pid}/smaps_rollup")),
            fs::read_to_string(format!("/proc/{pid}/smaps")),
        ) else {
            continue;
        };
        total.proportional += field(&rollup, "Pss:").context("no Pss in smaps_rollup")?;
        total.once += field(&rollup, "Pss_Anon:").context("no Pss_Anon in smaps_rollup")?;
        for (mapping, resident) in file_mappings(&maps) {
            let most = files.entry(mapping).or_default();
            *most = resident.max(*most);
        }
    }
    total.once += files.values().sum::<u32>();
    if total.proportional == 0 {
        bail!("process {root} is gone");
    }
    Ok(total)
}

/// Proportional set size of a process in KiB; 0 when it is gone.
pub(super) fn proportional(pid: i32) -> f64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    field(&rollup, "Pss:").map_or(0.0, f64::from)
}

/// A process and its descendants, without payloads.
pub(super) fn family(root: i32) -> Vec<i32> {
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
    let mut found = Vec::new();
    let mut waiting = vec![root];
    while let Some(pid) = waiting.pop() {
        waiting.extend(children.remove(&pid).unwrap_or_default());
        found.push(pid);
    }
    found
}

/// A value in KiB of a line like `Pss:       123 kB`.
fn field(text: &str, name: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Mapped parts of files with their resident KiB that are not private copies.
fn file_mappings(maps: &str) -> Vec<(String, u32)> {
    let mut found: Vec<(String, u32)> = Vec::new();
    for line in maps.lines() {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            // `ADDRESSES PERMISSIONS OFFSET DEVICE INODE PATH`
            [range, _, offset, device, inode, ..]
                if range.contains('-') && device.contains(':') =>
            {
                let name = if *inode == "0" {
                    String::new()
                } else {
                    format!("{device} {inode} {offset}")
                };
                found.push((name, 0));
            }
            ["Rss:", kib, "kB"] => change(&mut found, |value| value + kib.parse().unwrap_or(0)),
            ["Anonymous:", kib, "kB"] => change(&mut found, |value| {
                value.saturating_sub(kib.parse().unwrap_or(0))
            }),
            _ => {}
        }
    }
    found.retain(|(name, _)| !name.is_empty());
    found
}

fn change(found: &mut [(String, u32)], new: impl FnOnce(u32) -> u32) {
    if let Some((_, value)) = found.last_mut() {
        *value = new(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
00400000-00452000 r-xp 00001000 08:02 173521 /usr/sbin/one
Rss:                 300 kB
Pss:                 100 kB
Anonymous:            20 kB
00e03000-00e24000 rw-p 00000000 00:00 0 [heap]
Rss:                  80 kB
Anonymous:            80 kB
";

    #[test]
    fn counts_what_files_hold_and_no_private_copies() {
        assert_eq!(
            file_mappings(MAPS),
            [("08:02 173521 00001000".to_owned(), 280)]
        );
    }

    #[test]
    fn reads_a_field() {
        assert_eq!(
            field("Pss:     12 kB\nPss_Anon:   7 kB\n", "Pss_Anon:"),
            Some(7)
        );
    }
}
