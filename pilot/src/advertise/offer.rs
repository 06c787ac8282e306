//! The part of a slot ad that stays the same while the pilot lives: who we are, what the node is, what is offered.
//!
//! Attributes and their meaning: protocol page 02, section 1.3.

use std::collections::BTreeMap;

use cedar::Sinful;
use classad::{ClassAd, Expr};

use super::facts::NodeFacts;
use super::published::Published;
use crate::knobs::Attribute;

/// Who the pilot is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Name of the startd: the host, or `STARTD_NAME@host`.
    pub startd_name: String,
    /// `Machine`: the host's name.
    pub machine: String,
    /// Where the command port is found.
    pub address: Published,
    /// Unix time of the start.
    pub started: i64,
    /// The `$CondorVersion: ... $` text.
    pub condor_version: String,
    /// The `$CondorPlatform: ... $` text.
    pub condor_platform: String,
}

impl Identity {
    /// Full name of a slot, `slot1@host`.
    #[must_use]
    pub fn slot_name(&self, slot: u32) -> String {
        format!("{}@{}", short_slot_name(slot), self.startd_name)
    }
}

/// Name of a slot without the host.
#[must_use]
pub fn short_slot_name(slot: u32) -> String {
    format!("slot{slot}")
}

/// The startd's name: `STARTD_NAME` gets the host appended unless it has an `@` or is the host
/// (`htcondor:src/condor_utils/daemon_types.cpp`, `get_daemon_name.cpp`).
#[must_use]
pub fn startd_name(configured: Option<&str>, host: &str) -> String {
    match configured {
        None | Some("") => host.to_owned(),
        Some(name) if name.contains('@') || name.eq_ignore_ascii_case(host) => name.to_owned(),
        Some(name) => format!("{name}@{host}"),
    }
}

/// What is offered and under which policy; expressions are kept unevaluated.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Number of slots.
    pub slots: u32,
    /// Cores of all slots.
    pub cpus: u32,
    /// Memory of all slots, MiB.
    pub memory_mib: u64,
    /// `START`.
    pub start: Expr,
    /// `RANK`.
    pub rank: Expr,
    /// `MAXJOBRETIREMENTTIME`.
    pub max_retirement: Expr,
    /// `MachineMaxVacateTime`.
    pub max_vacate: Expr,
    /// `SLOT_WEIGHT`.
    pub weight: Expr,
    /// `UID_DOMAIN`.
    pub uid_domain: String,
    /// `FILESYSTEM_DOMAIN`.
    pub filesystem_domain: String,
    /// `COLLECTOR_HOST` as configured.
    pub collector_host: String,
    /// Disk of all slots, KiB; `None`: what is free.
    pub disk_kib: Option<u64>,
    /// Free disk that is not offered, KiB.
    pub reserved_disk_kib: u64,
    /// What `START` asks of a job beside: a credential, where one is needed.
    pub condition: Option<String>,
    /// The facts of the identity switch.
    pub facts: Vec<Attribute>,
    /// `SLOT<N>_USER`: the accounts of the slots' jobs, where they have any.
    pub accounts: BTreeMap<u32, String>,
    /// What `STARTD_ATTRS` names, in its order.
    pub attributes: Vec<Attribute>,
    /// The same for slots that have values of their own.
    pub slot_attributes: BTreeMap<u32, Vec<Attribute>>,
    /// What the checks say; it wins over what was configured, because it is newer.
    pub checks: Vec<Attribute>,
}

impl Offer {
    /// Cores of one slot; never less than one.
    #[must_use]
    pub fn slot_cpus(&self) -> u32 {
        (self.cpus / self.slots.max(1)).max(1)
    }

    /// Memory of one slot, MiB.
    #[must_use]
    pub fn slot_memory_mib(&self) -> u64 {
        self.memory_mib / u64::from(self.slots.max(1))
    }
}

/// The abilities of our starter half. Only what is implemented: a missing one keeps away jobs that need it, a false
/// one breaks them.
const ABILITIES: [&str; 3] = ["HasFileTransfer", "HasReconnect", "HasTransferInputRemaps"];

/// The attributes of one slot that do not change.
#[must_use]
pub fn base_ad(node: &NodeFacts, identity: &Identity, offer: &Offer, slot: u32) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("MyType", "Machine");
    ad.insert("TargetType", "Job");
    who(&mut ad, identity, slot);
    system(&mut ad, node, identity);
    resources(&mut ad, node, offer);
    policy(&mut ad, offer);
    for ability in ABILITIES {
        ad.insert(ability, true);
    }
    ad.insert("StarterAbilityList", ABILITIES.join(","));
    let own = offer
        .slot_attributes
        .get(&slot)
        .unwrap_or(&offer.attributes);
    if let Some(account) = offer.accounts.get(&slot) {
        ad.insert("SailplaneSlotAccount", account.as_str());
    }
    for (name, expr) in offer.facts.iter().chain(own).chain(&offer.checks) {
        ad.insert(name.as_str(), expr.clone());
    }
    // Nothing that an operator adds may change who the slot is or where it is found.
    ad.insert("MyType", "Machine");
    who(&mut ad, identity, slot);
    ad
}

fn who(ad: &mut ClassAd, identity: &Identity, slot: u32) {
    let sinful = identity.address.get();
    let address = sinful.to_string();
    ad.insert("Name", identity.slot_name(slot));
    ad.insert("Machine", identity.machine.as_str());
    ad.insert("MyAddress", address.as_str());
    ad.insert("StartdIpAddr", address);
    if let Some(list) = address_v1(&sinful) {
        ad.insert("AddressV1", list);
    }
    ad.insert("SlotID", i64::from(slot));
    ad.insert("DaemonStartTime", identity.started);
    ad.insert("DaemonLastReconfigTime", identity.started);
}

fn system(ad: &mut ClassAd, node: &NodeFacts, identity: &Identity) {
    ad.insert("CondorVersion", identity.condor_version.as_str());
    ad.insert("CondorPlatform", identity.condor_platform.as_str());
    ad.insert("SailplaneVersion", env!("CARGO_PKG_VERSION"));
    ad.insert("Arch", node.arch());
    ad.insert("OpSys", "LINUX");
    ad.insert("OpSysLegacy", "LINUX");
    ad.insert("OpSysName", node.os.name.as_str());
    ad.insert("OpSysShortName", node.os.name.as_str());
    ad.insert("OpSysLongName", node.os.long_name.as_str());
    ad.insert("OpSysMajorVer", node.os.major);
    ad.insert("OpSysVer", node.os.version_number());
    ad.insert("OpSysAndVer", node.os.and_version());
    ad.insert("UtsnameSysname", node.kernel.sysname.as_str());
    ad.insert("UtsnameNodename", node.kernel.nodename.as_str());
    ad.insert("UtsnameRelease", node.kernel.release.as_str());
    ad.insert("UtsnameVersion", node.kernel.version.as_str());
    ad.insert("UtsnameMachine", node.kernel.machine.as_str());
    if let Some(level) = node.cpu.microarch(&node.kernel.machine) {
        ad.insert("Microarch", level);
    }
    for (name, value) in node.cpu.features() {
        ad.insert(name, value);
    }
    for (name, value) in [
        ("CpuFamily", node.cpu.family),
        ("CpuModelNumber", node.cpu.model),
        ("CpuCacheSize", node.cpu.cache_kib),
    ] {
        if let Some(value) = value {
            ad.insert(name, value);
        }
    }
}

fn resources(ad: &mut ClassAd, node: &NodeFacts, offer: &Offer) {
    let cpus = i64::from(offer.slot_cpus());
    let memory = signed(offer.slot_memory_mib());
    ad.insert("MachineResources", "Cpus Memory Disk Swap");
    ad.insert("SlotType", "Static");
    ad.insert("SlotTypeID", 0_i64);
    ad.insert("TotalSlots", i64::from(offer.slots));
    ad.insert("Cpus", cpus);
    ad.insert("TotalSlotCpus", cpus);
    ad.insert("TotalCpus", i64::from(offer.cpus));
    ad.insert("DetectedCpus", i64::from(node.cpus));
    ad.insert("Memory", memory);
    ad.insert("TotalSlotMemory", memory);
    ad.insert("TotalMemory", signed(offer.memory_mib));
    ad.insert("DetectedMemory", signed(node.memory_mib));
    ad.insert(
        "TotalVirtualMemory",
        signed(
            node.swap_kib
                .saturating_add(node.memory_mib.saturating_mul(1024)),
        ),
    );
    ad.insert(
        "VirtualMemory",
        signed(node.swap_kib / u64::from(offer.slots.max(1))),
    );
}

fn policy(ad: &mut ClassAd, offer: &Offer) {
    ad.insert("Start", start(offer));
    ad.insert("Requirements", START_REFERENCE.with(Clone::clone));
    ad.insert("Rank", offer.rank.clone());
    ad.insert("MaxJobRetirementTime", offer.max_retirement.clone());
    ad.insert("MachineMaxVacateTime", offer.max_vacate.clone());
    ad.insert("SlotWeight", offer.weight.clone());
    ad.insert("UidDomain", offer.uid_domain.as_str());
    ad.insert("FileSystemDomain", offer.filesystem_domain.as_str());
    ad.insert("COLLECTOR_HOST_STRING", offer.collector_host.as_str());
    // A pilot lends its whole node to the pool: no console, no owner.
    ad.insert("IsLocalStartd", false);
    ad.insert("HasStartDaemonAd", true);
}

/// `START` and what has to be true of a job besides. It is evaluated by the pool and by the slot itself.
fn start(offer: &Offer) -> Expr {
    let Some(condition) = &offer.condition else {
        return offer.start.clone();
    };
    let both = format!("({}) && {condition}", offer.start.to_old());
    Expr::parse_old(&both).unwrap_or_else(|_| Expr::from(false))
}

thread_local! {
    /// `START`, as `Requirements` of a static slot.
    static START_REFERENCE: Expr = Expr::parse_old("START").unwrap_or_else(|_| Expr::from(false));
}

/// An unsigned figure as the ad's integer.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The address once more as a list of routes, as newer peers read it
/// (`htcondor:src/condor_utils/condor_sinful.cpp`). `None` when the host is a name, and when the way leads through a
/// broker: they have all of that in the old form, too.
fn address_v1(address: &Sinful) -> Option<String> {
    if address.ccb_contacts().is_some() {
        return None;
    }
    let ip = address.socket_addr()?;
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let route = |kind: &str| {
        format!(
            "[ p=\"{kind}\"; a=\"{}\"; port={}; n=\"Internet\"; noUDP=true; ]",
            ip.ip(),
            ip.port()
        )
    };
    Some(format!("{{{}, {}}}", route("primary"), route(family)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_name_gets_the_host() {
        assert_eq!(startd_name(None, "node7"), "node7");
        assert_eq!(startd_name(Some("pilot_3"), "node7"), "pilot_3@node7");
        assert_eq!(
            startd_name(Some("pilot_3@elsewhere"), "node7"),
            "pilot_3@elsewhere"
        );
    }
}
