//! `processes`: room for the processes of the jobs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::unistd::geteuid;

use super::super::node::status;
use super::super::simple::{float, gather_and_judge, probe};
use super::groups;
use crate::check::Check;
use crate::outcome::{Failure, Outcome, Threshold};
use crate::probe::{Context, Probe, Running};

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    probe(
        Check::new(
            "processes",
            "processes that the pilot and its jobs may start",
        ),
        run,
    )
}

fn run(context: &Context) -> Running<'_> {
    let least = context.knobs().count("SAILPLANE_CHECK_PROCESSES");
    let slots = u64::from(context.setup().slots.max(1));
    Box::pin(gather_and_judge(context, gather, move |facts| {
        judge(facts, least.saturating_mul(slots))
    }))
}

/// Room that a limit leaves, and which limit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Room {
    left: u64,
    limit: String,
}

fn gather() -> Vec<Room> {
    let mut rooms = Vec::new();
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let (threads, own) = census();
    // The limit does not hold for root.
    if !geteuid().is_root()
        && let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NPROC)
        && soft != RLIM_INFINITY
    {
        rooms.push(Room {
            left: soft.saturating_sub(own),
            limit: format!("the account's limit of {soft} (ulimit -u), of which {own} are in use"),
        });
    }
    if let Some(left) = groups::pids_left() {
        rooms.push(Room {
            left: left.value,
            limit: format!("the control group's limit ({})", left.file.display()),
        });
    }
    for name in ["threads-max", "pid_max"] {
        if let Some(most) = number(&format!("/proc/sys/kernel/{name}")) {
            rooms.push(Room {
                left: most.saturating_sub(threads),
                limit: format!(
                    "the node's limit of {most} (kernel.{name}), of which {threads} are in use"
                ),
            });
        }
    }
    rooms
}

/// Threads of everybody, and those of this account.
fn census() -> (u64, u64) {
    let uid = geteuid().as_raw();
    let (mut all, mut own) = (0_u64, 0_u64);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if !entry
            .file_name()
            .as_encoded_bytes()
            .iter()
            .all(u8::is_ascii_digit)
        {
            continue;
        }
        let Ok(text) = fs::read_to_string(entry.path().join("status")) else {
            continue;
        };
        let threads = status::number(&text, "Threads").unwrap_or(1);
        all = all.saturating_add(threads);
        if entry.metadata().is_ok_and(|facts| facts.uid() == uid) {
            own = own.saturating_add(threads);
        }
    }
    (all, own)
}

fn judge(rooms: &[Room], least: u64) -> Outcome {
    let Some(tightest) = rooms.iter().min_by_key(|room| room.left) else {
        return Outcome::passed();
    };
    let outcome = if tightest.left < least {
        let why = format!(
            "{} more processes can be started, and {least} are needed: {}",
            tightest.left, tightest.limit
        );
        let hint = "raise that limit (`ulimit -u`: nproc in /etc/security/limits.conf; TasksMax of the batch system's service; kernel.pid_max), \
                    look for processes that earlier jobs left behind (`ps -eLf`), or lower \
                    SAILPLANE_CHECK_PROCESSES";
        Outcome::failed(Failure::site(why, hint).transient().kind("WN_Resource"))
    } else {
        Outcome::passed()
    };
    outcome.number(
        "left",
        float(tightest.left),
        "",
        Some(Threshold::AtLeast(float(least))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_is_named() {
        let room = |left, limit: &str| Room {
            left,
            limit: limit.to_owned(),
        };
        let rooms = [room(5, "ulimit -u"), room(30_000, "kernel.pid_max")];
        assert!(judge(&rooms, 5).is_passed());
        let outcome = judge(&rooms, 64);
        assert!(outcome.failure().unwrap().why.ends_with("ulimit -u"));
        assert!(judge(&[], 64).is_passed());
    }

    #[test]
    fn this_node_counts_at_least_us() {
        let (all, own) = census();
        assert!(own >= 1 && all >= own);
        assert!(!gather().is_empty());
    }
}
