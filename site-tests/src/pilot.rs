//! The pilot under test, running as an ordinary account.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid};

use crate::helper::Site;
use crate::{Ad, EmbeddedPool, Nat, PILOT_ACCOUNT, Pool, process, say, wait};

/// A pool that pilots can join: HTCondor's own, or the embedded one.
pub trait Joinable {
    /// `COLLECTOR_HOST`.
    fn address(&self) -> String;

    /// The file with the token that lets a pilot advertise.
    fn advertising_token(&self) -> PathBuf;

    /// Slots' ads in the collector that match `constraint`.
    ///
    /// # Errors
    /// When the collector does not answer.
    fn find_slots(&self, constraint: &str) -> Result<Vec<Ad>>;
}

impl Joinable for Pool {
    fn address(&self) -> String {
        self.collector_host().to_owned()
    }

    fn advertising_token(&self) -> PathBuf {
        self.pilot_token().to_owned()
    }

    fn find_slots(&self, constraint: &str) -> Result<Vec<Ad>> {
        self.slots(constraint)
    }
}

impl Joinable for EmbeddedPool {
    fn address(&self) -> String {
        self.collector_host()
    }

    fn advertising_token(&self) -> PathBuf {
        self.token("pilot")
    }

    fn find_slots(&self, constraint: &str) -> Result<Vec<Ad>> {
        self.ads(&["-constraint", constraint])
    }
}

/// How to start a pilot.
#[derive(Debug, Clone)]
pub struct PilotOptions {
    /// `NUM_SLOTS` and `NUM_CPUS`.
    pub slots: u32,
    /// Further knobs; they win over the defaults that [`Pilot::start`] sets.
    pub knobs: Vec<(String, String)>,
    /// A token file instead of the pool's own.
    pub token: Option<PathBuf>,
    /// Variables of its environment.
    pub variables: Vec<(String, String)>,
    /// The network namespace it runs in, if that is not ours.
    pub network: Option<PathBuf>,
}

impl Default for PilotOptions {
    fn default() -> Self {
        Self {
            slots: 2,
            knobs: Vec::new(),
            token: None,
            variables: Vec::new(),
            network: None,
        }
    }
}

impl PilotOptions {
    /// Runs it in the network of such a node.
    #[must_use]
    pub fn behind(mut self, nat: &Nat) -> Self {
        self.network = Some(nat.path());
        self
    }

    /// Adds a variable of its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a knob.
    #[must_use]
    pub fn knob(mut self, name: &str, value: impl ToString) -> Self {
        self.knobs.push((name.to_owned(), value.to_string()));
        self
    }
}

/// A running pilot. Dropping it retires it, and kills it when that takes too long.
#[derive(Debug)]
pub struct Pilot {
    child: Child,
    status: Option<ExitStatus>,
    folder: PathBuf,
    execute: PathBuf,
    name: String,
}

/// The pilot's program, to be run in its network. There root enters first, and then becomes the account.
fn in_network(options: &PilotOptions, owner: (Uid, Gid), program: &Path) -> Command {
    let Some(network) = &options.network else {
        return Command::new(program);
    };
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", network.display()))
        .args([
            "setpriv",
            &format!("--reuid={}", owner.0),
            &format!("--regid={}", owner.1),
        ])
        .arg("--clear-groups")
        .arg(program);
    command
}

static STARTED: AtomicU32 = AtomicU32::new(0);

impl Pilot {
    /// Starts a pilot with the configuration of `examples/pilot`, in a folder of its own. It may not have joined yet.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(site: &Site, pool: &impl Joinable, options: &PilotOptions) -> Result<Self> {
        let owner = process::ensure_account(PILOT_ACCOUNT)?;
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("pilot-{}-{number}", std::process::id());
        let folder = Path::new("/var/lib/sailplane/pilots").join(&name);
        let tokens = folder.join("tokens");
        fs::create_dir_all(&tokens).with_context(|| format!("make {}", tokens.display()))?;
        let program = folder.join("sailplane");
        // By another process: a child forked meanwhile by another thread would hold a file that this one writes open, and
        // then it can't be executed.
        process::output(
            Command::new("install")
                .args(["-m", "755"])
                .arg(&site.pilot)
                .arg(&program),
        )?;
        let token = tokens.join("pool");
        let given = options.token.clone();
        fs::copy(given.unwrap_or_else(|| pool.advertising_token()), &token)
            .context("copy the token")?;
        let config = folder.join("pilot.conf");
        fs::copy(
            process::source_tree().join("examples/pilot/pilot.conf"),
            &config,
        )
        .context("copy pilot.conf")?;
        for (path, mode) in [
            (&folder, 0o755),
            (&tokens, 0o700),
            (&token, 0o600),
            (&config, 0o644),
        ] {
            process::give(path, owner)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }

        let execute = site.execute.join(&name);
        let log = File::create(folder.join("pilot.out")).context("make the pilot's output file")?;
        let mut command = in_network(options, owner, &program);
        command.args(["run", "--config", "pilot.conf"]);
        let defaults = [
            ("COLLECTOR_HOST", pool.address()),
            ("STARTD_NAME", name.clone()),
            ("NETWORK_INTERFACE", "127.0.0.1".to_owned()),
            ("NUM_SLOTS", options.slots.to_string()),
            ("NUM_CPUS", options.slots.to_string()),
            ("MEMORY", (512 * options.slots).to_string()),
            ("EXECUTE", execute.display().to_string()),
            ("SAILPLANE_SWITCH", site.switch.display().to_string()),
            ("SAILPLANE_FAILURE_NAP", "0".to_owned()),
            // Tests have tokens that live for seconds.
            ("SAILPLANE_CHECK_TOKEN_LIFE", "0".to_owned()),
            ("UPDATE_INTERVAL", "5".to_owned()),
            ("STARTD_NOCLAIM_SHUTDOWN", "0".to_owned()),
        ];
        for (knob, value) in defaults {
            if !options
                .knobs
                .iter()
                .any(|(given, _)| given.eq_ignore_ascii_case(knob))
            {
                command.arg("--set").arg(format!("{knob}={value}"));
            }
        }
        for (knob, value) in &options.knobs {
            command.arg("--set").arg(format!("{knob}={value}"));
        }
        command
            .current_dir(&folder)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("PWD", &folder)
            .envs(options.variables.iter().map(|(name, value)| (name, value)));
        for name in ["RUST_LOG", "RUST_BACKTRACE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if options.network.is_none() {
            command.uid(owner.0.as_raw()).gid(owner.1.as_raw());
        }
        let child = command.spawn().context("start the pilot")?;
        Ok(Self {
            child,
            status: None,
            folder,
            execute,
            name,
        })
    }

    /// The value of `STARTD_NAME`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder: configuration, token, log.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where its sandboxes are, unless `EXECUTE` was given.
    #[must_use]
    pub fn execute(&self) -> &Path {
        &self.execute
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Its slots, as the collector has them.
    ///
    /// # Errors
    /// When the collector does not answer.
    pub fn slots(&self, pool: &impl Joinable) -> Result<Vec<Ad>> {
        pool.find_slots(&format!("regexp(\"@{}\", Name)", self.name))
    }

    /// Waits until the collector has `slots` slots of this pilot.
    ///
    /// # Errors
    /// When that takes too long, or the pilot ends: with its log.
    pub fn wait_joined(&mut self, pool: &impl Joinable, slots: usize) -> Result<Vec<Ad>> {
        wait::until("the pilot's slots in the collector", wait::PATIENCE, || {
            if let Some(status) = self.child.try_wait()? {
                self.status = Some(status);
                bail!("the pilot ended with {status}");
            }
            Ok(Some(self.slots(pool)?).filter(|found| found.len() == slots))
        })
        .with_context(|| format!("pilot's log:\n{}", self.log()))
    }

    /// Everything it wrote to standard output and error.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.join("pilot.out")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// When the system can't say.
    pub fn is_running(&mut self) -> Result<bool> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status.is_none())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).context("signal the pilot")
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it goes on for longer than `patience`: with its log.
    pub fn wait_end(&mut self, patience: Duration) -> Result<ExitStatus> {
        wait::every(
            Duration::from_millis(20),
            "the pilot to end",
            patience,
            || {
                self.is_running()?;
                Ok(self.status)
            },
        )
        .with_context(|| format!("pilot's log:\n{}", self.log()))
    }
}

impl Drop for Pilot {
    fn drop(&mut self) {
        if self.is_running().unwrap_or(false) {
            let retired = self
                .signal(Signal::SIGTERM)
                .and_then(|()| self.wait_end(Duration::from_secs(15)));
            if retired.is_err() {
                say("the pilot did not retire within 15 s and is killed");
                if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
                    say(&format!("killing it failed: {error}"));
                }
            }
        }
        if std::thread::panicking() || std::env::var_os("SAILPLANE_KEEP").is_some() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines
                .get(lines.len().saturating_sub(60)..)
                .unwrap_or_default()
                .join("\n");
            say(&format!(
                "the pilot's folder is {}; the end of its log:\n{tail}",
                self.folder.display()
            ));
            return;
        }
        for folder in [&self.folder, &self.execute]
            .into_iter()
            .filter(|folder| folder.exists())
        {
            if let Err(error) = fs::remove_dir_all(folder) {
                say(&format!("{} can't be removed: {error}", folder.display()));
            }
        }
    }
}
