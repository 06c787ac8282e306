//! What else can run a program under another account.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sailplane_site_tests::{PILOT_ACCOUNT, helper, process};
use serde_json::json;

use super::driver::Who;
use super::tools::Tools;
use super::{TARGET, Way};
use crate::console;

/// Where sudo's rule for this comparison goes.
const SUDOERS: &str = "/etc/sudoers.d/sailplane-bench";

/// Every peer that is there or can be installed, and a sentence for each that cannot.
pub(crate) fn all(tools: &Tools, folder: &Path) -> Result<(Vec<Way>, Vec<String>)> {
    let mut missing = Vec::new();
    let mut ways = Vec::new();
    let mut add = |key, label, who, program: Result<PathBuf>, words: &[&str]| match program {
        Ok(program) => {
            let mut line = vec![program.display().to_string()];
            line.extend(words.iter().map(|word| (*word).to_owned()));
            let way = Way::command(key, label, who, line, &json!({"PATH": "/usr/bin:/bin"}));
            match works(&way, folder) {
                Ok(()) => ways.push(way),
                Err(error) => missing.push(format!("Not compared: {label} ({error:#}).")),
            }
        }
        Err(error) => missing.push(format!("Not compared: {label} ({error:#}).")),
    };
    let stamp = tools.stamp.to_str().context("a path")?;
    let numbers = "65534:65534";
    add(
        "floor",
        "setuid C program of 20 lines, static, account by number",
        Who::Pilot,
        Ok(tools.by_number.clone()),
        &[numbers, stamp],
    );
    add(
        "minimal",
        "setuid C program of 20 lines, account by name",
        Who::Pilot,
        Ok(tools.by_name.clone()),
        &[TARGET, stamp],
    );
    add(
        "setpriv",
        "`setpriv`, by root",
        Who::Root,
        installed("setpriv", "util-linux"),
        &[
            "--reuid",
            TARGET,
            "--regid",
            "nogroup",
            "--clear-groups",
            stamp,
        ],
    );
    add(
        "bwrap",
        "`bwrap`, no switch",
        Who::Pilot,
        installed("bwrap", "bubblewrap"),
        &["--ro-bind", "/", "/", stamp],
    );
    add(
        "sudo",
        "`sudo`",
        Who::Pilot,
        installed("sudo", "sudo"),
        &["-n", "-u", TARGET, stamp],
    );
    add(
        "sudo-rs",
        "`sudo-rs`",
        Who::Pilot,
        sudo_rs(),
        &["-n", "-u", TARGET, stamp],
    );
    add(
        "su",
        "`su`, by root",
        Who::Root,
        installed("su", "util-linux"),
        &["-s", stamp, TARGET],
    );
    Ok((ways, missing))
}

/// Does it run here at all?
fn works(way: &Way, folder: &Path) -> Result<()> {
    let words = way.command.as_deref().unwrap_or_default();
    let mut command = Command::new("setpriv");
    if way.who == Who::Pilot {
        command.args([
            "--reuid",
            PILOT_ACCOUNT,
            "--regid",
            PILOT_ACCOUNT,
            "--clear-groups",
        ]);
    }
    command.arg("env").args(words).current_dir(folder);
    process::output(&mut command).map(drop)
}

/// A program, from a Debian package if it is not there yet.
pub(crate) fn installed(program: &str, package: &str) -> Result<PathBuf> {
    let found = || {
        ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
            .iter()
            .map(|folder| Path::new(folder).join(program))
            .find(|path| path.exists())
    };
    if let Some(path) = found() {
        return Ok(path);
    }
    console::line(&format!("installing {package}"));
    process::output(
        Command::new("apt-get")
            .args(["install", "-q", "-y", "--no-install-recommends", package])
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
    .map_err(|_| anyhow::anyhow!("there is no package {package} here"))?;
    found().with_context(|| format!("{package} has no {program}"))
}

/// From the distribution, or else built as its authors publish it.
fn sudo_rs() -> Result<PathBuf> {
    if let Ok(path) = installed("sudo-rs", "sudo-rs") {
        return Ok(path);
    }
    let root = helper::state().join("bench-peers");
    let program = root.join("bin/sudo");
    if !program.exists() {
        if !Path::new("/usr/include/security/pam_appl.h").exists() {
            let _ = installed("pam-config", "libpam0g-dev");
        }
        console::line("building sudo-rs, which this distribution has not");
        process::output(
            Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
                .args(["install", "--quiet", "sudo-rs", "--root"])
                .arg(&root)
                // Not from the folder of this workspace, whose settings are not its.
                .current_dir("/"),
        )
        .map_err(|_| anyhow::anyhow!("there is no package of it here, and it does not build"))?;
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755))?;
    Ok(program)
}

/// Lets the pilot's account run programs as the target with sudo, until dropped.
pub(crate) struct SudoRule;

impl SudoRule {
    pub(crate) fn write(programs: &[&Path]) -> Result<Self> {
        let programs: Vec<_> = programs
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let rule = format!(
            "{PILOT_ACCOUNT} ALL=({TARGET}) NOPASSWD: {}\n",
            programs.join(", ")
        );
        fs::write(SUDOERS, rule).context("write sudo's rule")?;
        fs::set_permissions(SUDOERS, fs::Permissions::from_mode(0o440))?;
        Ok(Self)
    }
}

impl Drop for SudoRule {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(SUDOERS) {
            console::complain(&format!("{SUDOERS} can't be removed: {error}"));
        }
    }
}
