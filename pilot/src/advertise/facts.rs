//! What is read from the node: once at start, and the few figures that move, before each update.

use std::fs;
use std::path::Path;
use std::thread;

use nix::sys::statvfs::statvfs;
use nix::sys::utsname::uname;

use super::cpu::CpuFacts;
use super::os::OsFacts;

/// Facts that do not change while the pilot runs.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// The distribution.
    pub os: OsFacts,
    /// The processors.
    pub cpu: CpuFacts,
    /// `uname`: kernel name, host, release, version and machine.
    pub kernel: Kernel,
    /// Processors this process may run on.
    pub cpus: u32,
    /// Memory of the machine, MiB.
    pub memory_mib: u64,
    /// Swap space of the machine, KiB.
    pub swap_kib: u64,
}

/// The answer of `uname`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// `UtsnameSysname`.
    pub sysname: String,
    /// `UtsnameNodename`.
    pub nodename: String,
    /// `UtsnameRelease`.
    pub release: String,
    /// `UtsnameVersion`.
    pub version: String,
    /// `UtsnameMachine`.
    pub machine: String,
}

/// Figures that move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeUse {
    /// Space left for jobs, KiB.
    pub disk_kib: u64,
    /// Load of the last minute.
    pub load: f64,
}

impl NodeFacts {
    /// Asks the node. Never fails; what a node does not tell is left out or zero.
    #[must_use]
    pub fn probe() -> Self {
        let os_release = ["/etc/os-release", "/usr/lib/os-release"]
            .iter()
            .find_map(|path| fs::read_to_string(path).ok());
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpus = thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
        Self {
            os: OsFacts::parse(os_release.as_deref().unwrap_or_default()),
            cpu: CpuFacts::parse(&cpuinfo),
            kernel: Kernel::probe(),
            cpus,
            memory_mib: meminfo_kib(&meminfo, "MemTotal") / 1024,
            swap_kib: meminfo_kib(&meminfo, "SwapTotal"),
        }
    }

    /// `Arch`, in HTCondor's spelling.
    #[must_use]
    pub fn arch(&self) -> String {
        match self.kernel.machine.as_str() {
            "x86_64" => "X86_64".to_owned(),
            "i386" | "i486" | "i586" | "i686" => "INTEL".to_owned(),
            other => other.to_owned(),
        }
    }

    /// `CondorPlatform`.
    #[must_use]
    pub fn platform(&self) -> String {
        format!(
            "$CondorPlatform: {}-{}_{} $",
            self.arch(),
            self.os.name,
            self.os.major
        )
    }
}

impl Kernel {
    fn probe() -> Self {
        let names = uname().ok();
        let text = |field: Option<&std::ffi::OsStr>| {
            field.map_or_else(String::new, |text| text.to_string_lossy().into_owned())
        };
        let names = names.as_ref();
        Self {
            sysname: text(names.map(|names| names.sysname())),
            nodename: text(names.map(|names| names.nodename())),
            release: text(names.map(|names| names.release())),
            version: text(names.map(|names| names.version())),
            machine: text(names.map(|names| names.machine())),
        }
    }
}

impl NodeUse {
    /// Asks the node; `execute` is the directory of the sandboxes.
    #[must_use]
    pub fn probe(execute: &Path) -> Self {
        let disk_kib = statvfs(execute).map_or(0, |fs| {
            let free = u128::from(fs.blocks_available()) * u128::from(fs.fragment_size()) / 1024;
            u64::try_from(free).unwrap_or(u64::MAX)
        });
        let load = fs::read_to_string("/proc/loadavg")
            .ok()
            .and_then(|text| text.split_whitespace().next()?.parse().ok())
            .unwrap_or(0.0);
        Self { disk_kib, load }
    }
}

fn meminfo_kib(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read_by_name() {
        let text = "MemTotal:       24684084 kB\nSwapTotal:             0 kB\n";
        assert_eq!(meminfo_kib(text, "MemTotal"), 24_684_084);
        assert_eq!(meminfo_kib(text, "SwapTotal"), 0);
        assert_eq!(meminfo_kib(text, "Swap"), 0);
    }

    #[test]
    fn this_node_answers() {
        let facts = NodeFacts::probe();
        assert!(facts.cpus > 0 && facts.memory_mib > 0);
        assert!(!facts.kernel.machine.is_empty());
        assert!(NodeUse::probe(Path::new("/")).disk_kib > 0);
    }
}
