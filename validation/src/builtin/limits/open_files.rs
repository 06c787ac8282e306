//! `open-files`: enough descriptors for the pilot and its jobs.

use std::fs;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};

use super::super::simple::{float, gather_and_judge, probe};
use crate::check::Check;
use crate::outcome::{Failure, Outcome, Threshold};
use crate::probe::{Context, Probe, Running};

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    probe(
        Check::new(
            "open-files",
            "files that the pilot and its jobs may have open",
        ),
        run,
    )
}

fn run(context: &Context) -> Running<'_> {
    let least = context.knobs().count("SAILPLANE_CHECK_OPEN_FILES");
    Box::pin(gather_and_judge(context, gather, move |facts| {
        judge(facts, least)
    }))
}

#[derive(Debug, Clone, Copy)]
struct Facts {
    soft: u64,
    hard: u64,
    /// What the whole node still has.
    node_left: Option<u64>,
}

fn gather() -> Facts {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    Facts {
        soft,
        hard,
        node_left: fs::read_to_string("/proc/sys/fs/file-nr")
            .ok()
            .and_then(|text| node_left(&text)),
    }
}

/// `/proc/sys/fs/file-nr`: allocated, free of these, maximum.
fn node_left(text: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let allocated: u64 = words.next()?.parse().ok()?;
    let maximum: u64 = words.nth(1)?.parse().ok()?;
    Some(maximum.saturating_sub(allocated))
}

fn judge(facts: &Facts, least: u64) -> Outcome {
    let failure = if facts.hard < least {
        let why = format!(
            "a process here may have {} files open (ulimit -Hn), and {least} are needed",
            facts.hard
        );
        let hint = "raise the limit for the batch system's jobs (LimitNOFILE of its service, /etc/security/limits.conf), or \
                    lower SAILPLANE_CHECK_OPEN_FILES";
        Some(Failure::site(why, hint))
    } else if facts.soft < least {
        let why = format!(
            "a process here begins with {} open files allowed (ulimit -n), and {least} are needed",
            facts.soft
        );
        let hint = format!(
            "call `ulimit -n {least}` before the pilot, or raise the soft limit for the batch system's jobs"
        );
        Some(Failure::site(why, hint))
    } else if facts.node_left.is_some_and(|left| left < least) {
        let why = format!(
            "the whole node can open {} more files (fs.file-max), and {least} are needed",
            facts.node_left.unwrap_or(0)
        );
        Some(
            Failure::site(
                why,
                "raise fs.file-max, or look for who has so many open (`lsof`)",
            )
            .transient(),
        )
    } else {
        None
    };
    failure
        .map_or_else(Outcome::passed, |failure| {
            Outcome::failed(failure.kind("WN_Resource"))
        })
        .number(
            "soft_limit",
            float(facts.soft),
            "",
            Some(Threshold::AtLeast(float(least))),
        )
        .number(
            "hard_limit",
            float(facts.hard),
            "",
            Some(Threshold::AtLeast(float(least))),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_apart() {
        let facts = |soft, hard, node_left| Facts {
            soft,
            hard,
            node_left,
        };
        assert!(judge(&facts(1024, 4096, None), 1024).is_passed());
        let why = |facts| judge(&facts, 1024).failure().unwrap().why.clone();
        assert!(why(facts(64, 64, None)).contains("-Hn"));
        assert!(why(facts(64, 4096, None)).contains("ulimit -n"));
        assert!(why(facts(2048, 4096, Some(3))).contains("fs.file-max"));
        assert_eq!(
            node_left("1984\t0\t9223372036854775807\n"),
            Some(9_223_372_036_854_773_823)
        );
        assert_eq!(node_left("x"), None);
    }
}
