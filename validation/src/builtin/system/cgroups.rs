//! `cgroup-delegation`: whether the batch system lets the pilot make control groups of its own.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use nix::errno::Errno;

use super::super::node::{cgroup, mounts};
use super::super::simple::{gather_and_judge, probe};
use crate::check::{Check, Severity};
use crate::outcome::{Failure, Outcome};
use crate::probe::{Context, Probe, Running};

/// The check.
pub(in super::super) fn check(severity: Severity) -> Arc<dyn Probe> {
    let check =
        Check::new("cgroup-delegation", "control groups of the pilot's own").severity(severity);
    probe(check, run)
}

fn run(context: &Context) -> Running<'_> {
    Box::pin(gather_and_judge(context, gather, judge))
}

#[derive(Debug, Clone)]
enum Facts {
    /// The node has no hierarchy of the new kind, or hides it.
    None,
    /// The pilot's group.
    Group {
        path: PathBuf,
        controllers: Vec<String>,
        /// What came of making a group in it.
        trial: Result<(), Errno>,
        /// Has other hierarchies beside it, which hold the controllers.
        is_hybrid: bool,
    },
}

fn gather() -> Facts {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = mounts::parse(&text);
    let Some(place) = cgroup::unified(&groups, &mounts) else {
        return Facts::None;
    };
    let trial = place
        .group
        .join(format!("sailplane-check-{}", std::process::id()));
    let made = fs::create_dir(&trial)
        .and_then(|()| fs::remove_dir(&trial))
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
    Facts::Group {
        controllers: fs::read_to_string(place.group.join("cgroup.controllers"))
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        path: place.group,
        trial: made,
        is_hybrid: mounts.iter().any(|mount| mount.kind == "cgroup"),
    }
}

fn judge(facts: &Facts) -> Outcome {
    let hint = "let the batch system delegate a group to its jobs (systemd: `Delegate=yes`; Slurm: `CgroupPlugin=cgroup/v2`; \
                HTCondor: `CGROUP_V2` with delegation)";
    let delegated =
        |yes: bool| move |outcome: Outcome| outcome.attribute("SailplaneCgroupDelegation", yes);
    match facts {
        Facts::None => delegated(false)(Outcome::failed(
            Failure::site(
                "this node has no control groups of version 2, or hides them",
                "mount cgroup2 at /sys/fs/cgroup",
            )
            .kind("WN_Resource"),
        )),
        Facts::Group {
            path,
            trial: Err(errno),
            ..
        } => {
            let why = format!(
                "the pilot cannot make control groups below its own, {}: {}",
                path.display(),
                errno.desc()
            );
            delegated(false)(Outcome::failed(
                Failure::site(why, hint).kind("WN_Resource"),
            ))
        }
        Facts::Group {
            path,
            controllers,
            is_hybrid,
            ..
        } => {
            let has_memory = controllers.iter().any(|name| name == "memory");
            let outcome = if has_memory || *is_hybrid {
                Outcome::passed()
            } else {
                let why = format!(
                    "the pilot's control group {} has no controller for memory",
                    path.display()
                );
                Outcome::failed(Failure::site(why, hint).kind("WN_Resource"))
            };
            delegated(true)(outcome).text("controllers", controllers.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_not_delegated_is_named() {
        let group = |trial, controllers: &[&str], is_hybrid| Facts::Group {
            path: "/sys/fs/cgroup/system.slice/batch".into(),
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            trial,
            is_hybrid,
        };
        assert!(judge(&group(Ok(()), &["memory", "pids"], false)).is_passed());
        assert!(judge(&group(Ok(()), &[], true)).is_passed());
        let outcome = judge(&group(Err(Errno::EACCES), &["memory"], false));
        assert!(
            outcome
                .failure()
                .unwrap()
                .why
                .contains("system.slice/batch")
        );
        assert!(
            judge(&group(Ok(()), &["pids"], false))
                .failure()
                .unwrap()
                .why
                .contains("memory")
        );
        assert!(judge(&Facts::None).failure().is_some());
    }
}
