//! Checks of dependency trees: what the design promises about them, kept true by CI.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::console;

/// All that the setuid helper may link: our own two crates, `libc`, and `nix` with the small crates it brings.
const HELPER: [&str; 7] = [
    "sailplane-switch",
    "launch-protocol",
    "libc",
    "nix",
    "bitflags",
    "cfg-if",
    "memoffset",
];

/// What a crate that does no I/O must not name.
const RUNTIMES: [&str; 4] = ["tokio", "mio", "async-std", "smol"];

/// Fails when the helper depends on a crate beyond [`HELPER`].
pub(crate) fn helper() -> Result<()> {
    let tree = packages(&["--package", "sailplane-switch", "--edges", "normal"])?;
    let strangers: Vec<_> = tree
        .iter()
        .filter(|name| !HELPER.contains(&name.as_str()))
        .cloned()
        .collect();
    if !strangers.is_empty() {
        bail!(
            "the setuid helper may not depend on {}",
            strangers.join(", ")
        );
    }
    console::line(&format!(
        "the setuid helper links {}",
        tree.into_iter().collect::<Vec<_>>().join(", ")
    ));
    Ok(())
}

/// Fails when `cedar` without features needs an async runtime.
pub(crate) fn core() -> Result<()> {
    let tree = packages(&[
        "--package",
        "cedar",
        "--no-default-features",
        "--edges",
        "normal",
    ])?;
    if let Some(runtime) = tree.iter().find(|name| RUNTIMES.contains(&name.as_str())) {
        bail!("cedar's core may not depend on {runtime}");
    }
    console::line(&format!(
        "cedar's core needs {} crates and no async runtime",
        tree.len()
    ));
    Ok(())
}

/// Names of the packages that `cargo tree` lists.
fn packages(arguments: &[&str]) -> Result<BTreeSet<String>> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["tree", "--prefix", "none", "--format", "{p}"])
        .args(arguments);
    let output = command.output().context("start cargo tree")?;
    if !output.status.success() {
        bail!(
            "cargo tree failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect())
}
