//! What must hold after every test with jobs: nothing of them is left.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sailplane_site_tests::{Process, process, wait};

/// A word that marks one test's processes: as an argument of `sleep`, it is seen in the process list.
pub(crate) fn marker(seconds: u32) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{seconds}.{}{number:03}", std::process::id())
}

/// Payloads' processes that have the marker among their arguments.
pub(crate) fn marked(word: &str) -> Vec<Process> {
    process::find(|process| process.uid != 0 && process.command.contains(word))
}

/// Waits until `count` processes of payloads have the marker.
pub(crate) fn wait_marked(word: &str, count: usize) -> Result<Vec<Process>> {
    wait::every(
        Duration::from_millis(10),
        "the payload's processes",
        wait::PATIENCE,
        || Ok(Some(marked(word)).filter(|found| found.len() >= count)),
    )
}

/// Waits until no process has the marker.
pub(crate) fn wait_none_marked(word: &str, patience: Duration) -> Result<()> {
    wait::every(
        Duration::from_millis(10),
        "the payload's processes to be gone",
        patience,
        || Ok(marked(word).is_empty().then_some(())),
    )
    .with_context(|| format!("left: {:?}", marked(word)))
}

/// The payload's control group as a path below its hierarchy (v2 line of `/proc/PID/cgroup`).
pub(crate) fn control_group(pid: i32) -> Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(line
        .context("the process is in no v2 control group")?
        .to_owned())
}

/// Whether the control group still exists, wherever the v2 hierarchy is mounted.
pub(crate) fn control_group_exists(group: &str) -> Result<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts
        .lines()
        .find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let path = words.next()?;
            (words.next()? == "cgroup2").then_some(path)
        })
        .context("no cgroup2 is mounted")?;
    ensure!(group.len() > 1, "the payload has no group of its own");
    Ok(std::path::Path::new(mount)
        .join(group.trim_start_matches('/'))
        .exists())
}
