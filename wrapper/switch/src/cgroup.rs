//! One group per payload (requirements K3, K4, K7): a cgroup2 directory below the pilot's own, even
//! where that hierarchy has no controllers; memory figures from its controller, else from a
//! memory group of the old kind, else from the process table. Without any cgroup2 mount the group
//! is "this uid's descendants of the broker".

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, getpid};

use crate::mounts;
use crate::proc::{self, Process};
use crate::sys;

/// How this host lets payloads be tracked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracking {
    /// The pilot's own directory in the cgroup2 hierarchy.
    unified: Option<PathBuf>,
    /// The pilot's own directory in the old memory hierarchy, if the new one does not count memory.
    memory: Option<PathBuf>,
    unified_memory: bool,
    /// `clone3` can make a child inside a group, and the child lives.
    clone_into: bool,
}

/// Where memory figures come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemorySource {
    Unified,
    Old,
    ProcessTable,
}

impl MemorySource {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unified => "cgroup2",
            Self::Old => "cgroup1",
            Self::ProcessTable => "proc",
        }
    }
}

impl Tracking {
    /// Finds the hierarchies and tries them out.
    pub(crate) fn discover() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (mounts, own) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
        let mut found = Self {
            unified: mounts::own_unified(&mounts, &own),
            memory: mounts::own_memory(&mounts, &own),
            unified_memory: false,
            clone_into: false,
        };
        let probe = format!("sailplane-{}-probe", getpid());
        match found.try_unified(&probe) {
            Some((with_memory, clone_into)) => {
                found.unified_memory = with_memory;
                found.clone_into = clone_into;
            }
            None => found.unified = None,
        }
        if found.unified_memory {
            found.memory = None;
        }
        if let Some(dir) = &found.memory {
            let dir = dir.join(&probe);
            if fs::create_dir(&dir).is_err() {
                found.memory = None;
            }
            let _ = fs::remove_dir(&dir);
        }
        found
    }

    /// Can a group be made there? Does it count memory, and can children be born in it?
    fn try_unified(&self, probe: &str) -> Option<(bool, bool)> {
        let dir = self.unified.as_ref()?.join(probe);
        fs::create_dir(&dir).ok()?;
        let usable = dir.join("cgroup.events").exists() && dir.join("cgroup.procs").exists();
        let with_memory = dir.join("memory.current").exists();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        // Not where the call is unknown or filtered. And some kernels (6.18 for one) compare the kill
        // count of the parent's group with the child's and kill the newborn when they differ.
        let clone_into = open(&dir, flags, Mode::empty())
            .and_then(|group| sys::child(Some(group.as_fd()), || 0))
            .and_then(sys::wait_for)
            == Ok(0);
        let _ = fs::remove_dir(&dir);
        usable.then_some((with_memory, clone_into))
    }

    /// For people and logs.
    pub(crate) fn word(&self) -> &'static str {
        if self.unified.is_some() {
            "cgroup2"
        } else {
            "sweep"
        }
    }

    pub(crate) fn has_groups(&self) -> bool {
        self.unified.is_some()
    }

    pub(crate) fn memory_source(&self) -> MemorySource {
        match (self.unified_memory, &self.memory) {
            (true, _) => MemorySource::Unified,
            (false, Some(_)) => MemorySource::Old,
            (false, None) => MemorySource::ProcessTable,
        }
    }

    /// Directories that a group of this name will have; recorded before they are made.
    pub(crate) fn directories(&self, name: &str) -> Vec<PathBuf> {
        [&self.unified, &self.memory]
            .into_iter()
            .flatten()
            .map(|dir| dir.join(name))
            .collect()
    }

    /// Removes empty groups of brokers that are gone: those that waited for a payload. The kernel
    /// refuses where a process is left.
    pub(crate) fn remove_orphans(&self) {
        for parent in [&self.unified, &self.memory].into_iter().flatten() {
            for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let broker = name
                    .to_str()
                    .and_then(|name| name.strip_prefix("sailplane-"))
                    .and_then(|rest| rest.split_once('-'))
                    .and_then(|(pid, _)| pid.parse().ok());
                let lives = |pid| Process::read(pid).is_some_and(|process| !process.is_zombie());
                if broker.is_some_and(|pid| !lives(pid)) {
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
            memory: None,
            source: self.memory_source(),
            clone_into: self.clone_into,
            peak_seen: 0,
            cpu_seen: (0, 0),
        };
        if let Some(parent) = &self.unified {
            group.unified = Some(Unified::create(parent.join(name))?);
        }
        if let Some(parent) = &self.memory {
            match OldMemory::create(parent.join(name)) {
                Ok(memory) => group.memory = Some(memory),
                Err(errno) => {
                    group.remove()?;
                    return Err(errno);
                }
            }
        }
        Ok(group)
    }
}

#[derive(Debug)]
struct Unified {
    path: PathBuf,
    dir: OwnedFd,
    events: File,
}

impl Unified {
    fn create(path: PathBuf) -> Result<Self, Errno> {
        fs::create_dir(&path).map_err(errno)?;
        let made = open(
            &path,
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .and_then(|dir| Ok((dir, File::open(path.join("cgroup.events")).map_err(errno)?)));
        match made {
            Ok((dir, events)) => Ok(Self { path, dir, events }),
            Err(errno) => {
                let _ = fs::remove_dir(&path);
                Err(errno)
            }
        }
    }
}

#[derive(Debug)]
struct OldMemory {
    path: PathBuf,
    entry: File,
}

impl OldMemory {
    fn create(path: PathBuf) -> Result<Self, Errno> {
        fs::create_dir(&path).map_err(errno)?;
        // Not `cgroup.procs`: a whole process that moves makes every fork and every change of groups on
        // the machine wait, ten milliseconds or so; a thread that moves itself does not (Linux 5.5).
        // Whoever enters here has one thread.
        match OpenOptions::new().write(true).open(path.join("tasks")) {
            Ok(entry) => Ok(Self { path, entry }),
            Err(error) => {
                let _ = fs::remove_dir(&path);
                Err(errno(error))
            }
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
}

/// One payload's group.
#[derive(Debug)]
pub(crate) struct Group {
    /// Whose processes are its members where there is no cgroup2.
    uid: Option<u32>,
    unified: Option<Unified>,
    memory: Option<OldMemory>,
    source: MemorySource,
    clone_into: bool,
    peak_seen: u64,
    cpu_seen: (u64, u64),
}

impl Group {
    /// For `clone3`, where that works.
    pub(crate) fn entry(&self) -> Option<BorrowedFd<'_>> {
        self.unified
            .as_ref()
            .filter(|_| self.clone_into)
            .map(|group| group.dir.as_fd())
    }

    /// From now on it is a payload's.
    pub(crate) fn assign(&mut self, uid: u32) {
        self.uid = Some(uid);
    }

    /// In the child: enters what `clone3` has not put it into.
    pub(crate) fn join(&self, enter_unified: bool, with_memory: bool) -> Result<(), Errno> {
        if let (Some(group), true) = (&self.unified, enter_unified) {
            fs::write(group.path.join("cgroup.procs"), "0").map_err(errno)?;
        }
        if let (Some(group), true) = (&self.memory, with_memory) {
            (&group.entry).write_all(b"0").map_err(errno)?;
        }
        Ok(())
    }

    /// Becomes ready (`POLLPRI`) when the answer of [`Self::is_populated`] may have changed.
    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|group| group.events.as_fd())
    }

    /// Is there any process in it? Zombies do not count.
    pub(crate) fn is_populated(&self) -> bool {
        let Some(group) = &self.unified else {
            return !self.swept().is_empty();
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

    fn swept(&self) -> Vec<Process> {
        self.uid
            .map_or_else(Vec::new, |uid| proc::descendants(getpid(), uid))
    }

    fn members(&self) -> Vec<i32> {
        match &self.unified {
            Some(group) => members(&group.path),
            None => self
                .swept()
                .into_iter()
                .map(|process| process.pid)
                .collect(),
        }
    }

    /// Kills everything in it. Returns as soon as the order is given.
    pub(crate) fn kill(&mut self) {
        // See `try_unified`: the kill count now differs from the broker's own group.
        self.clone_into = false;
        match &self.unified {
            Some(group) => kill_group(&group.path),
            None => self.signal_all(libc::SIGKILL),
        }
    }

    /// Stops the whole group, or lets it run on (requirement K8): the kernel's freezer misses no
    /// newborn process. Without cgroup2 there is only the signal.
    pub(crate) fn suspend(&self, stop: bool) {
        if let Some(group) = &self.unified
            && fs::write(
                group.path.join("cgroup.freeze"),
                if stop { "1" } else { "0" },
            )
            .is_ok()
        {
            return;
        }
        self.signal_all(if stop { libc::SIGSTOP } else { libc::SIGCONT });
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
        let mut figures = Figures::default();
        let members = self.members();
        figures.processes = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let table = || {
            members
                .iter()
                .filter_map(|pid| Process::read(*pid))
                .collect::<Vec<_>>()
        };
        if let Some(group) = &self.unified {
            let stat = fs::read_to_string(group.path.join("cpu.stat")).unwrap_or_default();
            figures.user_usec = keyed(&stat, "user_usec");
            figures.system_usec = keyed(&stat, "system_usec");
        } else {
            let table = table();
            let user = table.iter().map(Process::user_usec).sum();
            let system = table.iter().map(Process::system_usec).sum();
            // Orphans take their time with them; never report less than before.
            self.cpu_seen = (self.cpu_seen.0.max(user), self.cpu_seen.1.max(system));
            (figures.user_usec, figures.system_usec) = self.cpu_seen;
        }
        let number = |path: PathBuf| {
            fs::read_to_string(path)
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok())
        };
        (figures.memory_current, figures.memory_peak) = match (&self.unified, &self.memory) {
            (Some(group), _) if self.source == MemorySource::Unified => (
                number(group.path.join("memory.current")).unwrap_or(0),
                // Absent before Linux 5.19.
                number(group.path.join("memory.peak")).unwrap_or(0),
            ),
            (_, Some(memory)) => (
                number(memory.path.join("memory.usage_in_bytes")).unwrap_or(0),
                number(memory.path.join("memory.max_usage_in_bytes")).unwrap_or(0),
            ),
            _ => (table().iter().map(Process::resident_bytes).sum(), 0),
        };
        self.peak_seen = self
            .peak_seen
            .max(figures.memory_current)
            .max(figures.memory_peak);
        figures.memory_peak = self.peak_seen;
        figures
    }

    /// Where memory figures come from.
    pub(crate) fn source(&self) -> MemorySource {
        self.source
    }

    /// Removes the (empty) group.
    pub(crate) fn remove(&mut self) -> Result<(), Errno> {
        if let Some(memory) = self.memory.take() {
            fs::remove_dir(&memory.path).map_err(errno)?;
        }
        if let Some(group) = self.unified.take() {
            fs::remove_dir(&group.path).map_err(errno)?;
        }
        Ok(())
    }
}

/// Processes in a group's directory.
pub(crate) fn members(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// One write where the kernel has `cgroup.kill` (5.14); else freeze, kill each. A group that was
/// suspended is not any more.
pub(crate) fn kill_group(group: &Path) {
    let freeze = |state: &str| {
        let _ = fs::write(group.join("cgroup.freeze"), state);
    };
    let order = OpenOptions::new()
        .write(true)
        .open(group.join("cgroup.kill"));
    if order.and_then(|mut file| file.write_all(b"1")).is_err() {
        freeze("1");
        for pid in members(group) {
            // Frozen: a listed process cannot have gone away and its number been taken by another.
            let _ = sys::kill(pid, libc::SIGKILL);
        }
    }
    freeze("0");
}

fn keyed(text: &str, key: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
