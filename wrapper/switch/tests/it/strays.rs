//! Who else is in the cell.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

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
