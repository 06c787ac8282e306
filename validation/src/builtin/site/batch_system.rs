//! `batch-system`: which one runs the pilot, and how long it still lets it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::super::limits::batch::{self, Grant};
use super::super::simple::{float, probe};
use super::features;
use crate::check::{Check, Owner};
use crate::outcome::{Failure, Outcome, Threshold, Whose};
use crate::probe::{Context, Probe, Running};

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    probe(
        Check::new(
            "batch-system",
            "the batch system, and the time it leaves the pilot",
        )
        .owner(Owner::Factory),
        run,
    )
}

fn run(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let least = context.knobs().count("SAILPLANE_CHECK_WALL_TIME");
        let features = features::read(context).await;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let number = |name: &str| {
            features
                .values
                .get(name)
                .and_then(|text| text.parse::<u64>().ok())
        };
        let end_by_site = number("jobstart_secs")
            .zip(number("wall_limit_secs"))
            .map(|(start, wall)| start.saturating_add(wall));
        let cpu = getrlimit(Resource::RLIMIT_CPU)
            .ok()
            .map(|(soft, _)| soft)
            .filter(|soft| *soft != RLIM_INFINITY);
        judge(&batch::here(), end_by_site, cpu, now, least)
    })
}

/// `cpu` is the limit of a process's CPU time, seconds.
fn judge(
    grant: &Grant,
    end_by_site: Option<u64>,
    cpu: Option<u64>,
    now: u64,
    least: u64,
) -> Outcome {
    let said = grant
        .end
        .as_ref()
        .map(|said| (said.value.saturating_sub(now), said.by.clone()))
        // The pilot is the first thing in its job, so that all of it is left.
        .or_else(|| {
            grant
                .wall_seconds
                .as_ref()
                .map(|said| (said.value, said.by.clone()))
        })
        .or_else(|| {
            end_by_site.map(|end| {
                (
                    end.saturating_sub(now),
                    "wall_limit_secs in JOBFEATURES".to_owned(),
                )
            })
        });
    let outcome = match &said {
        Some((left, by)) if *left < least => {
            let why = format!(
                "the batch system ends the pilot in {left} s ({by}), and at least {least} s are asked for"
            );
            let hint = "ask the batch system for more time when pilots are submitted, or lower SAILPLANE_CHECK_WALL_TIME";
            Outcome::failed(Failure::new(Whose::Factory, why, hint).kind("Config"))
        }
        _ => match cpu.filter(|seconds| *seconds < least) {
            Some(seconds) => {
                let why = format!(
                    "a process is killed when it has used {seconds} s of CPU time (ulimit -t), and jobs may need {least} s"
                );
                let hint = "take the limit off the batch system's jobs (/etc/security/limits.conf, LimitCPU of its service), \
                            or lower SAILPLANE_CHECK_WALL_TIME";
                Outcome::failed(Failure::site(why, hint).kind("WN_Resource"))
            }
            None => Outcome::passed(),
        },
    };
    let system = grant.system.unwrap_or("none");
    let mut outcome = outcome
        .text("system", system)
        .attribute("SailplaneBatchSystem", system);
    if let Some(job) = &grant.job {
        outcome = outcome
            .text("job", job.clone())
            .attribute("SailplaneBatchJob", job.as_str());
    }
    if let Some((left, _)) = said {
        outcome = outcome
            .number(
                "wall_time_left",
                float(left),
                "s",
                Some(Threshold::AtLeast(float(least))),
            )
            .attribute(
                "SailplaneBatchEnd",
                i64::try_from(now.saturating_add(left)).unwrap_or(i64::MAX),
            );
    }
    for (name, said, unit) in [
        ("cpus", &grant.cpus, ""),
        ("memory", &grant.memory_mib, "MiB"),
        ("gpus", &grant.gpus, ""),
    ] {
        if let Some(said) = said {
            outcome = outcome.number(name, float(said.value), unit, None);
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::super::super::limits::batch::Said;
    use super::*;

    #[test]
    fn a_job_about_to_end_takes_no_jobs() {
        let grant = Grant {
            system: Some("Slurm"),
            job: Some("7".into()),
            end: Some(Said {
                value: 2000,
                by: "SLURM_JOB_END_TIME".into(),
            }),
            ..Grant::default()
        };
        assert!(judge(&grant, None, None, 1000, 1000).is_passed());
        let outcome = judge(&grant, None, None, 1500, 1000);
        assert!(
            outcome
                .failure()
                .unwrap()
                .why
                .contains("in 500 s (SLURM_JOB_END_TIME)")
        );
        assert!(
            judge(&Grant::default(), Some(1200), None, 1000, 1000)
                .failure()
                .unwrap()
                .why
                .contains("JOBFEATURES")
        );
        assert!(judge(&Grant::default(), None, None, 1000, 1000).is_passed());
    }
}
