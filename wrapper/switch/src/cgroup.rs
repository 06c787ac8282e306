//! One group per payload (requirements K3, K4, K8): a cgroup2 directory below the pilot's own, even where
//! that hierarchy has no controllers; else one in the old freezer's; else none. What is limited is limited by the
//! controllers of either kind. What they count the broker reads for itself.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use launch_protocol::broker::OpenLimits;
use launch_protocol::monitor;
use launch_protocol::policy::LimitRules;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, fstatfs};
use nix::unistd::{Pid, getpid};

use crate::sys;

/// What is used of cgroup2's controllers; the old kind calls the third one `blkio`.
const CONTROLLERS: [&str; 4] = ["memory", "pids", "io", "cpu"];
/// Controllers of the old kind that count and limit.
const COUNTING: [&str; 3] = ["memory", "pids", "blkio"];
/// Those that stand in for cgroup2 where it is missing.
const STANDING_IN: [&str; 2] = ["freezer", "cpuacct"];

/// Where groups are made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracking {
    /// As the broker is told.
    pub(crate) places: monitor::Tracking,
    /// `clone3` can make a child inside a group, and the child lives.
    clone_into: bool,
}

impl Tracking {
    /// Tries the pilot's own directories in the hierarchies that there are.
    pub(crate) fn try_out(hierarchies: &[(String, PathBuf)]) -> Self {
        let probe = format!("sailplane-{}-probe", getpid());
        let own = |name: &str, kind| {
            let (_, path) = hierarchies.iter().find(|(known, _)| known == name)?;
            is_cgroup(path, kind).then(|| path.clone())
        };
        let mut found = Self::default();
        if let Some(parent) = own("cgroup2", CGROUP2_SUPER_MAGIC) {
            found.try_unified(parent, &probe);
        }
        for name in COUNTING.into_iter().chain(STANDING_IN) {
            let new = if name == "blkio" { "io" } else { name };
            let wanted = match COUNTING.contains(&name) {
                true => !found.within(new),
                false => found.places.unified.is_none(),
            };
            let Some(parent) = own(name, CGROUP_SUPER_MAGIC).filter(|_| wanted) else {
                continue;
            };
            if fs::create_dir(parent.join(&probe)).is_ok() {
                let _ = fs::remove_dir(parent.join(&probe));
                found.places.old.push((name.to_owned(), parent));
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
        let within = CONTROLLERS.into_iter().filter(has).map(str::to_owned);
        self.places.within = within.collect();
        // Not where the call is unknown or filtered. And some kernels (6.18 for one) compare the kill
        // count of the parent's group with the child's and kill the newborn when they differ.
        self.clone_into = open(&dir, DIRECTORY, Mode::empty())
            .and_then(|group| sys::child(Some(group.as_fd()), || 0))
            .and_then(sys::wait_for)
            == Ok(0);
        let usable = dir.join("cgroup.events").exists() && dir.join("cgroup.procs").exists();
        self.places.unified = usable.then_some(parent);
        let _ = fs::remove_dir(&dir);
    }

    fn within(&self, name: &str) -> bool {
        self.places.within.iter().any(|known| known == name)
    }

    /// Are processes told apart by group, or only by account?
    pub(crate) fn has_groups(&self) -> bool {
        let freezer = self.places.old.iter().any(|(name, _)| name == "freezer");
        self.places.unified.is_some() || freezer
    }

    fn parents(&self) -> impl Iterator<Item = &PathBuf> {
        let old = self.places.old.iter().map(|(_, parent)| parent);
        self.places.unified.iter().chain(old)
    }

    /// Directories that a group of this name will have; recorded before they are made.
    pub(crate) fn directories(&self, name: &str) -> Vec<PathBuf> {
        self.parents().map(|dir| dir.join(name)).collect()
    }

    /// Removes empty groups of monitors that are gone: those that waited for a payload. The kernel refuses
    /// where a process is left.
    pub(crate) fn remove_orphans(&self) {
        for entry in self.parents().filter_map(|it| fs::read_dir(it).ok()) {
            for entry in entry.flatten() {
                let name = entry.file_name();
                let rest = name.to_str().and_then(|it| it.strip_prefix("sailplane-"));
                let pid = rest.and_then(|rest| rest.split_once('-')?.0.parse().ok());
                if pid.is_some_and(|pid| sys::kill(pid, 0) == Err(Errno::ESRCH)) {
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }

    /// Makes a group.
    pub(crate) fn create(&self, name: &str) -> Result<Group, Errno> {
        let mut group = Group { clone_into: self.clone_into, ..Group::default() };
        match group.make(self, name) {
            Ok(()) => Ok(group),
            Err(errno) => {
                let _ = group.remove();
                Err(errno)
            }
        }
    }
}

/// The broker looks into it.
fn make_dir(path: &Path) -> Result<(), Errno> {
    fs::create_dir(path).map_err(errno)?;
    let open = fs::set_permissions(path, fs::Permissions::from_mode(0o755));
    open.inspect_err(|_| drop(fs::remove_dir(path))).map_err(errno)
}

/// Is this a directory of such a hierarchy, and not something that only looks so?
fn is_cgroup(path: &Path, kind: FsType) -> bool {
    let dir = open(path, DIRECTORY, Mode::empty());
    dir.and_then(|dir| fstatfs(&dir)).is_ok_and(|facts| facts.filesystem_type() == kind)
}

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// A payload's directory in one hierarchy.
#[derive(Debug)]
struct Part {
    /// `cgroup2`, or an old controller.
    hierarchy: String,
    path: PathBuf,
    /// Of the old kind. Not `cgroup.procs`: a whole process that moves makes every fork and every change of
    /// groups on the machine wait, ten milliseconds or so; a thread that moves itself does not (Linux 5.5).
    /// Whoever enters here has one thread.
    entry: Option<File>,
}

/// One payload's group.
#[derive(Debug, Default)]
pub(crate) struct Group {
    parts: Vec<Part>,
    /// The directory in cgroup2.
    dir: Option<OwnedFd>,
    /// Its controllers.
    within: Vec<String>,
    clone_into: bool,
}

impl Group {
    fn make(&mut self, tracking: &Tracking, name: &str) -> Result<(), Errno> {
        for (controller, parent) in &tracking.places.old {
            let path = parent.join(name);
            make_dir(&path)?;
            self.parts.push(Part {
                hierarchy: controller.clone(),
                entry: None,
                path: path.clone(),
            });
            let entry = OpenOptions::new().write(true).open(path.join("tasks"));
            if let Some(part) = self.parts.last_mut() {
                part.entry = Some(entry.map_err(errno)?);
            }
        }
        if let Some(parent) = &tracking.places.unified {
            let path = parent.join(name);
            make_dir(&path)?;
            self.parts.push(Part {
                hierarchy: "cgroup2".to_owned(),
                entry: None,
                path: path.clone(),
            });
            self.dir = Some(open(&path, DIRECTORY, Mode::empty())?);
            self.within.clone_from(&tracking.places.within);
        }
        Ok(())
    }

    /// What a monitor that is gone has written down of one.
    pub(crate) fn left(paths: Vec<PathBuf>) -> Self {
        let part = |path| Part { hierarchy: "freezer".to_owned(), path, entry: None };
        Self { parts: paths.into_iter().map(part).collect(), ..Self::default() }
    }

    /// For `clone3`, where that works.
    pub(crate) fn entry(&self) -> Option<BorrowedFd<'_>> {
        let dir = self.dir.as_ref().filter(|_| self.clone_into);
        dir.map(|dir| dir.as_fd())
    }

    /// In the child: enters what `clone3` has not put it into.
    pub(crate) fn join(&self, enter_unified: bool) -> Result<(), Errno> {
        self.parts.iter().try_for_each(|part| match &part.entry {
            Some(entry) => (&*entry).write_all(b"0").map_err(errno),
            None if enter_unified => fs::write(part.path.join("cgroup.procs"), "0").map_err(errno),
            None => Ok(()),
        })
    }

    fn path_in(&self, hierarchy: &str) -> Option<&Path> {
        let found = self.parts.iter().find(|part| part.hierarchy == hierarchy);
        found.map(|part| part.path.as_path())
    }

    /// The directories where processes are told apart: one, or of what is left of a group, all.
    fn told_by(&self) -> impl Iterator<Item = &Path> {
        let kind = match self.dir {
            Some(_) => "cgroup2",
            None => "freezer",
        };
        let parts = self.parts.iter().filter(move |part| part.hierarchy == kind);
        parts.map(|part| part.path.as_path())
    }

    /// The kernel tells when it is empty, and kills it at once.
    pub(crate) fn has_events(&self) -> bool {
        self.dir.is_some()
    }

    /// Sets the job's limits within the site's. What there is no controller for is not limited; the broker
    /// says so.
    pub(crate) fn restrict(&self, job: &OpenLimits, site: &LimitRules) -> Result<(), Errno> {
        let lower = |job: Option<u64>, site: Option<u64>| job.into_iter().chain(site).min();
        let set = |value: Option<u64>, controller: &str, new: &str, old: &str| {
            let inside = self.within.iter().any(|known| known == controller);
            let file = match self.path_in("cgroup2").filter(|_| inside) {
                Some(path) => Some(path.join(new)),
                None => self.path_in(controller).map(|path| path.join(old)),
            };
            value
                .zip(file)
                .map_or(Ok(()), |(value, file)| fs::write(file, value.to_string()).map_err(errno))
        };
        let memory = lower(job.memory_bytes, site.memory_bytes);
        set(memory, "memory", "memory.max", "memory.limit_in_bytes")?;
        // Memory is memory, also on the disk. There is no such file where swap is not counted.
        let inside = self.within.iter().any(|known| known == "memory");
        let swap = memory.map(|bytes| if inside { 0 } else { bytes });
        let (new, old) = ("memory.swap.max", "memory.memsw.limit_in_bytes");
        let _ = set(swap, "memory", new, old);
        let pids = lower(job.pids, site.pids.map(u64::from));
        set(pids, "pids", "pids.max", "pids.max")?;
        let site = site.cpu_percent.map(|percent| u64::from(percent) * 10);
        // Microseconds in each tenth of a second, which is the kernel's own choice.
        let quota = lower(job.cpu_millis, site).map(|millis| millis.saturating_mul(100));
        set(quota, "cpu", "cpu.max", "")
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
        self.dir = None;
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

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
