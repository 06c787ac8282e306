//! `cargo xtask bench`: our execute side and its peers, side by side in one run.

mod checks;
mod launch;
mod memory;
mod pool;
mod rate;
mod report;
mod start;
mod stats;
mod verify;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sailplane_site_tests::{Pool, PoolOptions, helper, process};

use crate::console;
use report::Comparison;

/// Rounds of each comparison.
#[derive(Debug, Clone, Copy)]
struct Rounds {
    launches: launch::Scale,
    starts: usize,
    checks: usize,
    verifications: verify::Scale,
    rates: usize,
    jobs: u32,
    memory: usize,
    scale: pool::Scale,
}

const FULL: Rounds = Rounds {
    launches: launch::Scale {
        launches: 300,
        storm: 900,
    },
    starts: 7,
    checks: 50,
    verifications: verify::Scale {
        batches: 100,
        processes: 200,
    },
    rates: 3,
    jobs: 60,
    memory: 3,
    scale: pool::Scale {
        jobs: 10_000,
        pilots: 200,
        watch: Duration::from_secs(90),
    },
};
const QUICK: Rounds = Rounds {
    launches: launch::Scale {
        launches: 30,
        storm: 100,
    },
    starts: 2,
    checks: 5,
    verifications: verify::Scale {
        batches: 10,
        processes: 20,
    },
    rates: 1,
    jobs: 15,
    memory: 1,
    scale: pool::Scale {
        jobs: 1000,
        pilots: 20,
        watch: Duration::from_secs(30),
    },
};

/// Runs the comparisons named (all when none is) and prints a table; with `--write` it also goes to
/// `docs/performance.md`.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    if let Some(reason) = process::obstacle() {
        bail!("the benchmarks' first step {reason}");
    }
    if cfg!(debug_assertions) {
        return in_release(arguments);
    }
    let mut rounds = FULL;
    let mut write = false;
    let mut chosen = Vec::new();
    for word in arguments {
        match *word {
            "--quick" => rounds = QUICK,
            "--write" => write = true,
            "launch" | "start" | "checks" | "verify" | "rate" | "memory" | "pool" => {
                chosen.push(*word);
            }
            other => {
                bail!(
                    "unknown comparison {other}; there are launch, start, checks, verify, rate, memory, pool"
                )
            }
        }
    }
    let wanted = |name: &str| chosen.is_empty() || chosen.contains(&name);

    console::line("building, installing the helper");
    let site = helper::site()?;
    let mut comparisons: Vec<Comparison> = Vec::new();
    let mut launches = None;
    if wanted("launch") {
        let findings = launch::compare(site, rounds.launches)?;
        comparisons.extend(findings.comparisons);
        launches = Some(findings.section);
    }
    if wanted("checks") {
        comparisons.extend(checks::compare(site, rounds.checks)?);
    }
    if wanted("verify") {
        comparisons.extend(verify::compare(site, rounds.verifications)?);
    }
    if ["start", "rate", "memory"].into_iter().any(wanted) {
        let pool = Pool::raise(&PoolOptions {
            name: "bench".to_owned(),
            ..PoolOptions::default()
        })?;
        if wanted("start") {
            comparisons.extend(start::compare(site, &pool, rounds.starts)?);
        }
        if wanted("rate") {
            comparisons.extend(rate::compare(site, &pool, rounds.rates, rounds.jobs)?);
        }
        if wanted("memory") {
            comparisons.extend(memory::compare(site, &pool, rounds.memory)?);
        }
    }
    if wanted("pool") {
        comparisons.extend(pool::compare(site, rounds.scale)?);
    }
    console::line(&report::table(&comparisons));
    if let Some(section) = &launches {
        console::line(section);
    }
    if write {
        let path = process::source_tree().join("docs/performance.md");
        let old = std::fs::read_to_string(&path).unwrap_or_default();
        let page = report::page(&old, &comparisons, launches.as_deref());
        std::fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
        console::line(&format!("written to {}", path.display()));
    }
    Ok(())
}

/// Debug builds say nothing about speed: the same command, built for release.
fn in_release(arguments: &[&str]) -> Result<()> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "run",
            "--quiet",
            "--release",
            "--package",
            "xtask",
            "--manifest-path",
        ])
        .arg(manifest)
        .args(["--", "bench"])
        .args(arguments)
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("the benchmarks ended with {status}");
    }
    Ok(())
}
