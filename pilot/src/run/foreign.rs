//! Whether a site's own way to change accounts can work, as far as that can be seen before the first job.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::broker::own::{self, Entrance, OwnAccount};
use crate::knobs::Knobs;

/// How long a trial may take: accounts may come from a directory service.
const TRIAL: Duration = Duration::from_secs(30);

/// Why it cannot.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The program is not there, or cannot be executed.
    #[error("{} is no program that this account can execute", path.display())]
    NoProgram {
        /// It.
        path: PathBuf,
    },
    /// The other accounts could not start our part.
    #[error(
        "{} cannot be executed by other accounts: {} is closed to them (mode {mode:04o})",
        program.display(), path.display()
    )]
    Unreachable {
        /// The pilot, or the agent.
        program: PathBuf,
        /// What is in the way.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A slot has no account.
    #[error("sudo needs an account for each slot, and SLOT{slot}_USER is not set")]
    NoAccount {
        /// Which slot.
        slot: u32,
    },
    /// Two slots have the same one.
    #[error(
        "SLOT{first}_USER and SLOT{second}_USER are both {account}, so their jobs would not be kept apart"
    )]
    SharedAccount {
        /// One slot.
        first: u32,
        /// The other.
        second: u32,
        /// The account.
        account: String,
    },
    /// A trial failed.
    #[error("{} -n -u {account} does not work: {said}", program.display())]
    Trial {
        /// `sudo`.
        program: PathBuf,
        /// The account.
        account: String,
        /// What was said.
        said: String,
    },
}

/// Looks at what can be looked at, and tries what can be tried without a job's credential.
///
/// # Errors
/// [`ForeignError`].
pub(super) async fn check(own: &OwnAccount, knobs: &Knobs, slots: u32) -> Result<(), ForeignError> {
    let (Entrance::Glexec { program, .. } | Entrance::Sudo { program }) = &own.entrance else {
        return Ok(());
    };
    let executable = nix::unistd::access(program, nix::unistd::AccessFlags::X_OK).is_ok();
    if !program.is_file() || !executable {
        return Err(ForeignError::NoProgram {
            path: program.clone(),
        });
    }
    let pilot = std::env::current_exe().ok();
    for program in pilot.iter().chain([&own.agent]) {
        reachable(program)?;
    }
    if let (Entrance::Sudo { program }, Some(pilot)) = (&own.entrance, &pilot) {
        for (slot, account) in accounts(knobs, slots)? {
            tracing::debug!(slot, account, "trying sudo");
            trial(program, pilot, account).await?;
        }
    }
    Ok(())
}

/// The account of each slot.
fn accounts(knobs: &Knobs, slots: u32) -> Result<Vec<(u32, &str)>, ForeignError> {
    let mut all: Vec<(u32, &str)> = Vec::new();
    for slot in 1..=slots {
        let Some(account) = knobs.slot_users.get(&slot) else {
            return Err(ForeignError::NoAccount { slot });
        };
        if let Some((first, _)) = all.iter().find(|(_, other)| other == account) {
            return Err(ForeignError::SharedAccount {
                first: *first,
                second: slot,
                account: account.clone(),
            });
        }
        all.push((slot, account));
    }
    Ok(all)
}

/// Runs our own program under the account, with nothing to do.
async fn trial(sudo: &Path, pilot: &Path, account: &str) -> Result<(), ForeignError> {
    let failed = |said: String| ForeignError::Trial {
        program: sudo.to_owned(),
        account: account.to_owned(),
        said,
    };
    let trial = Command::new(sudo)
        .args(["-n", "-u", account, "--"])
        .arg(pilot)
        .arg(own::KILL)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(TRIAL, trial).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let words: Vec<&str> = said.split_whitespace().collect();
            Err(failed(format!("{} ({})", words.join(" "), output.status)))
        }
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {} s", TRIAL.as_secs()))),
    }
}

/// Whether everybody can execute a program: it and every directory on the way to it.
fn reachable(program: &Path) -> Result<(), ForeignError> {
    let real = fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    for path in real.ancestors() {
        let mode = fs::metadata(path).map_or(0, |facts| facts.mode() & 0o7777);
        if mode & 0o001 == 0 {
            return Err(ForeignError::Unreachable {
                program: program.to_owned(),
                path: path.to_owned(),
                mode,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_program_behind_a_closed_door_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let Err(ForeignError::Unreachable { path, mode, .. }) = reachable(&program) else {
            panic!("the door is closed");
        };
        assert_eq!((path.as_path(), mode), (folder.path(), 0o700));
        reachable(Path::new("/bin/sh")).unwrap();
    }
}
