//! The collector's ad about itself.

use cedar::version::COMPATIBLE;
use classad::ClassAd;

use super::{CollectorConfig, Slot};

/// Counts for the ad.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Census {
    pub(super) hosts: i64,
    pub(super) claimed: i64,
    pub(super) unclaimed: i64,
    pub(super) owner: i64,
    pub(super) submitters: i64,
    pub(super) running: i64,
    pub(super) idle: i64,
}

impl Census {
    pub(super) fn of(slots: &[Slot], submitters: &[ClassAd]) -> Self {
        let mut census = Self::default();
        for slot in slots {
            census.hosts += 1;
            match slot.ad.string("State").as_deref() {
                Some("Claimed" | "Preempting") => census.claimed += 1,
                Some("Owner" | "Drained") => census.owner += 1,
                _ => census.unclaimed += 1,
            }
        }
        for ad in submitters {
            census.submitters += 1;
            census.running += ad.int("RunningJobs").unwrap_or(0);
            census.idle += ad.int("IdleJobs").unwrap_or(0);
        }
        census
    }
}

/// The ad, with the attributes that `condor_status -collector` and monitors look for.
pub(super) fn ad(config: &CollectorConfig, started: i64, now: i64, census: Census) -> ClassAd {
    let mut ad = ClassAd::new();
    let address = config.address.to_string();
    ad.insert("MyType", "Collector");
    ad.insert("Name", format!("{}@{}", config.name, config.machine));
    ad.insert("CollectorName", config.name.as_str());
    ad.insert("Machine", config.machine.as_str());
    ad.insert("MyAddress", address.as_str());
    ad.insert("CollectorIpAddr", address);
    ad.insert(
        "CondorVersion",
        COMPATIBLE.banner(concat!("sailplane-", env!("CARGO_PKG_VERSION"))),
    );
    ad.insert("CondorPlatform", "$CondorPlatform: X86_64-Linux $");
    ad.insert("DaemonStartTime", started);
    ad.insert("DaemonLastReconfigTime", started);
    ad.insert("MyCurrentTime", now);
    ad.insert("LastHeardFrom", now);
    ad.insert("HostsTotal", census.hosts);
    ad.insert("HostsClaimed", census.claimed);
    ad.insert("HostsUnclaimed", census.unclaimed);
    ad.insert("HostsOwner", census.owner);
    ad.insert("SubmitterAds", census.submitters);
    ad.insert("RunningJobs", census.running);
    ad.insert("IdleJobs", census.idle);
    ad
}
