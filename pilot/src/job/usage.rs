//! The ads that tell the shadow how the job does (protocol page 03, sections 3.1 to 3.3). Pure.

use cedar::Sinful;
use classad::ClassAd;
use launch_protocol::broker::Usage;

use super::clock::Moment;
use super::plan::JobId;
use super::{JobConfig, JobProgress, SlotFacts, signals};

/// Attribute that promises the longest time to the next update; the shadow gives up after three times as long, so
/// only a job that is running makes a promise.
const MAX_INTERVAL: &str = "_condor_JOBINFO_MAXINTERVAL";
const NO_PROMISE: i64 = -1;

/// Figures of one job, kept so that none of them ever goes down.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Process number of the payload's leader.
    pub pid: u32,
    /// When it began to run.
    pub started: Moment,
    /// Size of the sandbox as far as it is known, KiB.
    pub disk_kib: u64,
    /// Files in the sandbox as far as they are known.
    pub file_count: u64,
    user_cpu: f64,
    system_cpu: f64,
    memory_kib: u64,
    pids: u32,
    oom_kills: u64,
}

/// How the payload ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    ItsOwnAccord,
    /// By an order.
    Ordered {
        /// Who ordered it.
        by: String,
        /// Softly (`DEACTIVATE_CLAIM`) or not.
        softly: bool,
    },
}

impl Figures {
    /// Figures of a payload that began to run.
    #[must_use]
    pub const fn new(pid: u32, started: Moment, disk_kib: u64, file_count: u64) -> Self {
        Self {
            pid,
            started,
            disk_kib,
            file_count,
            user_cpu: 0.0,
            system_cpu: 0.0,
            memory_kib: 0,
            pids: 1,
            oom_kills: 0,
        }
    }

    /// Takes in what the helper counted.
    pub fn record(&mut self, usage: &Usage) {
        self.user_cpu = self.user_cpu.max(seconds(usage.user_usec));
        self.system_cpu = self.system_cpu.max(seconds(usage.system_usec));
        let memory = usage
            .memory_peak_bytes
            .max(usage.memory_current_bytes)
            .div_ceil(1024);
        self.memory_kib = self.memory_kib.max(memory);
        self.pids = usage.processes;
        self.oom_kills = self.oom_kills.max(usage.oom_kills.unwrap_or(0));
    }

    /// Most memory seen, MiB.
    #[must_use]
    pub const fn memory_mib(&self) -> u64 {
        self.memory_kib.div_ceil(1024)
    }

    /// Whether processes of the job were killed because it wanted more memory than it may have.
    #[must_use]
    pub const fn ran_out_of_memory(&self) -> bool {
        self.oom_kills > 0
    }

    /// Average cores in use from the start until `now`.
    #[must_use]
    pub fn cpus_usage(&self, now: Moment) -> f64 {
        let wall = now
            .monotonic
            .saturating_sub(self.started.monotonic)
            .as_secs_f64();
        if wall > 0.0 {
            (self.user_cpu + self.system_cpu) / wall
        } else {
            0.0
        }
    }

    /// The ad of a periodic update, or the common part of a last one.
    fn ad(&self, state: &str, now: Moment, address: &Sinful) -> ClassAd {
        let mut ad = ClassAd::new();
        ad.insert("JobState", state);
        ad.insert("JobPid", i64::from(self.pid));
        ad.insert("NumPids", i64::from(self.pids));
        ad.insert("JobStartDate", self.started.unix());
        ad.insert("ImageSize", whole(self.memory_kib));
        ad.insert("ResidentSetSize", whole(self.memory_kib));
        ad.insert("MemoryUsage", whole(self.memory_kib.div_ceil(1024)));
        ad.insert("RemoteUserCpu", self.user_cpu);
        ad.insert("RemoteSysCpu", self.system_cpu);
        ad.insert("CpusUsage", self.cpus_usage(now));
        ad.insert("DiskUsage", whole(self.disk_kib));
        ad.insert("ScratchDirFileCount", whole(self.file_count));
        ad.insert("StarterIpAddr", address.to_string());
        ad
    }

    /// The periodic update; the next one follows within `interval`. From a change of the state the shadow makes the
    /// suspend and unsuspend events of the job's log.
    #[must_use]
    pub fn running(
        &self,
        now: Moment,
        address: &Sinful,
        interval: std::time::Duration,
        suspended: bool,
    ) -> ClassAd {
        let state = if suspended { "Suspended" } else { "Running" };
        let mut ad = self.ad(state, now, address);
        // Twice the interval: a delayed update is no reason to give the job up.
        ad.insert(
            MAX_INTERVAL,
            whole(interval.as_secs().max(1).saturating_mul(2)),
        );
        ad
    }

    /// The last update of a payload that ended with this wait status.
    #[must_use]
    pub fn exited(
        &self,
        now: Moment,
        address: &Sinful,
        wait_status: i32,
        ended: &Ended,
    ) -> ClassAd {
        let mut ad = self.ad("Exited", now, address);
        ad.insert("NumPids", 0);
        ad.insert(
            "JobDuration",
            now.monotonic
                .saturating_sub(self.started.monotonic)
                .as_secs_f64(),
        );
        ad.insert(MAX_INTERVAL, NO_PROMISE);
        let signal = wait_status & 0x7f;
        ad.insert("ExitBySignal", signal != 0);
        if signal == 0 {
            ad.insert("ExitCode", i64::from((wait_status >> 8) & 0xff));
        } else {
            ad.insert("ExitSignal", i64::from(signal));
            ad.insert("ExitReason", signals::exit_reason(signal));
        }
        if wait_status & 0x80 != 0 {
            ad.insert("JobCoreDumped", true);
        }
        ad.insert("ToE", ticket_of_execution(now, wait_status, ended));
        ad
    }

    /// The ad of `job_exit`. `sent` are the names of the files that went back, without the standard streams.
    #[must_use]
    pub fn last(&self, now: Moment, address: &Sinful, sent: &[String]) -> ClassAd {
        let mut ad = ClassAd::new();
        ad.insert("JobPid", i64::from(self.pid));
        ad.insert("CpusUsage", self.cpus_usage(now));
        ad.insert("DiskUsage", whole(self.disk_kib));
        ad.insert("ScratchDirFileCount", whole(self.file_count));
        ad.insert("StarterIpAddr", address.to_string());
        ad.insert("SpooledOutputFiles", sent.join(","));
        ad
    }

    /// What the slot ad shows.
    pub fn show(&self, now: Moment, progress: &mut JobProgress) {
        progress.started = Some(self.started.unix());
        progress.image_size_kib = self.memory_kib;
        progress.cpu_seconds = (self.user_cpu, self.system_cpu);
        progress.cpus_usage = self.cpus_usage(now);
        progress.disk_usage_kib = self.disk_kib;
        progress.pids = u64::from(self.pids);
    }
}

/// Who ended the job and how (`htcondor:src/condor_utils/ToE.cpp`).
fn ticket_of_execution(now: Moment, wait_status: i32, ended: &Ended) -> ClassAd {
    let mut ad = ClassAd::new();
    let (who, how, code) = match ended {
        Ended::ItsOwnAccord => ("itself", "OF_ITS_OWN_ACCORD", 0),
        Ended::Ordered { by, softly: true } => (by.as_str(), "DEACTIVATE_CLAIM", 1),
        Ended::Ordered { by, softly: false } => (by.as_str(), "DEACTIVATE_CLAIM_FORCIBLY", 2),
    };
    ad.insert("Who", who);
    ad.insert("How", how);
    ad.insert("HowCode", code);
    ad.insert("When", now.unix());
    if *ended == Ended::ItsOwnAccord {
        let signal = wait_status & 0x7f;
        ad.insert("ExitBySignal", signal != 0);
        if signal == 0 {
            ad.insert("ExitCode", i64::from((wait_status >> 8) & 0xff));
        } else {
            ad.insert("ExitSignal", i64::from(signal));
        }
    }
    ad
}

/// The ad of `register_starter_info`. `outlives`: the job goes on for its lease when the connection is lost.
#[must_use]
pub fn starter_info(
    config: &JobConfig,
    slot: &SlotFacts,
    address: &Sinful,
    now: Moment,
    outlives: bool,
) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("Name", slot.name.as_str());
    ad.insert("Machine", slot.machine.as_str());
    ad.insert("MyAddress", address.to_string());
    ad.insert("StarterIpAddr", address.to_string());
    ad.insert("UidDomain", config.uid_domain.as_str());
    ad.insert("FileSystemDomain", config.filesystem_domain.as_str());
    ad.insert("HasReconnect", outlives);
    ad.insert("CondorVersion", config.condor_version.as_str());
    ad.insert("CondorPlatform", config.condor_platform.as_str());
    ad.insert("MachineResources", "Cpus Memory Disk");
    ad.insert("Cpus", i64::from(slot.cpus));
    ad.insert("Memory", whole(slot.memory_mib));
    ad.insert("Disk", whole(slot.disk_kib));
    ad.insert("GPUs", 0);
    ad.insert("MyCurrentTime", now.unix());
    ad
}

/// What the slot gives the job; told before it starts, and therefore without a `JobState`.
#[must_use]
pub fn provisioned(slot: &SlotFacts) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("CpusProvisioned", i64::from(slot.cpus));
    ad.insert("MemoryProvisioned", whole(slot.memory_mib));
    ad.insert("DiskProvisioned", whole(slot.disk_kib));
    ad.insert("GPUsProvisioned", 0);
    ad.insert("ProvisionedResources", "Cpus Memory Disk");
    ad.insert(MAX_INTERVAL, NO_PROMISE);
    ad
}

/// What the slot ad shows of a job that has not started.
#[must_use]
pub fn not_started(id: &JobId, universe: i64) -> JobProgress {
    JobProgress {
        job_id: id.to_string(),
        global_job_id: id.global.clone(),
        user: id.user.clone(),
        universe,
        ..JobProgress::default()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 microseconds are 285 years of CPU time"
)]
fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

fn whole(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment {
            monotonic: Duration::from_secs(seconds),
            since_epoch: Duration::from_secs(1_795_000_000 + seconds),
        }
    }

    fn address() -> Sinful {
        Sinful::parse("<127.0.0.1:9618?addrs=127.0.0.1-9618&noUDP>").unwrap()
    }

    fn usage(user: u64, memory: u64) -> Usage {
        Usage {
            user_usec: user,
            system_usec: 500_000,
            memory_current_bytes: memory,
            memory_peak_bytes: memory,
            processes: 3,
            ..Usage::default()
        }
    }

    #[test]
    fn figures_never_go_down() {
        let mut figures = Figures::new(7, at(0), 10, 2);
        figures.record(&usage(2_000_000, 3 << 20));
        figures.record(&usage(1_000_000, 1 << 20));
        let ad = figures.running(at(10), &address(), Duration::from_secs(300), false);
        assert_eq!(ad.real("RemoteUserCpu"), Some(2.0));
        assert_eq!(ad.int("ImageSize"), Some(3072));
        assert_eq!(ad.int("MemoryUsage"), Some(3));
        assert_eq!(ad.real("CpusUsage"), Some(0.25));
        assert_eq!(ad.string("JobState").as_deref(), Some("Running"));
        assert_eq!(ad.int(MAX_INTERVAL), Some(600));
    }

    #[test]
    fn exits_by_code_and_by_signal() {
        let figures = Figures::new(7, at(0), 10, 2);
        let ad = figures.exited(at(5), &address(), 3 << 8, &Ended::ItsOwnAccord);
        assert_eq!(
            (ad.bool("ExitBySignal"), ad.int("ExitCode")),
            (Some(false), Some(3))
        );
        assert_eq!(ad.string("JobState").as_deref(), Some("Exited"));
        assert_eq!(ad.int(MAX_INTERVAL), Some(-1));
        let by = Ended::Ordered {
            by: "<1.2.3.4:5>".to_owned(),
            softly: true,
        };
        let ad = figures.exited(at(5), &address(), 9, &by);
        assert_eq!(
            (ad.bool("ExitBySignal"), ad.int("ExitSignal")),
            (Some(true), Some(9))
        );
        assert_eq!(
            ad.string("ExitReason").as_deref(),
            Some("died on signal 9 (Killed)")
        );
        assert!(ad.to_old().contains("DEACTIVATE_CLAIM"));
    }

    #[test]
    fn nothing_before_the_start_claims_that_the_job_runs() {
        let slot = SlotFacts {
            name: "slot1@n".into(),
            short_name: "slot1".into(),
            machine: "n".into(),
            cpus: 1,
            memory_mib: 1,
            disk_kib: 1,
            machine_ad: ClassAd::new(),
            account: None,
        };
        assert!(!provisioned(&slot).contains("JobState"));
    }
}
