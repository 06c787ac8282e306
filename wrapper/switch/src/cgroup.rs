//! One group per payload (requirements K3, K4, K7, K8): a cgroup2 directory below the pilot's own, even
//! where that hierarchy has no controllers; else one in the old freezer's; else "this uid's descendants
//! of the broker". What is counted and limited comes from the controllers of either kind.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use launch_protocol::broker::OpenLimits;
use launch_protocol::policy::LimitRules;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, getpid};

use crate::mounts;
use crate::proc::{self, Process};
use crate::sys;

/// What is used of the controllers; the old kind calls the third one `blkio`.
const CONTROLLERS: [&str; 4] = ["memory", "pids", "io", "cpu"];
/// Controllers of the old kind that count and limit.
const COUNTING: [&str; 3] = ["memory", "pids", "blkio"];
/// Those that stand in for cgroup2 where it is missing.
const TRACKING: [&str; 2] = ["freezer", "cpuacct"];

/// How this host lets payloads be tracked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracking {
    /// The pilot's own directory in the cgroup2 hierarchy.
    unified: Option<PathBuf>,
    /// Controllers that a group there has.
    within: Vec<&'static str>,
    /// The pilot's own directories in old hierarchies, for what cgroup2 does not do here.
    old: Vec<(&'static str, PathBuf)>,
    /// `clone3` can make a child inside a group, and the child lives.
    clone_into: bool,
}

impl Tracking {
    /// Finds the hierarchies and tries them out.
    pub(crate) fn discover() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (mounts, own) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
        let probe = format!("sailplane-{}-probe", getpid());
        let mut found = Self::default();
        if let Some(parent) = mounts::own_unified(&mounts, &own) {
            found.try_unified(parent, &probe);
        }
        for name in COUNTING.into_iter().chain(TRACKING) {
            let wanted = match name {
                "blkio" => !found.within.contains(&"io"),
                name if COUNTING.contains(&name) => !found.within.contains(&name),
                _ => found.unified.is_none(),
            };
            let Some(parent) = mounts::own_old(&mounts, &own, name).filter(|_| wanted) else {
                continue;
            };
            if fs::create_dir(parent.join(&probe)).is_ok() {
                let _ = fs::remove_dir(parent.join(&probe));
                found.old.push((name, parent));
            }
        }
        found
    }

    /// Can a group be made there? Which controllers has it, and can children be born in it?
    fn try_unified(&mut self, parent: PathBuf, probe: &str) {
        for name in CONTROLLERS {
            // Refused where processes are in the pilot's own group: then there is none for payloads.
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{name}"));
        }
        let dir = parent.join(probe);
        if fs::create_dir(&dir).is_err() {
            return;
        }
        let has = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
        let has = |name: &&str| has.split_ascii_whitespace().any(|word| word == *name);
        self.within = CONTROLLERS.into_iter().filter(has).collect();
        // Not where the call is unknown or filtered. And some kernels (6.18 for one) compare the kill
        // count of the parent's group with the child's and kill the newborn when they differ.
        self.clone_into = open(&dir, DIRECTORY, Mode::empty())
            .and_then(|group| sys::child(Some(group.as_fd()), || 0))
            .and_then(sys::wait_for)
            == Ok(0);
        let usable = dir.join("cgroup.events").exists() && dir.join("cgroup.procs").exists();
        self.unified = usable.then_some(parent);
        let _ = fs::remove_dir(&dir);
    }

    fn has(&self, name: &str) -> bool {
        let old = if name == "io" { "blkio" } else { name };
        self.within.contains(&name) || self.old.iter().any(|(known, _)| *known == old)
    }

    /// For people and logs.
    pub(crate) fn word(&self) -> &'static str {
        match &self.unified {
            Some(_) => "cgroup2",
            None if self.has("freezer") => "freezer",
            None => "sweep",
        }
    }

    /// Are processes told apart by group, or only by account?
    pub(crate) fn has_groups(&self) -> bool {
        self.unified.is_some() || self.has("freezer")
    }

    /// Where memory figures come from.
    pub(crate) fn memory_source(&self) -> &'static str {
        match (self.within.contains(&"memory"), self.has("memory")) {
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

    fn parents(&self) -> impl Iterator<Item = &PathBuf> {
        let old = self.old.iter().map(|(_, parent)| parent);
        self.unified.iter().chain(old)
    }

    /// Directories that a group of this name will have; recorded before they are made.
    pub(crate) fn directories(&self, name: &str) -> Vec<PathBuf> {
        self.parents().map(|dir| dir.join(name)).collect()
    }

    /// Removes empty groups of brokers that are gone: those that waited for a payload. The kernel
    /// refuses where a process is left.
    pub(crate) fn remove_orphans(&self) {
        for parent in self.parents() {
            for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let broker = name
                    .to_str()
                    .and_then(|name| name.strip_prefix("sailplane-"))
                    .and_then(|rest| rest.split_once('-'))
                    .and_then(|(pid, _)| pid.parse().ok());
                if broker.is_some_and(proc::is_gone) {
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }

    /// Makes a group.
    pub(crate) fn create(&self, name: &str) -> Result<Group, Errno> {
        let mut group = Group {
            uid: None,
            unified: None,
            within: self.within.clone(),
            old: Vec::new(),
            clone_into: self.clone_into,
            source: self.memory_source(),
            peak_seen: 0,
            cpu_seen: (0, 0),
        };
        match group.make(self, name) {
            Ok(()) => Ok(group),
            Err(errno) => {
                let _ = group.remove();
                Err(errno)
            }
        }
    }
}

const DIRECTORY: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

#[derive(Debug)]
struct Unified {
    path: PathBuf,
    dir: OwnedFd,
    events: File,
}

/// A directory in an old hierarchy.
#[derive(Debug)]
struct Old {
    controller: &'static str,
    path: PathBuf,
    /// Not `cgroup.procs`: a whole process that moves makes every fork and every change of groups on
    /// the machine wait, ten milliseconds or so; a thread that moves itself does not (Linux 5.5).
    /// Whoever enters here has one thread.
    entry: File,
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
    /// Whose processes are its members where there are no groups.
    uid: Option<u32>,
    unified: Option<Unified>,
    within: Vec<&'static str>,
    old: Vec<Old>,
    clone_into: bool,
    source: &'static str,
    peak_seen: u64,
    cpu_seen: (u64, u64),
}

impl Group {
    fn make(&mut self, tracking: &Tracking, name: &str) -> Result<(), Errno> {
        for (controller, parent) in &tracking.old {
            let path = parent.join(name);
            fs::create_dir(&path).map_err(errno)?;
            let entry = OpenOptions::new().write(true).open(path.join("tasks"));
            let entry = entry.map_err(|error| {
                let _ = fs::remove_dir(&path);
                errno(error)
            })?;
            self.old.push(Old {
                controller,
                path,
                entry,
            });
        }
        if let Some(parent) = &tracking.unified {
            let path = parent.join(name);
            fs::create_dir(&path).map_err(errno)?;
            let opened = open(&path, DIRECTORY, Mode::empty())
                .and_then(|dir| Ok((dir, File::open(path.join("cgroup.events")).map_err(errno)?)));
            let (dir, events) = opened.inspect_err(|_| {
                let _ = fs::remove_dir(&path);
            })?;
            self.unified = Some(Unified { path, dir, events });
        }
        Ok(())
    }

    /// For `clone3`, where that works.
    pub(crate) fn entry(&self) -> Option<BorrowedFd<'_>> {
        let unified = self.unified.as_ref().filter(|_| self.clone_into);
        unified.map(|group| group.dir.as_fd())
    }

    /// From now on it is a payload's.
    pub(crate) fn assign(&mut self, uid: u32) {
        self.uid = Some(uid);
    }

    /// In the child: enters what `clone3` has not put it into.
    pub(crate) fn join(&self, enter_unified: bool) -> Result<(), Errno> {
        if let (Some(group), true) = (&self.unified, enter_unified) {
            fs::write(group.path.join("cgroup.procs"), "0").map_err(errno)?;
        }
        let mut entries = self.old.iter().map(|old| &old.entry);
        entries.try_for_each(|mut entry| entry.write_all(b"0").map_err(errno))
    }

    /// The directory of an old controller.
    fn old(&self, name: &str) -> Option<&Path> {
        let found = self.old.iter().find(|old| old.controller == name);
        found.map(|old| old.path.as_path())
    }

    /// The directory where processes are told apart.
    fn members_at(&self) -> Option<&Path> {
        let unified = self.unified.as_ref().map(|group| group.path.as_path());
        unified.or_else(|| self.old("freezer"))
    }

    /// A controller's file: of this name in cgroup2, else of that in an old hierarchy.
    fn file(&self, controller: &str, new: &str, old: (&str, &str)) -> Option<PathBuf> {
        match &self.unified {
            Some(group) if self.within.contains(&controller) => Some(group.path.join(new)),
            _ => self.old(old.0).map(|path| path.join(old.1)),
        }
    }

    /// Sets the job's limits within the site's, before anything of the payload runs in it. What there is
    /// no controller for is not limited: [`Tracking::features`] says so.
    pub(crate) fn restrict(&self, job: &OpenLimits, site: &LimitRules) -> Result<(), Errno> {
        let lower = |job: Option<u64>, site: Option<u64>| job.into_iter().chain(site).min();
        let set = |value: Option<u64>, controller: &str, new: &str, old: &str| {
            let file = self.file(controller, new, (controller, old));
            value.zip(file).map_or(Ok(()), |(value, file)| {
                fs::write(file, value.to_string()).map_err(errno)
            })
        };
        let memory = lower(job.memory_bytes, site.memory_bytes);
        set(memory, "memory", "memory.max", "memory.limit_in_bytes")?;
        // Memory is memory, also on the disk. There is no such file where swap is not counted.
        let swap = match self.source {
            "cgroup2" => memory.map(|_| 0),
            _ => memory,
        };
        let _ = set(
            swap,
            "memory",
            "memory.swap.max",
            "memory.memsw.limit_in_bytes",
        );
        let pids = lower(job.pids, site.pids.map(u64::from));
        set(pids, "pids", "pids.max", "pids.max")?;
        let site = site.cpu_percent.map(|percent| u64::from(percent) * 10);
        // Microseconds in each tenth of a second, which is the kernel's own choice.
        let quota = lower(job.cpu_millis, site).map(|millis| millis.saturating_mul(100));
        set(quota, "cpu", "cpu.max", "")
    }

    /// Becomes ready (`POLLPRI`) when the answer of [`Self::is_populated`] may have changed.
    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|group| group.events.as_fd())
    }

    /// Is there any process in it? Zombies do not count.
    pub(crate) fn is_populated(&self) -> bool {
        let Some(group) = &self.unified else {
            return !self.members().is_empty();
        };
        let mut text = [0; 256];
        match group.events.read_at(&mut text, 0) {
            Ok(length) => text
                .get(..length)
                .unwrap_or_default()
                .split(|byte| *byte == b'\n')
                .any(|line| line == b"populated 1"),
            // The directory was taken away under us: then nothing can be in it.
            Err(_) => false,
        }
    }

    fn members(&self) -> Vec<i32> {
        match (self.members_at(), self.uid) {
            (Some(path), _) => members(path),
            (None, Some(uid)) => proc::descendants(getpid(), uid),
            (None, None) => Vec::new(),
        }
    }

    /// Kills everything in it. Returns as soon as the order is given; where there is no
    /// [`Self::events`] it must be repeated until it is empty.
    pub(crate) fn kill(&mut self) {
        // See `try_unified`: the kill count now differs from the broker's own group.
        self.clone_into = false;
        if let Some(path) = self.members_at() {
            return kill_group(path);
        }
        // A bomb takes all the time there is, unless it has to stand back (a nice value does not help
        // against many sessions). What is stopped has no children; what was born meanwhile is stopped
        // the next time.
        sys::be_urgent(true);
        for signal in [libc::SIGSTOP, libc::SIGSTOP, libc::SIGKILL] {
            self.signal_all(signal);
        }
        sys::be_urgent(false);
    }

    /// Stops the whole group, or lets it run on (requirement K8): the kernel's freezer misses no
    /// newborn process. Without one there is only the signal.
    pub(crate) fn suspend(&self, stop: bool) {
        if self.members_at().is_none_or(|path| !freeze(path, stop)) {
            self.signal_all(if stop { libc::SIGSTOP } else { libc::SIGCONT });
        }
    }

    /// Signals every process in it. A number is used only while its process is held by a handle and
    /// still listed, so that nothing outside can be hit.
    pub(crate) fn signal_all(&self, signal: i32) {
        let held: Vec<_> = self
            .members()
            .into_iter()
            .filter_map(|pid| Some((pid, sys::process_descriptor(Pid::from_raw(pid)).ok()?)))
            .collect();
        let still = self.members();
        for (_, process) in held.iter().filter(|(pid, _)| still.contains(pid)) {
            let _ = sys::signal_process(process.as_fd(), signal);
        }
    }

    /// What it has used so far.
    pub(crate) fn figures(&mut self) -> Figures {
        let members = self.members();
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
        if let Some(group) = &self.unified {
            let stat = read(group.path.join("cpu.stat"));
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
        self.source
    }

    /// Removes the (empty) group.
    pub(crate) fn remove(&mut self) -> Result<(), Errno> {
        // What is not there need not be removed.
        let remove = |path: &Path| match fs::remove_dir(path).map_err(errno) {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        };
        while let Some(old) = self.old.pop() {
            remove(&old.path)?;
        }
        match self.unified.take() {
            Some(group) => remove(&group.path),
            None => Ok(()),
        }
    }
}

/// Processes in a group's directory.
pub(crate) fn members(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Stops a group with the freezer of its kind, or lets it run on; false: it has none.
fn freeze(group: &Path, stop: bool) -> bool {
    let new = fs::write(group.join("cgroup.freeze"), if stop { "1" } else { "0" });
    let old = || {
        fs::write(
            group.join("freezer.state"),
            if stop { "FROZEN" } else { "THAWED" },
        )
    };
    new.or_else(|_| old()).is_ok()
}

/// One write where the kernel has `cgroup.kill` (5.14); else freeze, kill each. A group that was
/// suspended is not any more.
pub(crate) fn kill_group(group: &Path) {
    let order = OpenOptions::new()
        .write(true)
        .open(group.join("cgroup.kill"));
    if order.and_then(|mut file| file.write_all(b"1")).is_err() {
        freeze(group, true);
        for pid in members(group) {
            // Frozen: a listed process cannot have gone away and its number been taken by another.
            let _ = sys::kill(pid, libc::SIGKILL);
        }
    }
    freeze(group, false);
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

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
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
