//! The site's own health check: one executable, such as those that batch systems run on their nodes. Exit status 0 is
//! good; anything else is a failure, and the first line it prints is the reason.

use std::path::PathBuf;
use std::sync::Arc;

use crate::check::{Check, Owner};
use crate::knob::{Kind, Knob, Knobs, knob};
use crate::outcome::{Failure, Outcome};
use crate::probe::{Context, Probe, Running};
use crate::process::{How, Output, ProcessError};

/// The largest time, in seconds: ten years and a bit.
const LONG: i64 = 315_576_000;

/// Its knobs.
pub static KNOBS: &[Knob] = &[
    knob(
        &["SAILPLANE_SITE_CHECK"],
        Kind::Path,
        None,
        "",
        "An executable of the site that says whether the node is healthy, as batch systems have them (Node Health Check and its \
         kin). It is run under the pilot's account; exit status 0 is good, and of any other the first line that it prints is \
         the reason. As long as it fails no jobs are taken.",
    ),
    knob(
        &["SAILPLANE_SITE_CHECK_PERIOD"],
        Kind::Integer(0, LONG),
        Some("300"),
        "s",
        "Time between two runs of SAILPLANE_SITE_CHECK while the pilot lives; 0 is only before it joins.",
    ),
    knob(
        &["SAILPLANE_SITE_CHECK_LIMIT"],
        Kind::Integer(1, LONG),
        Some("60"),
        "s",
        "Longest time of a run of SAILPLANE_SITE_CHECK; then it is killed with everything it started, and has failed.",
    ),
];

/// The check, if the site has one.
#[must_use]
pub fn all(knobs: &Knobs) -> Vec<Arc<dyn Probe>> {
    let Some(program) = knobs.path("SAILPLANE_SITE_CHECK") else {
        return Vec::new();
    };
    let mut check = Check::new("site-check", "the site's own health check of its node")
        .owner(Owner::Site)
        .limit(knobs.seconds("SAILPLANE_SITE_CHECK_LIMIT"));
    let period = knobs.seconds("SAILPLANE_SITE_CHECK_PERIOD");
    if !period.is_zero() {
        check = check.every(period);
    }
    vec![Arc::new(SiteCommand {
        check,
        program: program.clone(),
    })]
}

struct SiteCommand {
    check: Check,
    program: PathBuf,
}

impl Probe for SiteCommand {
    fn check(&self) -> &Check {
        &self.check
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(async move {
            let program = self.program.display();
            let ended = match context
                .command(&self.program)
                .output(Output::Merge)
                .run()
                .await
            {
                Ok(ended) => ended,
                Err(error) => {
                    let cause = std::error::Error::source(&error)
                        .map(|cause| format!(": {cause}"))
                        .unwrap_or_default();
                    let hint = match &error {
                        ProcessError::NoInterpreter { interpreter, .. } => {
                            format!("install {interpreter}, or correct the first line of {program}")
                        }
                        _ => format!(
                            "install {program}, executable for everybody, or correct SAILPLANE_SITE_CHECK"
                        ),
                    };
                    if matches!(error, ProcessError::Start(_)) {
                        let why = format!("{program} was not run: {error}{cause}");
                        let hint = "see the checks processes and memory";
                        return Outcome::failed(Failure::site(why, hint).transient());
                    }
                    return Outcome::failed(
                        Failure::site(format!("{error}{cause}"), hint).kind("Config"),
                    );
                }
            };
            let said = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
            let reason = match (ended.how, said.lines().next()) {
                (How::Exited(0), _) => return Outcome::passed().detail(said),
                (How::TimedOut, _) => format!(
                    "{program} did not end within {} s and was killed",
                    self.check.limit.as_secs()
                ),
                (_, Some(line)) => format!("{program} says: {line}"),
                (How::Exited(status), None) => {
                    format!("{program} exited with status {status} and said nothing")
                }
                (How::Signalled(signal), None) => {
                    format!("{program} was killed by signal {signal}")
                }
            };
            let failure =
                Failure::site(reason, format!("see what {program} looks at on this node"))
                    .transient()
                    .kind(if ended.how == How::TimedOut {
                        "Timeout"
                    } else {
                        "WN_Resource"
                    });
            Outcome::failed(failure).detail(said)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::engine::{Engine, nothing};
    use crate::setup::Setup;

    async fn reason(dir: &Path, script: &str) -> Option<String> {
        let program = dir.join("health");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let knobs = Knobs::defaults()
            .with("SAILPLANE_SITE_CHECK", &program.display().to_string())
            .unwrap()
            .with("SAILPLANE_SITE_CHECK_LIMIT", "1")
            .unwrap();
        let probes = all(&knobs);
        let mut engine =
            Engine::new(probes, Arc::new(Setup::default()), Arc::new(knobs), None).unwrap();
        engine.first(nothing(), |_| ()).await;
        let (_, outcome) = engine.outcomes().next().unwrap();
        outcome.failure().map(|failure| {
            failure
                .why
                .replace(&program.display().to_string(), "health")
        })
    }

    #[tokio::test]
    async fn its_first_line_is_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let of = async |script: &str| reason(dir.path(), script).await;
        assert_eq!(of("echo fine").await, None);
        assert_eq!(
            of("echo /scratch is gone; echo more; exit 3")
                .await
                .as_deref(),
            Some("health says: /scratch is gone")
        );
        assert_eq!(
            of("exit 4").await.as_deref(),
            Some("health exited with status 4 and said nothing")
        );
        assert_eq!(
            of("trap '' TERM; sleep 1000; sleep 1000").await.as_deref(),
            Some("health did not end within 1 s and was killed")
        );
    }

    #[test]
    fn there_is_none_unless_the_site_has_one() {
        assert!(all(&Knobs::defaults()).is_empty());
    }
}
