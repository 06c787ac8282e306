//! One group per payload (requirements K3, K4, K8): a cgroup2 directory below the pilot's own, even where
//! that hierarchy has no controllers; else one in the old freezer's; else none. What is limited is limited by the
//! controllers of either kind. What they count the broker reads for itself.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use launch_protocol::broker::OpenLimits;
use launch_protocol::monitor::{self, FREEZER, UNIFIED, monitor_of_group};
use launch_protocol::policy::LimitRules;
use nix::errno::Errno;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::{Pid, getpid};

use crate::sys::{self, errno};

/// What is used of cgroup2's controllers; the old kind calls the third one `blkio`.
const CONTROLLERS: [&str; 4] = ["memory", "pids", "io", "cpu"];

/// Where groups are made.
#[derive(Clone, Debug, Default)]
pub struct Tracking {
    /// As the broker is told.
    pub(crate) places: monitor::Tracking,
}

/// What this monitor's group of that number is called.
pub(crate) fn name(number: u32) -> String {
    format!("sailplane-{}-{number}", getpid())
}

impl Tracking {
    /// Tries the pilot's own directories in the hierarchies that there are, the new one first, by making the
    /// first group.
    pub(crate) fn try_out(hierarchies: &[(String, PathBuf)]) -> (Self, Group) {
        let (mut places, mut first) = (monitor::Tracking::default(), Group::default());
        for (hierarchy, parent) in hierarchies {
            let (kind, wanted) = match hierarchy.as_str() {
                UNIFIED => (CGROUP2_SUPER_MAGIC, true),
                "blkio" => (CGROUP_SUPER_MAGIC, !places.is_within("io")),
                "memory" | "pids" => (CGROUP_SUPER_MAGIC, !places.is_within(hierarchy)),
                FREEZER | "cpuacct" => (CGROUP_SUPER_MAGIC, places.place(UNIFIED).is_none()),
                _ => continue,
            };
            // Is it a directory of such a hierarchy, and not something that only looks so?
            let facts = File::open(parent).ok().and_then(|dir| fstatfs(&dir).ok());
            if !wanted || facts.is_none_or(|facts| facts.filesystem_type() != kind) {
                continue;
            }
            // Refused where processes are in the pilot's own group: then there is none for payloads.
            for name in CONTROLLERS.iter().filter(|_| hierarchy == UNIFIED) {
                let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{name}"));
            }
            let path = parent.join(name(1));
            let tells = |file: &&str| path.join(file).exists();
            // Where it tells less than these, the old hierarchy is needed.
            let made = first.add(hierarchy, path.clone()).is_ok();
            if made && hierarchy == UNIFIED && ["cgroup.events", "cgroup.procs"].iter().all(tells) {
                let has = fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
                let has = |name: &&str| has.split_ascii_whitespace().any(|word| word == *name);
                places.within = CONTROLLERS.into_iter().filter(has).map(str::to_owned).collect();
                first.within.clone_from(&places.within);
            } else if !made || hierarchy == UNIFIED {
                if first.parts.pop_if(|part| part.path == path).is_some() {
                    let _ = fs::remove_dir(path);
                }
                continue;
            }
            places.hierarchies.push((hierarchy.clone(), parent.clone()));
        }
        (Self { places }, first)
    }

    /// Directories that a group of this name will have; recorded before they are made.
    pub(crate) fn directories(&self, name: &str) -> Vec<PathBuf> {
        self.places.hierarchies.iter().map(|(_, parent)| parent.join(name)).collect()
    }

    /// Removes empty groups of monitors that are gone: those that waited for a payload. The kernel refuses where a
    /// process is left.
    pub(crate) fn remove_orphans(&self) {
        let folders = self.places.hierarchies.iter().filter_map(|(_, parent)| fs::read_dir(parent).ok());
        for entry in folders.flatten().flatten() {
            let monitor = entry.file_name().to_str().and_then(monitor_of_group);
            if monitor.is_some_and(|pid| sys::kill(pid, 0) == Err(Errno::ESRCH)) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    /// Makes a group.
    pub(crate) fn create(&self, name: &str) -> Result<Group, Errno> {
        let mut group = Group::default();
        group.within.clone_from(&self.places.within);
        let mut places = self.places.hierarchies.iter();
        places.try_for_each(|(hierarchy, parent)| group.add(hierarchy, parent.join(name)))?;
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

/// One payload's group. Dropped, it goes, unless a process is left in it.
#[derive(Debug, Default)]
pub struct Group {
    parts: Vec<Part>,
    /// Controllers of its part in cgroup2.
    within: Vec<String>,
    was_killed: bool,
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.remove();
    }
}

impl Group {
    /// What a monitor that is gone has written down of one.
    pub fn left(paths: Vec<PathBuf>) -> Self {
        let part = |path| Part { hierarchy: FREEZER.to_owned(), path, entry: None };
        let parts = paths.into_iter().map(part).collect();
        Self { parts, within: Vec::new(), was_killed: false }
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

    /// Makes a child in it. `life` is told whether it must enter cgroup2 by itself: `clone3` may be unknown or
    /// filtered. And some kernels (6.18 for one) compare the kill count of the parent's group with the child's and
    /// kill the newborn when they differ, as they do once this group has been killed.
    pub(crate) fn bear(&self, life: impl Fn(bool) -> u8) -> Result<Pid, Errno> {
        let part = self.part(UNIFIED).filter(|_| !self.was_killed);
        if let Some(dir) = part.and_then(|part| part.entry.as_ref())
            && let Ok(child) = sys::child(Some(dir.as_fd()), || life(false))
        {
            if !is_doomed(child) {
                return Ok(child);
            }
            let _ = sys::kill(child.as_raw(), libc::SIGKILL);
            let _ = sys::wait_for(child);
        }
        sys::child(None, || life(true))
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
        let OpenLimits { memory_bytes: memory, pids, cpu_millis } = job.within(site);
        // Microseconds in each tenth of a second, which is the kernel's own choice.
        let cpu = cpu_millis.map(|millis| millis.saturating_mul(100));
        self.set("memory", ("memory.max", memory), ("memory.limit_in_bytes", memory))?;
        // Memory is memory, also on the disk. There is no such file where swap is not counted.
        let (swap, both) = ("memory.swap.max", "memory.memsw.limit_in_bytes");
        let _ = self.set("memory", (swap, memory.map(|_| 0)), (both, memory));
        self.set("pids", ("pids.max", pids), ("pids.max", pids))?;
        self.set("cpu", ("cpu.max", cpu), ("", None))
    }

    /// Writes the value for the kind of this controller that the group has, if any.
    fn set(&self, controller: &str, new: (&str, Option<u64>), old: (&str, Option<u64>)) -> Result<(), Errno> {
        let inside = self.within.iter().any(|known| known == controller);
        let (hierarchy, (file, value)) = if inside { (UNIFIED, new) } else { (controller, old) };
        match (self.part(hierarchy), value) {
            (Some(part), Some(value)) => fs::write(part.path.join(file), value.to_string()).map_err(errno),
            _ => Ok(()),
        }
    }

    /// Kills everything in it. Returns as soon as the order is given; it must be repeated until it is empty, soon
    /// without [`Self::has_events`].
    pub(crate) fn kill(&mut self) {
        self.was_killed = true;
        self.told_by().for_each(kill_group);
        // The kernel (6.18 for one) passes over processes whose first thread has ended: it signals just that.
        self.signal_all(libc::SIGKILL);
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

/// Has the kernel killed it already?
fn is_doomed(child: Pid) -> bool {
    let text = fs::read_to_string(format!("/proc/{child}/status")).unwrap_or_default();
    let pending = text.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let pending = pending.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    pending.is_none_or(|bits| bits & 1 << (libc::SIGKILL - 1) != 0)
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
