//! What is read from the node: once at start, and the few figures that move, before each update.

use std::fs;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

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
#[derive(Debug, Clone, Copy, Default, PartialEq)]
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

/// Keeps figures of the node that are as new as its file systems allow: one that does not answer keeps nobody waiting.
pub struct NodeWatch {
    probe: Arc<dyn Fn() -> NodeUse + Send + Sync>,
    latest: NodeUse,
    asked: Option<mpsc::Receiver<NodeUse>>,
}

impl NodeWatch {
    /// How long an answer is waited for; a file system that has one gives it at once.
    const PATIENCE: Duration = Duration::from_millis(100);

    /// For sandboxes in `execute`.
    #[must_use]
    pub fn new(execute: &Path) -> Self {
        let execute = execute.to_owned();
        Self::of(move || NodeUse::probe(&execute))
    }

    fn of(probe: impl Fn() -> NodeUse + Send + Sync + 'static) -> Self {
        Self {
            probe: Arc::new(probe),
            latest: NodeUse::default(),
            asked: None,
        }
    }

    /// The figures now, or the last ones as long as no answer comes.
    pub fn look(&mut self) -> NodeUse {
        let answer = match self.asked.take() {
            Some(asked) => match asked.try_recv() {
                Err(mpsc::TryRecvError::Empty) => Err(asked),
                // An old answer is not worth keeping.
                Ok(_) | Err(mpsc::TryRecvError::Disconnected) => self.ask(),
            },
            None => self.ask(),
        };
        match answer {
            Ok(answer) => self.latest = answer,
            Err(asked) => self.asked = Some(asked),
        }
        self.latest
    }

    fn ask(&self) -> Result<NodeUse, mpsc::Receiver<NodeUse>> {
        let (sender, answer) = mpsc::channel();
        let probe = Arc::clone(&self.probe);
        let thread = thread::Builder::new()
            .name("figures".to_owned())
            .spawn(move || {
                // Nobody may wait any more.
                let _ = sender.send(probe());
            });
        match thread.map(|_| answer.recv_timeout(Self::PATIENCE)) {
            Ok(Ok(figures)) => Ok(figures),
            Ok(Err(_)) => Err(answer),
            // No thread can be had now.
            Err(_) => Ok(self.latest),
        }
    }
}

impl std::fmt::Debug for NodeWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeWatch")
            .field("latest", &self.latest)
            .finish_non_exhaustive()
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
    fn a_file_system_that_hangs_keeps_nobody_waiting() {
        let (go, gate) = mpsc::channel::<u64>();
        let gate = std::sync::Mutex::new(gate);
        let mut watch = NodeWatch::of(move || NodeUse {
            disk_kib: gate.lock().unwrap().recv().unwrap_or(0),
            load: 1.0,
        });
        go.send(7).unwrap();
        assert_eq!(watch.look().disk_kib, 7);
        let began = std::time::Instant::now();
        for _ in 0..50 {
            assert_eq!(watch.look().disk_kib, 7, "the last figures");
        }
        assert!(began.elapsed() < Duration::from_secs(2), "each look waits");
        // It comes back: the old answer is passed over.
        go.send(8).unwrap();
        go.send(9).unwrap();
        let began = std::time::Instant::now();
        while watch.look().disk_kib != 9 && began.elapsed() < Duration::from_secs(10) {
            thread::yield_now();
        }
        assert_eq!(watch.look().disk_kib, 9);
    }

    #[test]
    fn this_node_answers() {
        let facts = NodeFacts::probe();
        assert!(facts.cpus > 0 && facts.memory_mib > 0);
        assert!(!facts.kernel.machine.is_empty());
        assert!(NodeUse::probe(Path::new("/")).disk_kib > 0);
    }
}
