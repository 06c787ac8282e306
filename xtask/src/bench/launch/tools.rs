//! Small C programs of the comparison, and counting of memory and system calls.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use sailplane_site_tests::{PILOT_ACCOUNT, process, wait};

use super::driver::Who;
use super::peers::installed;
use super::table::Cost;

/// The built programs; their sources say what they do.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) stamp: PathBuf,
    pub(crate) by_name: PathBuf,
    pub(crate) by_number: PathBuf,
    peak: PathBuf,
    folder: PathBuf,
}

impl Tools {
    pub(crate) fn build(folder: &Path) -> Result<Self> {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
        let build = |source: &str, name: &str, options: &[&str]| -> Result<PathBuf> {
            let program = folder.join(name);
            let mut command = Command::new("cc");
            command.args(["-O2", "-Wall"]).args(options);
            command.arg(sources.join(source)).arg("-o").arg(&program);
            process::output(&mut command)?;
            Ok(program)
        };
        let static_only = ["-static"];
        let tools = Self {
            stamp: build("stamp.c", "stamp", &["-static", "-nostdlib"])?,
            by_name: build("minimal-setuid.c", "minimal-by-name", &[])?,
            by_number: build(
                "minimal-setuid.c",
                "minimal-by-number",
                &["-static", "-DBY_NUMBER"],
            )?,
            peak: build("peak.c", "peak", &static_only)?,
            folder: folder.to_owned(),
        };
        for setuid in [&tools.by_name, &tools.by_number] {
            fs::set_permissions(setuid, fs::Permissions::from_mode(0o4755))?;
        }
        Ok(tools)
    }

    /// Peak memory and system calls of a command.
    pub(crate) fn cost(
        &self,
        who: Who,
        words: &[String],
        plan: &serde_json::Value,
    ) -> Result<Cost> {
        let environment: Vec<String> = plan
            .pointer("/command/environment")
            .and_then(serde_json::Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
            .collect();
        let mut peak = Command::new("setpriv");
        if who == Who::Pilot {
            peak.args([
                "--reuid",
                PILOT_ACCOUNT,
                "--regid",
                PILOT_ACCOUNT,
                "--clear-groups",
            ]);
        }
        peak.args(["env", "-i"]).args(&environment);
        peak.arg(&self.peak).args(words).current_dir(&self.folder);
        let text = process::output(&mut peak)?;
        let kib: f64 = text.trim().parse().context("read the peak")?;

        let report = self.folder.join("calls");
        let mut count = Command::new(installed("strace", "strace")?);
        count.args(["-f", "-c", "-o"]).arg(&report);
        if who == Who::Pilot {
            count.args(["-u", PILOT_ACCOUNT]);
        }
        for variable in &environment {
            count.args(["-E", variable]);
        }
        process::output(count.args(words).current_dir(&self.folder))?;
        Ok(Cost {
            memory: Some(kib / 1024.0),
            calls: Some(total(&fs::read_to_string(&report)?)?),
        })
    }
}

/// The sum in a report of `strace -c`.
fn total(report: &str) -> Result<f64> {
    report
        .lines()
        .rev()
        .find(|line| line.ends_with("total"))
        .and_then(|line| line.split_whitespace().nth(3))
        .and_then(|word| word.parse().ok())
        .context("no total in the report of strace")
}

/// Counts the system calls of running processes and of what they start.
#[derive(Debug)]
pub(crate) struct Watch {
    strace: Child,
    report: tempfile::NamedTempFile,
}

impl Watch {
    pub(crate) fn attach(pids: &[u32]) -> Result<Self> {
        let report = tempfile::NamedTempFile::new()?;
        let mut command = Command::new(installed("strace", "strace")?);
        command.args(["-f", "-q", "-c", "-o"]).arg(report.path());
        for pid in pids {
            command.args(["-p", &pid.to_string()]);
        }
        let strace = command.stderr(Stdio::null()).spawn()?;
        // It says nothing when it is ready.
        wait::pause(std::time::Duration::from_millis(500));
        Ok(Self { strace, report })
    }

    pub(crate) fn finish(mut self) -> Result<f64> {
        let pid = i32::try_from(self.strace.id())?;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGINT,
        )?;
        self.strace.wait()?;
        total(&fs::read_to_string(self.report.path())?)
    }
}

/// The helper's processes below a process.
pub(crate) fn helpers_of(ancestor: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        let path = format!("/proc/{parent}/task/{parent}/children");
        let text = fs::read_to_string(path).unwrap_or_default();
        for child in text.split_whitespace().filter_map(|word| word.parse().ok()) {
            found.push(child);
            parents.push(child);
        }
    }
    found
}

/// Proportional resident size of a process in MiB.
pub(crate) fn pss(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_total_is_found() {
        let report = "% time     seconds  usecs/call     calls    errors syscall\n\
                      ------ ----------- ----------- --------- --------- ----------------\n\
                      100.00    0.000000           0         2         1 read\n\
                      ------ ----------- ----------- --------- --------- ----------------\n\
                      100.00    0.000123           0       234         1 total\n";
        assert!((super::total(report).unwrap() - 234.0).abs() < 1e-9);
    }
}
