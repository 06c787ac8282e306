//! What a payload's group says about itself (requirements K3, K7). The monitor makes, limits, kills and
//! removes groups; their files can be read by everybody.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use launch_protocol::monitor::{FREEZER, Tracking, UNIFIED};

use crate::proc::{self, Process};

/// Where groups are made on this host, and what can be done with them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hierarchies(Rc<Tracking>);

impl Hierarchies {
    pub(crate) fn new(tracking: Tracking) -> Self {
        Self(Rc::new(tracking))
    }

    fn has(&self, name: &str) -> bool {
        let old = if name == "io" { "blkio" } else { name };
        self.0.is_within(name) || self.0.place(old).is_some()
    }

    /// For people and logs.
    pub(crate) fn word(&self) -> &'static str {
        match self.0.place(UNIFIED) {
            Some(_) => "cgroup2",
            None if self.has(FREEZER) => "freezer",
            None => "sweep",
        }
    }

    /// Are processes told apart by group, or only by account?
    pub(crate) fn has_groups(&self) -> bool {
        self.0.has_groups()
    }

    /// Where memory figures come from.
    pub(crate) fn memory_source(&self) -> &'static str {
        match (self.0.is_within("memory"), self.has("memory")) {
            (true, _) => "cgroup2",
            (false, true) => "cgroup1",
            (false, false) => "proc",
        }
    }

    /// What this host lets us do beyond what is done everywhere.
    pub(crate) fn features(&self) -> Vec<String> {
        [
            ("group-freeze", self.has_groups()),
            ("memory-limit", self.has("memory")),
            ("pids-limit", self.has("pids")),
            ("cpu-limit", self.has("cpu")),
            ("memory-peak", self.has("memory")),
            ("pids-peak", self.has("pids")),
            ("io-usage", self.has("io")),
        ]
        .into_iter()
        .filter(|(_, is_there)| *is_there)
        .map(|(name, _)| name.to_owned())
        .collect()
    }

    /// The group of this name, which exists.
    pub(crate) fn open(&self, name: String) -> Group {
        let unified = self.0.place(UNIFIED).map(|parent| parent.join(&name));
        let events = unified
            .as_ref()
            .and_then(|path| File::open(path.join("cgroup.events")).ok());
        Group {
            hierarchies: self.clone(),
            name,
            unified,
            events,
            peak_seen: 0,
            cpu_seen: (0, 0),
        }
    }
}

/// What a group has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) user_usec: u64,
    pub(crate) system_usec: u64,
    pub(crate) memory_current: u64,
    pub(crate) memory_peak: u64,
    pub(crate) processes: u32,
    pub(crate) processes_peak: Option<u64>,
    pub(crate) io_read: Option<u64>,
    pub(crate) io_write: Option<u64>,
    pub(crate) oom_kills: Option<u64>,
}

/// One payload's group.
#[derive(Debug)]
pub(crate) struct Group {
    hierarchies: Hierarchies,
    name: String,
    unified: Option<PathBuf>,
    events: Option<File>,
    peak_seen: u64,
    cpu_seen: (u64, u64),
}

impl Group {
    /// The directory of an old controller.
    fn old(&self, name: &str) -> Option<PathBuf> {
        let parent = self.hierarchies.0.place(name)?;
        Some(parent.join(&self.name))
    }

    /// The directory where processes are told apart.
    fn members_at(&self) -> Option<PathBuf> {
        self.unified.clone().or_else(|| self.old(FREEZER))
    }

    /// A controller's file: of this name in cgroup2, else of that in an old hierarchy.
    fn file(&self, controller: &str, new: &str, old: (&str, &str)) -> Option<PathBuf> {
        match &self.unified {
            Some(path) if self.hierarchies.0.is_within(controller) => Some(path.join(new)),
            _ => self.old(old.0).map(|path| path.join(old.1)),
        }
    }

    /// Are its processes told apart by itself, and not only by their account?
    pub(crate) fn is_real(&self) -> bool {
        self.hierarchies.has_groups()
    }

    /// Becomes ready (`POLLPRI`) when the answer of [`Self::is_populated`] may have changed.
    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(File::as_fd)
    }

    /// Is there any process in it? Zombies do not count. `None`: there is no group.
    pub(crate) fn is_populated(&self) -> Option<bool> {
        let Some(events) = &self.events else {
            let path = self.members_at()?;
            return Some(!members(&path).is_empty());
        };
        let mut text = [0; 256];
        Some(match events.read_at(&mut text, 0) {
            Ok(length) => text
                .get(..length)
                .unwrap_or_default()
                .split(|byte| *byte == b'\n')
                .any(|line| line == b"populated 1"),
            // The directory was taken away under us: then nothing can be in it.
            Err(_) => false,
        })
    }

    /// What it has used so far. Where there are no groups: what this account's processes below the
    /// monitor use.
    pub(crate) fn figures(&mut self, monitor: i32, uid: u32) -> Figures {
        let members = self
            .members_at()
            .map_or_else(|| proc::descendants(monitor, uid), |path| members(&path));
        let table: Vec<_> = members.iter().copied().filter_map(Process::read).collect();
        let (user, system) = self.processor_time(&table);
        // Orphans take their time with them; never report less than before.
        self.cpu_seen = (self.cpu_seen.0.max(user), self.cpu_seen.1.max(system));
        let text = |file: Option<PathBuf>| file.and_then(|file| fs::read_to_string(file).ok());
        let number = |file| text(file).and_then(|text| text.trim().parse::<u64>().ok());
        let memory = |new, old| self.file("memory", new, ("memory", old));
        let resident = || table.iter().map(Process::resident_bytes).sum();
        let memory_current = number(memory("memory.current", "memory.usage_in_bytes"));
        let memory_current = memory_current.unwrap_or_else(resident);
        // Absent before Linux 5.19.
        let peak = number(memory("memory.peak", "memory.max_usage_in_bytes"));
        let oom = text(memory("memory.events", "memory.oom_control"));
        let io = text(self.file(
            "io",
            "io.stat",
            ("blkio", "blkio.throttle.io_service_bytes"),
        ));
        let moved = |new, old| io.as_deref().map(|text| bytes_moved(text, new, old));
        let figures = Figures {
            user_usec: self.cpu_seen.0,
            system_usec: self.cpu_seen.1,
            memory_current,
            memory_peak: self.peak_seen.max(memory_current).max(peak.unwrap_or(0)),
            processes: u32::try_from(members.len()).unwrap_or(u32::MAX),
            // Absent before Linux 6.11.
            processes_peak: number(self.file("pids", "pids.peak", ("pids", "pids.peak"))),
            io_read: moved("rbytes=", "Read"),
            io_write: moved("wbytes=", "Write"),
            oom_kills: oom.map(|text| keyed(&text, "oom_kill")),
        };
        self.peak_seen = figures.memory_peak;
        figures
    }

    /// Microseconds of user and system time.
    fn processor_time(&self, table: &[Process]) -> (u64, u64) {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        if let Some(path) = &self.unified {
            let stat = read(path.join("cpu.stat"));
            (keyed(&stat, "user_usec"), keyed(&stat, "system_usec"))
        } else if let Some(path) = self.old("cpuacct") {
            let nanoseconds = |name| read(path.join(name)).trim().parse().unwrap_or(0_u64);
            let (user, system) = ("cpuacct.usage_user", "cpuacct.usage_sys");
            (nanoseconds(user) / 1000, nanoseconds(system) / 1000)
        } else {
            let user = table.iter().map(Process::user_usec).sum();
            (user, table.iter().map(Process::system_usec).sum())
        }
    }

    /// Where memory figures come from.
    pub(crate) fn source(&self) -> &'static str {
        self.hierarchies.memory_source()
    }
}

/// Processes in a group's directory.
pub(crate) fn members(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn keyed(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

/// Sum over all devices: `8:0 rbytes=1 wbytes=2` in cgroup2, `8:0 Read 1` in the old kind.
fn bytes_moved(text: &str, new: &str, old: &str) -> u64 {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let first = words.next()?;
            if first == old {
                return words.next()?.parse::<u64>().ok();
            }
            std::iter::once(first)
                .chain(words)
                .find_map(|word| word.strip_prefix(new)?.parse().ok())
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k7_bytes_moved_are_read_from_both_kinds() {
        let new =
            "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n259:0 rbytes=5 wbytes=0\n";
        let old = "8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n8:0 Total 30\n259:0 Read 5\nTotal 35\n";
        for text in [new, old] {
            assert_eq!(bytes_moved(text, "rbytes=", "Read"), 15);
            assert_eq!(bytes_moved(text, "wbytes=", "Write"), 20);
        }
        assert_eq!(bytes_moved("", "rbytes=", "Read"), 0);
    }
}
