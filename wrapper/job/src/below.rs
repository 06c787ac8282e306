//! Processes of this account that descend from one process: the payload's, where the kernel has no groups
//! to tell them by.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;

use crate::sys;

/// One process, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    parent: i32,
    /// Real user number, which a set-uid program does not change.
    uid: u32,
    /// Neither a zombie nor one whose first thread alone has ended.
    alive: bool,
}

impl Process {
    /// Reads the text of `/proc/PID/status`. The kernel writes a newline in the name as two characters, so
    /// no line is the process's own.
    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()
        };
        let threads: u32 = field("Threads:")?.parse().ok()?;
        let ended = matches!(field("State:")?, "Z" | "X");
        Some(Self {
            parent: field("PPid:")?.parse().ok()?,
            uid: field("Uid:")?.parse().ok()?,
            alive: !ended || threads > 1,
        })
    }

    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }
}

/// Living processes of the uid below `ancestor`, without this one. What has ended but is not reaped yet is
/// none. Fails where there is no process table to be read.
pub(crate) fn members(ancestor: i32, uid: u32) -> Result<Vec<i32>, Errno> {
    let own = std::process::id().cast_signed();
    let table: HashMap<i32, Process> = fs::read_dir("/proc")
        .map_err(|_| Errno::ENOENT)?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Process::read(pid)?)))
        .collect();
    if !table.contains_key(&own) {
        return Err(Errno::ENOENT);
    }
    let wanted = |(pid, process): &(&i32, &Process)| {
        **pid != own && process.alive && process.uid == uid && descends(&table, **pid, ancestor)
    };
    Ok(table.iter().filter(wanted).map(|(pid, _)| *pid).collect())
}

fn descends(table: &HashMap<i32, Process>, mut pid: i32, ancestor: i32) -> bool {
    let mut seen = BTreeSet::new();
    while let Some(process) = table.get(&pid) {
        if process.parent == ancestor {
            return true;
        }
        // Read one by one, so numbers that change hands meanwhile may look like a circle.
        if !seen.insert(pid) {
            return false;
        }
        pid = process.parent;
    }
    false
}

/// Signals them. A number is used only while its process is held by a handle and still listed, so that
/// nothing else can be hit.
pub(crate) fn signal(ancestor: i32, uid: u32, signal: i32) -> Result<(), Errno> {
    // A tree that forks faster than it is listed is stopped first: what is stopped has no children. Twice,
    // for what was born meanwhile.
    let all = [libc::SIGSTOP, libc::SIGSTOP, signal];
    let orders = if signal == libc::SIGKILL {
        &all[..]
    } else {
        &all[2..]
    };
    orders
        .iter()
        .try_for_each(|signal| signal_once(ancestor, uid, *signal))
}

fn signal_once(ancestor: i32, uid: u32, signal: i32) -> Result<(), Errno> {
    let held: Vec<(i32, OwnedFd)> = members(ancestor, uid)?
        .into_iter()
        .filter_map(|pid| Some((pid, sys::process_descriptor(pid).ok()?)))
        .collect();
    let still = members(ancestor, uid)?;
    for (_, process) in held.iter().filter(|(pid, _)| still.contains(pid)) {
        // What has ended meanwhile needs no signal.
        let _ = sys::signal_process(process.as_fd(), signal);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str, state: &str, threads: u32) -> String {
        format!(
            "Name:\t{name}\nUmask:\t0022\nState:\t{state}\nTgid:\t9\nPid:\t9\nPPid:\t7\nTracerPid:\t0\n\
             Uid:\t1000\t0\t0\t0\nGid:\t1\t1\t1\t1\nThreads:\t{threads}\n"
        )
    }

    #[test]
    fn the_real_number_counts_and_a_name_cannot_forge_a_line() {
        let one = Process::parse(&status("x\\nUid:\\t5", "S (sleeping)", 1));
        let wanted = Process {
            parent: 7,
            uid: 1000,
            alive: true,
        };
        assert_eq!(one, Some(wanted));
        for damaged in ["", "Uid:\n", "State:\tS\nUid:\tx\nPPid:\t1\nThreads:\t1\n"] {
            assert_eq!(Process::parse(damaged), None);
        }
    }

    #[test]
    fn k2_a_process_lives_until_its_last_thread_has_ended() {
        let alive = |state, threads| {
            Process::parse(&status("x", state, threads)).is_some_and(|process| process.alive)
        };
        assert!(alive("S (sleeping)", 1) && alive("T (stopped)", 1));
        assert!(alive("Z (zombie)", 2));
        assert!(!alive("Z (zombie)", 1) && !alive("X (dead)", 1));
    }

    #[test]
    fn a_circle_of_parents_has_an_end() {
        let process = |parent| Process {
            parent,
            uid: 1,
            alive: true,
        };
        let table = HashMap::from([(5, process(6)), (6, process(5)), (7, process(8))]);
        assert!(!descends(&table, 5, 1) && !descends(&table, 9, 1));
        assert!(descends(&table, 7, 8) && descends(&table, 5, 6));
    }
}
