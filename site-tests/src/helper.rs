//! Builds the programs and installs the setuid helper on this machine, as a site admin would.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};

use crate::process;
use crate::tokens::TokenIssuer;
use crate::{PILOT_ACCOUNT, POOL_ACCOUNT, TestCa};

/// Where everything of the tests lives, beside the pools.
const STATE: &str = "/var/lib/sailplane";
/// The helper's configuration, fixed when it is built.
const SWITCH_CONF: &str = "/etc/sailplane/switch.conf";

/// A node with the helper installed.
#[derive(Debug, Clone)]
pub struct Site {
    /// The authority that the helper trusts.
    pub ca: TestCa,
    /// The issuer whose tokens the helper takes; `None` without a helper.
    pub tokens: Option<TokenIssuer>,
    /// The built pilot.
    pub pilot: PathBuf,
    /// The installed helper, for `SAILPLANE_SWITCH`.
    pub switch: PathBuf,
    /// Where sandboxes go, for `EXECUTE`.
    pub execute: PathBuf,
    /// A second such folder, for tests that put a small file system there.
    pub small_execute: PathBuf,
    /// The dynamic accounts.
    pub uids: RangeInclusive<u32>,
}

/// Builds and installs once per process; later calls give the same site.
///
/// # Errors
/// When building or installing fails.
pub fn site() -> Result<&'static Site> {
    static SITE: OnceLock<Result<Site, String>> = OnceLock::new();
    SITE.get_or_init(|| install().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|text| anyhow!(text.clone()))
}

/// A node on which no helper is installed, or none that is used: the pilot with its agent, and an authority. Its `switch`
/// is not there.
///
/// # Errors
/// When building fails.
pub fn bare() -> Result<&'static Site> {
    static SITE: OnceLock<Result<Site, String>> = OnceLock::new();
    SITE.get_or_init(|| build_bare().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|text| anyhow!(text.clone()))
}

/// The agent of a node without our helper, for `SAILPLANE_JOB_AGENT`.
#[must_use]
pub fn bare_agent() -> PathBuf {
    state().join("sailplane-job")
}

fn build_bare() -> Result<Site> {
    process::ensure_account(PILOT_ACCOUNT)?;
    process::ensure_account(POOL_ACCOUNT)?;
    let state = state();
    let execute = state.join("execute-bare");
    fs::create_dir_all(&execute)?;
    fs::set_permissions(&execute, fs::Permissions::from_mode(0o1777))?;
    let lock = fs::File::create(state.join("site-tests.lock")).context("make the lock file")?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("wait for the lock")?;
    let ca = TestCa::at(&state.join("test-ca"), POOL_ACCOUNT)?;
    let cargo = Cargo::here()?;
    let pilot = cargo.pilot()?;
    // Where every account can execute it; others may be executing the one that is there.
    let new = bare_agent().with_extension("new");
    let agent = cargo.program("sailplane-job")?;
    process::output(
        Command::new("install")
            .args(["-m", "755"])
            .arg(agent)
            .arg(&new),
    )?;
    fs::rename(&new, bare_agent())?;
    Ok(Site {
        ca,
        tokens: None,
        pilot,
        switch: PathBuf::from("/no/such/helper"),
        small_execute: execute.clone(),
        execute,
        uids: 300_000..=300_999,
    })
}

/// The folder that everything of the tests lives in.
#[must_use]
pub fn state() -> &'static Path {
    Path::new(STATE)
}

fn install() -> Result<Site> {
    process::ensure_account(PILOT_ACCOUNT)?;
    process::ensure_account(POOL_ACCOUNT)?;
    let state = state();
    fs::create_dir_all(state)?;
    // Several test programs may begin at the same time.
    let lock = fs::File::create(state.join("site-tests.lock")).context("make the lock file")?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("wait for the lock")?;

    let ca = TestCa::at(&state.join("test-ca"), POOL_ACCOUNT)?;
    let cargo = Cargo::here()?;
    let pilot = cargo.pilot()?;
    let staging = tempfile::tempdir()?;
    cargo.helper(staging.path())?;

    let execute = state.join("execute");
    let small_execute = state.join("execute-small");
    let mut command = Command::new(process::source_tree().join("examples/site/install"));
    command
        .arg("--from")
        .arg(staging.path())
        .args(["--caller", PILOT_ACCOUNT]);
    command.arg("--certdir").arg(ca.certificates());
    // Empty until a test makes a VOMS proxy, but the helper wants it to be there.
    fs::create_dir_all(ca.voms_servers())?;
    command.arg("--vomsdir").arg(ca.voms_servers());
    command
        .arg("--execute")
        .arg(&execute)
        .arg("--execute")
        .arg(&small_execute);
    // Never overwrite a real site's configuration: only one that these tests wrote.
    let present = fs::read_to_string(SWITCH_CONF).unwrap_or_default();
    if present.contains(&format!("certdir = {}", ca.certificates().display())) {
        command.arg("--force");
    }
    process::output(&mut command).context("install the helper")?;
    let tokens = TokenIssuer::at(&state.join("tokens"))?;
    take_tokens(&tokens)?;
    Ok(Site {
        ca,
        tokens: Some(tokens),
        pilot,
        switch: PathBuf::from("/usr/lib/sailplane/sailplane-switch"),
        execute,
        small_execute,
        uids: 300_000..=300_999,
    })
}

/// Adds an issuer of tokens to the configuration, whose last section is `[switch]`.
fn take_tokens(issuer: &TokenIssuer) -> Result<()> {
    let text = fs::read_to_string(SWITCH_CONF).context("read switch.conf")?;
    let (first, switch) = text
        .split_once("[switch]\n")
        .context("switch.conf has no [switch]")?;
    let new = Path::new(SWITCH_CONF).with_extension("new");
    fs::write(
        &new,
        format!("{first}[switch]\n{}{switch}", issuer.settings()),
    )?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
    fs::rename(new, SWITCH_CONF).context("replace switch.conf")
}

/// Removes what [`site`] installed.
///
/// # Errors
/// When the script fails.
pub fn uninstall() -> Result<()> {
    process::output(&mut Command::new(
        process::source_tree().join("examples/site/uninstall"),
    ))
    .map(drop)
}

/// Builds programs of the source tree where this program itself was built.
#[derive(Debug)]
pub(crate) struct Cargo {
    /// Where programs of this program's own profile are.
    folder: PathBuf,
    target: PathBuf,
    profile: &'static str,
}

impl Cargo {
    /// Finds the target folder.
    pub(crate) fn here() -> Result<Self> {
        let this = std::env::current_exe().context("find this program's path")?;
        let folder = this
            .ancestors()
            .find(|folder| {
                folder
                    .file_name()
                    .is_some_and(|name| name == "debug" || name == "release")
            })
            .with_context(|| format!("{} is in no cargo target folder", this.display()))?;
        let target = folder.parent().context("the target folder has no parent")?;
        Ok(Self {
            folder: folder.to_owned(),
            target: target.to_owned(),
            profile: if folder.ends_with("release") {
                "release"
            } else {
                "dev"
            },
        })
    }

    /// Builds the program `sailplane`.
    pub(crate) fn pilot(&self) -> Result<PathBuf> {
        self.program("sailplane")
    }

    /// Builds the program of a package of the same name.
    fn program(&self, name: &str) -> Result<PathBuf> {
        let mut command = Command::new(cargo());
        command.current_dir(process::source_tree()).args([
            "build",
            "--quiet",
            "--locked",
            "--profile",
            self.profile,
            "--package",
            name,
            "--target-dir",
        ]);
        process::output(command.arg(&self.target)).with_context(|| format!("build {name}"))?;
        Ok(self.folder.join(name))
    }

    /// Builds the helper's programs as they are shipped.
    fn helper(&self, into: &Path) -> Result<()> {
        let script = process::source_tree().join("examples/site/build");
        let mut command = Command::new(script);
        command
            .arg(into)
            // The program of this package is built with the tests.
            .arg("--helper-only")
            .env("CARGO", cargo())
            .env("CARGO_TARGET_DIR", &self.target);
        process::output(&mut command)
            .map(drop)
            .context("build the helper")
    }
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
