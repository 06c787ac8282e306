//! Makes every step of the privileged path fail, one at a time: the full form of a test that CI runs a sample of.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// `cargo xtask faults [WORD]...`: the words choose, for example `Agent setresuid` or `signal=KILL`.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "test",
            "--quiet",
            "--package",
            "sailplane-switch",
            "--test",
            "it",
        ])
        .args(["s11_k10_all_faults", "--", "--ignored", "--nocapture"])
        .env("SAILPLANE_FAULTS", words.join(" "))
        .status()
        .context("start cargo test")?;
    if !status.success() {
        bail!("findings, or the tests do not build");
    }
    Ok(())
}
