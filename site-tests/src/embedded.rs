//! The embedded pool, and HTCondor's own tools and startd used with it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid};

use crate::helper::{self, Cargo};
use crate::{Ad, POOL_ACCOUNT, process, say, wait};

/// Users with a token: everything, everything a user may do, and what pilots need.
const USERS: [(&str, &[&str]); 4] = [
    ("admin", &[]),
    ("alice", &[]),
    ("bob", &[]),
    ("pilot", &["ADVERTISE_STARTD", "ADVERTISE_MASTER", "READ"]),
];

/// How to raise an embedded pool.
#[derive(Debug, Clone, Default)]
pub struct EmbeddedOptions {
    /// Beginning of its name.
    pub name: String,
    /// Whether root runs it; else an ordinary account does.
    pub as_root: bool,
    /// Further configuration of the pool, `KNOB=VALUE`.
    pub knobs: Vec<String>,
}

/// A running `sailplane pool serve`; dropping it takes it down.
#[derive(Debug)]
pub struct EmbeddedPool {
    child: Child,
    folder: PathBuf,
    domain: String,
    port: u16,
    owner: (Uid, Gid),
    startds: AtomicU32,
    folders: AtomicU32,
}

static RAISED: AtomicU32 = AtomicU32::new(0);

impl EmbeddedPool {
    /// Builds the program, starts it in a folder of its own, makes tokens for its users and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up, with the end of its log.
    pub fn raise(options: &EmbeddedOptions) -> Result<Self> {
        process::output(&mut process::pool_script("prepare"))?;
        let program = Cargo::here()?.pilot()?;
        let account = process::ensure_account(POOL_ACCOUNT)?;
        let owner = if options.as_root {
            (Uid::from_raw(0), Gid::from_raw(0))
        } else {
            account
        };
        let name = format!(
            "{}-{}-{}",
            options.name,
            std::process::id(),
            RAISED.fetch_add(1, Ordering::Relaxed)
        );
        let folder = helper::state().join("embedded").join(&name);
        let domain = format!("{name}.sailplane.test");
        make_folders(&folder, owner)?;
        // By another process: see Pilot::start.
        process::output(
            Command::new("install")
                .args(["-m", "755"])
                .arg(&program)
                .arg(folder.join("sailplane")),
        )?;
        let mut knobs = vec![
            format!("LOCAL_DIR = {}", folder.display()),
            "COLLECTOR_HOST = 127.0.0.1:0".to_owned(),
            "NETWORK_INTERFACE = 127.0.0.1".to_owned(),
            format!("UID_DOMAIN = {domain}"),
            format!("TRUST_DOMAIN = {domain}"),
            format!("COLLECTOR_NAME = {name}"),
            format!("SCHEDD_NAME = schedd@{domain}"),
            format!(
                "SEC_TOKEN_DIRECTORY = {}",
                folder.join("tokens/admin").display()
            ),
            format!("ALLOW_ADMINISTRATOR = admin@{domain}, root@{domain}, {POOL_ACCOUNT}@{domain}"),
            "NEGOTIATOR_INTERVAL = 2".to_owned(),
        ];
        knobs.extend(options.knobs.iter().cloned());
        write(&folder.join("pool.conf"), &(knobs.join("\n") + "\n"))?;
        let child = start(&folder, owner)?;
        let mut pool = Self {
            child,
            folder,
            domain,
            port: 0,
            owner,
            startds: AtomicU32::new(0),
            folders: AtomicU32::new(0),
        };
        pool.wait_address()?;
        write(&pool.folder.join("condor_config"), &pool.condor_config())?;
        for (user, scopes) in USERS {
            pool.make_token(user, scopes)?;
        }
        Ok(pool)
    }

    fn wait_address(&mut self) -> Result<()> {
        let file = self.folder.join("address");
        let waited = wait::until("the pool's address file", wait::PATIENCE, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the pool ended with {status}");
            }
            let text = fs::read_to_string(&file).unwrap_or_default();
            // <127.0.0.1:PORT?...>
            let port = text
                .split(['?', '>'])
                .next()
                .and_then(|text| text.rsplit(':').next());
            Ok(port.and_then(|port| port.parse().ok()))
        });
        self.port = waited.with_context(|| format!("its log ends with\n{}", self.log_end()))?;
        Ok(())
    }

    /// Address of the collector, `HOST:PORT`.
    #[must_use]
    pub fn collector_host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Domain of the pool's users and tokens.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.folder
    }

    /// The account that runs it.
    #[must_use]
    pub fn owner(&self) -> (Uid, Gid) {
        self.owner
    }

    /// Process number of `sailplane pool serve`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.join("log/pool")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().rev().take(30).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Kills it without warning and starts it again, at the same port.
    ///
    /// # Errors
    /// When it does not come up again.
    pub fn crash_and_restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        fs::remove_file(self.folder.join("address")).context("remove the address file")?;
        let config = self.folder.join("pool.conf");
        let text = fs::read_to_string(&config)?;
        let same_port = format!("COLLECTOR_HOST = 127.0.0.1:{}", self.port);
        write(
            &config,
            &text.replace("COLLECTOR_HOST = 127.0.0.1:0", &same_port),
        )?;
        self.child = start(&self.folder, self.owner)?;
        self.wait_address()
    }

    /// A file with a user's token.
    #[must_use]
    pub fn token(&self, user: &str) -> PathBuf {
        self.folder.join("tokens").join(user).join(user)
    }

    /// HTCondor's tool signs with the pool's own key: that also shows that both read it alike.
    fn make_token(&self, user: &str, scopes: &[&str]) -> Result<()> {
        let identity = format!("{user}@{}", self.domain);
        let mut command = self.in_tree(&[]);
        command.args([
            "condor_token_create",
            "-key",
            "POOL",
            "-identity",
            &identity,
        ]);
        for scope in scopes {
            command.args(["-authz", scope]);
        }
        let text = process::output(&mut command)?;
        let file = self.token(user);
        let folder = file.parent().context("a token is in a folder")?;
        fs::DirBuilder::new().mode(0o700).create(folder)?;
        write(&file, &text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        process::give(folder, self.owner)?;
        process::give(&file, self.owner)
    }

    /// A new folder from which a user submits.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn folder(&self, user: &str) -> Result<PathBuf> {
        let number = self.folders.fetch_add(1, Ordering::Relaxed);
        let folder = self.folder.join("submit").join(format!("{user}-{number}"));
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        process::give(&folder, self.owner)?;
        Ok(folder)
    }

    /// `sailplane pool ARGUMENTS`, as the account that runs the pool and with its configuration.
    pub fn command<I, S>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(self.folder.join("sailplane"));
        command
            .arg("pool")
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.folder)
            .env("CONDOR_CONFIG", self.folder.join("pool.conf"))
            .current_dir(self.folder.join("submit"))
            .uid(self.owner.0.as_raw())
            .gid(self.owner.1.as_raw());
        command
    }

    /// Runs [`EmbeddedPool::command`] and returns its output.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn run<I, S>(&self, arguments: I) -> Result<String>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        process::output(&mut self.command(arguments))
    }

    /// Runs one of HTCondor's own tools as a user of the pool and returns its output.
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

    /// The command of [`EmbeddedPool::tool`], for a caller that wants to look at a failure.
    pub fn tool_command<I, S>(&self, user: &str, tool: &str, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let tokens = self.folder.join("tokens").join(user);
        let mut command = self.in_tree(&[
            ("SEC_TOKEN_DIRECTORY", &tokens.display().to_string()),
            ("SEC_PASSWORD_DIRECTORY", "/nonexistent"),
            ("SEC_TOKEN_POOL_SIGNING_KEY_FILE", "/nonexistent"),
        ]);
        command.arg(tool).args(arguments);
        command
    }

    /// The beginning of a command in the tree in which HTCondor is installed, with knobs that win over its configuration.
    fn in_tree(&self, knobs: &[(&str, &str)]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "slave", "--"])
            .arg(process::pool_script("enter").get_program())
            .arg(&self.folder)
            .arg("env");
        command.args(
            knobs
                .iter()
                .map(|(knob, value)| format!("_CONDOR_{knob}={value}")),
        );
        command
    }

    /// Ads in the collector, as HTCondor's `condor_status` sees them.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn ads(&self, arguments: &[&str]) -> Result<Vec<Ad>> {
        let arguments = arguments.iter().chain(&["-json"]);
        Ad::list(&self.tool("alice", "condor_status", arguments)?)
    }

    /// Starts HTCondor's own execute side: a `condor_master` with a `condor_startd`, which joins with the pilot's token.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn condor_startd(&self, knobs: &[(&str, &str)]) -> Result<EmbeddedStartd> {
        let number = self.startds.fetch_add(1, Ordering::Relaxed);
        let name = format!("startd{number}");
        let home = self.folder.join("startds").join(&name);
        for part in ["", "log", "execute", "lock", "run", "spool"] {
            let path = home.join(part);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
            process::give(&path, self.owner)?;
        }
        let part = |name: &str| home.join(name).display().to_string();
        let tokens = self.folder.join("tokens/pilot").display().to_string();
        let own = [
            ("LOCAL_DIR", home.display().to_string()),
            ("LOG", part("log")),
            ("EXECUTE", part("execute")),
            ("LOCK", part("lock")),
            ("RUN", part("run")),
            ("SPOOL", part("spool")),
            ("SEC_TOKEN_DIRECTORY", tokens),
            ("SEC_PASSWORD_DIRECTORY", "/nonexistent".to_owned()),
            ("STARTD_NAME", name.clone()),
            ("MASTER_NAME", name.clone()),
        ];
        let own = own.iter().map(|(knob, value)| (*knob, value.as_str()));
        let knobs: Vec<_> = own.chain(knobs.iter().copied()).collect();
        let output = File::create(home.join("log/master.out"))?;
        let mut command = self.in_tree(&knobs);
        command
            .args(["/usr/sbin/condor_master", "-f"])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command.spawn().context("start condor_master")?;
        Ok(EmbeddedStartd { child, home, name })
    }

    /// Configuration of HTCondor's programs.
    fn condor_config(&self) -> String {
        let Self {
            folder,
            domain,
            port,
            ..
        } = self;
        let folder = folder.display();
        let lines = [
            format!("COLLECTOR_HOST = 127.0.0.1:{port}"),
            "CONDOR_HOST = 127.0.0.1".to_owned(),
            format!("UID_DOMAIN = {domain}"),
            format!("TRUST_DOMAIN = {domain}"),
            format!("DEFAULT_DOMAIN_NAME = {domain}"),
            "FILESYSTEM_DOMAIN = execute.$(UID_DOMAIN)".to_owned(),
            format!("SCHEDD_HOST = schedd@{domain}"),
            "NETWORK_INTERFACE = 127.0.0.1".to_owned(),
            "NETWORK_HOSTNAME = localhost".to_owned(),
            "BIND_ALL_INTERFACES = false".to_owned(),
            "ENABLE_IPV6 = false".to_owned(),
            "WANT_UDP_COMMAND_SOCKET = false".to_owned(),
            "USE_SHARED_PORT = false".to_owned(),
            "SEC_USE_FAMILY_SESSION = false".to_owned(),
            "DAEMON_LIST = MASTER, STARTD".to_owned(),
            "RELEASE_DIR = /usr".to_owned(),
            "BIN = /usr/bin".to_owned(),
            "SBIN = /usr/sbin".to_owned(),
            "LIB = /usr/lib/condor".to_owned(),
            "LIBEXEC = /usr/libexec/condor".to_owned(),
            format!("LOCAL_DIR = {folder}"),
            "LOG = $(LOCAL_DIR)/log".to_owned(),
            "RUN = $(LOCAL_DIR)/run".to_owned(),
            "LOCK = $(LOCAL_DIR)/run".to_owned(),
            "SPOOL = $(LOCAL_DIR)/run".to_owned(),
            "CRED_STORE_DIR = $(LOCAL_DIR)/run".to_owned(),
            "SEC_CREDENTIAL_DIRECTORY_OAUTH =".to_owned(),
            "CREDMON_OAUTH =".to_owned(),
            format!("SEC_PASSWORD_DIRECTORY = {folder}/passwords.d"),
            format!("SEC_TOKEN_POOL_SIGNING_KEY_FILE = {folder}/passwords.d/POOL"),
            "SEC_TOKEN_SYSTEM_DIRECTORY = /nonexistent".to_owned(),
            "SEC_DEFAULT_AUTHENTICATION = REQUIRED".to_owned(),
            "SEC_DEFAULT_ENCRYPTION = REQUIRED".to_owned(),
            "SEC_DEFAULT_INTEGRITY = REQUIRED".to_owned(),
            "SEC_DEFAULT_AUTHENTICATION_METHODS = IDTOKENS".to_owned(),
            "SEC_CLIENT_AUTHENTICATION_METHODS = IDTOKENS".to_owned(),
            "SEC_DEFAULT_CRYPTO_METHODS = AES".to_owned(),
            "SEC_ENABLE_MATCH_PASSWORD_AUTHENTICATION = true".to_owned(),
            "ALLOW_READ = *".to_owned(),
            "ALLOW_CLIENT = *".to_owned(),
            "ALLOW_WRITE = *@$(UID_DOMAIN), condor@child, condor@parent".to_owned(),
            "ALLOW_DAEMON = condor@child, condor@parent, condor@family".to_owned(),
            "ALLOW_ADMINISTRATOR = condor@child, condor@parent, condor@family".to_owned(),
            "UPDATE_INTERVAL = 5".to_owned(),
            "MASTER_UPDATE_INTERVAL = 5".to_owned(),
            "KILLING_TIMEOUT = 5".to_owned(),
            "SHUTDOWN_FAST_TIMEOUT = 10".to_owned(),
            "RUNBENCHMARKS = false".to_owned(),
            "PREEN =".to_owned(),
            "MAIL =".to_owned(),
            "CREATE_CORE_FILES = false".to_owned(),
            "LOCAL_CONFIG_DIR =".to_owned(),
            "LOCAL_CONFIG_FILE =".to_owned(),
            "NUM_CPUS = 2".to_owned(),
            "MEMORY = 1024".to_owned(),
            "START = true".to_owned(),
            "STARTER_ALLOW_RUNAS_OWNER = false".to_owned(),
            "CGROUP_MEMORY_LIMIT_POLICY = none".to_owned(),
            "BASE_CGROUP =".to_owned(),
            "STARTD_DEBUG = D_FULLDEBUG".to_owned(),
        ];
        lines.join("\n") + "\n"
    }
}

fn make_folders(folder: &Path, owner: (Uid, Gid)) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    process::give(folder, owner)?;
    for part in ["log", "run", "submit", "tokens"] {
        let path = folder.join(part);
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        process::give(&path, owner)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn start(folder: &Path, owner: (Uid, Gid)) -> Result<Child> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log/pool"))
        .context("open the pool's log")?;
    Command::new(folder.join("sailplane"))
        .args(["pool", "serve", "--config"])
        .arg(folder.join("pool.conf"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", folder)
        .env("RUST_LOG", "info")
        .current_dir(folder)
        .uid(owner.0.as_raw())
        .gid(owner.1.as_raw())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("start the pool")
}

/// Ends a child: asks, waits, then kills.
fn end(child: &mut Child, signal: Signal) {
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    let _ = kill(Pid::from_raw(pid), signal);
    let ended = wait::until("a program to end", Duration::from_secs(15), || {
        Ok(child.try_wait()?)
    });
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for EmbeddedPool {
    fn drop(&mut self) {
        end(&mut self.child, Signal::SIGTERM);
        if std::thread::panicking() || std::env::var_os("SAILPLANE_KEEP").is_some() {
            say(&format!(
                "the pool's files are kept in {}; the end of its log:\n{}",
                self.folder.display(),
                self.log_end()
            ));
        } else if let Err(error) = fs::remove_dir_all(&self.folder) {
            say(&format!(
                "{} can't be removed: {error}",
                self.folder.display()
            ));
        }
    }
}

/// HTCondor's own execute side on an embedded pool; dropping it stops it. Drop it before the pool.
#[derive(Debug)]
pub struct EmbeddedStartd {
    child: Child,
    home: PathBuf,
    name: String,
}

impl EmbeddedStartd {
    /// Its slots, as the collector has them.
    ///
    /// # Errors
    /// When the collector does not answer.
    pub fn slots(&self, pool: &EmbeddedPool) -> Result<Vec<Ad>> {
        let constraint = format!("regexp(\"@{}\", Name)", self.name);
        pool.ads(&["-constraint", &constraint])
    }

    /// Waits until the collector has so many slots of it.
    ///
    /// # Errors
    /// When that takes too long, with the end of its log.
    pub fn wait_joined(&self, pool: &EmbeddedPool, slots: usize) -> Result<Vec<Ad>> {
        let joined = wait::until(
            "the startd's slots in the collector",
            wait::PATIENCE,
            || Ok(Some(self.slots(pool)?).filter(|found| found.len() == slots)),
        );
        joined.with_context(|| {
            let log = fs::read_to_string(self.home.join("log/StartLog")).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(20).collect();
            let end: Vec<_> = lines.into_iter().rev().collect();
            format!("its log ends with\n{}", end.join("\n"))
        })
    }

    /// Stops it in an orderly way; its ads should be gone then.
    pub fn stop(mut self) {
        end(&mut self.child, Signal::SIGQUIT);
    }
}

impl Drop for EmbeddedStartd {
    fn drop(&mut self) {
        end(&mut self.child, Signal::SIGQUIT);
        // Its daemons, and what they started, know it by its folder.
        let mark = format!("_CONDOR_LOCAL_DIR={}", self.home.display());
        for left in process::find(|process| {
            let environment = fs::read(format!("/proc/{}/environ", process.pid));
            environment.is_ok_and(|text| {
                text.split(|byte| *byte == 0)
                    .any(|one| one == mark.as_bytes())
            })
        }) {
            let _ = kill(Pid::from_raw(left.pid), Signal::SIGKILL);
        }
    }
}
