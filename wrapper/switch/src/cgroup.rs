//! One group per payload (requirements K3, K4, K8): a cgroup2 directory below the pilot's own, even where
//! that hierarchy has no controllers; else one in the old freezer's; else none. What is limited is limited by the
//! controllers of either kind. What they count the broker reads for itself.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use launch_protocol::broker::OpenLimits;
use launch_protocol::monitor;
use launch_protocol::policy::LimitRules;
use nix::errno::Errno;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::{Pid, getpid};

use crate::sys::{self, errno};

/// What is used of cgroup2's controllers; the old kind calls the third one `blkio`.
const CONTROLLERS: [&str; 4] = ["memory", "pids", "io", "cpu"];
/// The new hierarchy, as the broker calls it.
const UNIFIED: &str = "cgroup2";
/// The old one that stands in for it.
const FREEZER: &str = "freezer";

/// Where groups are made.
#[derive(Clone, Debug, Default)]
pub struct Tracking {
    /// As the broker is told.
    pub(crate) places: monitor::Tracking,
    /// `clone3` can make a child inside a group, and the child lives.
    clone_into: bool,
}

impl Tracking {
    /// Tries the pilot's own directories in the hierarchies that there are, the new one first.
    pub(crate) fn try_out(hierarchies: &[(String, PathBuf)]) -> Self {
        let probe = format!("sailplane-{}-probe", getpid());
        let mut found = Self::default();
        for (name, parent) in hierarchies {
            let within = |name: &str| found.places.within.iter().any(|known| known == name);
            let (kind, wanted) = match name.as_str() {
                UNIFIED => (CGROUP2_SUPER_MAGIC, true),
                "blkio" => (CGROUP_SUPER_MAGIC, !within("io")),
                "memory" | "pids" => (CGROUP_SUPER_MAGIC, !within(name)),
                FREEZER | "cpuacct" => (CGROUP_SUPER_MAGIC, found.places.unified.is_none()),
                _ => continue,
            };
            // Is it a directory of such a hierarchy, and not something that only looks so?
            let facts = File::open(parent).ok().and_then(|dir| fstatfs(&dir).ok());
            if !wanted || facts.is_none_or(|facts| facts.filesystem_type() != kind) {
                continue;
            }
            if name == UNIFIED {
                found.try_unified(parent, &parent.join(&probe));
            } else if fs::create_dir(parent.join(&probe)).is_ok() {
                let _ = fs::remove_dir(parent.join(&probe));
                found.places.old.push((name.clone(), parent.clone()));
            }
        }
        found
    }

    /// Can a group be made there? Which controllers has it, and can children be born in it?
    fn try_unified(&mut self, parent: &Path, probe: &Path) {
        for name in CONTROLLERS {
            // Refused where processes are in the pilot's own group: then there is none for payloads.
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{name}"));
        }
        if fs::create_dir(probe).is_err() {
            return;
        }
        if probe.join("cgroup.events").exists() && probe.join("cgroup.procs").exists() {
            let has = fs::read_to_string(probe.join("cgroup.controllers")).unwrap_or_default();
            let has = |name: &&str| has.split_ascii_whitespace().any(|word| word == *name);
            let within = CONTROLLERS.into_iter().filter(has).map(str::to_owned);
            self.places.within = within.collect();
            self.places.unified = Some(parent.to_owned());
            // Not where the call is unknown or filtered. And some kernels (6.18 for one) compare the kill
            // count of the parent's group with the child's and kill the newborn when they differ.
            let born = File::open(probe).map_err(errno);
            let born = born.and_then(|group| sys::child(Some(group.as_fd()), || 0));
            self.clone_into = born.and_then(sys::wait_for) == Ok(0);
        }
        let _ = fs::remove_dir(probe);
    }

    /// Every hierarchy in use, and the pilot's own directory there.
    fn parents(&self) -> impl Iterator<Item = (&str, &Path)> {
        let old = self.places.old.iter().map(|(name, parent)| (name.as_str(), parent.as_path()));
        self.places.unified.iter().map(|parent| (UNIFIED, parent.as_path())).chain(old)
    }

    /// Are processes told apart by group, or only by account?
    pub(crate) fn has_groups(&self) -> bool {
        self.parents().any(|(name, _)| [UNIFIED, FREEZER].contains(&name))
    }

    /// Directories that a group of this name will have; recorded before they are made.
    pub(crate) fn directories(&self, name: &str) -> Vec<PathBuf> {
        self.parents().map(|(_, parent)| parent.join(name)).collect()
    }

    /// Removes empty groups of monitors that are gone: those that waited for a payload. The kernel refuses where a
    /// process is left.
    pub fn remove_orphans(&self) {
        let is_orphan = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            let pid = name.and_then(|name| name.strip_prefix("sailplane-")?.split_once('-'));
            let pid = pid.and_then(|(pid, _)| pid.parse().ok());
            pid.is_some_and(|pid| sys::kill(pid, 0) == Err(Errno::ESRCH))
        };
        let folders = self.parents().filter_map(|(_, parent)| fs::read_dir(parent).ok());
        let paths = folders.flatten().flatten().map(|entry| entry.path());
        paths.filter(is_orphan).for_each(|path| drop(fs::remove_dir(path)));
    }

    /// Makes a group.
    pub(crate) fn create(&self, name: &str) -> Result<Group, Errno> {
        let within = self.places.within.clone();
        let mut group = Group { parts: Vec::new(), within, clone_into: self.clone_into };
        for (hierarchy, parent) in self.parents() {
            if let Err(errno) = group.add(hierarchy, parent.join(name)) {
                let _ = group.remove();
                return Err(errno);
            }
        }
        Ok(group)
    }
}

/// A payload's directory in one hierarchy.
#[derive(Debug)]
struct Part {
    /// `cgroup2`, or an old controller.
    hierarchy: String,
    path: PathBuf,
    /// The directory, for `clone3`, or its `tasks` of the old kind. Not `cgroup.procs`: a whole process that moves
    /// makes every fork and every change of groups on the machine wait, ten milliseconds or so; a thread that moves
    /// itself does not (Linux 5.5). Whoever enters here has one thread.
    entry: Option<File>,
}

/// One payload's group.
#[derive(Debug, Default)]
pub struct Group {
    parts: Vec<Part>,
    /// Controllers of its part in cgroup2.
    within: Vec<String>,
    clone_into: bool,
}

impl Group {
    /// What a monitor that is gone has written down of one.
    pub fn left(paths: Vec<PathBuf>) -> Self {
        let part = |path| Part { hierarchy: FREEZER.to_owned(), path, entry: None };
        Self { parts: paths.into_iter().map(part).collect(), ..Self::default() }
    }

    fn add(&mut self, hierarchy: &str, path: PathBuf) -> Result<(), Errno> {
        fs::create_dir(&path).map_err(errno)?;
        // The broker looks into it.
        let opened = fs::set_permissions(&path, fs::Permissions::from_mode(0o755));
        let opened = opened.and_then(|()| match hierarchy {
            UNIFIED => File::open(&path),
            _ => OpenOptions::new().write(true).open(path.join("tasks")),
        });
        let (entry, outcome) = match opened {
            Ok(entry) => (Some(entry), Ok(())),
            Err(error) => (None, Err(errno(error))),
        };
        self.parts.push(Part { hierarchy: hierarchy.to_owned(), path, entry });
        outcome
    }

    fn part(&self, hierarchy: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.hierarchy == hierarchy)
    }

    /// For `clone3`, where that works.
    pub(crate) fn entry(&self) -> Option<BorrowedFd<'_>> {
        let part = self.part(UNIFIED).filter(|_| self.clone_into);
        part.and_then(|part| part.entry.as_ref().map(|dir| dir.as_fd()))
    }

    /// In the child: enters what `clone3` has not put it into.
    pub(crate) fn join(&self, enter_unified: bool) -> Result<(), Errno> {
        self.parts.iter().try_for_each(|part| match &part.entry {
            Some(entry) if part.hierarchy != UNIFIED => (&*entry).write_all(b"0").map_err(errno),
            _ if enter_unified => fs::write(part.path.join("cgroup.procs"), "0").map_err(errno),
            _ => Ok(()),
        })
    }

    /// The directories where processes are told apart: one, or of what is left of a group, all.
    fn told_by(&self) -> impl Iterator<Item = &Path> {
        let kind = if self.has_events() { UNIFIED } else { FREEZER };
        let parts = self.parts.iter().filter(move |part| part.hierarchy == kind);
        parts.map(|part| part.path.as_path())
    }

    /// The kernel tells when it is empty, and kills it at once.
    pub(crate) fn has_events(&self) -> bool {
        self.part(UNIFIED).is_some()
    }

    /// Sets the job's limits within the site's. What there is no controller for is not limited; the broker
    /// says so.
    pub(crate) fn restrict(&self, job: &OpenLimits, site: &LimitRules) -> Result<(), Errno> {
        let lower = |job: Option<u64>, site: Option<u64>| job.into_iter().chain(site).min();
        let memory = lower(job.memory_bytes, site.memory_bytes);
        let pids = lower(job.pids, site.pids.map(u64::from));
        let cpu = lower(job.cpu_millis, site.cpu_percent.map(|percent| u64::from(percent) * 10));
        // Microseconds in each tenth of a second, which is the kernel's own choice.
        let cpu = cpu.map(|millis| millis.saturating_mul(100));
        self.set("memory", ("memory.max", memory), ("memory.limit_in_bytes", memory))?;
        // Memory is memory, also on the disk. There is no such file where swap is not counted.
        let (swap, both) = ("memory.swap.max", "memory.memsw.limit_in_bytes");
        let _ = self.set("memory", (swap, memory.map(|_| 0)), (both, memory));
        self.set("pids", ("pids.max", pids), ("pids.max", pids))?;
        self.set("cpu", ("cpu.max", cpu), ("", None))
    }

    /// Writes the value for the kind of this controller that the group has, if any.
    fn set(
        &self,
        controller: &str,
        new: (&str, Option<u64>),
        old: (&str, Option<u64>),
    ) -> Result<(), Errno> {
        let inside = self.within.iter().any(|known| known == controller);
        let (hierarchy, (file, value)) = if inside { (UNIFIED, new) } else { (controller, old) };
        match (self.part(hierarchy), value) {
            (Some(part), Some(value)) => {
                fs::write(part.path.join(file), value.to_string()).map_err(errno)
            }
            _ => Ok(()),
        }
    }

    /// Kills everything in it. Returns as soon as the order is given; without [`Self::has_events`] it must be
    /// repeated until it is empty.
    pub(crate) fn kill(&mut self) {
        // See `try_unified`: the kill count now differs from the monitor's own group.
        self.clone_into = false;
        self.told_by().for_each(kill_group);
    }

    /// Stops the whole group, or lets it run on (requirement K8): the kernel's freezer misses no newborn process.
    pub(crate) fn freeze(&self, stop: bool) {
        if !self.told_by().any(|path| freeze(path, stop)) {
            self.signal_all(if stop { libc::SIGSTOP } else { libc::SIGCONT });
        }
    }

    /// Signals every process in it. A number is used only while its process is held by a handle and still
    /// listed, so that nothing outside can be hit.
    pub(crate) fn signal_all(&self, signal: i32) {
        for path in self.told_by() {
            let hold = |pid| Some((pid, sys::process_descriptor(Pid::from_raw(pid)).ok()?));
            let held: Vec<_> = members(path).into_iter().filter_map(hold).collect();
            let still = members(path);
            for (_, process) in held.iter().filter(|(pid, _)| still.contains(pid)) {
                let _ = sys::signal_process(process.as_fd(), signal);
            }
        }
    }

    /// Removes the (empty) group.
    pub(crate) fn remove(&mut self) -> Result<(), Errno> {
        while let Some(part) = self.parts.last_mut() {
            part.entry = None;
            match fs::remove_dir(&part.path).map_err(errno) {
                // What is not there need not be removed.
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
            self.parts.pop();
        }
        Ok(())
    }
}

/// Processes in a group's directory.
fn members(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Stops a group with the freezer of its kind, or lets it run on; false: it has none.
fn freeze(group: &Path, stop: bool) -> bool {
    let new = fs::write(group.join("cgroup.freeze"), if stop { "1" } else { "0" });
    let state = if stop { "FROZEN" } else { "THAWED" };
    new.or_else(|_| fs::write(group.join("freezer.state"), state)).is_ok()
}

/// One write where the kernel has `cgroup.kill` (5.14); else freeze, kill each. A group that was
/// suspended is not any more.
fn kill_group(group: &Path) {
    let order = OpenOptions::new().write(true).open(group.join("cgroup.kill"));
    if order.and_then(|mut file| file.write_all(b"1")).is_err() {
        freeze(group, true);
        for pid in members(group) {
            // Frozen: a listed process cannot have gone away and its number been taken by another.
            let _ = sys::kill(pid, libc::SIGKILL);
        }
    }
    freeze(group, false);
}
