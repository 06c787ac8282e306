//! Shared memory, semaphores and message queues of the old kind.

use std::fs;

use crate::sys;

/// Which of them.
#[derive(Clone, Copy)]
pub(crate) enum SystemV {
    Memory,
    Semaphores,
    Messages,
}

/// Removes everything that belongs to `uid`: how many, and how many could not be.
pub(crate) fn remove_all_of(uid: u32) -> (u32, u32) {
    let (mut removed, mut left) = (0, 0);
    // Column of the owner's uid in each table; the identifier always is the second.
    for (table, owner, kind) in [
        ("/proc/sysvipc/shm", 7, SystemV::Memory),
        ("/proc/sysvipc/sem", 4, SystemV::Semaphores),
        ("/proc/sysvipc/msg", 7, SystemV::Messages),
    ] {
        for id in owned(&fs::read_to_string(table).unwrap_or_default(), owner, uid) {
            match sys::remove_system_v(kind, id) {
                Ok(()) => removed += 1,
                Err(_) => left += 1,
            }
        }
    }
    (removed, left)
}

fn owned(table: &str, owner: usize, uid: u32) -> Vec<i32> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<_> = line.split_ascii_whitespace().collect();
            let theirs = fields.get(owner)?.parse::<u32>().ok()? == uid;
            theirs.then(|| fields.get(1)?.parse().ok()).flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k9_only_the_accounts_own_objects_are_named() {
        let table = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid\n\
                     0          3  1600  1 10 10 0 60001 60001 60001 60001\n\
                     0          4  1600  1 10 10 0  1000  1000  1000  1000\n";
        assert_eq!(owned(table, 7, 60_001), [3]);
    }
}
