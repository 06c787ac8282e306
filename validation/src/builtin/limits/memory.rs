//! `memory`: as much as a job needs at least, on the machine and within the limits. `memory-offered`: what the pilot
//! offers is there.

use std::fs;
use std::sync::Arc;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::super::node::memory::mib;
use super::super::simple::{ad_number, float, gather_and_judge, probe};
use super::batch::{self, Said};
use super::groups::{self, Limit};
use crate::check::{Check, Severity};
use crate::outcome::{Failure, Outcome, Threshold, Whose};
use crate::probe::{Context, Probe, Running};

/// The check of what is there.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    probe(
        Check::new("memory", "memory of the node, and the limits on it"),
        |context| {
            let least = context.knobs().count("SAILPLANE_CHECK_MEMORY");
            let slots = u64::from(context.setup().slots.max(1));
            Box::pin(gather_and_judge(context, gather, move |facts| {
                judge(facts, least.saturating_mul(slots), slots)
            }))
        },
    )
}

/// The check of what is offered.
pub(in super::super) fn offered() -> Arc<dyn Probe> {
    let check = Check::new(
        "memory-offered",
        "memory offered to jobs versus memory that is there",
    )
    .severity(Severity::Warn);
    probe(check, run_offered)
}

fn run_offered(context: &Context) -> Running<'_> {
    let offered = context.setup().memory_mib;
    let slots = u64::from(context.setup().slots.max(1));
    Box::pin(gather_and_judge(context, gather, move |facts| {
        judge_offered(facts, offered, slots)
    }))
}

#[derive(Debug, Clone, Default)]
struct Facts {
    total_mib: u64,
    available_mib: u64,
    /// Of the control group, bytes, and what is in use of it.
    group: Option<(Limit, u64)>,
    /// Address space of a process, MiB.
    address_space_mib: Option<u64>,
    batch: Option<Said>,
}

fn gather() -> Facts {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_mib = mib(&text, "MemTotal").unwrap_or(0);
    Facts {
        total_mib,
        available_mib: mib(&text, "MemAvailable").unwrap_or(total_mib),
        group: groups::memory(),
        address_space_mib: getrlimit(Resource::RLIMIT_AS)
            .ok()
            .map(|(soft, _)| soft)
            .filter(|soft| *soft != RLIM_INFINITY)
            .map(|bytes| bytes >> 20),
        batch: batch::here().memory_mib,
    }
}

fn judge(facts: &Facts, least_mib: u64, slots: u64) -> Outcome {
    let group_left = facts
        .group
        .as_ref()
        .map(|(limit, used)| (limit.value.saturating_sub(*used) >> 20, limit));
    let needed = format!(
        "{least_mib} MiB are needed for {slots} slot{}",
        if slots == 1 { "" } else { "s" }
    );
    // What files occupy in a group's account is given back when it is needed, so that the limit itself counts.
    let failure = if facts.total_mib < least_mib {
        let why = format!(
            "the node has {} MiB of memory, and {needed}",
            facts.total_mib
        );
        Some(Failure::site(
            why,
            "send no pilots to nodes so small, or lower SAILPLANE_CHECK_MEMORY or NUM_SLOTS",
        ))
    } else if let Some((limit, _)) = facts
        .group
        .as_ref()
        .filter(|(limit, _)| limit.value >> 20 < least_mib)
    {
        let why = format!(
            "the batch system limits the pilot to {} MiB of memory ({}), and {needed}",
            limit.value >> 20,
            limit.file.display()
        );
        Some(Failure::new(
            Whose::Factory,
            why,
            "ask the batch system for more memory for each pilot (`--mem`, `request_memory`), or offer fewer slots (NUM_SLOTS)",
        ))
    } else if facts
        .address_space_mib
        .is_some_and(|limit| limit < least_mib)
    {
        let why = format!(
            "a process may have {} MiB of address space (ulimit -v), and {needed}",
            facts.address_space_mib.unwrap_or(0)
        );
        Some(Failure::site(
            why,
            "take the limit off the batch system's jobs (`ulimit -v`: LimitAS of its service, as in \
             /etc/security/limits.conf, h_vmem): it counts what is never used",
        ))
    } else if facts.available_mib < least_mib {
        let why = format!(
            "{} MiB of the node's {} MiB of memory are left, and {needed}",
            facts.available_mib, facts.total_mib
        );
        Some(
            Failure::site(why, "look for what fills the memory (`ps aux --sort -rss`, and /dev/shm), or offer fewer slots (NUM_SLOTS)").transient(),
        )
    } else {
        None
    };
    let outcome = failure.map_or_else(Outcome::passed, |failure| {
        Outcome::failed(failure.kind("WN_Resource"))
    });
    let outcome = outcome
        .number(
            "available",
            float(facts.available_mib),
            "MiB",
            Some(Threshold::AtLeast(float(least_mib))),
        )
        .number("total", float(facts.total_mib), "MiB", None);
    match group_left {
        Some((left, limit)) => outcome
            .number(
                "group_limit",
                float(limit.value >> 20),
                "MiB",
                Some(Threshold::AtLeast(float(least_mib))),
            )
            .number("group_left", float(left), "MiB", None)
            .attribute("SailplaneMemoryLimit", ad_number(limit.value >> 20)),
        None => outcome,
    }
}

fn judge_offered(facts: &Facts, offered_mib: u64, slots: u64) -> Outcome {
    let group = facts.group.as_ref().map(|(limit, _)| {
        let by = format!("the control group ({})", limit.file.display());
        (limit.value >> 20, by)
    });
    let batch = facts
        .batch
        .as_ref()
        .map(|said| (said.value, format!("the batch system ({})", said.by)));
    let least = [Some((facts.total_mib, "the node".to_owned())), group, batch]
        .into_iter()
        .flatten()
        .min_by_key(|(value, _)| *value);
    let Some((value, by)) = least else {
        return Outcome::skipped("the node does not tell its memory");
    };
    let outcome = if offered_mib > value {
        let why =
            format!("the pilot offers {offered_mib} MiB of memory, and {by} gives {value} MiB");
        let hint = format!(
            "set MEMORY to at most {value}, or ask the batch system for more: jobs that use what is offered are killed"
        );
        Outcome::failed(Failure::new(Whose::Factory, why, hint).kind("WN_Resource"))
    } else if let Some(limit) = facts
        .address_space_mib
        .filter(|limit| *limit < offered_mib / slots)
    {
        let why = format!(
            "a job is offered {} MiB of memory, and a process may have {limit} MiB of address space (ulimit -v)",
            offered_mib / slots
        );
        let hint = "take the limit off the batch system's jobs (`ulimit -v`: LimitAS of its service, as in \
             /etc/security/limits.conf, h_vmem): it counts what is never used";
        Outcome::failed(Failure::site(why, hint).kind("WN_Resource"))
    } else {
        Outcome::passed()
    };
    outcome.number(
        "offered",
        float(offered_mib),
        "MiB",
        Some(Threshold::AtMost(float(value))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            total_mib: 24_000,
            available_mib: 20_000,
            ..Facts::default()
        }
    }

    fn limited(mib: u64) -> Facts {
        let limit = Limit {
            value: mib << 20,
            file: "/sys/fs/cgroup/job/memory.max".into(),
        };
        Facts {
            group: Some((limit, 10 << 20)),
            ..facts()
        }
    }

    #[test]
    fn a_tight_group_is_named_with_its_file() {
        assert!(judge(&facts(), 1024, 1).is_passed());
        let outcome = judge(&limited(100), 1024, 2);
        let failure = outcome.failure().unwrap();
        assert_eq!(failure.whose, Whose::Factory);
        assert!(
            failure
                .why
                .contains("100 MiB of memory (/sys/fs/cgroup/job/memory.max)"),
            "{}",
            failure.why
        );
    }

    #[test]
    fn a_full_node_may_recover_and_a_small_one_does_not() {
        let full = Facts {
            available_mib: 5,
            ..facts()
        };
        assert!(judge(&full, 1024, 1).failure().unwrap().transient);
        assert!(!judge(&facts(), 100_000, 1).failure().unwrap().transient);
        let narrow = Facts {
            address_space_mib: Some(100),
            ..facts()
        };
        assert!(
            judge(&narrow, 1024, 1)
                .failure()
                .unwrap()
                .why
                .contains("ulimit -v")
        );
    }

    #[test]
    fn more_than_there_is_cannot_be_offered() {
        assert!(judge_offered(&limited(4096), 4096, 1).is_passed());
        let outcome = judge_offered(&limited(4096), 8192, 1);
        assert!(
            outcome
                .failure()
                .unwrap()
                .hint
                .contains("MEMORY to at most 4096")
        );
        let batch = Facts {
            batch: Some(Said {
                value: 2000,
                by: "SLURM_MEM_PER_NODE".into(),
            }),
            ..limited(4096)
        };
        assert!(
            judge_offered(&batch, 3000, 1)
                .failure()
                .unwrap()
                .why
                .contains("SLURM_MEM_PER_NODE")
        );
    }

    #[test]
    fn this_node_has_some() {
        assert!(gather().total_mib > 0);
    }
}
