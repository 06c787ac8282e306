//! Who else is in the cell.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cell::names_in;

/// Processes of this cell but the tests' own: whoever sees the same mounts as this thread.
pub(crate) fn strays() -> Vec<String> {
    let namespace = |pid: &str| {
        fs::metadata(format!("/proc/{pid}/ns/mnt"))
            .ok()
            .map(|facts| facts.ino())
    };
    let ours = namespace("thread-self").expect("a namespace");
    names_in("/proc")
        .into_iter()
        .filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()) && namespace(pid) == Some(ours))
        .map(|pid| {
            let line = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            line.split(' ').take(3).collect::<Vec<_>>().join(" ")
        })
        .filter(|line| !line.ends_with(" Z") && !line.is_empty())
        .collect()
}

/// Ends whoever is still in the cell after a test; who that was, if it was more than a verifier that a test has made
/// hang: those end by their own alarm.
pub(crate) fn end_all() -> Vec<String> {
    let start = Instant::now();
    let is_ours = |line: &String| !line.contains("(sailplane-verif)");
    while strays().iter().any(is_ours) && start.elapsed() < Duration::from_secs(5) {
        let _ = nix::poll::poll(&mut [], 5_u8);
    }
    let left = strays();
    for line in &left {
        if let Some(pid) = line.split(' ').next().and_then(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    left.into_iter().filter(is_ours).collect()
}
