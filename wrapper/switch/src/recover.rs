//! Cleans up after brokers that are gone (requirement K10). Every lease whose lock is free has no
//! broker: its processes are killed, its sandbox and group removed, its file deleted.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::audit::Audit;
use crate::cgroup;
use crate::errands::{DONE, Extent, Runner};
use crate::lease::{LeaseDir, Record, Taken};
use crate::proc;
use crate::sandbox::{Place, Sandbox};
use crate::spawn::Identity;
use crate::sys;

/// How long one left-over payload may take; what is not gone by then is tried again by the next.
const PATIENCE: Duration = Duration::from_secs(5);

/// Cleans up every stale lease; returns how many there were.
pub(crate) fn recover(leases: &LeaseDir, runner: Runner<'_>, audit: &Audit) -> usize {
    let mut count = 0;
    for name in leases.names() {
        match leases.take(&name) {
            Ok(Taken::Stale(lease, Some(record))) => {
                count += 1;
                let clean = clean(&record, runner);
                let uid = record.uid.to_string();
                let outcome = if clean { "done" } else { "incomplete" };
                audit.write(
                    "recover",
                    &[("lease", &name), ("uid", &uid), ("outcome", outcome)],
                );
                if clean {
                    leases.release(lease);
                }
                // Else unlocked but kept: somebody will try again.
            }
            // Its broker died before it had made anything.
            Ok(Taken::Fresh(lease) | Taken::Stale(lease, None)) => leases.release(lease),
            Ok(Taken::Held) | Err(_) => {}
        }
    }
    count
}

/// Removes what one record names. True: nothing is left.
fn clean(record: &Record, runner: Runner<'_>) -> bool {
    let deadline = Instant::now() + PATIENCE;
    let identity = Identity {
        uid: record.uid,
        gid: record.gid,
        groups: &[],
    };
    let processes = kill_groups(record, deadline)
        && (!record.dynamic || kill_account(&identity, runner, deadline));
    let sandbox = remove_sandbox(record, &identity, runner, deadline);
    let groups = record
        .groups
        .iter()
        .all(|group| remove_group(group, deadline));
    processes && sandbox && groups
}

fn kill_groups(record: &Record, deadline: Instant) -> bool {
    record.groups.iter().all(|group| {
        repeat(deadline, || {
            if cgroup::members(group).is_empty() {
                return true;
            }
            cgroup::kill_group(group);
            false
        })
    })
}

/// Kills every process of a dynamic account, until none lives. Zombies that nobody reaps do not keep
/// a record for ever.
fn kill_account(who: &Identity<'_>, runner: Runner<'_>, deadline: Instant) -> bool {
    repeat(deadline, || {
        if runner.is_in_use(who) == Ok(false) {
            return true;
        }
        let _ = runner.kill_all(who);
        !proc::is_anything_alive(who.uid)
    })
}

fn remove_group(group: &Path, deadline: Instant) -> bool {
    repeat(deadline, || match std::fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    })
}

fn remove_sandbox(
    record: &Record,
    identity: &Identity<'_>,
    runner: Runner<'_>,
    deadline: Instant,
) -> bool {
    let sandbox = match (open_left(record, record.uid), open_left(record, 0)) {
        (Some(sandbox), _) => Some(sandbox),
        // Root's own, if the broker died before it was given away: then it is empty.
        (None, Some(sandbox)) => return sandbox.remove_tops().is_ok(),
        // None was wanted, or made, or somebody has put something of his own there, which is none of ours.
        (None, None) => None,
    };
    let extent = match (record.dynamic, &sandbox) {
        (true, _) => Extent::Account,
        (false, Some(_)) => Extent::Sandbox,
        (false, None) => return true,
    };
    let started = runner.remove(identity, sandbox.as_ref(), extent);
    let emptied = started.is_ok_and(|child| wait_until(child, deadline) == Some(i32::from(DONE)));
    emptied && sandbox.is_none_or(|sandbox| sandbox.remove_tops().is_ok())
}

/// The sandbox of a record, if it is there and belongs to `owner`.
fn open_left(record: &Record, owner: u32) -> Option<Sandbox> {
    let place = Place::reopen(record.sandbox.parent()?).ok()?;
    let name = record.sandbox.file_name()?.to_str()?;
    Sandbox::adopt(place, name, owner)
}

/// The child's status, or nothing if it had to be killed.
pub(crate) fn wait_until(child: Pid, deadline: Instant) -> Option<i32> {
    let handle = sys::process_descriptor(child).ok();
    if let Some(handle) = &handle {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut polled = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
        let ended = poll(
            &mut polled,
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX),
        );
        if ended != Ok(1) {
            let _ = sys::kill(child.as_raw(), libc::SIGKILL);
            let _ = sys::wait_for(child);
            return None;
        }
    }
    sys::wait_for(child).ok()
}

/// Tries until it succeeds or the time is up, a millisecond apart.
fn repeat(deadline: Instant, mut attempt: impl FnMut() -> bool) -> bool {
    loop {
        if attempt() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        let _ = poll(&mut [], PollTimeout::from(1_u8));
    }
}
