//! The ads that say how negotiation goes and who used what.

use cedar::version::COMPATIBLE;
use classad::ClassAd;

use super::accountant::Account;
use super::{Accountant, CycleStats, NegotiatorConfig};

/// Figures of the last cycle.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LastCycle {
    /// Unix time of its beginning.
    pub(super) begin: i64,
    /// Its length in seconds.
    pub(super) seconds: f64,
    /// The longest of all since the start, in seconds.
    pub(super) longest: f64,
    pub(super) stats: CycleStats,
    pub(super) matches: usize,
    pub(super) submitters: usize,
    pub(super) slots: usize,
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn name(config: &NegotiatorConfig) -> String {
    format!("negotiator@{}", config.machine)
}

/// The `Negotiator` ad, with the figures that `condor_status -negotiator` shows.
pub(super) fn negotiator(
    config: &NegotiatorConfig,
    started: i64,
    now: i64,
    last: &LastCycle,
) -> ClassAd {
    let mut ad = ClassAd::new();
    let address = config.address.to_string();
    ad.insert("MyType", "Negotiator");
    ad.insert("Name", name(config));
    ad.insert("Machine", config.machine.as_str());
    ad.insert("MyAddress", address.as_str());
    ad.insert("NegotiatorIpAddr", address);
    ad.insert(
        "CondorVersion",
        COMPATIBLE.banner(concat!("sailplane-", env!("CARGO_PKG_VERSION"))),
    );
    ad.insert("CondorPlatform", "$CondorPlatform: X86_64-Linux $");
    ad.insert("DaemonStartTime", started);
    ad.insert("DaemonLastReconfigTime", started);
    ad.insert("MyCurrentTime", now);
    ad.insert("LastNegotiationCycleTime0", last.begin);
    ad.insert("LastNegotiationCycleEnd0", last.begin + whole(last.seconds));
    ad.insert("LastNegotiationCycleDuration0", whole(last.seconds));
    // HTCondor's figures are whole seconds; ours are mostly far below one.
    ad.insert("LastNegotiationCycleSeconds", last.seconds);
    ad.insert("LongestNegotiationCycleSeconds", last.longest);
    ad.insert("LastNegotiationCycleMatches0", count(last.matches));
    ad.insert(
        "LastNegotiationCycleRejections0",
        count(last.stats.jobs.saturating_sub(last.matches)),
    );
    ad.insert("LastNegotiationCycleNumIdleJobs0", count(last.stats.jobs));
    ad.insert(
        "LastNegotiationCycleActiveSubmitterCount0",
        count(last.submitters),
    );
    ad.insert("LastNegotiationCycleTotalSlots0", count(last.slots));
    ad.insert(
        "LastNegotiationCycleCandidateSlots0",
        count(last.stats.free_slots),
    );
    ad
}

/// One `Accounting` ad for each submitter, as HTCondor's negotiator sends them.
pub(super) fn accounting(
    config: &NegotiatorConfig,
    accountant: &Accountant,
    now: i64,
) -> Vec<ClassAd> {
    accountant
        .accounts()
        .map(|(submitter, account)| one(config, submitter, account, now))
        .collect()
}

fn one(config: &NegotiatorConfig, submitter: &str, account: &Account, now: i64) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("MyType", "Accounting");
    ad.insert("Name", submitter);
    ad.insert("NegotiatorName", name(config));
    ad.insert("AccountingGroup", "<none>");
    ad.insert("IsAccountingGroup", false);
    ad.insert("Priority", account.priority.max(0.5) * account.factor);
    ad.insert("PriorityFactor", account.factor);
    ad.insert("ResourcesUsed", account.slots);
    ad.insert("WeightedResourcesUsed", account.weight);
    ad.insert("AccumulatedUsage", account.usage);
    ad.insert("WeightedAccumulatedUsage", account.usage);
    ad.insert("BeginUsageTime", account.first);
    ad.insert("LastUsageTime", account.last);
    ad.insert("SubmitterLimit", 0.0);
    ad.insert("SubmitterShare", 0.0);
    ad.insert("Ceiling", -1);
    ad.insert("Floor", 0);
    ad.insert("LastUpdate", now);
    ad
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a cycle lasts seconds, and the conversion saturates"
)]
fn whole(seconds: f64) -> i64 {
    seconds.round() as i64
}
