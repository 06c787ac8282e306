//! Runs the targets of `fuzz/` with libFuzzer, on stable Rust.
//!
//! `cargo fuzz` wants a nightly compiler only for the address sanitizer. Without it, the coverage instrumentation that
//! libFuzzer steers by is reached with stable flags; our parsers have no unsafe code for a sanitizer to look at, and
//! overflow checks and debug assertions are on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::console;

/// Asks LLVM for the counters and compare hooks that libFuzzer reads.
const INSTRUMENTATION: &str = "--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Longest input in bytes: a little more than the longest launch-protocol packet.
const MAX_LEN: u32 = 40_000;

struct Options<'a> {
    targets: Vec<&'a str>,
    all: bool,
    list: bool,
    seconds: u32,
}

/// `cargo xtask fuzz`.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let options = parse(arguments)?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("fuzz");
    let known = targets(&folder)?;
    if options.list {
        known.iter().for_each(|name| console::line(name));
        return Ok(());
    }
    if let Some(unknown) = options
        .targets
        .iter()
        .find(|name| !known.iter().any(|other| other == *name))
    {
        bail!("no fuzz target {unknown}; there are {}", known.join(", "));
    }
    let wanted = |name: &String| options.all || options.targets.contains(&name.as_str());
    let chosen: Vec<String> = known.iter().filter(|name| wanted(name)).cloned().collect();
    if chosen.is_empty() {
        bail!(
            "name a target, or say --all; there are {}",
            known.join(", ")
        );
    }
    let programs = build(&folder, &chosen)?;
    let mut found = Vec::new();
    for name in &chosen {
        console::line(&format!("fuzzing {name} for {} s", options.seconds));
        if !fuzz(&folder, &programs.join(name), name, options.seconds)? {
            found.push(name.as_str());
        }
    }
    if !found.is_empty() {
        bail!(
            "findings in {}; the inputs are in {}",
            found.join(", "),
            folder.join("artifacts").display()
        );
    }
    console::line(&format!("{} targets, no finding", chosen.len()));
    Ok(())
}

fn parse<'a>(arguments: &[&'a str]) -> Result<Options<'a>> {
    let mut options = Options {
        targets: Vec::new(),
        all: false,
        list: false,
        seconds: 60,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match *word {
            "--all" => options.all = true,
            "--list" => options.list = true,
            "--seconds" => {
                let value = words.next().context("--seconds needs a number")?;
                options.seconds = value
                    .parse()
                    .with_context(|| format!("--seconds {value}"))?;
            }
            option if option.starts_with('-') => bail!("unknown option {option}"),
            target => options.targets.push(target),
        }
    }
    Ok(options)
}

/// Names of the files in `fuzz_targets`, sorted.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let sources = folder.join("fuzz_targets");
    let entries = fs::read_dir(&sources).with_context(|| format!("read {}", sources.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let is_target = path.extension().is_some_and(|extension| extension == "rs");
            is_target.then(|| path.file_stem()?.to_str().map(str::to_owned))?
        })
        .collect();
    names.sort();
    Ok(names)
}

/// Builds the targets and returns the folder of programs.
fn build(folder: &Path, names: &[String]) -> Result<PathBuf> {
    let triple = host_triple()?;
    let target = folder.join("target");
    let mut command = cargo();
    // With an explicit target the flags reach neither build scripts nor procedural macros.
    command
        .args(["build", "--release", "--target", &triple])
        .current_dir(folder);
    command
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", INSTRUMENTATION)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    for name in names {
        command.args(["--bin", name]);
    }
    let status = command.status().context("start cargo build")?;
    if !status.success() {
        bail!("the fuzz targets do not build");
    }
    Ok(target.join(triple).join("release"))
}

/// Runs one target; `false` when it found something.
fn fuzz(folder: &Path, program: &Path, name: &str, seconds: u32) -> Result<bool> {
    let work = folder.join("corpus-work").join(name);
    let artifacts = folder.join("artifacts").join(name);
    for path in [&work, &artifacts] {
        fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    }
    let mut command = Command::new(program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={MAX_LEN}"));
    command.args([
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        "-verbosity=1",
    ]);
    // libFuzzer appends the name of the finding to this prefix.
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.arg(&work);
    let seeds = folder.join("corpus").join(name);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    let status = command
        .status()
        .with_context(|| format!("start {}", program.display()))?;
    Ok(status.success())
}

fn host_triple() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let triple = text
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc names no host")?;
    Ok(triple.to_owned())
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
