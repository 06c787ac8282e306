//! `cpus`: the cores that the pilot offers are there: on the node, in its affinity, in its control group, and in the
//! batch system's words.

use std::fs;
use std::sync::Arc;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::super::node::cpulist;
use super::super::simple::{float, gather_and_judge, probe};
use super::batch::{self, Said};
use super::groups::{self, Limit};
use crate::check::{Check, Severity};
use crate::outcome::{Failure, Outcome, Threshold, Whose};
use crate::probe::{Context, Probe, Running};

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    let check = Check::new("cpus", "cores offered to jobs versus cores that are there")
        .severity(Severity::Warn);
    probe(check, run)
}

fn run(context: &Context) -> Running<'_> {
    let offered = u64::from(context.setup().cpus);
    let percent = context.knobs().count("SAILPLANE_CHECK_CPU_SHARE");
    Box::pin(gather_and_judge(context, gather, move |facts| {
        judge(facts, offered, percent)
    }))
}

#[derive(Debug, Clone, Default)]
struct Facts {
    online: Option<u64>,
    /// That this process may run on.
    affinity: Option<u64>,
    /// Of the control group, thousandths.
    quota: Option<Limit>,
    batch: Option<Said>,
}

fn gather() -> Facts {
    let count = |number: usize| u64::try_from(number).ok();
    let affinity = sched_getaffinity(Pid::from_raw(0)).ok().and_then(|set| {
        let all = 0..CpuSet::count();
        count(
            all.filter(|number| set.is_set(*number).unwrap_or(false))
                .count(),
        )
    });
    Facts {
        online: fs::read_to_string("/sys/devices/system/cpu/online")
            .ok()
            .and_then(|text| cpulist::count(&text))
            .and_then(count),
        affinity,
        quota: groups::cpu_millis(),
        batch: batch::here().cpus,
    }
}

fn judge(facts: &Facts, offered: u64, percent: u64) -> Outcome {
    let whole = |number: Option<u64>, by: &str, whose| {
        number.map(|number| (number.saturating_mul(1000), by.to_owned(), whose))
    };
    let quota = facts.quota.as_ref().map(|limit| {
        let by = format!("its control group ({})", limit.file.display());
        (limit.value, by, Whose::Site)
    });
    let batch = facts.batch.as_ref().map(|said| {
        let by = format!("the batch system ({})", said.by);
        (said.value.saturating_mul(1000), by, Whose::Factory)
    });
    let least = [
        whole(facts.online, "the node", Whose::Factory),
        whole(facts.affinity, "its CPU affinity", Whose::Site),
        quota,
        batch,
    ]
    .into_iter()
    .flatten()
    .min_by_key(|(millis, ..)| *millis);
    let Some((millis, by, whose)) = least else {
        return Outcome::skipped("the node does not tell its cores");
    };
    let given = float(millis) / 1000.0;
    // Somebody who wants two jobs on a core says so.
    let wanted = offered.saturating_mul(percent).saturating_mul(10);
    let outcome = if millis < wanted {
        let why = format!("the pilot offers {offered} cores to jobs, and {by} gives it {given}");
        let hint = format!(
            "set NUM_CPUS to {}, ask the batch system for more cores, or, if cores are shared on purpose, set \
             SAILPLANE_CHECK_CPU_SHARE lower than {percent}",
            (millis / 1000).max(1)
        );
        Outcome::failed(Failure::new(whose, why, hint).kind("WN_Resource"))
    } else {
        Outcome::passed()
    };
    outcome.number("offered", float(offered), "", None).number(
        "given",
        given,
        "",
        Some(Threshold::AtLeast(float(wanted) / 1000.0)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            online: Some(64),
            affinity: Some(64),
            ..Facts::default()
        }
    }

    #[test]
    fn the_strictest_word_counts() {
        assert!(judge(&facts(), 64, 100).is_passed());
        let quota = Facts {
            quota: Some(Limit {
                value: 1500,
                file: "/sys/fs/cgroup/x/cpu.max".into(),
            }),
            ..facts()
        };
        let outcome = judge(&quota, 4, 100);
        let failure = outcome.failure().unwrap();
        assert_eq!(
            failure.why,
            "the pilot offers 4 cores to jobs, and its control group (/sys/fs/cgroup/x/cpu.max) gives it 1.5"
        );
        assert_eq!(failure.whose, Whose::Site);
        let batch = Facts {
            batch: Some(Said {
                value: 2,
                by: "NSLOTS".into(),
            }),
            ..facts()
        };
        assert_eq!(
            judge(&batch, 4, 100).failure().unwrap().whose,
            Whose::Factory
        );
        assert!(judge(&batch, 4, 50).is_passed());
    }

    #[test]
    fn this_node_has_some() {
        let facts = gather();
        assert!(facts.online.unwrap() >= 1 && facts.affinity.unwrap() >= 1);
    }
}
