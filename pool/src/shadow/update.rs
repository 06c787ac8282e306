//! What a starter reports about a job, and what of it goes into the job's ad
//! (`htcondor:src/condor_shadow.V6.1/remoteresource.cpp`, `updateFromStarter`). Pure.

use classad::{ClassAd, Value};

use crate::user_log::Event;

/// Taken over as they come.
const COPIED: [&str; 29] = [
    "NetworkInputMb",
    "NetworkOutputMb",
    "StdoutMtime",
    "StderrMtime",
    "BlockReadKbytes",
    "BlockWriteKbytes",
    "RecentBlockReadKbytes",
    "RecentBlockWriteKbytes",
    "BlockReadBytes",
    "BlockWriteBytes",
    "RecentBlockReadBytes",
    "RecentBlockWriteBytes",
    "BlockReads",
    "BlockWrites",
    "RecentBlockReads",
    "RecentBlockWrites",
    "IOWait",
    "CPUInstructions",
    "PreExitCode",
    "PreExitSignal",
    "PreExitBySignal",
    "PostExitCode",
    "PostExitSignal",
    "PostExitBySignal",
    "CheckpointNumber",
    "JobLastCheckpointTime",
    "ExecuteDirWasEncrypted",
    "InputPluginResultList",
    "OutputPluginResultList",
];

/// How the job ended, taken over as it comes.
const ENDING: [&str; 9] = [
    "ExitBySignal",
    "ExitCode",
    "ExitSignal",
    "ExitReason",
    "JobCoreDumped",
    "ToE",
    "ExceptionHierarchy",
    "ExceptionName",
    "ExceptionType",
];

/// Taken over under another name, so that they are not mistaken for the schedd's own.
const RENAMED: [(&str, &str); 5] = [
    ("StatsLastUpdateTime", "StatsLastUpdateTimeStarter"),
    ("StatsLifetime", "StatsLifetimeStarter"),
    ("RecentStatsLifetime", "RecentStatsLifetimeStarter"),
    ("RecentWindowMax", "RecentWindowMaxStarter"),
    ("RecentStatsTickTime", "RecentStatsTickTimeStarter"),
];

/// What a job may never set, whatever rights it asked for: who it belongs to, where it is in its life, and what the
/// pool itself keeps there. HTCondor protects the first line only (`SYSTEM_IMMUTABLE_JOB_ATTRS`).
const PROTECTED: [&str; 28] = [
    "Owner",
    "ClusterId",
    "ProcId",
    "JobUniverse",
    "MyType",
    "TargetType",
    "User",
    "OsUser",
    "JobStatus",
    "LastJobStatus",
    "EnteredCurrentStatus",
    "GlobalJobId",
    "ClaimId",
    "PublicClaimId",
    "TransferKey",
    "TransferSocket",
    "StartdIpAddr",
    "RemoteHost",
    "ShadowBday",
    "QDate",
    "Iwd",
    "UserLog",
    "AccountingGroup",
    "AcctGroup",
    "AcctGroupUser",
    "NTDomain",
    "JobStartDate",
    "x509userproxy",
];

/// What is seen in updates but is no attribute of the job.
const NOT_OF_THE_JOB: [&str; 6] = [
    "JobState",
    "JobPid",
    "NumPids",
    "StarterIpAddr",
    "JobDuration",
    "_condor_JOBINFO_MAXINTERVAL",
];

/// What a job may ask of its shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights {
    /// `WantIOProxy`: attributes and files.
    pub io: bool,
    /// `WantRemoteUpdates`: attributes.
    pub attributes: bool,
    /// `WantDelayedUpdates`, true if absent: attributes whose names begin with `Chirp`.
    pub delayed: bool,
    /// `StreamIn`, `StreamOut` or `StreamErr`: those files.
    pub streams: bool,
}

impl Rights {
    /// Those the job `ad` asks for.
    #[must_use]
    pub fn of(ad: &ClassAd) -> Self {
        let is = |name: &str| ad.bool(name).unwrap_or(false);
        Self {
            io: is("WantIOProxy"),
            attributes: is("WantRemoteUpdates"),
            delayed: ad.bool("WantDelayedUpdates").unwrap_or(true),
            streams: is("StreamIn") || is("StreamOut") || is("StreamErr"),
        }
    }

    /// Whether the job may read attributes of its ad.
    #[must_use]
    pub fn may_read_attributes(self) -> bool {
        self.io || self.attributes
    }

    /// Whether the job may set the attribute `name`.
    #[must_use]
    pub fn may_set(self, name: &str) -> bool {
        let is_chirp = name
            .get(..5)
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case("chirp"));
        (self.may_read_attributes() || self.delayed && is_chirp)
            && !cedar::is_private(name)
            && !PROTECTED
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
    }
}

/// Figures of a running job that only grow. Sizes in KiB, times in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    user_cpu: f64,
    system_cpu: f64,
    image: i64,
    memory_mib: i64,
    resident: i64,
    proportional: i64,
    disk: i64,
    file_count: i64,
}

impl Figures {
    /// Figures at the start of a run of the job `ad`; or, if it `goes_on` after a restart of the pool, where they were.
    #[must_use]
    pub fn new(ad: &ClassAd, goes_on: bool) -> Self {
        let real = |name: &str| ad.real(name).unwrap_or(0.0);
        let int = |name: &str| ad.int(name).unwrap_or(0);
        let (user_cpu, system_cpu) = if goes_on {
            (real("RemoteUserCpu"), real("RemoteSysCpu"))
        } else {
            (0.0, 0.0)
        };
        Self {
            user_cpu,
            system_cpu,
            // The rounded values of the queue would hide small growth.
            image: ad.int("ImageSize_RAW").unwrap_or_else(|| int("ImageSize")),
            memory_mib: 0,
            resident: ad
                .int("ResidentSetSize_RAW")
                .unwrap_or_else(|| int("ResidentSetSize")),
            proportional: ad.int("ProportionalSetSizeKb").unwrap_or(-1),
            disk: ad.int("DiskUsage_RAW").unwrap_or_else(|| int("DiskUsage")),
            file_count: int("ScratchDirFileCount"),
        }
    }

    /// Takes in an update of the starter. Gives the attributes of the job that change, and the event if the job's size
    /// is known anew.
    pub fn take(&mut self, update: &ClassAd, rights: Rights) -> (ClassAd, Option<Event>) {
        let mut changes = ClassAd::new();
        let sizes = (
            self.image,
            self.memory_mib,
            self.resident,
            self.proportional,
        );
        self.take_cpu(update, &mut changes);
        for (name, kept) in [
            ("ImageSize", &mut self.image),
            ("ResidentSetSize", &mut self.resident),
            ("ProportionalSetSizeKb", &mut self.proportional),
            ("DiskUsage", &mut self.disk),
            ("ScratchDirFileCount", &mut self.file_count),
        ] {
            if let Some(value) = update.int(name).filter(|value| *value > *kept) {
                *kept = value;
                changes.insert(name, value);
            }
        }
        self.take_memory(update, &mut changes);
        for name in COPIED.iter().chain(&ENDING) {
            if let Some(expr) = update.get(name) {
                changes.insert(*name, expr.clone());
            }
        }
        for (name, new) in RENAMED {
            if let Some(expr) = update.get(name) {
                changes.insert(new, expr.clone());
            }
        }
        if let Some(files) = update.string("SpooledOutputFiles") {
            changes.insert("SpooledOutputFiles", files);
        }
        take_others(update, rights, &mut changes);
        let event = (sizes
            != (
                self.image,
                self.memory_mib,
                self.resident,
                self.proportional,
            ))
            .then(|| self.size_event());
        (changes, event)
    }

    fn size_event(&self) -> Event {
        Event::ImageSize {
            image_kb: self.image,
            memory_mb: Some(self.memory_mib),
            resident_kb: Some(self.resident),
            proportional_kb: (self.proportional >= 0).then_some(self.proportional),
        }
    }

    fn take_cpu(&mut self, update: &ClassAd, changes: &mut ClassAd) {
        for (name, kept) in [
            ("RemoteUserCpu", &mut self.user_cpu),
            ("RemoteSysCpu", &mut self.system_cpu),
        ] {
            // A starter may report nothing just when the job ends. What all runs took is the queue's sum.
            if let Some(value) = update.real(name).filter(|value| *value > *kept) {
                *kept = value;
                changes.insert(name, value);
            }
        }
    }

    fn take_memory(&mut self, update: &ClassAd, changes: &mut ClassAd) {
        let Some(expr) = update.get("MemoryUsage") else {
            return;
        };
        if let Some(value) = update.int("MemoryUsage") {
            self.memory_mib = self.memory_mib.max(value);
        }
        let is_literal = matches!(expr.as_literal(), Some(Value::Integer(_) | Value::Real(_)));
        if is_literal {
            changes.insert("MemoryUsage", self.memory_mib);
        } else {
            changes.insert("MemoryUsage", expr.clone());
        }
    }
}

/// Attributes that are taken over for their names.
fn take_others(update: &ClassAd, rights: Rights, changes: &mut ClassAd) {
    let ends = |name: &str, end: &str| {
        name.len()
            .checked_sub(end.len())
            .and_then(|at| name.get(at..))
            .is_some_and(|tail| tail == end)
    };
    for (attr, expr) in update.iter() {
        let name = attr.as_str();
        let is_known = changes.contains(name)
            || ["MemoryUsage", "DiskUsage", "ImageSize", "ResidentSetSize"].contains(&name)
            || NOT_OF_THE_JOB.contains(&name)
            || RENAMED.iter().any(|(known, _)| *known == name);
        if is_known || cedar::is_private(name) {
            continue;
        }
        let is_figure = ends(name, "Usage")
            || ends(name, "Provisioned")
            || ends(name, "_HostPort")
            || name.starts_with("Assigned")
            || name == "ProvisionedResources";
        if is_figure || rights.may_set(name) {
            changes.insert(attr.clone(), expr.clone());
        }
    }
    // Starters since 25.3 send what chirp set apart from the rest.
    if let Value::ClassAd(delayed) = update.eval("ChirpDelayedAttrs") {
        for (attr, expr) in delayed.iter() {
            if rights.may_set(attr.as_str()) {
                changes.insert(attr.clone(), expr.clone());
            }
        }
    }
}
