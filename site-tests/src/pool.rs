//! A real HTCondor pool on loopback.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid};
use serde::Deserialize;

use crate::process::{self, Process};
use crate::{Ad, say, wait};

/// A job's number in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    /// Number of the submission.
    pub cluster: u32,
    /// Number within it.
    pub process: u32,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.cluster, self.process)
    }
}

impl FromStr for JobId {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (cluster, process) = text
            .split_once('.')
            .ok_or_else(|| anyhow!("{text:?} is no job number"))?;
        Ok(Self {
            cluster: cluster.parse()?,
            process: process.parse()?,
        })
    }
}

/// `JobStatus` of the job's ad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Waits for a slot.
    Idle = 1,
    /// Has a slot.
    Running = 2,
    /// Was removed by its user.
    Removed = 3,
    /// Has ended.
    Completed = 4,
    /// Waits for a person.
    Held = 5,
}

/// How to raise a pool.
#[derive(Debug, Clone, Default)]
pub struct PoolOptions {
    /// Beginning of its name.
    pub name: String,
    /// One port for all daemons.
    pub shared_port: bool,
    /// Copy jobs' proxies instead of delegating them.
    pub no_delegation: bool,
    /// Number of slots of a real HTCondor startd; 0 for none.
    pub startd_slots: u32,
    /// Further configuration, `KNOB=VALUE`.
    pub knobs: Vec<String>,
}

/// A running pool; dropping it takes it down.
#[derive(Debug)]
pub struct Pool {
    environment: Environment,
    folders: AtomicU32,
}

/// What `site-tests/pool/up` prints.
#[derive(Debug, Clone, Deserialize)]
struct Environment {
    dir: PathBuf,
    collector_host: String,
    trust_domain: String,
    uid: u32,
    gid: u32,
    bin: PathBuf,
    submit_dir: PathBuf,
    log_dir: PathBuf,
    pilot_token: PathBuf,
    master_pid: i32,
}

static RAISED: AtomicU32 = AtomicU32::new(0);

impl Pool {
    /// Raises a pool and waits until it answers. The first call on a machine also builds the tree of programs.
    ///
    /// # Errors
    /// When the scripts fail, with what they said.
    pub fn raise(options: &PoolOptions) -> Result<Self> {
        let name = format!(
            "{}-{}-{}",
            options.name,
            std::process::id(),
            RAISED.fetch_add(1, Ordering::Relaxed)
        );
        let mut command = process::pool_script("up");
        command.args(["--name", &name]);
        if options.shared_port {
            command.arg("--shared-port");
        }
        if options.no_delegation {
            command.arg("--no-delegation");
        }
        if options.startd_slots > 0 {
            command.args(["--with-startd", &options.startd_slots.to_string()]);
        }
        for knob in &options.knobs {
            command.args(["--set", knob]);
        }
        let text = process::output(&mut command).context("raise an HTCondor pool")?;
        let environment = serde_json::from_str(&text).context("read the pool's description")?;
        Ok(Self {
            environment,
            folders: AtomicU32::new(0),
        })
    }

    /// `COLLECTOR_HOST` for a pilot.
    #[must_use]
    pub fn collector_host(&self) -> &str {
        &self.environment.collector_host
    }

    /// Domain of the pool's users and tokens.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        &self.environment.trust_domain
    }

    /// The token that lets a pilot advertise.
    #[must_use]
    pub fn pilot_token(&self) -> &Path {
        &self.environment.pilot_token
    }

    /// A token like [`Pool::pilot_token`] that ends after some seconds.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn short_token(&self, seconds: u32) -> Result<String> {
        let identity = format!("pilot@{}", self.trust_domain());
        let lifetime = seconds.to_string();
        let arguments = [
            "-key",
            "POOL",
            "-identity",
            &identity,
            "-lifetime",
            &lifetime,
        ];
        let scopes = [
            "-authz",
            "ADVERTISE_STARTD",
            "-authz",
            "ADVERTISE_MASTER",
            "-authz",
            "READ",
        ];
        self.tool(
            "daemons",
            "condor_token_create",
            arguments.iter().chain(&scopes),
        )
    }

    /// The instance's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.environment.dir
    }

    /// Text of a daemon's log, `ShadowLog` for example; empty when there is none yet.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        let bytes = fs::read(self.environment.log_dir.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Owner of submit folders and of the users' files.
    #[must_use]
    pub fn owner(&self) -> (Uid, Gid) {
        (
            Uid::from_raw(self.environment.uid),
            Gid::from_raw(self.environment.gid),
        )
    }

    /// A new folder from which a user submits.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn folder(&self, user: &str) -> Result<PathBuf> {
        let number = self.folders.fetch_add(1, Ordering::Relaxed);
        let folder = self.environment.submit_dir.join(format!("{user}-{number}"));
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        process::give(&folder, self.owner())?;
        Ok(folder)
    }

    /// Runs a tool of the pool as a user of it and returns its output.
    ///
    /// # Errors
    /// When the tool fails, with what it said.
    pub fn tool<I, S>(&self, user: &str, tool: &str, arguments: I) -> Result<String>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        process::output(&mut self.tool_command(user, tool, arguments))
    }

    /// The command of [`Pool::tool`], for a caller that wants to look at a failure.
    pub fn tool_command<I, S>(&self, user: &str, tool: &str, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(self.environment.bin.join("as"));
        command
            .arg(user)
            .arg(tool)
            .args(arguments)
            .current_dir(&self.environment.submit_dir);
        command
    }

    /// Sends a submit file that stands in `folder`, with further variables for `condor_submit`.
    ///
    /// # Errors
    /// When `condor_submit` refuses it.
    pub fn submit_file(
        &self,
        user: &str,
        folder: &Path,
        file: &str,
        environment: &[(&str, &Path)],
    ) -> Result<Vec<JobId>> {
        let mut command = self.tool_command(user, "condor_submit", ["-terse", file]);
        command
            .current_dir(folder)
            .envs(environment.iter().copied());
        let text = process::output(&mut command)?;
        let mut jobs = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (first, last) = line
                .split_once(" - ")
                .ok_or_else(|| anyhow!("condor_submit said {line:?}"))?;
            let (first, last): (JobId, JobId) = (first.trim().parse()?, last.trim().parse()?);
            jobs.extend((first.process..=last.process).map(|process| JobId { process, ..first }));
        }
        Ok(jobs)
    }

    /// The job's ad in the queue.
    ///
    /// # Errors
    /// When the schedd does not answer.
    pub fn q(&self, job: JobId) -> Result<Option<Ad>> {
        let text = self.tool("admin", "condor_q", ["-all", "-json", &job.to_string()])?;
        Ok(Ad::list(&text)?.pop())
    }

    /// The job's ad after it has left the queue.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn history(&self, job: JobId) -> Result<Option<Ad>> {
        let text = self.tool("admin", "condor_history", ["-json", &job.to_string()])?;
        Ok(Ad::list(&text)?.pop())
    }

    /// The job's ad, wherever it is.
    ///
    /// # Errors
    /// When it is nowhere.
    pub fn job(&self, job: JobId) -> Result<Ad> {
        if let Some(ad) = self.q(job)? {
            return Ok(ad);
        }
        self.history(job)?
            .ok_or_else(|| anyhow!("job {job} is neither in the queue nor in the history"))
    }

    /// Waits until the job is in `state` and returns its ad then.
    ///
    /// # Errors
    /// When `patience` ends first, or the job ends up in a state that it can't leave.
    pub fn wait_for(&self, job: JobId, state: JobState, patience: Duration) -> Result<Ad> {
        wait::until(&format!("job {job} to be {state:?}"), patience, || {
            let ad = self.job(job)?;
            let now = ad.int("JobStatus");
            if now == Some(state as i64) {
                return Ok(Some(ad));
            }
            if now == Some(JobState::Held as i64) {
                bail!("job {job} was held: {}", ad.text("HoldReason"));
            }
            if now == Some(JobState::Removed as i64) || now == Some(JobState::Completed as i64) {
                bail!("job {job} left the queue with status {now:?} instead of being {state:?}");
            }
            Ok(None)
        })
    }

    /// Slots' ads in the collector that match `constraint`.
    ///
    /// # Errors
    /// When the collector does not answer.
    pub fn slots(&self, constraint: &str) -> Result<Vec<Ad>> {
        Ad::list(&self.tool(
            "admin",
            "condor_status",
            ["-json", "-constraint", constraint],
        )?)
    }

    /// All processes of the pool with this program name, `condor_shadow` for example.
    #[must_use]
    pub fn daemons(&self, program: &str) -> Vec<Process> {
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        let ours = namespace(self.environment.master_pid);
        process::find(|candidate| {
            let name = candidate.command.split(' ').next().unwrap_or_default();
            name.rsplit('/').next() == Some(program)
                && ours.is_some()
                && namespace(candidate.pid) == ours
        })
    }

    /// Sends a signal to all of [`Pool::daemons`] and returns how many there were.
    ///
    /// # Errors
    /// When there is none.
    pub fn signal(&self, program: &str, signal: Signal) -> Result<usize> {
        let daemons = self.daemons(program);
        if daemons.is_empty() {
            bail!("the pool has no {program}");
        }
        for daemon in &daemons {
            kill(Pid::from_raw(daemon.pid), signal).with_context(|| format!("signal {program}"))?;
        }
        Ok(daemons.len())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut command = process::pool_script("down");
        if std::thread::panicking() || std::env::var_os("SAILPLANE_KEEP").is_some() {
            say(&format!(
                "the pool's files are kept in {}",
                self.environment.dir.display()
            ));
            command.arg("--keep");
        }
        if let Err(error) = process::output(command.arg(&self.environment.dir)) {
            say(&format!("taking the pool down failed: {error:#}"));
        }
    }
}
