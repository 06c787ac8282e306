//! The control groups of this process, read from the node.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::node::cgroup::{self, Place};
use super::super::node::mounts;

/// A limit and where it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    /// How much.
    pub(crate) value: u64,
    /// The file that says so.
    pub(crate) file: PathBuf,
}

/// Where this process is in the hierarchy that has `controller`.
pub(crate) fn place(controller: &str) -> Option<Place> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    cgroup::place(&groups, &mounts::parse(&text), controller)
}

/// The strictest limit on the way up.
pub(crate) fn strictest(place: &Place, read: impl Fn(&Path) -> Option<Limit>) -> Option<Limit> {
    place
        .upwards()
        .filter_map(read)
        .min_by_key(|limit| limit.value)
}

/// A number out of a file of a group's directory.
pub(crate) fn number(directory: &Path, name: &str) -> Option<Limit> {
    let file = directory.join(name);
    let text = fs::read_to_string(&file).ok()?;
    cgroup::limit(&text).map(|value| Limit { value, file })
}

/// Memory of the strictest group, bytes, and what is in use of it.
pub(crate) fn memory() -> Option<(Limit, u64)> {
    let place = place("memory")?;
    let (limit, usage) = if place.is_unified {
        ("memory.max", "memory.current")
    } else {
        ("memory.limit_in_bytes", "memory.usage_in_bytes")
    };
    let limit = strictest(&place, |directory| number(directory, limit))?;
    let used = limit
        .file
        .parent()
        .and_then(|directory| number(directory, usage))
        .map_or(0, |used| used.value);
    Some((limit, used))
}

/// Processors of the strictest group, thousandths.
pub(crate) fn cpu_millis() -> Option<Limit> {
    let place = place("cpu")?;
    strictest(&place, |directory| {
        if place.is_unified {
            let file = directory.join("cpu.max");
            let value = cgroup::cpu_max(&fs::read_to_string(&file).ok()?)?;
            return Some(Limit { value, file });
        }
        let file = directory.join("cpu.cfs_quota_us");
        let quota = fs::read_to_string(&file).ok()?;
        let period = fs::read_to_string(directory.join("cpu.cfs_period_us")).ok()?;
        let value = cgroup::cfs(&quota, &period)?;
        Some(Limit { value, file })
    })
}

/// Processes that the strictest group still has room for.
pub(crate) fn pids_left() -> Option<Limit> {
    let place = place("pids")?;
    strictest(&place, |directory| {
        let limit = number(directory, "pids.max")?;
        let used = number(directory, "pids.current")?.value;
        Some(Limit {
            value: limit.value.saturating_sub(used),
            file: limit.file,
        })
    })
}
