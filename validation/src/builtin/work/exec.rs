//! `work-exec`: a script in the work folder can be executed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::node::mounts::Mount;
use super::super::simple::probe;
use super::trial_file::TrialPath;
use super::{mount_of, place};
use crate::check::Check;
use crate::outcome::{Failure, Outcome};
use crate::probe::{Context, Probe, Running};
use crate::process::{How, ProcessError};

/// What the script ends with: nothing ends so by accident.
const STATUS: i32 = 86;
const SCRIPT: &[u8] = b"#!/bin/sh\nexit 86\n";

/// How often it is tried while some other thread's child still has the file open for writing.
const ATTEMPTS: u32 = 20;

/// The check.
pub(in super::super) fn check() -> Arc<dyn Probe> {
    let check =
        Check::new("work-exec", "executing a script in the work folder").needs("work-write");
    probe(check, run)
}

fn run(context: &Context) -> Running<'_> {
    Box::pin(async move {
        let folder = context.setup().execute.clone();
        let facts = gather(context, &folder).await;
        judge(&facts)
    })
}

#[derive(Debug)]
struct Facts {
    folder: PathBuf,
    mount: Option<Mount>,
    came: Came,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Came {
    /// The script could not be written.
    NotWritten(String),
    /// It could not be executed: Linux error number.
    NotExecuted(i32),
    /// It ended.
    Ended(How),
}

async fn gather(context: &Context, folder: &Path) -> Facts {
    let script = TrialPath::new(folder);
    let came = match write(&script) {
        Ok(()) => execute(context, &script).await,
        Err(error) => Came::NotWritten(error.to_string()),
    };
    Facts {
        folder: folder.to_owned(),
        mount: mount_of(folder),
        came,
    }
}

fn write(script: &TrialPath) -> io::Result<()> {
    script.create(0o700)?.write_all(SCRIPT)
}

async fn execute(context: &Context, script: &TrialPath) -> Came {
    for _ in 0..ATTEMPTS {
        match context.command(script.path()).run().await {
            Ok(ended) => return Came::Ended(ended.how),
            Err(ProcessError::Exec { source, .. })
                if source.raw_os_error() == Some(libc::ETXTBSY) =>
            {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            Err(ProcessError::Exec { source, .. } | ProcessError::Start(source)) => {
                return Came::NotExecuted(source.raw_os_error().unwrap_or(libc::EIO));
            }
            Err(ProcessError::NotFound { .. } | ProcessError::NoInterpreter { .. }) => {
                return Came::NotExecuted(libc::ENOENT);
            }
            Err(ProcessError::ZeroByte(_)) => return Came::NotExecuted(libc::EINVAL),
            Err(error @ ProcessError::KeeperDied { .. }) => {
                return Came::NotWritten(error.to_string());
            }
        }
    }
    Came::NotExecuted(libc::ETXTBSY)
}

fn judge(facts: &Facts) -> Outcome {
    let head = format!(
        "a script in the work folder {}{}",
        facts.folder.display(),
        place(facts.mount.as_ref())
    );
    let is_noexec = facts
        .mount
        .as_ref()
        .is_some_and(|mount| mount.has("noexec"));
    let failed =
        |why: String, hint: &str| Outcome::failed(Failure::site(why, hint).kind("WN_Resource"));
    match &facts.came {
        Came::Ended(How::Exited(STATUS)) => Outcome::passed(),
        Came::NotExecuted(libc::EACCES) if is_noexec => failed(
            format!("{head} cannot be executed: it is mounted noexec"),
            "mount it without noexec, or set EXECUTE to another place",
        ),
        Came::NotExecuted(libc::ENOENT) => failed(
            format!("{head} cannot be executed: there is no /bin/sh"),
            "install a shell as /bin/sh",
        ),
        Came::NotExecuted(errno @ (libc::EAGAIN | libc::ENOMEM)) => {
            let why = format!(
                "{head} cannot be executed: no process can be started ({})",
                nix::errno::Errno::from_raw(*errno).desc()
            );
            Outcome::failed(
                Failure::site(why, "see the checks processes and memory")
                    .transient()
                    .kind("WN_Resource"),
            )
        }
        Came::NotExecuted(errno) => failed(
            format!(
                "{head} cannot be executed: {}",
                nix::errno::Errno::from_raw(*errno).desc()
            ),
            "look for what forbids it: SELinux (`ausearch -m avc -ts recent`), fapolicyd (`fapolicyd-cli --list`), the rights of \
             /bin/sh (`ls -lL /bin/sh`)",
        ),
        Came::Ended(how) => failed(
            format!(
                "{head} does not do what it says: it should exit with {STATUS}, and ended with {how:?}"
            ),
            "run a script there by hand as the pilot's account: /bin/sh is broken, or a limit of the batch system's jobs \
             (`ulimit -a`) kills it",
        ),
        Came::NotWritten(why) => failed(
            format!("{head} cannot be written: {why}"),
            "try it by hand as the pilot's account (`touch` a file in the folder); the check work-write may say more",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::node::mounts;
    use super::*;

    fn judged(options: &str, came: Came) -> Outcome {
        let line = format!("88 61 0:52 / /w rw,{options} - tmpfs tmpfs rw\n");
        judge(&Facts {
            folder: "/w".into(),
            mount: mounts::parse(&line).pop(),
            came,
        })
    }

    #[test]
    fn the_mount_is_to_blame_if_it_is() {
        let outcome = judged("noexec", Came::NotExecuted(libc::EACCES));
        let failure = outcome.failure().unwrap();
        assert_eq!(
            failure.why,
            "a script in the work folder /w (tmpfs on /w) cannot be executed: it is mounted noexec"
        );
        let outcome = judged("relatime", Came::NotExecuted(libc::EACCES));
        assert!(outcome.failure().unwrap().hint.contains("SELinux"));
        assert!(judged("relatime", Came::Ended(How::Exited(STATUS))).is_passed());
        let outcome = judged("relatime", Came::NotExecuted(libc::EAGAIN));
        assert!(outcome.failure().unwrap().transient);
        assert!(!judged("relatime", Came::Ended(How::Exited(0))).is_passed());
    }
}
