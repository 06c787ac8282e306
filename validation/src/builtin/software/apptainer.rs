//! `apptainer`: containers can be run: a program is there, and a trial run succeeds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::simple::probe;
use super::path::{find, is_executable};
use crate::builtin::simple::chain;
use crate::check::{Check, Severity};
use crate::outcome::{Failure, Outcome};
use crate::probe::{Context, Probe, Running};
use crate::process::{Ended, How};

/// Where it is installed without being in anybody's `PATH`.
const IN_CVMFS: &str = "/cvmfs/oasis.opensciencegrid.org/mis/apptainer/bin/apptainer";
/// What the image's program says.
const GREETING: &str = "sailplane-in-a-container";
/// Directories of the node that a container without an image of its own gets.
const NODES_OWN: [&str; 6] = [
    "/bin",
    "/lib",
    "/lib64",
    "/usr",
    "/sbin",
    "/etc/alternatives",
];

/// The check.
pub(in super::super) fn check(severity: Severity) -> Arc<dyn Probe> {
    let check = Check::new(
        "apptainer",
        "running a container with Apptainer or Singularity",
    )
    .severity(severity)
    .limit(Duration::from_secs(60));
    probe(check, run)
}

fn run(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let knobs = context.knobs();
        let named = knobs.path("SAILPLANE_CHECK_APPTAINER_PROGRAM").cloned();
        let image = knobs
            .text("SAILPLANE_CHECK_APPTAINER_IMAGE")
            .map(str::to_owned);
        let scratch = context.setup().scratch.clone();
        let Some(program) = look_for(named.as_deref()) else {
            return judge(&Facts::NotThere(named));
        };
        let version = version(context, &program).await;
        let came = trial(context, &program, image.as_deref(), &scratch).await;
        judge(&Facts::There {
            program,
            version,
            image,
            came,
        })
    })
}

fn look_for(named: Option<&Path>) -> Option<PathBuf> {
    match named {
        Some(path) => is_executable(path).then(|| path.to_owned()),
        None => find("apptainer")
            .or_else(|| find("singularity"))
            .or_else(|| Some(PathBuf::from(IN_CVMFS)).filter(|path| is_executable(path))),
    }
}

async fn version(context: &Context, program: &Path) -> Option<String> {
    let ended = context.command(program).arg("--version").run().await.ok()?;
    let text = String::from_utf8_lossy(&ended.stdout);
    let words = text.trim();
    (!words.is_empty() && ended.how == How::Exited(0)).then(|| words.to_owned())
}

/// Runs something in the image, or in an empty directory to which the node's own programs are bound.
async fn trial(
    context: &Context,
    program: &Path,
    image: Option<&str>,
    scratch: &Path,
) -> Result<Ended, String> {
    let root = scratch.join("container");
    let mut command =
        context
            .command(program)
            .args(["exec", "--contain", "--ipc", "--pid", "--no-home"]);
    if let Some(image) = image {
        command = command.arg(image);
    } else {
        make_root(&root).map_err(|error| format!("{} cannot be made: {error}", root.display()))?;
        for path in NODES_OWN.iter().filter(|path| Path::new(path).exists()) {
            command = command.arg("--bind").arg(format!("{path}:{path}:ro"));
        }
        command = command.arg(&root);
    }
    let came = command
        .args(["/bin/sh", "-c"])
        .arg(format!("echo {GREETING}"))
        .run()
        .await
        .map_err(|error| chain(&error));
    // Empty directories; the scratch directory goes at the end in any case.
    let _ = std::fs::remove_dir_all(&root);
    came
}

fn make_root(root: &Path) -> std::io::Result<()> {
    for folder in ["proc", "sys", "dev", "tmp", "var/tmp", "home", "etc"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    for folder in NODES_OWN {
        std::fs::create_dir_all(root.join(folder.trim_start_matches('/')))?;
    }
    Ok(())
}

#[derive(Debug)]
enum Facts {
    /// Neither where it was said to be, if anywhere, nor elsewhere.
    NotThere(Option<PathBuf>),
    There {
        program: PathBuf,
        version: Option<String>,
        image: Option<String>,
        came: Result<Ended, String>,
    },
}

fn judge(facts: &Facts) -> Outcome {
    let site = |why: String, hint: &str| {
        Outcome::failed(Failure::site(why, hint).kind("WN_Resource"))
            .attribute("HAS_SINGULARITY", false)
    };
    match facts {
        Facts::NotThere(Some(path)) => site(
            format!(
                "{} is no program that can be executed (SAILPLANE_CHECK_APPTAINER_PROGRAM)",
                path.display()
            ),
            "install Apptainer there, or correct the path",
        ),
        Facts::NotThere(None) => site(
            format!("neither apptainer nor singularity is in PATH, and there is no {IN_CVMFS}"),
            "install Apptainer (package apptainer), or mount oasis.opensciencegrid.org",
        ),
        Facts::There {
            program,
            version,
            image,
            came,
        } => {
            let what = format!(
                "{} does not run a container ({})",
                program.display(),
                image
                    .as_deref()
                    .unwrap_or("an empty image with the node's own programs")
            );
            let hint = "try it by hand as the pilot's account; it needs user namespaces (see the check user-namespaces), or its \
                        setuid part on a mount without nosuid";
            let outcome = match came {
                Ok(Ended {
                    how: How::Exited(0),
                    stdout,
                    ..
                }) if String::from_utf8_lossy(stdout).contains(GREETING) => {
                    Outcome::passed().attribute("HAS_SINGULARITY", true)
                }
                Ok(ended) => {
                    let how = match ended.how {
                        How::Exited(status) => format!("exit status {status}"),
                        How::Signalled(signal) => format!("killed by signal {signal}"),
                        How::TimedOut => "it did not end".to_owned(),
                    };
                    site(format!("{what}: {how}{}", last_words(&ended.stderr)), hint)
                }
                Err(error) => site(format!("{what}: {error}"), hint),
            };
            let outcome = outcome.text("program", program.display().to_string());
            match version {
                Some(version) => outcome
                    .text("version", version.clone())
                    .attribute("SINGULARITY_VERSION", version.as_str()),
                None => outcome,
            }
        }
    }
}

/// The last line that says something: the first ones are often only information.
fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.map_or_else(String::new, |line| format!(": {}", line.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(how: How, stdout: &str, stderr: &str) -> Facts {
        Facts::There {
            program: "/usr/bin/apptainer".into(),
            version: Some("apptainer version 1.3.4".into()),
            image: None,
            came: Ok(Ended {
                how,
                stdout: stdout.into(),
                stderr: stderr.into(),
                elapsed: Duration::ZERO,
                left: 0,
                survivors: 0,
                background: None,
            }),
        }
    }

    #[test]
    fn a_trial_that_fails_says_why() {
        assert!(judge(&ended(How::Exited(0), "sailplane-in-a-container\n", "")).is_passed());
        let outcome = judge(&ended(
            How::Exited(255),
            "",
            "INFO: x\nFATAL: container creation failed: mount: permission denied\n\n",
        ));
        let why = &outcome.failure().unwrap().why;
        assert!(
            why.ends_with(
                "exit status 255: FATAL: container creation failed: mount: permission denied"
            ),
            "{why}"
        );
        assert!(judge(&ended(How::Exited(0), "", "")).failure().is_some());
        assert!(
            judge(&Facts::NotThere(None))
                .failure()
                .unwrap()
                .why
                .contains("PATH")
        );
        assert!(
            judge(&Facts::NotThere(Some("/x/apptainer".into())))
                .failure()
                .unwrap()
                .why
                .contains("/x/apptainer")
        );
    }
}
