//! The process table, for hosts without cgroup2 and for memory where no controller counts it.

use std::collections::{BTreeSet, HashMap};
use std::fs;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    /// User and system time of the process and its reaped children, clock ticks.
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    pub(crate) resident_pages: u64,
    pub(crate) zombie: bool,
}

/// Clock ticks per second in /proc on every Linux architecture.
const TICKS_PER_SECOND: u64 = 100;
const PAGE: u64 = 4096;

impl Process {
    /// Reads `/proc/PID/stat` text. The name in brackets may hold anything, so it is cut at the last bracket.
    fn parse(stat: &str) -> Option<Self> {
        let (head, tail) = stat.rsplit_once(')')?;
        let pid = head.split_once(' ')?.0.parse().ok()?;
        let fields: Vec<_> = tail.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            user_ticks: number(11)?.saturating_add(number(13)?),
            system_ticks: number(12)?.saturating_add(number(14)?),
            resident_pages: number(21)?,
            zombie: matches!(fields.first(), Some(&("Z" | "X"))),
        })
    }

    pub(crate) fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        self.resident_pages.saturating_mul(PAGE)
    }

    pub(crate) fn user_usec(&self) -> u64 {
        self.user_ticks.saturating_mul(1_000_000 / TICKS_PER_SECOND)
    }

    pub(crate) fn system_usec(&self) -> u64 {
        self.system_ticks
            .saturating_mul(1_000_000 / TICKS_PER_SECOND)
    }
}

/// Real uid of a process, by its status file: the owner of its folder is root's when it is undumpable.
fn real_uid(pid: i32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Living processes of a uid that descend from `ancestor`.
pub(crate) fn descendants(ancestor: i32, uid: u32) -> Vec<i32> {
    let Ok(folder) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let table: HashMap<i32, Process> = folder
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| Process::read(pid).map(|process| (pid, process)))
        .collect();
    table
        .values()
        .filter(|process| !process.zombie && descends(&table, process.pid, ancestor))
        .map(|process| process.pid)
        .filter(|pid| real_uid(*pid) == Some(uid))
        .collect()
}

/// Is there a process of this uid that is not a zombie?
pub(crate) fn is_anything_alive(uid: u32) -> bool {
    let Ok(folder) = fs::read_dir("/proc") else {
        return true;
    };
    folder
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .any(|pid: i32| {
            real_uid(pid) == Some(uid) && Process::read(pid).is_some_and(|process| !process.zombie)
        })
}

fn descends(table: &HashMap<i32, Process>, mut pid: i32, ancestor: i32) -> bool {
    let mut seen = BTreeSet::new();
    while let Some(process) = table.get(&pid) {
        if process.parent == ancestor {
            return true;
        }
        if !seen.insert(pid) {
            return false;
        }
        pid = process.parent;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_confuse_the_reader() {
        let stat =
            "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 0 0 0 150 50 25 5 20 0 1 0 100 8192 3 184";
        let process = Process::parse(stat).expect("readable");
        assert_eq!(
            (process.pid, process.parent, process.resident_pages),
            (42, 7, 3)
        );
        assert_eq!(
            (process.user_usec(), process.system_usec()),
            (1_750_000, 550_000)
        );
    }

    #[test]
    fn the_own_process_is_found() {
        let own = Process::read(std::process::id().cast_signed()).expect("there");
        assert!(own.resident_bytes() > 0);
    }
}
