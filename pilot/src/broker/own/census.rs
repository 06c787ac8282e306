//! The process table, and which of its processes are a payload's. Pure but for [`read`].

use std::collections::{BTreeSet, HashMap};
use std::fs;

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    /// User time of the process and of its reaped children, clock ticks.
    pub(super) user_ticks: u64,
    /// System time of the same.
    pub(super) system_ticks: u64,
    pub(super) resident_pages: u64,
    /// It has ended and waits to be reaped: no signal reaches it any more.
    pub(super) is_zombie: bool,
}

/// Clock ticks per second in `/proc` on every Linux architecture.
const TICKS_PER_SECOND: u64 = 100;

impl Process {
    /// Reads the text of `/proc/PID/stat`. The name in brackets may hold anything, so it is cut at the last bracket.
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
            is_zombie: matches!(fields.first(), Some(&("Z" | "X"))),
        })
    }
}

/// The whole process table, as far as it can be seen.
pub(super) fn read() -> Vec<Process> {
    let Ok(folder) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    folder
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| Process::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

/// The processes that descend from `ancestor`, itself not among them. A table read while processes come and go may hold
/// a line whose parent is missing, or a circle of reused numbers: neither belongs to anybody.
pub(super) fn descendants(table: &[Process], ancestor: i32) -> Vec<Process> {
    let parents: HashMap<i32, i32> = table
        .iter()
        .map(|process| (process.pid, process.parent))
        .collect();
    table
        .iter()
        .filter(|process| process.pid != ancestor && descends(&parents, process.pid, ancestor))
        .copied()
        .collect()
}

fn descends(parents: &HashMap<i32, i32>, mut pid: i32, ancestor: i32) -> bool {
    let mut seen = BTreeSet::new();
    while let Some(&parent) = parents.get(&pid) {
        if parent == ancestor {
            return true;
        }
        if !seen.insert(pid) {
            return false;
        }
        pid = parent;
    }
    false
}

/// Whether a process has this user id in any of its four places; one that is gone has none.
pub(super) fn has_uid(pid: i32, uid: u32) -> bool {
    // Not the owner of its folder: that is root for a process that nobody may look into.
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.is_some_and(|uids| {
        uids.split_ascii_whitespace()
            .any(|word| word.parse() == Ok(uid))
    })
}

/// What living processes have used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Living {
    pub(super) user_usec: u64,
    pub(super) system_usec: u64,
    pub(super) resident_bytes: u64,
    pub(super) processes: u32,
}

/// The sum over processes; one that waits to be reaped counts with its time only.
pub(super) fn sum(processes: &[Process], page: u64) -> Living {
    let microseconds = |ticks: u64| ticks.saturating_mul(1_000_000 / TICKS_PER_SECOND);
    processes
        .iter()
        .fold(Living::default(), |sum, process| Living {
            user_usec: sum
                .user_usec
                .saturating_add(microseconds(process.user_ticks)),
            system_usec: sum
                .system_usec
                .saturating_add(microseconds(process.system_ticks)),
            resident_bytes: sum
                .resident_bytes
                .saturating_add(process.resident_pages.saturating_mul(page)),
            processes: sum.processes.saturating_add(u32::from(!process.is_zombie)),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn process(pid: i32, parent: i32) -> Process {
        Process {
            pid,
            parent,
            user_ticks: 100,
            system_ticks: 50,
            resident_pages: 2,
            is_zombie: false,
        }
    }

    #[test]
    fn whose_a_process_is() {
        // 10 and 20 are keepers; 11 is a leader, 12 its child, 13 was left to the keeper by a parent that is gone.
        let table = [
            (1, 0),
            (5, 1),
            (10, 5),
            (11, 10),
            (12, 11),
            (13, 10),
            (20, 5),
            (21, 20),
            // Its parent ended between two reads.
            (30, 29),
            // Numbers reused in a circle.
            (40, 41),
            (41, 40),
        ]
        .map(|(pid, parent)| process(pid, parent));
        for (ancestor, theirs) in [
            (10, vec![11, 12, 13]),
            (20, vec![21]),
            (11, vec![12]),
            (12, vec![]),
            (5, vec![10, 11, 12, 13, 20, 21]),
            (29, vec![30]),
            (99, vec![]),
        ] {
            let found: Vec<i32> = descendants(&table, ancestor)
                .iter()
                .map(|process| process.pid)
                .collect();
            assert_eq!(found, theirs, "descendants of {ancestor}");
        }
    }

    #[test]
    fn zombies_count_with_their_time_only() {
        let zombie = Process {
            is_zombie: true,
            resident_pages: 0,
            ..process(2, 1)
        };
        let sum = sum(&[process(1, 0), zombie], 4096);
        assert_eq!(
            sum,
            Living {
                user_usec: 2_000_000,
                system_usec: 1_000_000,
                resident_bytes: 8192,
                processes: 1,
            }
        );
    }

    #[test]
    fn a_name_with_brackets_does_not_confuse_the_reader() {
        let stat =
            "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 0 0 0 150 50 25 5 20 0 1 0 100 8192 3 184";
        let process = Process::parse(stat).unwrap();
        assert_eq!(
            (process.pid, process.parent, process.resident_pages),
            (42, 7, 3)
        );
        assert_eq!((process.user_ticks, process.system_ticks), (175, 55));
    }

    #[test]
    fn a_process_has_the_account_it_has() {
        let (own, uid) = (std::process::id().cast_signed(), nix::unistd::geteuid());
        assert!(has_uid(own, uid.as_raw()));
        assert!(!has_uid(own, 4_000_000_000));
        assert!(!has_uid(i32::MAX, uid.as_raw()));
    }

    #[test]
    fn the_table_holds_this_process() {
        let own = std::process::id().cast_signed();
        assert!(read().iter().any(|process| process.pid == own));
    }
}
