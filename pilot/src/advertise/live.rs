//! The part of a slot ad that moves: state, claim, job, end of life. And the ads that end a slot's life.

use classad::{ClassAd, Expr};

use super::facts::NodeUse;
use super::offer::{Identity, Offer, signed};
use crate::job::JobProgress;
use crate::slot::event::{Activity, State};

/// Value of `TimeToLive` when the end is not known (`htcondor:src/condor_startd.V6/ResAttributes.cpp`).
const UNKNOWN_TIME_TO_LIVE: i64 = i32::MAX as i64;

/// Everything that moves in one slot's ad.
#[derive(Debug, Clone)]
pub struct Live {
    /// Unix time now.
    pub now: i64,
    /// State, and unix time of entering it.
    pub state: (State, i64),
    /// Activity, and unix time of entering it.
    pub activity: (Activity, i64),
    /// Whether new work is taken at all; if not, `Start` is published as false.
    pub accepting: bool,
    /// Why not, for people.
    pub reason: Option<String>,
    /// When the pilot stops taking jobs, and when it ends; unix times.
    pub end: Option<EndOfLife>,
    /// The claim, if a schedd holds one.
    pub claim: Option<ClaimView>,
    /// The running job.
    pub job: Option<JobView>,
    /// Moving figures of the node.
    pub usage: NodeUse,
    /// Numbers since the start: claims accepted, activations, jobs started.
    pub counts: Counts,
}

/// The end of a pilot whose time is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndOfLife {
    /// No job starts from here on.
    pub retire: i64,
    /// Everything is over by then.
    pub die: i64,
    /// What limits it.
    pub limit: LifeLimit,
}

/// What limits a pilot's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LifeLimit {
    /// `SAILPLANE_MAX_LIFETIME`.
    Lifetime,
    /// The end of what the pilot has proven itself with.
    Credential,
}

impl std::fmt::Display for LifeLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lifetime => "the pilot's time is over (SAILPLANE_MAX_LIFETIME)",
            Self::Credential => {
                "the pilot's own credential ends; to stay longer, renew the token (SEC_TOKEN_DIRECTORY, SCITOKENS_FILE) or \
                 the proxy (AUTH_SSL_CLIENT_CERTFILE) in its place before it does"
            }
        })
    }
}

/// What the request ad says about the holder of the claim.
#[derive(Debug, Clone)]
pub struct ClaimView {
    /// The claim id without its secret.
    pub public_id: String,
    /// When it was accepted, unix time.
    pub since: i64,
    /// The ad that came with the request.
    pub request: ClassAd,
    /// Host of the schedd.
    pub client_machine: String,
    /// `CLAIM_WORKLIFE` end, unix time.
    pub worn_at: Option<i64>,
}

/// The running job.
#[derive(Debug, Clone)]
pub struct JobView {
    /// When it was activated, unix time.
    pub activated: i64,
    /// What its runner reports.
    pub progress: JobProgress,
    /// The ad that came with the activation.
    pub ad: ClassAd,
}

/// Counters of a slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// `ClaimRequests`.
    pub claims: u64,
    /// `ActivationRequests`.
    pub activations: u64,
    /// `JobStarts`.
    pub jobs: u64,
    /// `SailplaneEnvironmentFailures`: jobs that the node made fail.
    pub failures: u64,
}

/// A slot's public ad, but for the sequence number of the update.
#[must_use]
pub fn slot_ad(base: &ClassAd, offer: &Offer, live: &Live) -> ClassAd {
    let mut ad = base.clone();
    ad.insert("MyCurrentTime", live.now);
    ad.insert("State", live.state.0.as_str());
    ad.insert("Activity", live.activity.0.as_str());
    ad.insert("EnteredCurrentState", live.state.1);
    ad.insert("EnteredCurrentActivity", live.activity.1);
    ad.insert("CurrentRank", 0.0);
    if !live.accepting {
        ad.insert("Start", false);
    }
    if let Some(reason) = &live.reason {
        ad.insert("SailplaneNotAcceptingReason", reason.as_str());
    }
    disk(&mut ad, offer, live);
    end_of_life(&mut ad, live);
    ad.insert("ClaimRequests", signed(live.counts.claims));
    ad.insert("ActivationRequests", signed(live.counts.activations));
    ad.insert("JobStarts", signed(live.counts.jobs));
    ad.insert("SailplaneEnvironmentFailures", signed(live.counts.failures));
    if let Some(claim) = &live.claim {
        claimed(&mut ad, claim);
        if let Some(job) = &live.job {
            running(&mut ad, claim, job, live.now);
        }
    }
    ad
}

fn disk(ad: &mut ClassAd, offer: &Offer, live: &Live) {
    let free = live.usage.disk_kib.saturating_sub(offer.reserved_disk_kib);
    let total = offer.disk_kib.unwrap_or(free);
    let share = signed(total / u64::from(offer.slots.max(1)));
    ad.insert("Disk", share);
    ad.insert("TotalSlotDisk", share);
    ad.insert("TotalDisk", signed(total));
    ad.insert("TotalLoadAvg", live.usage.load);
    ad.insert("LoadAvg", live.usage.load / f64::from(offer.slots.max(1)));
    let own = live.job.as_ref().map_or(0.0, |job| job.progress.cpus_usage);
    ad.insert("CondorLoadAvg", own);
    // Left for policies that ask for them: a pilot's node has no console and is never busy for its owner.
    let idle = live.now.saturating_sub(live.activity.1).max(0);
    ad.insert("KeyboardIdle", idle);
    ad.insert("ConsoleIdle", idle);
    ad.insert("CpuBusy", false);
}

fn end_of_life(ad: &mut ClassAd, live: &Live) {
    let Some(end) = live.end else {
        ad.insert("TimeToLive", UNKNOWN_TIME_TO_LIVE);
        return;
    };
    ad.insert("TimeToLive", end.die.saturating_sub(live.now).max(0));
    for (name, value) in [("GLIDEIN_ToRetire", end.retire), ("GLIDEIN_ToDie", end.die)] {
        // A factory that already told the pool its own times knows better.
        if !ad.contains(name) {
            ad.insert(name, value);
        }
    }
}

fn claimed(ad: &mut ClassAd, claim: &ClaimView) {
    let request = &claim.request;
    ad.insert("PublicClaimId", claim.public_id.as_str());
    ad.insert("ClientMachine", claim.client_machine.as_str());
    if let Some(end) = claim.worn_at {
        ad.insert("ClaimEndTime", end);
    }
    let user = request.string("User");
    if let Some(user) = &user {
        ad.insert("RemoteUser", user.as_str());
        ad.insert("RemoteOwner", user.as_str());
    }
    if let Some(name) = request.string("ScheddName") {
        ad.insert("RemoteScheddName", name);
    }
    if let Some(group) = request.string("AccountingGroup") {
        ad.insert("AccountingGroup", with_domain(group, user.as_deref()));
    }
    for name in [
        "RemoteGroup",
        "RemoteNegotiatingGroup",
        "RemoteAutoregroup",
        "ConcurrencyLimits",
    ] {
        if let Some(expr) = request.get(name) {
            ad.insert(name, expr.clone());
        }
    }
}

/// The accountant wants a group with the domain of its user.
fn with_domain(group: String, user: Option<&str>) -> String {
    match user.and_then(|user| user.split_once('@')) {
        Some((_, domain)) if !group.contains('@') => format!("{group}@{domain}"),
        _ => group,
    }
}

fn running(ad: &mut ClassAd, claim: &ClaimView, job: &JobView, now: i64) {
    let progress = &job.progress;
    if let Some(user) = job.ad.string("User") {
        ad.insert("RemoteUser", user);
    }
    let id = match (job.ad.int("ClusterId"), job.ad.int("ProcId")) {
        (Some(cluster), Some(proc)) => format!("{cluster}.{proc}"),
        _ => progress.job_id.clone(),
    };
    ad.insert("JobId", id);
    ad.insert(
        "GlobalJobId",
        job.ad
            .string("GlobalJobId")
            .unwrap_or_else(|| progress.global_job_id.clone()),
    );
    ad.insert(
        "JobUniverse",
        job.ad.int("JobUniverse").unwrap_or(progress.universe),
    );
    let started = progress.started.unwrap_or(job.activated);
    ad.insert("JobStart", started);
    ad.insert("ImageSize", signed(progress.image_size_kib));
    ad.insert("CpusUsage", progress.cpus_usage);
    ad.insert("DiskUsage", signed(progress.disk_usage_kib));
    ad.insert("NumPids", signed(progress.pids));
    if let Some(end) = progress.credential_end {
        ad.insert("SailplaneCredentialExpiration", end);
    }
    ad.insert("TotalJobRunTime", now.saturating_sub(started).max(0));
    ad.insert("TotalClaimRunTime", now.saturating_sub(claim.since).max(0));
    if let Some(size) = job.ad.get("ExecutableSize") {
        ad.insert("ExecutableSize", size.clone());
    }
}

/// The ad that travels beside the public one and opens the slot: it carries the secret claim id and must go over an
/// encrypted connection only.
#[must_use]
pub fn private_ad(identity: &Identity, name: &str, claim_id: &str) -> ClassAd {
    let address = identity.address.to_string();
    let mut ad = ClassAd::new();
    ad.insert("MyType", "Machine");
    ad.insert("Name", name);
    ad.insert("MyAddress", address.as_str());
    ad.insert("StartdIpAddr", address);
    ad.insert("ClaimId", claim_id);
    ad.insert("DaemonStartTime", identity.started);
    ad.insert("DaemonLastReconfigTime", identity.started);
    ad
}

/// The query that makes a collector forget `name`; `target` is `Machine` for a slot, `StartD` for the daemon.
#[must_use]
pub fn invalidation(identity: &Identity, name: &str, target: &str) -> ClassAd {
    let mut ad = ClassAd::new();
    ad.insert("MyType", "Query");
    ad.insert("TargetType", target);
    ad.insert("Name", name);
    ad.insert("MyAddress", identity.address.to_string());
    let quoted = Expr::from(name).to_old();
    if ad
        .insert_expr("Requirements", &format!("TARGET.Name == {quoted}"))
        .is_err()
    {
        ad.insert("Requirements", false);
    }
    ad.insert("DaemonStartTime", identity.started);
    ad.insert("DaemonLastReconfigTime", identity.started);
    ad
}
