//! `kernel`: new enough, and with the system calls that pilot, helper and agent need.

use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::utsname::uname;

use super::super::node::release;
use super::super::simple::{gather_and_judge, probe};
use crate::check::Check;
use crate::outcome::{Failure, Outcome, Whose};
use crate::probe::{Context, Probe, Running};

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    probe(
        Check::new(
            "kernel",
            "release of the kernel, and system calls that are needed",
        ),
        run,
    )
}

fn run(context: &Context) -> Running<'_> {
    let least = context
        .knobs()
        .text("SAILPLANE_CHECK_KERNEL")
        .unwrap_or("")
        .to_owned();
    Box::pin(gather_and_judge(context, gather, move |facts| {
        judge(facts, &least)
    }))
}

#[derive(Debug, Clone, Default)]
struct Facts {
    release: String,
    /// System calls that do not work, and since when Linux has them.
    missing: Vec<(&'static str, &'static str, Errno)>,
}

fn gather() -> Facts {
    let mut missing = Vec::new();
    // Files in sandboxes are opened so; see wrapper/job.
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY)
        .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    if let Err(errno @ (Errno::ENOSYS | Errno::EPERM)) = openat2(AT_FDCWD, Path::new("/"), how) {
        missing.push(("openat2", "5.6", errno));
    }
    // Credentials are handed over so.
    if let Err(errno @ (Errno::ENOSYS | Errno::EPERM)) =
        memfd_create("check", MFdFlags::MFD_CLOEXEC)
    {
        missing.push(("memfd_create", "3.17", errno));
    }
    Facts {
        release: uname().map_or_else(
            |_| String::new(),
            |names| names.release().to_string_lossy().into_owned(),
        ),
        missing,
    }
}

fn judge(facts: &Facts, least: &str) -> Outcome {
    let running = release::parse(&facts.release);
    let failure = if let Some((call, since, errno)) = facts.missing.first() {
        let (why, hint) = if *errno == Errno::ENOSYS {
            (
                format!(
                    "the kernel {} has no system call {call}, which the agent in the jobs' sandboxes needs",
                    facts.release
                ),
                format!("run Linux {since} or newer; in a container, a newer container runtime"),
            )
        } else {
            (
                format!(
                    "the system call {call}, which the agent in the jobs' sandboxes needs, is forbidden here"
                ),
                "let the container's seccomp profile allow it".to_owned(),
            )
        };
        Some(Failure::site(why, hint).kind("WN_Resource"))
    } else if least.is_empty() {
        None
    } else {
        match (release::parse(least), running) {
            (None, _) => Some(
                Failure::new(
                    Whose::Factory,
                    format!("SAILPLANE_CHECK_KERNEL is {least:?}, which is no release"),
                    "write the least release that is accepted, as `uname -r` has it",
                )
                .kind("Config"),
            ),
            (Some(wanted), Some(running)) if running < wanted => Some(
                Failure::site(
                    format!("the kernel is {}, and at least {wanted} is asked for (SAILPLANE_CHECK_KERNEL)", facts.release),
                    "install the kernel's updates and boot it",
                )
                .kind("WN_Resource"),
            ),
            _ => None,
        }
    };
    failure
        .map_or_else(Outcome::passed, Outcome::failed)
        .text("release", facts.release.clone())
        .attribute("SailplaneKernel", facts.release.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(release: &str) -> Facts {
        Facts {
            release: release.to_owned(),
            missing: Vec::new(),
        }
    }

    #[test]
    fn old_kernels_and_missing_calls_are_named() {
        assert!(judge(&facts("4.18.0-553.el8"), "").is_passed());
        assert!(judge(&facts("5.14.0-427.13.1.el9_4"), "5.14.0-427").is_passed());
        let outcome = judge(&facts("4.18.0-240.el8"), "4.18.0-553");
        assert!(
            outcome
                .failure()
                .unwrap()
                .why
                .contains("at least 4.18.0.553")
        );
        let old = Facts {
            missing: vec![("openat2", "5.6", Errno::ENOSYS)],
            ..facts("4.4.0")
        };
        assert!(judge(&old, "").failure().unwrap().hint.contains("5.6"));
        assert_eq!(
            judge(&facts("6.1"), "new").failure().unwrap().whose,
            Whose::Factory
        );
        assert!(judge(&gather(), "").is_passed());
    }
}
