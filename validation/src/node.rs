//! What the node says of itself, for the head of a report.

use std::fs;

use nix::sys::utsname::uname;
use nix::unistd::{User, geteuid};

use crate::findings::{Fact, Node};

impl Node {
    /// Asks the node; what it does not tell is empty.
    #[must_use]
    pub fn probe() -> Self {
        let kernel = uname().ok();
        let word = |get: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            kernel
                .as_ref()
                .map(|kernel| get(kernel).to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let uid = geteuid();
        let account = User::from_uid(uid).ok().flatten();
        Self {
            host: word(nix::sys::utsname::UtsName::nodename),
            account: account.map_or_else(|| uid.to_string(), |user| user.name),
            uid: uid.as_raw(),
            system: system(),
            kernel: word(nix::sys::utsname::UtsName::release),
            arch: word(nix::sys::utsname::UtsName::machine),
            facts: facts(),
        }
    }
}

fn system() -> String {
    let text = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
        .unwrap_or_default()
}

fn facts() -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.push(Fact {
                name: name.to_owned(),
                value,
            });
        }
    };
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    add(
        "processor",
        cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned()),
    );
    add(
        "cores",
        std::thread::available_parallelism()
            .ok()
            .map(|count| count.to_string()),
    );
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    add(
        "memory",
        meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .map(|kib| format!("{} MiB", kib / 1024)),
    );
    add("batch job", batch_job());
    facts
}

/// Number of the batch system's job that we are, by the variables that each sets.
fn batch_job() -> Option<String> {
    [
        ("SLURM_JOB_ID", "Slurm"),
        ("PBS_JOBID", "PBS"),
        ("LSB_JOBID", "LSF"),
        ("JOB_ID", "Grid Engine"),
        ("_CONDOR_JOB_AD", "HTCondor"),
    ]
    .into_iter()
    .find_map(|(variable, system)| {
        let value = std::env::var(variable).ok()?;
        Some(format!("{system} {value}"))
    })
}
