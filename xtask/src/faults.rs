//! Attacks on the installed helper in full, of which CI runs a sample.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// `cargo xtask faults [WORD]...`: makes every step of the privileged path fail, one at a time; the words choose, for
/// example `Agent setresuid`, `signal=KILL` or `hang-up`; `part=2/10` takes every tenth, from the second on.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    test("s11_k10_all_faults", &words.join(" "))
}

/// `cargo xtask storm`: a thousand payloads cancelled at once.
pub(crate) fn storm() -> Result<()> {
    test("k5_a_storm_of_a_thousand", "")
}

fn test(name: &str, chosen: &str) -> Result<()> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "test",
            "--quiet",
            "--package",
            "sailplane-switch",
            "--test",
            "it",
            name,
        ])
        .args(["--", "--ignored", "--nocapture"])
        .env("SAILPLANE_FAULTS", chosen)
        .status()
        .context("start cargo test")?;
    if !status.success() {
        bail!("findings, or the tests do not build");
    }
    Ok(())
}
