//! Launch of `true` under another account, beside sudo.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use sailplane_site_tests::helper::{self, Site};
use sailplane_site_tests::{PILOT_ACCOUNT, ProxyKind, process};

use super::report::Comparison;
use super::stats::Sample;
use crate::console;

/// Where sudo's rule for this comparison goes.
const SUDOERS: &str = "/etc/sudoers.d/sailplane-bench";
/// The account that sudo switches to.
const TARGET: &str = "nobody";

pub(crate) fn compare(site: &Site, rounds: usize) -> Result<Vec<Comparison>> {
    console::line(&format!(
        "launch of `true` under another account, {rounds} times each"
    ));
    let owner = process::ensure_account(PILOT_ACCOUNT)?;
    let folder = helper::state().join("bench-launch");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    process::give(&folder, owner)?;
    let proxy = folder.join("proxy.pem");
    site.ca.proxy("alice", ProxyKind::Minutes(120), &proxy)?;
    process::give(&proxy, owner)?;
    let driver = folder.join("launch-driver");
    process::output(
        Command::new("install")
            .args(["-m", "755"])
            .arg(build_driver()?)
            .arg(&driver),
    )?;
    let execute = site.execute.join("bench");
    fs::create_dir_all(&execute)?;
    process::give(&execute, owner)?;
    let _rule = SudoRule::write()?;

    let time = |pause: &str| -> Result<serde_json::Value> {
        let mut command = Command::new(&driver);
        command.arg(&site.switch).arg(&execute).arg(&proxy).args([
            &rounds.to_string(),
            pause,
            TARGET,
        ]);
        command
            .uid(owner.0.as_raw())
            .gid(owner.1.as_raw())
            .current_dir(&folder);
        let text = process::output(&mut command).context("run the launch driver")?;
        serde_json::from_str(&text).context("read the driver's times")
    };
    let spaced = time(PAUSE_MS)?;
    let close = time("0")?;
    fs::remove_dir_all(&folder)?;
    fs::remove_dir_all(&execute)?;
    Ok(vec![
        row(
            "launch of `true`, account open already, ms",
            &spaced,
            "switched",
        )?,
        row(
            "launch of `true`, proxy verified, account leased, sandbox made, ms",
            &spaced,
            "verified",
        )?,
        row(
            "the same, each at once after the one before, ms",
            &close,
            "verified",
        )?,
    ])
}

/// Milliseconds between two launches: less than the pool needs between two jobs of a slot.
const PAUSE_MS: &str = "30";

fn row(what: &'static str, times: &serde_json::Value, ours: &str) -> Result<Comparison> {
    let sample = |name: &str| -> Result<Sample> {
        let values = times
            .get(name)
            .and_then(serde_json::Value::as_array)
            .context("no such times")?;
        Ok(Sample::new(
            values
                .iter()
                .filter_map(serde_json::Value::as_f64)
                .map(|micro| micro / 1000.0)
                .collect(),
        ))
    };
    Ok(Comparison {
        what,
        peer: "sudo",
        ours: sample(ours)?,
        theirs: sample("sudo")?,
        more_is_better: false,
    })
}

fn build_driver() -> Result<std::path::PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().context("this program has no folder")?;
    let target = folder.parent().context("the target folder has no parent")?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(process::source_tree()).args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--target-dir",
    ]);
    command.arg(target).args([
        "--package",
        "sailplane-site-tests",
        "--example",
        "launch-driver",
    ]);
    process::output(&mut command)?;
    Ok(folder.join("examples/launch-driver"))
}

/// Lets the pilot's account run `true` as the target with sudo, until dropped.
struct SudoRule;

impl SudoRule {
    fn write() -> Result<Self> {
        fs::write(
            SUDOERS,
            format!("{PILOT_ACCOUNT} ALL=({TARGET}) NOPASSWD: /bin/true\n"),
        )
        .context("write sudo's rule")?;
        fs::set_permissions(SUDOERS, fs::Permissions::from_mode(0o440))?;
        Ok(Self)
    }
}

impl Drop for SudoRule {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(Path::new(SUDOERS)) {
            console::complain(&format!("{SUDOERS} can't be removed: {error}"));
        }
    }
}
