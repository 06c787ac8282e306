//! The processes of the demo: the pool, the pilot, and the tools the users call.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use thiserror::Error;

use super::interrupt::{self, Interrupted};
use super::stage::Account;

/// A process that runs as long as the demo.
#[derive(Debug)]
pub(super) struct Actor {
    child: Child,
    name: &'static str,
    log: PathBuf,
}

/// A process failed.
#[derive(Debug, Error)]
pub(super) enum ActorError {
    /// The person does not want to wait.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// It could not be started.
    #[error("cannot start {name}")]
    Start {
        /// Which.
        name: String,
        /// The cause.
        source: io::Error,
    },
    /// It ended before its time.
    #[error("{name} ended ({status}); its last words:\n{words}")]
    Ended {
        /// Which.
        name: String,
        /// Exit status or signal.
        status: String,
        /// End of its log.
        words: String,
    },
    /// It did not do in time what was waited for.
    #[error("{name} did not {what} within {seconds} s; its last words:\n{words}")]
    Late {
        /// Which.
        name: String,
        /// What was waited for.
        what: &'static str,
        /// How long.
        seconds: u64,
        /// End of its log.
        words: String,
    },
}

/// A command of this program under an account, with nothing of our environment but a path.
pub(super) fn command(program: &Path, account: Option<&Account>, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .stdin(Stdio::null());
    if let Some(account) = account {
        command
            .uid(account.id)
            .gid(account.id)
            .env("HOME", &account.home)
            .env("USER", &account.name);
    }
    command
}

/// Waits a moment before the next look at a file or a process that tells nobody when it changes.
#[expect(clippy::disallowed_methods, reason = "nothing to wait for but time")]
pub(super) fn pause() {
    std::thread::sleep(Duration::from_millis(30));
}

impl Actor {
    /// Starts a process whose output goes to `log`.
    pub(super) fn start(
        name: &'static str,
        mut command: Command,
        log: &Path,
    ) -> Result<Self, ActorError> {
        let failed = |source| ActorError::Start {
            name: name.to_owned(),
            source,
        };
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let (output, errors): (File, File) = (open().map_err(failed)?, open().map_err(failed)?);
        let child = command
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            child,
            name,
            log: log.to_owned(),
        })
    }

    /// Waits until `ready` gives something.
    pub(super) fn wait_until<T>(
        &mut self,
        what: &'static str,
        limit: Duration,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, ActorError> {
        let began = Instant::now();
        loop {
            if let Some(found) = ready() {
                return Ok(found);
            }
            self.check()?;
            interrupt::check()?;
            if began.elapsed() > limit {
                return Err(ActorError::Late {
                    name: self.name.to_owned(),
                    what,
                    seconds: limit.as_secs(),
                    words: self.last_words(),
                });
            }
            pause();
        }
    }

    /// An error if the process has ended.
    pub(super) fn check(&mut self) -> Result<(), ActorError> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(ActorError::Ended {
                name: self.name.to_owned(),
                status: status.to_string(),
                words: self.last_words(),
            }),
            _ => Ok(()),
        }
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(12);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    /// Asks the process to end; true if it did so, well, within `limit`. Otherwise it is killed.
    pub(super) fn stop(&mut self, limit: Duration) -> bool {
        self.signal(Signal::SIGTERM);
        let began = Instant::now();
        while began.elapsed() < limit {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) => pause(),
                Err(_) => break,
            }
        }
        self.signal(Signal::SIGKILL);
        // Reaped; how it ended is known.
        let _ = self.child.wait();
        false
    }

    fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.stop(Duration::from_secs(3));
        }
    }
}
